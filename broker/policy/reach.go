package policy

import (
	"slices"
	"strings"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
)

// Reach is what is known of a zone and a host before any evidence is made.
type Reach struct {
	Zone string
	Tier int
	By   []string // formats of the zone that the host has
	// Missing says why no evidence of the host can earn the zone; empty where some
	// could.
	Missing []string
	// Open says what only an attestation shows.
	Open []string
}

// Reach says for each zone, by name, whether a host that can make documents of the
// formats in have could earn it. Values are the binding classes that the formats
// can reach at best. It decides nothing: a zone that is within reach may still
// refuse.
func (s *Set) Reach(have map[string]string) []Reach {
	if s == nil {
		return nil
	}
	out := make([]Reach, 0, len(s.zones))
	for _, z := range s.zones {
		out = append(out, z.reach(have))
	}
	return out
}

func (z *zone) reach(have map[string]string) Reach {
	r := Reach{Zone: z.Name, Tier: z.Tier}
	for _, f := range z.Requires.Format {
		if _, ok := have[f]; ok {
			r.By = append(r.By, f)
		}
	}
	if len(r.By) == 0 {
		r.Missing = append(r.Missing, "it takes "+strings.Join(z.Requires.Format, ", "))
	}
	beside := z.Requires.Evidence
	if beside == nil {
		beside = &documentNeeds{}
	}
	for _, f := range beside.All {
		if _, ok := have[f]; !ok {
			r.Missing = append(r.Missing, "it wants a document of format "+f)
		}
	}
	if has := func(f string) bool { _, ok := have[f]; return ok }; len(beside.Any) > 0 && !slices.ContainsFunc(beside.Any, has) {
		r.Missing = append(r.Missing, "it wants a document of one of "+strings.Join(beside.Any, ", "))
	}
	if best := bestClass(have, append(r.By, beside.formats()...)); len(r.By) > 0 && best > z.Requires.Class {
		r.Missing = append(r.Missing, "it wants class "+z.Requires.Class+", and this host reaches "+best)
	}
	r.Open = z.open()
	return r
}

// bestClass is the strongest of the formats that the host has: one document raises
// those that are about the same machine.
func bestClass(have map[string]string, formats []string) string {
	best := document.ClassC
	for _, f := range formats {
		class, ok := have[f]
		if verifier.Quotes(f) {
			class = document.ClassA
		}
		if ok {
			best = min(best, class)
		}
	}
	return best
}

// open lists what a zone compares that no host can say of itself.
func (z *zone) open() []string {
	out := []string{"admission by " + strings.Join(z.Admit, ", ")}
	for _, o := range []struct {
		wanted bool
		what   string
	}{
		{len(z.Requires.References) > 0, "boot as in " + strings.Join(z.Requires.References, ", ")},
		{z.Requires.SecureBoot, "secure boot"},
		{z.Requires.TPM != nil, "kind and firmware of the TPM"},
		{z.Requires.Boot != nil, "kernel command line"},
		{z.Requires.IMA != nil, "measured files"},
		{len(z.Requires.Where)+len(z.Requires.Minimum) > 0, "selectors"},
		{len(z.Requires.Confirmed) > 0, "what the platform says of " + strings.Join(z.Requires.Confirmed, ", ")},
	} {
		if o.wanted {
			out = append(out, o.what)
		}
	}
	return out
}
