package claim

import (
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Limits of single members.
const (
	maxSubmods = 8
	maxList    = 16
	maxText    = 255
	maxName    = 128 // characters of a zone name, as in zone documents
)

// ParseInsecure reads the JSON of a claims-set. The result is unverified: it
// says what somebody wrote, not that it is so. Duplicate members, trailing
// bytes, wrong types and values out of range are auth.invalid. Unknown members
// are ignored, as EAR demands, except in trust_zone, which is ours: a checker
// that skipped a member of it could miss a restriction.
func ParseInsecure(raw []byte) (Claims, error) {
	v, err := parseJSON(raw)
	if err != nil {
		return Claims{}, reason.Wrap(reason.AuthInvalid, "the zone claim is not the JSON of a claims-set", err)
	}
	o := asObject(v)
	c := o.claims()
	if o.bad != "" {
		return Claims{}, reason.Newf(reason.AuthInvalid, "the zone claim lacks or misuses %s", o.bad)
	}
	return c, nil
}

// claims reads the members of a claims-set from an object that may hold more.
func (o *object) claims() Claims {
	c := Claims{
		Status:   o.status("ear_status"),
		IssuedAt: o.integer("iat"),
		Expires:  o.optionalInteger("exp"),
		Submods:  map[string]Submod{},
	}
	if o.text("eat_profile") != Profile {
		o.fail("eat_profile")
	}
	id := o.object("ear_verifier_id")
	c.VerifierID = VerifierID{Developer: id.shortText("developer"), Build: id.shortText("build")}
	zone := o.object("trust_zone")
	c.Zone = zone.zone()
	submods := o.object("submods")
	if n := len(submods.members); n == 0 || n > maxSubmods {
		o.fail("submods")
	}
	worst := StatusNone
	for _, name := range slices.Sorted(maps.Keys(submods.members)) {
		s := submods.object(name)
		c.Submods[name] = s.submod()
		submods.inherit(s)
		if rank(c.Submods[name].Status) > rank(worst) {
			worst = c.Submods[name].Status
		}
	}
	for _, part := range []*object{id, zone, submods} {
		o.inherit(part)
	}
	if rank(c.Status) < rank(worst) && c.Status != StatusNone {
		o.fail("ear_status")
	}
	if c.IssuedAt <= 0 || c.Expires < 0 || c.Expires != 0 && c.Expires <= c.IssuedAt {
		o.fail("iat")
	}
	return c
}

func (o *object) inherit(part *object) {
	if part.bad != "" {
		o.fail(part.bad)
	}
}

func (o *object) shortText(name string) string {
	s := o.text(name)
	if s == "" || len(s) > maxText {
		o.fail(name)
	}
	return s
}

func (o *object) status(name string) Status {
	s := Status(o.text(name))
	if rank(s) < 0 {
		o.fail(name)
	}
	return s
}

func (o *object) shortList(name string) []string {
	list := o.texts(name)
	if len(list) > maxList {
		o.fail(name)
	}
	for _, s := range list {
		if s == "" || len(s) > 2*maxText {
			o.fail(name)
		}
	}
	return list
}

// submod reads the members that we know. A status better than the vector bears
// is refused: the worst claim bounds the status.
func (o *object) submod() Submod {
	s := Submod{Status: o.status("ear_status"), PolicyIDs: o.shortList("ear_appraisal_policy_ids")}
	vector := o.object("ear_trustworthiness_vector")
	s.Vector = Vector{
		InstanceIdentity: vector.trustClaim("instance-identity"),
		Configuration:    vector.trustClaim("configuration"),
		Executables:      vector.trustClaim("executables"),
		FileSystem:       vector.trustClaim("file-system"),
		Hardware:         vector.trustClaim("hardware"),
	}
	o.inherit(vector)
	if rank(s.Status) < rank(s.Vector.Status()) && s.Status != StatusNone {
		o.fail("ear_status")
	}
	return s
}

// trustClaim is an AR4SI value, a signed byte.
func (o *object) trustClaim(name string) int {
	v := o.optionalInteger(name)
	if v < -128 || v > 127 {
		o.fail(name)
	}
	return int(v)
}

func (o *object) zone() Zone {
	o.only("name", "tier", "epoch", "node", "attestation_id", "attested_at", "fresh_until", "evidence", "policy", "exceptions", "break_glass", "key")
	z := Zone{
		Name: o.text("name"), Node: o.text("node"), AttestationID: o.text("attestation_id"),
		Tier: int(o.integer("tier")), Epoch: o.integer("epoch"),
		AttestedAt: o.integer("attested_at"), FreshUntil: o.integer("fresh_until"),
		Evidence: o.text("evidence"), Exceptions: o.shortList("exceptions"),
		BreakGlass: o.boolean("break_glass"), Key: o.text("key"),
	}
	p := o.object("policy")
	p.only("version", "hash", "mode")
	z.Policy = Policy{Version: p.integer("version"), Hash: p.text("hash"), Mode: p.text("mode")}
	o.inherit(p)
	id, err := uuid.Parse(z.AttestationID)
	o.demand("name", validSegment(z.Name))
	o.demand("node", validNode(z.Node))
	o.demand("tier", z.Tier >= 0 && z.Tier <= 4)
	o.demand("epoch", z.Epoch >= 1)
	o.demand("attestation_id", err == nil && id.String() == z.AttestationID)
	o.demand("attested_at", z.AttestedAt > 0)
	o.demand("fresh_until", z.FreshUntil > z.AttestedAt)
	o.demand("evidence", validHash(z.Evidence))
	o.demand("policy", z.Policy.Version >= 1 && validHash(z.Policy.Hash) && (z.Policy.Mode == ModeEnforce || z.Policy.Mode == ModeAudit))
	o.demand("key", z.Key == KeyTPM || z.Key == KeySoftware)
	return z
}

func (o *object) demand(name string, ok bool) {
	if !ok {
		o.fail(name)
	}
}

// validSegment is the grammar of one path segment (SPIFFE-ID 2.2). With another
// one a claim could name a zone that no path can carry.
func validSegment(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}

func validNode(s string) bool {
	return len(s) == 26 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

func validHash(s string) bool {
	digits, ok := strings.CutPrefix(s, "sha256:")
	b, err := hex.DecodeString(digits)
	return ok && err == nil && len(b) == 32 && strings.ToLower(digits) == digits
}
