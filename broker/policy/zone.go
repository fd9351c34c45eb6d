package policy

import (
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Limits of what a zone may promise (design section 5).
const (
	maxFresh        = 24 * time.Hour
	maxX509TTL      = 24 * time.Hour
	maxJWTTTL       = 15 * time.Minute
	defaultMaxAge   = 5 * time.Minute
	defaultX509TTL  = time.Hour
	defaultJWTTTL   = 5 * time.Minute
	maxPriority     = 1_000_000
	maxUID          = 1<<32 - 2 // the last value means "no user" to the kernel
	formatTPM2      = "tpm2"
	formatTPM2Lab   = "tpm2.lab"
	admitLab        = "lab"
	admitAnyGenuine = "any_genuine"
	admitOperator   = "operator"
	admitInventory  = "inventory"
	admitOwner      = "owner"
)

// graceOf is how long an SVID of a tier may outlive fresh_until.
func graceOf(tier int) time.Duration {
	switch {
	case tier <= 2:
		return 55 * time.Minute
	case tier == 3:
		return 10 * time.Minute
	}
	return 0
}

// classes from the strongest to the weakest: nonce and key bound, nonce only,
// bearer.
var classes = []string{"A", "B", "C"}

var admitKinds = []string{admitInventory, "join_token", admitOperator, admitOwner, admitAnyGenuine, admitLab}

// zone is a document of kind Zone with its defaults filled in. The JSON names
// are those of the YAML, so that the canonical form loads again.
type zone struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Name       string     `json:"name"`
	Tier       int        `json:"tier"`
	Priority   int        `json:"priority"`
	Lab        bool       `json:"lab,omitempty"` // takes software keys, and nothing else
	Selectors  selectors  `json:"selectors"`
	Admit      []string   `json:"admit"`
	Requires   requires   `json:"requires"`
	Evidence   evidence   `json:"evidence"`
	Issue      issue      `json:"issue"`
	Workloads  []Workload `json:"workloads,omitempty"`
}

type selectors struct {
	Any []selector `json:"any"`
}

// selector matches a node that has every member that is set.
type selector struct {
	Group          string `json:"group,omitempty"`
	EKManufacturer string `json:"ek_manufacturer,omitempty"`
	Format         string `json:"format,omitempty"`
	Node           string `json:"node,omitempty"`
	// Owner is an account, project, tenant … that a document of the node's format
	// proved, as kind=value.
	Owner string `json:"owner,omitempty"`
}

type requires struct {
	Class      string   `json:"class"` // the weakest that the zone accepts
	Format     []string `json:"format"`
	References []string `json:"references,omitempty"`
	SecureBoot bool     `json:"secure_boot"`
	// TPM is what the zone wants of the TPM itself; nil asks nothing beyond the
	// advisories, which hold without it.
	TPM *tpmRequires `json:"tpm,omitempty"`
	// Boot is what the measured command line has to rule out; nil asks nothing.
	Boot *bootRequires `json:"boot,omitempty"`
	// AnnouncedReboots refuses a machine that rebooted when nobody expected it.
	AnnouncedReboots bool `json:"announced_reboots,omitempty"`
	// IMA wants the files judged that the kernel measured.
	IMA *requiresIMA `json:"ima,omitempty"`
	// Evidence are documents that have to be there.
	Evidence *documentNeeds `json:"evidence,omitempty"`
	// Confirmed are formats whose documents count only where the platform, asked in
	// this attestation, spoke for them.
	Confirmed []string `json:"confirmed,omitempty"`
	// SameMachine is false where the zone takes documents that nothing ties to the
	// machine; nil is true.
	SameMachine *bool `json:"same_machine,omitempty"`
	// Where are selectors of documents that must have one of the values, Minimum
	// those that must not be below a number.
	Where   map[string][]string `json:"where,omitempty"`
	Minimum map[string]int      `json:"minimum,omitempty"`
	// Allow are hazards that the zone takes, by code.
	Allow []string `json:"allow,omitempty"`
}

type evidence struct {
	MaxAge duration `json:"max_age"`
	// MaxDocumentAge bounds the age of documents; 0 leaves it to their own expiry.
	MaxDocumentAge duration `json:"max_document_age,omitempty"`
}

type issue struct {
	X509TTL   duration `json:"x509_ttl"`
	JWTTTL    duration `json:"jwt_ttl"`
	Grace     duration `json:"grace"`
	Audiences []string `json:"audiences,omitempty"`
}

