package verifier

import (
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
)

// JudgeItem judges one document as an appraisal does: bound is what it has to
// carry, ak the SPKI of the key that quoted, nil without a quote.
func JudgeItem(i *Item, bound [32]byte, ak []byte, trust *Documents, now time.Time) (document.Facts, error) {
	in := itemInput{Item: i, Bound: bound, Primary: bound, AK: ak, IssuedAt: now, Now: now}
	return itemFormats[i.Format](&in, trust)
}

// Base64Nonce is how the bound value stands in tokens that have a nonce.
func Base64Nonce(bound [32]byte) string { return base64Nonce(bound) }
