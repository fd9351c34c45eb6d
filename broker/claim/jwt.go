package claim

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Limits of a JWT-SVID. It is a bearer secret unless it is bound to a key, so
// that it lives for minutes.
const (
	MaxJWTLifetime = 15 * time.Minute // from iat to exp
	JWTBackdate    = 30 * time.Second // nbf before iat: for readers whose clock is behind
	MaxAudience    = 255              // bytes
	maxIssuer      = 255              // bytes
	x5tSize        = 32               // bytes of x5t#S256
)

// Token is what a JWT-SVID says beside the claims-set. Times are Unix seconds.
type Token struct {
	Issuer   string // iss: https URL of the OIDC issuer; "" leaves it out
	Subject  string // sub: the SPIFFE ID
	Audience string // aud: exactly one
	ID       string // jti: UUID of the record in the history
	IssuedAt int64  // iat; nbf is JWTBackdate earlier
	Expires  int64  // exp; at most MaxJWTLifetime later, and never past fresh_until
	X5T      []byte // SHA-256 of the DER of the certificate it is bound to (RFC 8705); nil for a bearer token
}

// EncodeJWT returns the payload of a JWT-SVID: the claims-set at the top level,
// and beside it iss, sub, aud, exp, nbf, iat, jti and cnf. IssuedAt and Expires
// of the claims-set are those of the token. It returns policy.identity_invalid
// for a subject that is not of the zone and node of the claim, policy.audience
// for an audience that no token may name, policy.evidence_age for an end past
// fresh_until, and internal for any other value that VerifyJWT would refuse.
func EncodeJWT(c Claims, t Token) ([]byte, error) {
	id, err := spiffeid.FromString(t.Subject)
	if err != nil || matches(id, c.Zone) != nil {
		return nil, reason.New(reason.PolicyIdentityInvalid, "the subject is not an identity of the zone and node of the claim")
	}
	if !validAudience(t.Audience) {
		return nil, reason.Newf(reason.PolicyAudience, "an audience has 1 to %d bytes of visible ASCII", MaxAudience)
	}
	if t.Expires > c.Zone.FreshUntil {
		return nil, reason.New(reason.PolicyEvidenceAge, "a token must not outlive its evidence")
	}
	c.IssuedAt, c.Expires = t.IssuedAt, t.Expires
	if _, err := Encode(c); err != nil {
		return nil, err
	}
	out := c.wire()
	if t.Issuer != "" {
		out["iss"] = t.Issuer
	}
	out["sub"], out["aud"], out["jti"] = t.Subject, []string{t.Audience}, t.ID
	out["nbf"] = t.IssuedAt - int64(JWTBackdate/time.Second)
	if t.X5T != nil {
		out["cnf"] = map[string]any{x5tMember: base64.RawURLEncoding.EncodeToString(t.X5T)}
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return nil, reason.Wrap(reason.Internal, "", err)
	}
	p, err := parsePayload(raw)
	if err == nil {
		err = p.sane()
	}
	if err != nil {
		return nil, reason.Wrap(reason.Internal, "", err)
	}
	return raw, nil
}

const x5tMember = "x5t#S256"

// validAudience leaves out spaces and what looks like something else: readers
// compare audiences byte by byte, people by sight.
func validAudience(s string) bool {
	return s != "" && len(s) <= MaxAudience && visible(s)
}

// ValidIssuer reports whether s can be the iss of a token: an https URL with a
// host, in its normal spelling, of at most 255 bytes, without user, query,
// fragment and trailing slash (OIDC Discovery 1.0, section 3). Readers compare
// it byte by byte.
func ValidIssuer(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= maxIssuer && u.Scheme == "https" && u.Hostname() != "" &&
		u.User == nil && !strings.ContainsAny(s, "?#") && !strings.HasSuffix(s, "/") && u.String() == s
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func validUUID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}
