package api

import (
	"strings"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Refusal is an error with more to say than one code: all reasons of a denial,
// in order of the checks, and with challenge.spent a fresh challenge. The first
// reason decides status and code of the problem document.
type Refusal struct {
	Reasons   []*reason.Error // at least one
	Challenge *Challenge
	// Strangers get the code without details: an unauthenticated caller learns
	// no expected value and cannot make the broker talk.
	Stranger bool
}

// Error lists the codes.
func (r *Refusal) Error() string {
	codes := make([]string, len(r.Reasons))
	for i, e := range r.Reasons {
		codes[i] = string(e.Code)
	}
	return strings.Join(codes, ", ")
}

// Unwrap returns the first reason, so that reason.Of works on a Refusal.
func (r *Refusal) Unwrap() error {
	if len(r.Reasons) == 0 {
		return nil
	}
	return r.Reasons[0]
}
