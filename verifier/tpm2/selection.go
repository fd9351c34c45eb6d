package tpm2

import (
	"encoding/hex"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// PCRs is the number of PCRs in a bank (PC Client Platform TPM Profile).
const PCRs = 24

// Selection is the mask of a PCR selection as signed: bit i%8 of byte i/8 is
// PCR i. The zero value selects nothing, and no quote can satisfy it.
type Selection [3]byte

// ParseSelection reads the six lower-case hex digits of wire and manifests:
// "ff4300" is PCR 0 to 9 and 14. Anything else is request.malformed.
func ParseSelection(s string) (Selection, error) {
	var out Selection
	b, _ := hex.DecodeString(s)
	copy(out[:], b)
	if out.String() != s { // the one spelling of what was read
		return Selection{}, errSelection()
	}
	return out, nil
}

func errSelection() error {
	return reason.New(reason.RequestMalformed, "a PCR selection is six lower-case hex digits")
}

// SelectionOf returns the selection of the given PCRs. An index outside 0 to 23
// has no bit and is left out: its value can then never count as quoted.
func SelectionOf(pcrs ...int) Selection {
	var out Selection
	for _, i := range pcrs {
		if i >= 0 && i < PCRs {
			out[i/8] |= 1 << (i % 8)
		}
	}
	return out
}

// Has reports whether PCR i is selected; false for any i outside 0 to 23.
func (s Selection) Has(i int) bool {
	return i >= 0 && i < PCRs && s[i/8]&(1<<(i%8)) != 0
}

// Indexes returns the selected PCRs, ascending.
func (s Selection) Indexes() []int {
	var out []int
	for i := range PCRs {
		if s.Has(i) {
			out = append(out, i)
		}
	}
	return out
}

// String returns the six lower-case hex digits that ParseSelection reads.
func (s Selection) String() string { return hex.EncodeToString(s[:]) }
