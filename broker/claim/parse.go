package claim

import (
	"maps"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/reason"
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
		Status:   Status(o.text("ear_status")),
		IssuedAt: o.integer("iat"),
		Expires:  o.optionalInteger("exp"),
		Submods:  map[string]Submod{},
	}
	if o.text("eat_profile") != Profile {
		o.fail("eat_profile")
	}
	id := o.object("ear_verifier_id")
	c.VerifierID = VerifierID{Developer: id.text("developer"), Build: id.text("build")}
	zone := o.object("trust_zone")
	c.Zone = zone.zone()
	submods := o.object("submods")
	for _, name := range slices.Sorted(maps.Keys(submods.members)) {
		s := submods.object(name)
		c.Submods[name] = s.submod()
		submods.inherit(s)
	}
	for _, part := range []*object{id, zone, submods} {
		o.inherit(part)
	}
	if o.bad == "" {
		o.bad = c.broken()
	}
	return c
}

func (o *object) inherit(part *object) {
	if part.bad != "" {
		o.fail(part.bad)
	}
}

// submod reads the members that we know.
func (o *object) submod() Submod {
	s := Submod{Status: Status(o.text("ear_status")), PolicyIDs: o.texts("ear_appraisal_policy_ids")}
	vector := o.object("ear_trustworthiness_vector")
	s.Vector = Vector{
		InstanceIdentity: int(vector.optionalInteger("instance-identity")),
		Configuration:    int(vector.optionalInteger("configuration")),
		Executables:      int(vector.optionalInteger("executables")),
		FileSystem:       int(vector.optionalInteger("file-system")),
		Hardware:         int(vector.optionalInteger("hardware")),
	}
	o.inherit(vector)
	return s
}

func (o *object) zone() Zone {
	o.only("name", "tier", "epoch", "node", "attestation_id", "attested_at", "fresh_until", "evidence", "policy", "exceptions", "break_glass", "key")
	z := Zone{
		Name: o.text("name"), Node: o.text("node"), AttestationID: o.text("attestation_id"),
		Tier: int(o.integer("tier")), Epoch: o.integer("epoch"),
		AttestedAt: o.integer("attested_at"), FreshUntil: o.integer("fresh_until"),
		Evidence: o.text("evidence"), Exceptions: o.texts("exceptions"),
		BreakGlass: o.boolean("break_glass"), Key: o.text("key"),
	}
	p := o.object("policy")
	p.only("version", "hash", "mode")
	z.Policy = Policy{Version: p.integer("version"), Hash: p.text("hash"), Mode: p.text("mode")}
	o.inherit(p)
	return z
}

func (o *object) demand(name string, ok bool) {
	if !ok {
		o.fail(name)
	}
}
