package policy

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// registration is how long ago the machine of a bearer document may have been
// started at its first contact where the zone does not say: as long as the document
// cannot have travelled far.
const registration = 5 * time.Minute

// maxDocumentAge bounds what a zone may allow: the longest-lived documents are
// tokens that clouds hand out again for a day; a launch may lie further back.
const maxDocumentAge = 10 * 365 * 24 * time.Hour

// hazards are the codes that a zone may allow: facts that are genuine, and unwanted
// unless somebody says so.
var hazards = []string{
	string(reason.AzureAttestationClaims), string(reason.AzureRuntimeData), string(reason.CCALifecycle), string(reason.EARStatus), string(reason.EC2Marketplace),
	string(reason.NitroDebug), string(reason.NvidiaRIMMissing), string(reason.PolicyMeasurementMismatch),
	string(reason.SNPDebug), string(reason.SNPTCBLow), string(reason.SNPVMPL),
	string(reason.TDXDebug), string(reason.TDXTCBStatus),
}

// documentNeeds is what a zone wants of documents.
type documentNeeds struct {
	All []string `json:"all,omitempty"` // formats that must all be there
	Any []string `json:"any,omitempty"` // of these, one
}

func (n *documentNeeds) formats() []string {
	if n == nil {
		return nil
	}
	return append(slices.Clone(n.All), n.Any...)
}

// documents reads the members of requires that concern documents.
func (p *placedZone) documents(m fields) {
	r := &p.Requires
	if n := m.get("evidence"); n != nil {
		f := p.w.fields(n, "requires.evidence", "all", "any")
		needs := documentNeeds{All: p.w.texts(f.get("all"), "all", p.w.item), Any: p.w.texts(f.get("any"), "any", p.w.item)}
		if len(needs.formats()) == 0 {
			p.w.invalid(n, "requires.evidence names no format: all, any or both")
		}
		r.Evidence = &needs
	}
	r.Confirmed = p.w.texts(m.get("confirmed"), "confirmed", p.confirmable)
	if n := m.get("same_machine"); n != nil {
		if same, ok := p.w.boolean(n, "same_machine"); ok && !same {
			r.SameMachine = &same
		}
	}
	r.Where = p.where(m.get("where"))
	r.Minimum = p.minimum(m.get("minimum"))
	r.Allow = p.w.texts(m.get("allow"), "allow", func(item *yaml.Node, what string) (string, bool) {
		s, ok := p.w.text(item, what)
		if ok && !slices.Contains(hazards, s) {
			p.w.invalid(item, "%q is nothing that a zone may allow; known are %s", clip(s), strings.Join(hazards, ", "))
			return "", false
		}
		return s, ok
	})
}

// item reads the format of a document that names a node or stands beside what does.
// A TPM's quote is none: a zone that wanted one here would deny for ever.
func (w *walker) item(n *yaml.Node, what string) (string, bool) {
	s, ok := w.text(n, what)
	if ok && !verifier.VerifiesItem(s) && s != verifier.FormatJoinToken {
		w.invalid(n, "no document of format %q is verified by this broker", clip(s))
		return "", false
	}
	return s, ok
}

// confirmable reads a format whose document a platform has to confirm. One that the
// zone never gets would look like a promise and be none.
func (p *placedZone) confirmable(n *yaml.Node, what string) (string, bool) {
	s, ok := p.w.text(n, what)
	switch can := verifier.ConfirmableFormats(); {
	case !ok:
		return "", false
	case !slices.Contains(can, s):
		p.w.invalid(n, "no platform can be asked about documents of format %q; known are %s", clip(s), strings.Join(can, ", "))
		return "", false
	case !slices.Contains(p.Requires.Format, s) && !slices.Contains(p.Requires.Evidence.formats(), s):
		p.w.invalid(n, "the zone takes no document of format %s: name it in requires.format or requires.evidence", s)
		return "", false
	}
	return s, true
}

