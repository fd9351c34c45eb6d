package verifier

import (
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// judgeJoinToken judges the format of hosts that can prove nothing yet: a lab, or
// a fleet on its way from another system. The token was spent at the challenge,
// and the agent key is all that is known afterwards.
func judgeJoinToken(in *itemInput, _ *Documents) (document.Facts, error) {
	if len(in.Document) > 0 || len(in.Parts) > 0 {
		return document.Facts{}, reason.New(reason.RequestMalformed, "a join token stands in the challenge; the item is empty")
	}
	return document.Facts{Class: document.ClassC}, nil
}
