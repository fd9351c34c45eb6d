package ledger

import (
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/gowebpki/jcs"
)

// Canonical returns the RFC 8785 form of v, as encoding/json marshals it. A
// number beyond 2^53 is refused: readers that hold numbers as IEEE doubles
// would silently see another one, so such values travel as strings.
func Canonical(v any) ([]byte, error) {
	if out, ok := plainForm(v); ok {
		return out, nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return canonicalBytes(raw)
}

func canonicalBytes(raw []byte) ([]byte, error) {
	if err := checkNumbers(raw); err != nil {
		return nil, err
	}
	out, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return out, nil
}

// checkNumbers walks JSON that is not validated yet; what is no JSON at all is
// refused by the transformation behind it.
func checkNumbers(raw []byte) error {
	inString := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == '-' || c >= '0' && c <= '9'):
			end := i + 1
			for end < len(raw) && isNumberByte(raw[end]) {
				end++
			}
			if !safeNumber(string(raw[i:end])) {
				return fmt.Errorf("canonical JSON: number %.40s is beyond 2^53; write it as a string", raw[i:end])
			}
			i = end - 1
		}
	}
	return nil
}

func isNumberByte(c byte) bool {
	return c >= '0' && c <= '9' || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-'
}

var maxSafe = big.NewFloat(1 << 53)

func safeNumber(s string) bool {
	// Fifteen digits without an exponent are always below 2^53.
	short := len(s) <= 15
	for i := 0; short && i < len(s); i++ {
		short = s[i] != 'e' && s[i] != 'E'
	}
	if short {
		return true
	}
	f, _, err := big.ParseFloat(s, 10, 128, big.ToNearestEven)
	return err == nil && f.Abs(f).Cmp(maxSafe) <= 0
}
