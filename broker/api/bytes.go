package api

import (
	"encoding/base64"
	"errors"
)

// b64 is the one encoding of binary data on the wire: RFC 4648 section 5
// without padding, and strict, so that every value has exactly one spelling. A
// second spelling would let two bodies mean the same and hash differently.
var b64 = base64.RawURLEncoding.Strict()

// errBytes never repeats the input: error texts reach logs and callers.
var errBytes = errors.New("not unpadded base64url")

// MarshalJSON returns b as a JSON string; nil and empty are both "".
func (b Bytes) MarshalJSON() ([]byte, error) {
	out := make([]byte, 2+b64.EncodedLen(len(b)))
	out[0], out[len(out)-1] = '"', '"'
	b64.Encode(out[1:], b)
	return out, nil
}

// UnmarshalJSON accepts exactly what MarshalJSON writes. Escapes inside the
// string are refused: the alphabet needs none. The decoder of the standard
// library skips CR and LF, but JSON has neither inside a string.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	if len(data) < 2 || data[0] != '"' || data[len(data)-1] != '"' {
		return errBytes
	}
	src := data[1 : len(data)-1]
	out := make([]byte, b64.DecodedLen(len(src)))
	n, err := b64.Decode(out, src)
	if err != nil {
		return errBytes
	}
	*b = out[:n]
	return nil
}