// selectorName has the grammar of the names in docs/evidence: a mistyped name
// would be a selector that no document has, and deny for ever.
func (w *walker) selectorName(key *yaml.Node, what string) bool {
	area, _, ok := strings.Cut(key.Value, ".")
	if !ok || area == "" || strings.Trim(key.Value, "abcdefghijklmnopqrstuvwxyz0123456789_.") != "" {
		w.invalid(key, "%s: %q is no selector of a document, such as snp.measurement", what, clip(key.Value))
		return false
	}
	return true
}

func (p *placedZone) where(n *yaml.Node) map[string][]string {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		p.w.invalid(n, "where must be a mapping of selectors to lists of values")
		return nil
	}
	out := map[string][]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, values := n.Content[i], n.Content[i+1]
		if p.w.selectorName(key, "where") {
			out[key.Value] = p.w.texts(values, "where."+key.Value, p.w.value)
		}
	}
	return out
}

// value reads what a selector is compared with. A measurement of digits alone
// looks like a number to YAML; the text counts. Only plain scalars have these tags,
// as explicit ones are refused before.
func (w *walker) value(n *yaml.Node, what string) (string, bool) {
	if slices.Contains([]string{"!!int", "!!float", "!!bool"}, n.Tag) && len(n.Value) <= 255 {
		return n.Value, true
	}
	return w.text(n, what)
}

func (p *placedZone) minimum(n *yaml.Node) map[string]int {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		p.w.invalid(n, "minimum must be a mapping of selectors to whole numbers")
		return nil
	}
	out := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if !p.w.selectorName(key, "minimum") {
			continue
		}
		if v, ok := p.w.number(n.Content[i+1], "minimum."+key.Value, 0, 1<<31-1); ok {
			out[key.Value] = v
		}
	}
	return out
}

// DocumentFormats returns the formats that some zone could ask a host for beside
// its own evidence, in order; a host that cannot collect one leaves it out. The slice
// is the set's: every challenge carries it.
func (s *Set) DocumentFormats() []string {
	if s == nil {
		return nil
	}
	return s.formats
}

