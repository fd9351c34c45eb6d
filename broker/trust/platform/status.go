package platform

import (
	"cmp"
	"slices"
	"time"
)

// States of an object.
const (
	StatePresent  = "present"  // in the folder, and what it should be
	StateMissing  = "missing"  // of the table, and not in the folder
	StateExpired  = "expired"  // past its end, in the folder or not
	StateUnlisted = "unlisted" // in the folder, of a kind with fingerprints, and none of them
)

// Status is an object of the table or of the folder.
type Status struct {
	ID
	State       string
	Held        bool
	Subject     string
	SHA256      string    // of its certificates, joined by +; "" for other content
	Begins      time.Time // zero where it has no beginning
	Ends        time.Time // zero where it has no end
	Fetched     time.Time // zero where it was not fetched
	Address     string
	LastFailure string
}

// Status lists the rows of the table and what else is in the folder, at now, by
// kind and name.
func (f *Folder) Status(now time.Time) []Status {
	var out []Status
	rows := map[ID]Row{}
	for _, r := range f.rows {
		rows[r.ID] = r
		if f.held[r.ID] == nil {
			s := Status{ID: r.ID, State: StateMissing, Subject: r.Subject, SHA256: printText(r.SHA256), Begins: r.NotBefore, Ends: r.NotAfter, Address: r.Address}
			if !s.Ends.IsZero() && !now.Before(s.Ends) {
				s.State = StateExpired
			}
			out = append(out, s)
		}
	}
	for id, o := range f.held {
		s := Status{
			ID: id, State: StatePresent, Held: true, Subject: o.subject, SHA256: printText(o.prints), Begins: o.begins, Ends: o.ends(),
			Fetched: o.state.Fetched, Address: cmp.Or(o.state.Address, rows[id].Address), LastFailure: o.state.Failure,
		}
		switch {
		case !s.Ends.IsZero() && !now.Before(s.Ends):
			s.State = StateExpired
		case f.printed(id.Kind) && !f.lists(id, o.content):
			s.State = StateUnlisted
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return out
}

// Ends returns, for each kind in the folder, when the first of its objects stops
// to count; kinds whose objects have no end are left out.
func (f *Folder) Ends() map[string]time.Time {
	out := map[string]time.Time{}
	for id, o := range f.held {
		end := o.ends()
		if known, ok := out[id.Kind]; !end.IsZero() && (!ok || end.Before(known)) {
			out[id.Kind] = end
		}
	}
	return out
}