// Workload says which local caller may get which workload SVID. Empty members
// do not restrict; at least one of UID and Path is set. Groups are those of the
// node.
type Workload struct {
	Name   string   `json:"name"`
	UID    *int     `json:"uid,omitempty"`
	Path   string   `json:"path,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

func (l *loader) zone(w *walker, n *yaml.Node) {
	f := w.fields(n, "zone", "apiVersion", "kind", "name", "tier", "priority", "lab", "selectors", "admit", "requires", "evidence", "issue", "workloads")
	z := &zone{APIVersion: apiVersion, Kind: kindZone}
	p := &placedZone{zone: z, w: w, node: n}
	if z.Name, p.named = w.name(f.need("name", "it becomes /zone/<name>/ of every SPIFFE ID"), "name"); p.named {
		p.node = f.get("name")
	}
	tier := f.need("tier", "0 to 4")
	z.Tier, p.tiered = w.number(tier, "tier", 0, 4)
	z.Priority, _ = w.number(f.get("priority"), "priority", 0, maxPriority)
	if z.Lab, _ = w.boolean(f.get("lab"), "lab"); z.Lab && p.tiered && z.Tier > 0 {
		w.invalid(f.get("lab"), "a lab zone is of tier 0: its keys prove nothing about a machine")
	}
	p.selectors(f)
	p.admit(f)
	p.requires(f)
	p.lifetimes(f)
	p.workloads(f)
	l.zones = append(l.zones, p)
}

// placedZone is a zone while its set is being read: what it says and where.
type placedZone struct {
	*zone
	w             *walker
	node          *yaml.Node // of the name, of the document without one
	named, tiered bool
	selectorNodes []*yaml.Node
	references    []*yaml.Node
	files         []*yaml.Node // FileSets of requires.ima
}

func (p *placedZone) selectors(f fields) {
	n := f.need("selectors", "without them the zone matches no node")
	if n == nil {
		return
	}
	s := p.w.fields(n, "selectors", "any")
	for _, item := range p.w.list(s.need("any", "a list of alternatives"), "selectors.any") {
		m := p.w.fields(item, "selector", "group", "ek_manufacturer", "format", "node", "owner")
		if item.Kind == yaml.MappingNode && len(item.Content) == 0 {
			p.w.invalid(item, "selector is empty and would match every node; name what it matches")
			continue
		}
		var sel selector
		sel.Group, _ = p.w.text(m.get("group"), "group")
		sel.EKManufacturer, _ = p.w.text(m.get("ek_manufacturer"), "ek_manufacturer")
		sel.Format, _ = p.w.format(m.get("format"), "format")
		if sel.Node, _ = p.w.text(m.get("node"), "node"); sel.Node != "" && !isNodeID(sel.Node) {
			p.w.report(m.get("node"), reason.PolicyIdentityInvalid, "node must be a node id: 26 characters of lower-case base32")
		}
		sel.Owner, _ = p.w.owner(m.get("owner"))
		if sel == (selector{}) {
			continue // its members are wrong and were reported; it must not match everybody meanwhile
		}
		p.Selectors.Any = append(p.Selectors.Any, sel)
		p.selectorNodes = append(p.selectorNodes, item)
	}
}

func isNodeID(s string) bool {
	return len(s) == 26 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

func (p *placedZone) admit(f fields) {
	n := f.need("admit", "nothing else says which machines are ours")
	p.Admit = p.w.texts(n, "admit", func(item *yaml.Node, what string) (string, bool) {
		kind, ok := p.w.text(item, what)
		if ok && !slices.Contains(admitKinds, kind) {
			p.w.invalid(item, "unknown way of admission %q; known are %s", clip(kind), strings.Join(admitKinds, ", "))
			return "", false
		}
		if (kind == admitLab) != p.Lab {
			p.w.invalid(item, "a zone with lab: true admits lab and nothing else, and no other zone does")
		}
		if kind == admitAnyGenuine && p.tiered && p.Tier > 1 {
			p.w.invalid(item, "any_genuine is for tier 0 and 1: a chain says that a TPM is genuine, not that the machine is yours")
		}
		return kind, ok
	})
}

func (p *placedZone) requires(f fields) {
	p.Requires = requires{Class: "A", Format: []string{formatTPM2}}
	if p.Lab {
		p.Requires = requires{Class: "C", Format: []string{formatTPM2Lab}}
	}
	n := f.get("requires")
	if n == nil {
		n = &yaml.Node{Kind: yaml.MappingNode, Line: f.node.Line, Column: f.node.Column}
	}
	m := p.w.fields(n, "requires", "class", "format", "references", "secure_boot", "tpm", "boot", "announced_reboots", "ima",
		"evidence", "confirmed", "same_machine", "where", "minimum", "allow")
	if class := m.get("class"); class != nil {
		c, ok := p.w.text(class, "class")
		if ok && !slices.Contains(classes, c) {
			p.w.invalid(class, "class must be A, B or C, the weakest binding that the zone accepts")
		}
		p.Requires.Class = c
	}
	if format := m.get("format"); format != nil {
		p.Requires.Format = p.w.texts(format, "format", p.format)
	}
	refs := m.get("references")
	p.Requires.References = p.w.texts(refs, "references", p.w.name)
	if refs != nil && refs.Kind == yaml.SequenceNode {
		p.references = refs.Content
	}
	p.Requires.SecureBoot, _ = p.w.boolean(m.get("secure_boot"), "secure_boot")
	p.tpm(m.get("tpm"))
	p.boot(m.get("boot"))
	p.Requires.AnnouncedReboots, _ = p.w.boolean(m.get("announced_reboots"), "announced_reboots")
	if list := m.get("ima"); list != nil {
		p.ima(list)
	} else if p.tiered && p.Tier == 3 {
		p.w.invalid(n, "tier 3 means measured files: the zone must require ima with file sets")
	}
	p.documents(m)
	p.lintDocuments(m)
}

// format reads a format that the zone may require.
func (p *placedZone) format(item *yaml.Node, what string) (string, bool) {
	s, ok := p.w.format(item, what)
	if ok && (s == formatTPM2Lab) != p.Lab {
		p.w.invalid(item, "a zone with lab: true takes tpm2.lab and nothing else, and no other zone does")
		return "", false
	}
	return s, ok
}

// format reads the name of an evidence format that this broker judges.
func (w *walker) format(n *yaml.Node, what string) (string, bool) {
	s, ok := w.text(n, what)
	switch {
	case !ok || verifier.Verifies(s):
		return s, ok
	case verifier.VerifiesItem(s):
		w.invalid(n, "format %q names no node; ask for it in requires.evidence", s)
	default:
		w.invalid(n, "format %q is not verified by this broker", clip(s))
	}
	return "", false
}

// owner reads kind=value of package document.
func (w *walker) owner(n *yaml.Node) (string, bool) {
	s, ok := w.text(n, "owner")
	if !ok {
		return "", false
	}
	if _, err := document.ParseOwner(s); err != nil {
		w.invalid(n, "%s", err)
		return "", false
	}
	return s, true
}

// lifetimes reads evidence and issue. fresh_until is attested_at + max_age; a
// JWT-SVID never outlives it, an X.509-SVID by grace at most (invariant 2).
func (p *placedZone) lifetimes(f fields) {
	limit := graceOf(p.Tier)
	p.Evidence.MaxAge = duration(defaultMaxAge)
	p.Issue = issue{X509TTL: duration(defaultX509TTL), Grace: duration(limit)}
	if n := f.get("evidence"); n != nil {
		m := p.w.fields(n, "evidence", "max_age", "max_document_age")
		if d, ok := p.w.span(m.get("max_age"), "max_age", time.Second, maxFresh); ok {
			p.Evidence.MaxAge = d
		}
		if d, ok := p.w.span(m.get("max_document_age"), "max_document_age", time.Second, maxDocumentAge); ok {
			p.Evidence.MaxDocumentAge = d
		}
	}
	p.Issue.JWTTTL = min(duration(defaultJWTTTL), p.Evidence.MaxAge)
	n := f.get("issue")
	if n == nil {
		return
	}
	m := p.w.fields(n, "issue", "x509_ttl", "jwt_ttl", "grace", "audiences")
	if d, ok := p.w.span(m.get("x509_ttl"), "x509_ttl", time.Second, maxX509TTL); ok {
		p.Issue.X509TTL = d
	}
	if d, ok := p.w.span(m.get("jwt_ttl"), "jwt_ttl", time.Second, maxJWTTTL); ok {
		p.Issue.JWTTTL = d
		if d > p.Evidence.MaxAge {
			p.w.invalid(m.get("jwt_ttl"), "jwt_ttl must not exceed max_age: a JWT-SVID has no grace")
		}
	}
	if d, ok := p.w.span(m.get("grace"), "grace", 0, maxX509TTL); ok {
		p.Issue.Grace = d
		if p.tiered && time.Duration(d) > limit {
			p.w.invalid(m.get("grace"), "grace of tier %d is at most %s", p.Tier, limit)
		}
	}
	p.Issue.Audiences = p.w.texts(m.get("audiences"), "audiences", func(item *yaml.Node, what string) (string, bool) {
		s, ok := p.w.text(item, what)
		if ok && strings.Contains(s, "*") {
			p.w.invalid(item, "audience %q names more than one receiver", clip(s))
			return "", false
		}
		if ok && !isAudience(s) {
			p.w.invalid(item, "an audience is 1 to 255 visible ASCII characters without spaces")
			return "", false
		}
		return s, ok
	})
}

// isAudience is the form that a token may carry (broker/claim): what no token
// could name must not look allowed.
func isAudience(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func (p *placedZone) workloads(f fields) {
	for _, item := range p.w.list(f.get("workloads"), "workloads") {
		m := p.w.fields(item, "workload", "name", "uid", "path", "groups")
		var wl Workload
		wl.Name, _ = p.w.name(m.need("name", "it becomes /workload/<name> of the SPIFFE ID"), "name")
		if uid, ok := p.w.number(m.get("uid"), "uid", 0, maxUID); ok {
			wl.UID = &uid
		}
		if s, ok := p.w.text(m.get("path"), "path"); ok {
			if wl.Path = s; !path.IsAbs(s) || path.Clean(s) != s || s == "/" {
				p.w.invalid(m.get("path"), "path must be absolute, without . or .. or double slashes")
			}
		}
		wl.Groups = p.w.texts(m.get("groups"), "groups", p.w.text)
		if item.Kind == yaml.MappingNode && m.get("uid") == nil && m.get("path") == nil {
			p.w.invalid(item, "workload names neither uid nor path: every local process would match")
		}
		p.Workloads = append(p.Workloads, wl)
	}
}
