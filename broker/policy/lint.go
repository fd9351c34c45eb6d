package policy

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	apiVersion    = "zonebroker/v1"
	kindZone      = "Zone"
	kindReference = "ReferenceSet"
)

// loader collects documents and problems.
type loader struct {
	order      map[string]int
	problems   []Problem
	zones      []*placedZone
	references []*placedReference
	fileSets   []*placedFileSet
}

func (l *loader) file(f File) {
	w, n := parseFile(f, &l.problems)
	if n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		w.invalid(n, "document must be a mapping with apiVersion and kind")
		return
	}
	var version, kind *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch n.Content[i].Value {
		case "apiVersion":
			version = n.Content[i+1]
		case "kind":
			kind = n.Content[i+1]
		}
	}
	if version == nil || version.Kind != yaml.ScalarNode || version.Value != apiVersion {
		w.invalid(orAt(version, n), "apiVersion must be %s", apiVersion)
	}
	switch {
	case kind == nil || kind.Kind != yaml.ScalarNode:
		w.invalid(orAt(kind, n), "kind must be %s, %s or %s", kindZone, kindReference, kindFileSet)
	case kind.Value == kindZone:
		l.zone(w, n)
	case kind.Value == kindReference:
		l.reference(w, n)
	case kind.Value == kindFileSet:
		l.fileSet(w, n)
	default:
		w.invalid(kind, "kind %q is not implemented; known are %s, %s and %s", clip(kind.Value), kindZone, kindReference, kindFileSet)
	}
}

func orAt(n, otherwise *yaml.Node) *yaml.Node {
	if n != nil {
		return n
	}
	return otherwise
}

// lintSet looks for what no single document shows.
func (l *loader) lintSet() {
	if len(l.zones) == 0 {
		if len(l.problems) == 0 {
			l.problems = append(l.problems, Problem{Code: reason.PolicyMissing, Text: "no document of kind Zone: nothing could be decided"})
		}
		return
	}
	known := map[string]*placedReference{}
	for _, r := range l.references {
		if first := known[r.set.Name]; r.named && first != nil {
			r.w.invalid(r.node, "reference set %q exists already, in %s", r.set.Name, place(first.w, first.node))
		} else if r.named {
			known[r.set.Name] = r
		}
	}
	l.lintFileSets()
	seen := map[string]*placedZone{}
	for i, z := range l.zones {
		if first := seen[z.Name]; z.named && first != nil {
			z.w.invalid(z.node, "zone %q exists already, in %s", z.Name, place(first.w, first.node))
		} else if z.named {
			seen[z.Name] = z
		}
		for _, n := range z.references {
			if n.Kind == yaml.ScalarNode && known[n.Value] == nil && validSegment(n.Value) {
				z.w.report(n, reason.PolicyReferenceMissing, "reference set %q does not exist", n.Value)
			}
		}
		for _, other := range l.zones[:i] {
			z.overlap(other)
		}
	}
}

// overlap reports selectors of which one covers the other while no priority
// decides: each node that the narrower one selects would be denied as
// policy.zone_ambiguous. Selectors that only may meet on a node are left to
// that node's decision.
func (p *placedZone) overlap(other *placedZone) {
	if p.Priority != other.Priority || p.Name == other.Name {
		return
	}
	for i, a := range p.Selectors.Any {
		for _, b := range other.Selectors.Any {
			if a.covers(b) || b.covers(a) {
				p.w.invalid(p.selectorNodes[i], "zone %q selects the same nodes with the same priority, in %s", other.Name, place(other.w, other.node))
				return
			}
		}
	}
}

// covers reports whether every node that b selects is selected by a.
func (a selector) covers(b selector) bool {
	within := func(x, y string) bool { return x == "" || x == y }
	return within(a.Group, b.Group) && within(a.EKManufacturer, b.EKManufacturer) && within(a.Format, b.Format) && within(a.Node, b.Node) && within(a.Owner, b.Owner)
}

func place(w *walker, n *yaml.Node) string {
	return Problem{File: w.file, Line: n.Line, Column: n.Column}.Place()
}

// Place is "file:line:column", the form that editors jump to; the file alone
// where there is no line.
func (p Problem) Place() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

// String is the problem in one line: place, text, code.
func (p Problem) String() string {
	var b strings.Builder
	if place := p.Place(); place != "" {
		b.WriteString(place + ": ")
	}
	b.WriteString(p.Text + " [" + string(p.Code) + "]")
	return b.String()
}
