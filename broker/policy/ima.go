package policy

import (
	"cmp"
	"errors"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

const kindFileSet = "FileSet"

// maxFiles bounds the digests of one set: a document has at most 1 MiB, and who
// has more files writes several.
const maxFiles = 16384

// requiresIMA is what a zone asks of the kernel's measurement list.
type requiresIMA struct {
	Files      []string `json:"files"`       // names of FileSets; a file has to be in one of them
	Violations string   `json:"violations"`  // "deny" or "allow" records of files written while they were measured
	PaddedSHA1 string   `json:"padded_sha1"` // "deny" or "allow" kernels before 5.8, which extend nothing stronger

	rules *ima.Rules
}

// fileSet is a document of kind FileSet: files that a host may measure.
type fileSet struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Name       string      `json:"name"`
	Digests    []string    `json:"digests,omitempty"`
	Keys       []string    `json:"keys,omitempty"`
	Paths      []string    `json:"paths,omitempty"`
	Buffers    []string    `json:"buffers,omitempty"`
	Provenance *provenance `json:"provenance,omitempty"`
}

func (f *fileSet) allow() ima.Allow {
	return ima.Allow{Digests: f.Digests, Keys: f.Keys, Paths: f.Paths, Buffers: f.Buffers}
}

type placedFileSet struct {
	set   *fileSet
	w     *walker
	node  *yaml.Node
	named bool
}

func (l *loader) fileSet(w *walker, n *yaml.Node) {
	f := w.fields(n, "file set", "apiVersion", "kind", "name", "digests", "keys", "paths", "buffers", "provenance")
	s := &fileSet{APIVersion: apiVersion, Kind: kindFileSet}
	p := &placedFileSet{set: s, w: w, node: n}
	if s.Name, p.named = w.name(f.need("name", "zones refer to it"), "name"); p.named {
		p.node = f.get("name")
	}
	members := map[string]*[]string{"digests": &s.Digests, "keys": &s.Keys, "paths": &s.Paths, "buffers": &s.Buffers}
	empty := n.Kind == yaml.MappingNode
	for name, to := range members {
		*to = w.strings(f.get(name), name)
		empty = empty && f.get(name) == nil
	}
	if empty {
		w.invalid(p.node, "file set has none of digests, keys, paths and buffers: it would allow no file")
	}
	if m := f.get("provenance"); m != nil {
		s.Provenance = w.provenance(m)
	}
	_, problems := ima.Compile(s.allow())
	for _, problem := range problems {
		// What was reported above is not in the list any more, so that the places
		// would be off by what is missing.
		if list := f.get(problem.Member); len(list.Content) == len(*members[problem.Member]) {
			w.invalid(list.Content[problem.Index], "item of %s: %s", problem.Member, problem.Text)
		}
	}
	l.fileSets = append(l.fileSets, p)
}

// strings reads a list of different strings of up to 16 KiB, with line breaks:
// keys are PEM. What may stand in them is ima's to say.
func (w *walker) strings(n *yaml.Node, what string) []string {
	const maxString = 16 << 10
	switch {
	case n == nil:
		return nil
	case n.Kind != yaml.SequenceNode:
		w.invalid(n, "%s must be a list", what)
		return nil
	case len(n.Content) == 0:
		w.invalid(n, "%s is an empty list", what)
		return nil
	case len(n.Content) > maxFiles:
		w.invalid(n, "%s has more than %d items", what, maxFiles)
		return nil
	}
	seen := make(map[string]bool, len(n.Content))
	out := make([]string, 0, len(n.Content))
	for _, item := range n.Content {
		switch {
		case item.Kind != yaml.ScalarNode || item.Tag != "!!str":
			w.invalid(item, "item of %s must be a string", what)
		case len(item.Value) > maxString:
			w.invalid(item, "item of %s has more than %d characters", what, maxString)
		case seen[item.Value]:
			w.invalid(item, "%q stands twice in %s", clip(item.Value), what)
		default:
			seen[item.Value] = true
			out = append(out, item.Value)
		}
	}
	return out
}

// ima reads requires.ima of a zone.
func (p *placedZone) ima(n *yaml.Node) {
	m := p.w.fields(n, "ima", "files", "violations", "padded_sha1")
	q := &requiresIMA{Violations: "deny", PaddedSHA1: "deny"}
	files := m.need("files", "a list of FileSets; without one every file would do")
	q.Files = p.w.texts(files, "files", p.w.name)
	if files != nil && files.Kind == yaml.SequenceNode {
		p.files = files.Content
	}
	p.w.choice(m.get("violations"), "violations", &q.Violations)
	p.w.choice(m.get("padded_sha1"), "padded_sha1", &q.PaddedSHA1)
	p.Requires.IMA = q
}

