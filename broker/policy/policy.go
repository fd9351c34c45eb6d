// Package policy turns zone documents into decisions: what evidence earns which
// zone, for how long. It is pure; time, node and evidence are arguments.
//
// It trusts its caller that the evidence was verified (only a verifier makes an
// Evidence) and that the node comes from a row whose HMAC held. It trusts the
// documents: whoever writes them decides. Everything that is missing, unknown,
// contradictory or not implemented means deny: a set with one problem does not
// load at all, so that no request is judged by half a policy.
//
// Documents stand in wire.md, "Zones".
package policy

import (
	"cmp"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Limits of a document. They bound what a mistaken or hostile file costs.
const (
	MaxFile  = 1 << 20 // bytes of one file
	maxDepth = 32      // nested collections
	maxItems = 1024    // of one list; lists are compared item by item
)

// File is one document with the name that problems are reported under.
type File struct {
	Name  string
	Bytes []byte
}

// Problem is one thing wrong with a document. Line and Column count from 1;
// they are 0 where the problem concerns the whole set.
type Problem struct {
	File         string
	Line, Column int
	Code         reason.Code
	Text         string
}

// Set is a policy: all zones and reference sets that are in force together.
// Only Load makes one; a nil Set denies everything with policy.missing.
type Set struct {
	zones      []*zone // by name
	references map[string]*referenceSet
	fileSets   []*fileSet // by name
	formats    []string   // of documents that some zone asks for, in order
	canonical  []byte
	hash       string
}

// Load reads documents, one a file. It returns all problems in the order of
// files, lines and columns; the set is nil if there is any. No zone at all is
// the problem policy.missing.
func Load(files []File) (*Set, []Problem) {
	l := &loader{order: map[string]int{}}
	for i, f := range files {
		if _, twice := l.order[f.Name]; !twice {
			l.order[f.Name] = i
		}
		l.file(f)
	}
	l.lintSet()
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(l.order[a.File], l.order[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, l.problems
	}
	s := &Set{references: map[string]*referenceSet{}}
	for _, z := range l.zones {
		s.zones = append(s.zones, z.zone)
	}
	slices.SortFunc(s.zones, func(a, b *zone) int { return cmp.Compare(a.Name, b.Name) })
	for _, r := range l.references {
		s.references[r.set.Name] = r.set
	}
	s.fileSets = l.sortedFileSets()
	for _, z := range s.zones {
		s.formats = append(s.formats, z.Requires.Evidence.formats()...)
	}
	slices.Sort(s.formats)
	s.formats = slices.Compact(s.formats)
	if err := s.seal(); err != nil {
		return nil, []Problem{{Code: reason.PolicyError, Text: "the set has no canonical form"}}
	}
	return s, nil
}

// AnyGenuine reports whether some zone admits every machine with a verified EK
// certificate, so that a stranger's chain is worth judging.
func (s *Set) AnyGenuine() bool { return s.admits(admitAnyGenuine) }

// AdmitsOperator reports whether some zone takes machines that an operator
// approves, so that a stranger is worth an entry in the pending list.
func (s *Set) AdmitsOperator() bool { return s.admits(admitOperator) }

// AllowsExpired reports whether some zone takes an EK certificate past its
// validity, so that one is worth judging as of its first day.
func (s *Set) AllowsExpired() bool {
	return s != nil && slices.ContainsFunc(s.zones, func(z *zone) bool {
		return z.Requires.TPM != nil && z.Requires.TPM.ExpiredCertificate == allowed
	})
}

func (s *Set) admits(kind string) bool {
	return s != nil && slices.ContainsFunc(s.zones, func(z *zone) bool { return slices.Contains(z.Admit, kind) })
}

// ZoneSummary describes a zone for lists.
type ZoneSummary struct {
	Name       string
	Tier       int
	Priority   int
	Admit      []string
	References []string
	MaxAge     time.Duration
	X509TTL    time.Duration
	Grace      time.Duration
}

// Zones lists the zones by name. The slices are the caller's.
func (s *Set) Zones() []ZoneSummary {
	if s == nil {
		return nil
	}
	out := make([]ZoneSummary, 0, len(s.zones))
	for _, z := range s.zones {
		out = append(out, ZoneSummary{
			Name: z.Name, Tier: z.Tier, Priority: z.Priority,
			Admit: slices.Clone(z.Admit), References: slices.Clone(z.Requires.References),
			MaxAge: time.Duration(z.Evidence.MaxAge), X509TTL: time.Duration(z.Issue.X509TTL), Grace: time.Duration(z.Issue.Grace),
		})
	}
	return out
}
