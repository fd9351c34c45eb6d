package api

import (
	"regexp"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Roles of an operator's certificate.
const (
	RoleAuditor  = "auditor"  // reads
	RoleOperator = "operator" // reads, admits, approves, disables
)

const (
	// DefaultOperatorTTL and MaxOperatorTTL bound the life of a role certificate,
	// in seconds: 30 days and 400 days.
	DefaultOperatorTTL = 30 * 24 * 3600
	MaxOperatorTTL     = 400 * 24 * 3600
)

var wordForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// OperatorRequest gives a role to whoever holds a key. The private key stays
// where it was made.
type OperatorRequest struct {
	Name string `json:"name"`                  // a word: a-z, 0-9, ".", "_", "-", at most 63 characters
	Role string `json:"role"`                  // a Role constant
	SPKI Bytes  `json:"spki"`                  // DER of the public key, at most MaxSPKI
	TTL  int    `json:"ttl_seconds,omitempty"` // 0 takes DefaultOperatorTTL
}

// RevokeRequest takes a role back.
type RevokeRequest struct {
	Note string `json:"note,omitempty"`
}

// Operator is the holder of a role certificate.
type Operator struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Role       string    `json:"role"`
	SPKISHA256 string    `json:"spki_sha256"` // hex
	By         string    `json:"by"`          // who gave the role
	Status     string    `json:"status"`      // "active", "revoked" or "expired", at the time of the answer
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at"`
}

// OperatorList is all holders of role certificates, oldest first.
type OperatorList struct {
	Operators []Operator `json:"operators"`
}

// Validate checks name, role and lifetime; what key it is, the broker says.
func (r OperatorRequest) Validate() error {
	var c checks
	c.form("/name", r.Name, wordForm)
	if r.Role != RoleAuditor && r.Role != RoleOperator {
		c.fail(reason.RequestMalformed, "/role: not auditor or operator")
	}
	c.required("/spki", len(r.SPKI), MaxSPKI)
	if r.TTL < 0 || r.TTL > MaxOperatorTTL {
		c.fail(reason.RequestMalformed, "/ttl_seconds: not between 0 and %d", MaxOperatorTTL)
	}
	return c.err
}

// Validate checks the note.
func (r RevokeRequest) Validate() error {
	var c checks
	c.note(r.Note)
	return c.err
}
