package claim

import (
	"encoding/json"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Encode returns the JSON of a claims-set: no spaces, members in the order of
// their names, so that equal claims have equal bytes. It returns
// policy.identity_invalid for a name that is no path segment, and internal for
// any other value that Parse would refuse: a broker must not sign what its own
// checkers do not read.
func Encode(c Claims) ([]byte, error) {
	if raw, ok := c.plain(); ok {
		return raw, nil
	}
	return c.encode()
}

// encode is Encode by the library.
func (c Claims) encode() ([]byte, error) {
	raw, err := json.Marshal(c.wire())
	if err != nil {
		return nil, reason.Wrap(reason.Internal, "", err)
	}
	if !validSegment(c.Zone.Name) || !validNode(c.Zone.Node) {
		return nil, reason.New(reason.PolicyIdentityInvalid, "zone or node name is not a path segment of a SPIFFE ID")
	}
	if _, err := ParseInsecure(raw); err != nil {
		return nil, reason.Wrap(reason.Internal, "", err)
	}
	return raw, nil
}

// wire uses maps, which encoding/json writes in the order of their keys.
func (c Claims) wire() map[string]any {
	submods := map[string]any{}
	for name, s := range c.Submods {
		vector := map[string]any{}
		for _, m := range s.Vector.members() {
			if m.value != 0 {
				vector[m.name] = m.value
			}
		}
		submods[name] = map[string]any{
			"ear_status":                 s.Status,
			"ear_trustworthiness_vector": vector,
			"ear_appraisal_policy_ids":   list(s.PolicyIDs),
		}
	}
	out := map[string]any{
		"eat_profile":     Profile,
		"ear_verifier_id": map[string]any{"developer": c.VerifierID.Developer, "build": c.VerifierID.Build},
		"ear_status":      c.Status,
		"submods":         submods,
		"iat":             c.IssuedAt,
		"trust_zone":      c.Zone.wire(),
	}
	if c.Expires != 0 {
		out["exp"] = c.Expires
	}
	return out
}

func (z Zone) wire() map[string]any {
	return map[string]any{
		"name":           z.Name,
		"tier":           z.Tier,
		"epoch":          z.Epoch,
		"node":           z.Node,
		"attestation_id": z.AttestationID,
		"attested_at":    z.AttestedAt,
		"fresh_until":    z.FreshUntil,
		"evidence":       z.Evidence,
		"policy":         map[string]any{"version": z.Policy.Version, "hash": z.Policy.Hash, "mode": z.Policy.Mode},
		"exceptions":     list(z.Exceptions),
		"break_glass":    z.BreakGlass,
		"key":            z.Key,
	}
}

// list writes [] for nil: a null would be another type to a policy engine.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
