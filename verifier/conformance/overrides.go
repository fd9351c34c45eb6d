package conformance

import "strings"

// overrideColumns of a list of overrides.
var overrideColumns = []string{"path", "context", "wanted", "ours", "reason"}

// Override is a difference that is meant: a case in which Zonebroker judges
// otherwise than the manifest, and why.
type Override struct {
	Line          int
	Path, Context string // as they stand in the manifest
	Wanted, Ours  string // "accept" or a reason code
	Reason        string
}

// ParseOverrides reads a list of overrides: tab-separated, with the header path,
// context, wanted, ours, reason. file is the name for errors (*LineError,
// joined).
func ParseOverrides(file string, raw []byte) ([]Override, error) {
	lines, err := readTable(file, raw, overrideColumns, len(overrideColumns))
	if err != nil {
		return nil, err
	}
	var out []Override
	var problems lineErrors
	for _, l := range lines {
		o := Override{l.number, l.fields[0], l.fields[1], l.fields[2], l.fields[3], l.fields[4]}
		if strings.TrimSpace(o.Reason) == "" {
			problems = append(problems, &LineError{file, l.number, "reason is missing"})
		}
		out = append(out, o)
	}
	return out, problems.join()
}

// override marks the results that overrides explain. One that explains nothing
// is an error: the difference it stood for is gone.
func override(results []Result, overrides []Override) error {
	var problems lineErrors
	for _, o := range overrides {
		used := false
		for i := range results {
			r := &results[i]
			if r.Path == o.Path && r.Context == o.Context && r.Wanted == o.Wanted && r.Got == o.Ours && r.Status == Differs {
				r.Status, r.Reason, used = Overridden, o.Reason, true
			}
		}
		if !used {
			problems = append(problems, &LineError{"overrides", o.Line, "no case differs in this way"})
		}
	}
	return problems.join()
}