func (w *walker) choice(n *yaml.Node, what string, to *string) {
	s, ok := w.text(n, what)
	if ok && s != "allow" && s != "deny" {
		w.invalid(n, "%s must be allow or deny", what)
	} else if ok {
		*to = s
	}
}

// lintFileSets finds the sets that zones name and makes their rules.
func (l *loader) lintFileSets() {
	known := map[string]*placedFileSet{}
	for _, s := range l.fileSets {
		if first := known[s.set.Name]; s.named && first != nil {
			s.w.invalid(s.node, "file set %q exists already, in %s", s.set.Name, place(first.w, first.node))
		} else if s.named {
			known[s.set.Name] = s
		}
	}
	for _, z := range l.zones {
		for _, n := range z.files {
			if n.Kind == yaml.ScalarNode && known[n.Value] == nil && validSegment(n.Value) {
				z.w.report(n, reason.PolicyReferenceMissing, "file set %q does not exist", n.Value)
			}
		}
	}
	if len(l.problems) > 0 {
		return
	}
	for _, z := range l.zones {
		if q := z.Requires.IMA; q != nil {
			sets := make([]ima.Allow, len(q.Files))
			for i, name := range q.Files {
				sets[i] = known[name].set.allow()
			}
			// Each compiled alone, so that they do together.
			q.rules, _ = ima.Compile(sets...)
		}
	}
}

// sortedFileSets are the sets in the order of the canonical form.
func (l *loader) sortedFileSets() []*fileSet {
	out := make([]*fileSet, len(l.fileSets))
	for i, p := range l.fileSets {
		out[i] = p.set
	}
	slices.SortFunc(out, func(a, b *fileSet) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// checkFiles asks for the measurement list and holds the files in it against the
// file sets of the zone. The verdict is what to go on from the next time.
func (z *zone) checkFiles(in Input) (ima.Judged, []*reason.Error) {
	q := z.Requires.IMA
	if q == nil {
		return ima.Judged{}, nil
	}
	list := in.Appraisal.IMA()
	if !list.Known() {
		return ima.Judged{}, []*reason.Error{reason.Newf(reason.IMAMissing, "zone %s wants the measurement list of the kernel, and PCR 10 was not quoted", z.Name)}
	}
	var out []*reason.Error
	if n := list.Violations(); n > 0 && q.Violations != "allow" {
		out = append(out, violations(list, n))
	}
	if list.Extend() == ima.ExtendPadded && q.PaddedSHA1 != "allow" {
		out = append(out, reason.New(reason.IMADigest, "the kernel extends PCR 10 with SHA-1 digests filled up with zeros; zone "+z.Name+" wants the bank's own hash (kernel 5.8 or later)"))
	}
	judged, err := list.Judge(q.rules)
	if refusal, ok := errors.AsType[*reason.Error](err); ok {
		return ima.Judged{}, append(out, refusal)
	}
	if denied := judged.Err(); denied != nil {
		out = append(out, denied)
	}
	return judged, out
}

func violations(list ima.Attested, n uint64) *reason.Error {
	text := strconv.FormatUint(n, 10) + " files were written while they were measured or open for execution"
	if n == 1 {
		text = "a file was written while it was measured or open for execution"
	}
	if entry, path, ok := list.FirstViolation(); ok {
		text += "; entry " + strconv.FormatUint(entry, 10) + ": " + path
	}
	return reason.New(reason.IMAViolation, text)
}

// SelectionOf is the PCR selection for one node: that of all zones, and PCR 8 to
// 10 where some zone that may take the node wants the measurement list. A node
// that no such zone can select is not asked for a list that nobody reads.
func (s *Set) SelectionOf(node Node) tpm2.Selection {
	out := s.Selection()
	if s == nil {
		return out
	}
	for _, z := range s.zones {
		if z.Requires.IMA != nil && slices.ContainsFunc(z.Selectors.Any, func(sel selector) bool { return sel.names(node) }) {
			return tpm2.SelectionOf(append(out.Indexes(), 8, 9, 10)...)
		}
	}
	return out
}

// FileRules names the rules by which a zone judges files, "" for a zone that
// judges none or does not exist. A verdict about the files of a boot goes on
// only under the same rules.
func (s *Set) FileRules(name string) string {
	if s == nil {
		return ""
	}
	for _, z := range s.zones {
		if z.Name == name && z.Requires.IMA != nil {
			return z.Requires.IMA.rules.Digest()
		}
	}
	return ""
}
