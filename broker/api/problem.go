package api

import (
	"errors"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"

// ProblemPath is the path below which the broker serves a page for every code;
// the type member of a problem is a URL reference relative to the broker.
const ProblemPath = "/problems/"

// NewProblem turns any error into the document that leaves the broker. An error
// without a code becomes "internal" without a detail: its text may hold paths,
// queries or evidence. A stranger's refusal carries codes only. A code of class
// event is no refusal, so it reads as internal too.
func NewProblem(err error, requestID string) Problem {
	reasons, stranger := reasonsOf(err)
	info := reason.Lookup(reasons[0].Code)
	if info.Class == reason.Event {
		info = reason.Lookup(reason.Internal)
		reasons = []*reason.Error{{Code: reason.Internal}}
	}
	p := Problem{
		Type:      ProblemPath + string(info.Code),
		Title:     info.Meaning,
		Status:    info.HTTP,
		Code:      string(info.Code),
		Reasons:   make([]Reason, 0, len(reasons)),
		Remedy:    Remedy(info.Code),
		RequestID: requestID,
	}
	for _, e := range reasons {
		r := Reason{Code: string(reason.Lookup(e.Code).Code)}
		if !stranger && r.Code == string(e.Code) && e.Code != reason.Internal {
			r.Detail = e.Detail
		}
		p.Reasons = append(p.Reasons, r)
	}
	p.Detail = p.Reasons[0].Detail
	if refusal, ok := errors.AsType[*Refusal](err); ok && info.Code == reason.ChallengeSpent {
		p.Challenge = refusal.Challenge
	}
	return p
}

// reasonsOf returns at least one reason, and whether a stranger asked.
func reasonsOf(err error) (reasons []*reason.Error, stranger bool) {
	if refusal, ok := errors.AsType[*Refusal](err); ok && len(refusal.Reasons) > 0 {
		return refusal.Reasons, refusal.Stranger
	}
	if e, ok := errors.AsType[*reason.Error](err); ok {
		return []*reason.Error{e}, false
	}
	return []*reason.Error{{Code: reason.Internal}}, false
}
