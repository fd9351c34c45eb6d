package policy

import (
	"maps"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// referenceSet is a document of kind ReferenceSet: one machine state that a
// zone accepts as a whole.
type referenceSet struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Name       string           `json:"name"`
	Bank       string           `json:"bank"`
	PCRs       map[int][]string `json:"pcrs,omitempty"`   // allowed values, hex
	Events     map[int][]string `json:"events,omitempty"` // digests that the log of the PCR must contain, hex
	// Closed are PCRs of Events whose log may hold nothing else. Without it a host
	// that booted something else can extend what is wanted afterwards, from PCR 8
	// on with what any program may measure.
	Closed     []int       `json:"closed,omitempty"`
	Provenance *provenance `json:"provenance,omitempty"`
	Valid      *validity   `json:"valid,omitempty"`
}

type provenance struct {
	LearntFrom string `json:"learnt_from,omitempty"`
	Boot       string `json:"boot,omitempty"`
	ApprovedBy string `json:"approved_by,omitempty"`
}

// validity bounds when a set counts; a bound that is nil does not.
type validity struct {
	NotBefore *time.Time `json:"not_before,omitempty"`
	NotAfter  *time.Time `json:"not_after,omitempty"`
}

func (r *referenceSet) validAt(now time.Time) bool {
	v := r.Valid
	return v == nil || (v.NotBefore == nil || !now.Before(*v.NotBefore)) && (v.NotAfter == nil || now.Before(*v.NotAfter))
}

type placedReference struct {
	set   *referenceSet
	w     *walker
	node  *yaml.Node
	named bool
}

func (l *loader) reference(w *walker, n *yaml.Node) {
	f := w.fields(n, "reference set", "apiVersion", "kind", "name", "bank", "pcrs", "events", "closed", "provenance", "valid")
	r := &referenceSet{APIVersion: apiVersion, Kind: kindReference, Bank: "sha256"}
	p := &placedReference{set: r, w: w, node: n}
	if r.Name, p.named = w.name(f.need("name", "zones refer to it"), "name"); p.named {
		p.node = f.get("name")
	}
	bank := f.need("bank", "sha256")
	if s, ok := w.text(bank, "bank"); ok && s != "sha256" {
		w.invalid(bank, "bank %q is not implemented; quotes are taken over sha256", clip(s))
	}
	r.PCRs = w.pcrMap(f.get("pcrs"), "pcrs")
	r.Events = w.pcrMap(f.get("events"), "events")
	for _, item := range w.list(f.get("closed"), "closed") {
		pcr, ok := w.number(item, "closed", 0, 23)
		switch {
		case !ok:
		case r.Events[pcr] == nil:
			w.invalid(item, "PCR %d is closed and has no list under events", pcr)
		case slices.Contains(r.Closed, pcr):
			w.invalid(item, "PCR %d stands twice in closed", pcr)
		default:
			r.Closed = append(r.Closed, pcr)
		}
	}
	slices.Sort(r.Closed)
	if n.Kind == yaml.MappingNode && f.get("pcrs") == nil && f.get("events") == nil {
		w.invalid(p.node, "reference set has neither pcrs nor events: it would accept every machine")
	}
	if m := f.get("provenance"); m != nil {
		r.Provenance = w.provenance(m)
	}
	if m := f.get("valid"); m != nil {
		vf := w.fields(m, "valid", "not_before", "not_after")
		r.Valid = &validity{NotBefore: w.instant(vf.get("not_before"), "not_before"), NotAfter: w.instant(vf.get("not_after"), "not_after")}
		if v := r.Valid; v.NotBefore != nil && v.NotAfter != nil && !v.NotBefore.Before(*v.NotAfter) {
			w.invalid(m, "not_before must lie before not_after")
		}
	}
	l.references = append(l.references, p)
}

func (w *walker) provenance(m *yaml.Node) *provenance {
	f := w.fields(m, "provenance", "learnt_from", "boot", "approved_by")
	out := &provenance{}
	out.LearntFrom, _ = w.text(f.get("learnt_from"), "learnt_from")
	out.Boot, _ = w.text(f.get("boot"), "boot")
	out.ApprovedBy, _ = w.text(f.get("approved_by"), "approved_by")
	return out
}

// pcrMap reads PCR index -> digests. An index that software can reset says
// nothing: after a reset the owner extends what the reference wants to see.
func (w *walker) pcrMap(n *yaml.Node, what string) map[int][]string {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		w.invalid(n, "%s must be a mapping from PCR to a list of digests", what)
		return nil
	}
	out := map[int][]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		pcr, ok := decimal(key.Value)
		switch {
		case key.Kind != yaml.ScalarNode || !ok || pcr > 23:
			w.invalid(key, "a PCR is a number from 0 to 23")
		case pcr == 16 || pcr == 23:
			w.invalid(key, "PCR %d is resettable by software and proves nothing", pcr)
		case pcr >= 17:
			w.invalid(key, "PCR %d belongs to a dynamic launch, which is not implemented", pcr)
		case pcr == 10:
			w.invalid(key, "PCR 10 is no state that a whole machine can be compared with: it grows with every file; use requires.ima")
		}
		list := w.texts(n.Content[i+1], what, w.digest)
		if _, twice := out[pcr]; ok && !twice {
			out[pcr] = list
		}
	}
	return out
}

func (w *walker) instant(n *yaml.Node, what string) *time.Time {
	if n == nil {
		return nil
	}
	t, err := time.Parse(time.RFC3339, n.Value)
	if n.Kind != yaml.ScalarNode || (n.Tag != "!!timestamp" && n.Tag != "!!str") || err != nil {
		w.invalid(n, "%s must be a time such as 2026-11-20T00:00:00Z", what)
		return nil
	}
	t = t.UTC()
	return &t
}

func sortedPCRs(m map[int][]string) []int {
	return slices.Sorted(maps.Keys(m))
}
