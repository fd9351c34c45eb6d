package policy

import (
	"slices"
	"time"
)

// Terms is what a zone grants a node beyond its own SVID, as the set says it.
type Terms struct {
	Tier      int
	MaxAge    time.Duration
	X509TTL   time.Duration
	JWTTTL    time.Duration
	Grace     time.Duration // X.509-SVIDs may outlive fresh_until by this
	Audiences []string
	Workloads []Workload // those placed on this node's groups, in document order
}

// ZoneTerms looks up the terms of a zone for a node that earned it by an earlier
// attestation. It judges no evidence. It reports false where the set has no zone
// of that name, where the zone does not take machines admitted as this one is,
// or where none of its selectors can match the node any more by group and id: a
// policy that moved the node elsewhere holds at once, not with the next
// attestation. A nil set has no zones.
func (s *Set) ZoneTerms(name string, node Node) (Terms, bool) {
	if s == nil {
		return Terms{}, false
	}
	i := slices.IndexFunc(s.zones, func(z *zone) bool { return z.Name == name })
	if i < 0 {
		return Terms{}, false
	}
	z := s.zones[i]
	if !slices.Contains(z.Admit, node.AdmittedBy) || !slices.ContainsFunc(z.Selectors.Any, func(sel selector) bool { return sel.names(node) }) {
		return Terms{}, false
	}
	return Terms{
		Tier: z.Tier, MaxAge: time.Duration(z.Evidence.MaxAge), X509TTL: time.Duration(z.Issue.X509TTL),
		JWTTTL: time.Duration(z.Issue.JWTTTL), Grace: time.Duration(z.Issue.Grace),
		Audiences: slices.Clone(z.Issue.Audiences), Workloads: z.placedOn(node),
	}, true
}

// names reports whether what a selector says of the node itself holds. What it
// says of evidence was judged when the zone was earned.
func (s selector) names(node Node) bool {
	return (s.Group == "" || slices.Contains(node.Groups, s.Group)) && (s.Node == "" || s.Node == node.ID)
}

// placedOn returns the workloads of a node's groups.
func (z *zone) placedOn(node Node) []Workload {
	var out []Workload
	for _, w := range z.Workloads {
		if len(w.Groups) == 0 || slices.ContainsFunc(w.Groups, func(g string) bool { return slices.Contains(node.Groups, g) }) {
			out = append(out, w.clone())
		}
	}
	return out
}
