package verifier

import (
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
)

// JudgeItem judges one document against the bound value of its format.
func JudgeItem(trust *Documents, item Item, bound [32]byte, now time.Time) (document.Facts, error) {
	return itemFormats[item.Format](&itemInput{Item: &item, Bound: bound, Now: now}, trust)
}
