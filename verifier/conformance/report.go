package conformance

import (
	"cmp"
	"slices"
)

// Report is what a run found.
type Report struct {
	Results    []Result // by line of the manifest
	Companions int      // rows that are no cases
}

// Total counts the cases of one kind and wanted verdict.
type Total struct {
	Kind           string
	Verdict        string // Accept or Reject
	Cases          int
	Same           int
	Differs        int // with Broken
	Overridden     int
	NotImplemented int
}

// Totals returns the counts by kind and verdict, in alphabetical order.
func (r Report) Totals() []Total {
	by := map[[2]string]*Total{}
	for i := range r.Results {
		res := &r.Results[i]
		verdict := Reject
		if res.Wanted == Accept {
			verdict = Accept
		}
		key := [2]string{res.Kind, verdict}
		if by[key] == nil {
			by[key] = &Total{Kind: res.Kind, Verdict: verdict}
		}
		by[key].count(res.Status)
	}
	out := make([]Total, 0, len(by))
	for _, t := range by {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Total) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Verdict, b.Verdict))
	})
	return out
}

func (t *Total) count(s Status) {
	t.Cases++
	switch s {
	case Same:
		t.Same++
	case Overridden:
		t.Overridden++
	case NotImplemented:
		t.NotImplemented++
	case Differs, Broken:
		t.Differs++
	}
}

// Differences returns the cases that are not as the manifest says and that no
// override explains. What could not be judged is among them.
func (r Report) Differences() []Result {
	var out []Result
	for _, res := range r.Results {
		if res.Status != Same && res.Status != Overridden {
			out = append(out, res)
		}
	}
	return out
}
