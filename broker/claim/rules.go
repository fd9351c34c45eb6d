package claim

import "strings"

// Limits of single members.
const (
	maxSubmods = 8
	maxList    = 16
	maxText    = 255
	maxName    = 128 // characters of a zone name, as in zone documents
)

// The rules for the values of a claims-set stand here once, for readers and for
// Encode alike: a broker must not sign what its own checkers refuse.

// broken names a member whose value breaks the rules, "" for none.
func (c Claims) broken() string {
	if !validText(c.VerifierID.Developer, maxText) {
		return "developer"
	}
	if !validText(c.VerifierID.Build, maxText) {
		return "build"
	}
	if n := len(c.Submods); n == 0 || n > maxSubmods {
		return "submods"
	}
	for _, s := range c.Submods {
		if bad := s.broken(); bad != "" {
			return bad
		}
	}
	if !c.Status.bears(Overall(c.Submods)) {
		return "ear_status"
	}
	if c.IssuedAt <= 0 || c.Expires < 0 || c.Expires != 0 && c.Expires <= c.IssuedAt {
		return "iat"
	}
	return c.Zone.broken()
}

// Overall returns the status that submodules bear together: that of the worst.
func Overall(submods map[string]Submod) Status {
	worst := StatusNone
	for _, s := range submods {
		if rank(s.Status) > rank(worst) {
			worst = s.Status
		}
	}
	return worst
}

// bears reports whether s is a status that promises no more than the worst of
// what it stands for. None promises nothing.
func (s Status) bears(worst Status) bool {
	return s == StatusNone || rank(s) > 0 && rank(s) >= rank(worst)
}

// broken refuses a status better than the vector bears: the worst claim bounds
// the status. A trust claim is an AR4SI value, a signed byte.
func (s Submod) broken() string {
	if !validList(s.PolicyIDs) {
		return "ear_appraisal_policy_ids"
	}
	for _, m := range s.Vector.members() {
		if m.value < -128 || m.value > 127 {
			return m.name
		}
	}
	if !s.Status.bears(s.Vector.Status()) {
		return "ear_status"
	}
	return ""
}

func (z Zone) broken() string {
	switch {
	case !validSegment(z.Name):
		return "name"
	case !validNode(z.Node):
		return "node"
	case z.Tier < 0 || z.Tier > 4:
		return "tier"
	case z.Epoch < 1:
		return "epoch"
	case !validUUID(z.AttestationID):
		return "attestation_id"
	case z.AttestedAt <= 0:
		return "attested_at"
	case z.FreshUntil <= z.AttestedAt:
		return "fresh_until"
	case !validHash(z.Evidence):
		return "evidence"
	case z.Policy.Version < 1, !validHash(z.Policy.Hash), z.Policy.Mode != ModeEnforce && z.Policy.Mode != ModeAudit:
		return "policy"
	case !validList(z.Exceptions):
		return "exceptions"
	case z.Key != KeyTPM && z.Key != KeySoftware:
		return "key"
	}
	return ""
}

func validText(s string, limit int) bool { return s != "" && len(s) <= limit }

func validList(list []string) bool {
	for _, s := range list {
		if !validText(s, 2*maxText) {
			return false
		}
	}
	return len(list) <= maxList
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
	return ok && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}