// Confirmed returns the formats of documents that some zone wants confirmed by their
// platform, in order. The slice is the caller's.
func (s *Set) Confirmed() []string {
	if s == nil {
		return nil
	}
	var out []string
	for _, z := range s.zones {
		out = append(out, z.Requires.Confirmed...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Takes reports whether some zone takes nodes named by evidence of format: what no
// zone takes is not worth a challenge.
func (s *Set) Takes(format string) bool {
	return s != nil && slices.ContainsFunc(s.zones, func(z *zone) bool { return slices.Contains(z.Requires.Format, format) })
}

// checkDocuments asks whether the documents that a zone wants are there, speak of
// this machine, say what they should, and have no hazard that it does not take.
func (z *zone) checkDocuments(in Input, unconfirmed []string) []*reason.Error {
	docs := in.Appraisal.Documents()
	out := z.checkNeeds(docs)
	for _, f := range unconfirmed {
		out = append(out, reason.Newf(reason.PolicyEvidenceMissing,
			"zone %s wants the document of format %s confirmed by its platform (requires.confirmed), and the platform did not answer or was not asked", z.Name, f))
	}
	for i := range docs {
		for _, h := range docs[i].Hazards {
			if !slices.Contains(z.Requires.Allow, string(h.Code)) {
				out = append(out, reason.Newf(h.Code, "%s: %s; zone %s does not allow that", docs[i].Format, h.Detail, z.Name))
			}
		}
	}
	out = append(out, z.checkWhere(docs)...)
	return append(out, z.checkDocumentAge(in, docs)...)
}

func (z *zone) checkNeeds(docs []verifier.Document) []*reason.Error {
	needs := z.Requires.Evidence
	if needs == nil {
		return nil
	}
	var out []*reason.Error
	has := func(format string) bool {
		return slices.ContainsFunc(docs, func(d verifier.Document) bool { return d.Format == format })
	}
	for _, f := range needs.All {
		if !has(f) {
			out = append(out, reason.Newf(reason.PolicyEvidenceMissing, "zone %s wants a document of format %s", z.Name, f))
		}
	}
	if len(needs.Any) > 0 && !slices.ContainsFunc(needs.Any, has) {
		out = append(out, reason.Newf(reason.PolicyEvidenceMissing, "zone %s wants a document of one of %s", z.Name, strings.Join(needs.Any, ", ")))
	}
	for i := range docs {
		if !docs[i].Anchored && z.Requires.SameMachine == nil && slices.Contains(needs.formats(), docs[i].Format) {
			out = append(out, reason.Newf(reason.PolicyEvidenceMissing, "nothing shows that the document of format %s is about this machine", docs[i].Format))
		}
	}
	return out
}

// unconfirmed are the formats of documents that the zone wants confirmed by their
// platform, and nobody confirmed.
func (z *zone) unconfirmed(docs []verifier.Document) []string {
	var out []string
	for i := range docs {
		if f := docs[i].Format; !docs[i].Confirmed && slices.Contains(z.Requires.Confirmed, f) {
			out = append(out, f)
		}
	}
	return out
}

// usable are the documents whose facts count: with an unanchored one a host could
// borrow the measurement or the project of another.
func (z *zone) usable(d *verifier.Document) bool { return d.Anchored || z.Requires.SameMachine != nil }

func (z *zone) values(docs []verifier.Document, name string) []string {
	var out []string
	for i := range docs {
		if z.usable(&docs[i]) {
			out = append(out, docs[i].Values(name)...)
		}
	}
	return out
}

// checkWhere compares selectors, in the order of their names. One that no document
// has is not met: nothing that was not proved may match.
func (z *zone) checkWhere(docs []verifier.Document) []*reason.Error {
	var out []*reason.Error
	for _, name := range slices.Sorted(maps.Keys(z.Requires.Where)) {
		have := z.values(docs, name)
		if !slices.ContainsFunc(have, func(v string) bool { return slices.Contains(z.Requires.Where[name], v) }) {
			out = append(out, reason.Newf(reason.PolicyMeasurementMismatch, "%s is %s, which zone %s does not list", name, sayValues(have), z.Name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(z.Requires.Minimum)) {
		have, floor := z.values(docs, name), z.Requires.Minimum[name]
		met := len(have) > 0
		for _, v := range have {
			n, err := strconv.Atoi(v)
			met = met && err == nil && n >= floor
		}
		if !met {
			out = append(out, reason.Newf(minimumCode(name), "%s is %s, zone %s wants at least %d", name, sayValues(have), z.Name, floor))
		}
	}
	return out
}

func minimumCode(name string) reason.Code {
	if strings.HasPrefix(name, "snp.tcb.") {
		return reason.SNPTCBLow
	}
	return reason.PolicyMeasurementMismatch
}

func sayValues(have []string) string {
	if len(have) == 0 {
		return "not proved"
	}
	return strings.Join(have[:min(len(have), 3)], ", ")
}

// checkDocumentAge bounds how old a document may be, and at first contact how long
// ago its machine was started: a bearer document of a machine that is gone would
// else register for ever.
func (z *zone) checkDocumentAge(in Input, docs []verifier.Document) []*reason.Error {
	limit := time.Duration(z.Evidence.MaxDocumentAge)
	first := cmp.Or(limit, registration)
	var out []*reason.Error
	for i := range docs {
		d := &docs[i]
		if limit > 0 && !d.IssuedAt.IsZero() && !d.IssuedAt.Add(limit).After(in.Now) {
			out = append(out, reason.Newf(reason.PolicyEvidenceAge, "the document of format %s is older than %s", d.Format, limit))
		}
		if in.FirstContact && d.Class == document.ClassC && !d.Launched.IsZero() && !d.Launched.Add(first).After(in.Now) {
			out = append(out, reason.Newf(reason.EC2PendingTime, "the machine was started more than %s ago, too long for its first registration (max_document_age)", first))
		}
	}
	return out
}
