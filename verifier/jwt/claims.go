package jwt

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// registered are the claims that every format is held to.
type registered struct {
	Issuer    *string     `json:"iss"`
	Audience  audience    `json:"aud"`
	IssuedAt  numericDate `json:"iat"`
	NotBefore numericDate `json:"nbf"`
	Expires   numericDate `json:"exp"`
}

// audience is one string or a list (RFC 7519, 4.1.3).
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		*a = make(audience, 1)
		return json.Unmarshal(b, &(*a)[0])
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// numericDate is a whole number of seconds. RFC 7519 allows fractions, which no
// issuer here writes, and which two readers would round apart.
type numericDate struct {
	time.Time
	set bool
}

// lastSecond is the last one of the year 9999.
const lastSecond = 253402300799

// UnmarshalJSON implements json.Unmarshaler. Null is a time that is not there. One
// before 1970 or behind the year 9999 (milliseconds, or a forger's for ever) is the
// nearest that can be compared: it has expired, is to come, or makes the token live
// too long.
func (d *numericDate) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if bytes.ContainsAny(b, ".eE") || err != nil && !errors.Is(err, strconv.ErrRange) { // where it is out of range n is the nearest
		return errors.New("a time is not a whole number")
	}
	d.Time, d.set = time.Unix(min(max(n, 0), lastSecond), 0).UTC(), true
	return nil
}

// checkAudience wants exactly one: a token for two services can be used by either
// against the other.
func (t *Token) checkAudience(got audience, want Expect) error {
	wanted := want.Audience
	if t.issuer.Audience != "" {
		wanted, t.fixed = t.issuer.Audience, true
	}
	if wanted == "" && want.NoAudience {
		return nil
	}
	if wanted == "" {
		return reason.New(reason.JWTAudience, "no audience is expected")
	}
	if len(got) != 1 || got[0] != wanted {
		return reason.New(reason.JWTAudience, "the audience is missing, another one, or not the only one")
	}
	return nil
}

// checkTimes wants both times: a check of a time that is not there would pass.
// Expiry comes first, and what has expired is refused as that however long it was
// meant to live, and whether or not it says since when.
func (t *Token) checkTimes(c *registered, profile Profile, challenge, now time.Time) error {
	if c.Expires.set && !now.Before(c.Expires.Time) {
		return reason.Newf(reason.JWTExpired, "the token expired at %s", c.Expires.Format(time.RFC3339))
	}
	if !c.IssuedAt.set || !c.Expires.set && profile.MaxAge == 0 {
		return reason.New(reason.JWTLifetime, "the token does not say when it was issued and when it expires")
	}
	t.issuedAt, t.expiresAt = c.IssuedAt.Time, c.Expires.Time
	if !c.Expires.set {
		t.expiresAt = t.issuedAt.Add(min(profile.MaxAge, t.issuer.MaxLifetime))
		if !now.Before(t.expiresAt) {
			return reason.Newf(reason.JWTExpired, "the token has no expiry, and is too old since %s", t.expiresAt.Format(time.RFC3339))
		}
	}
	life := t.expiresAt.Sub(t.issuedAt)
	if life > t.issuer.MaxLifetime {
		return reason.Newf(reason.JWTLifetime, "the token lives %s, and %s at most is allowed", life, t.issuer.MaxLifetime)
	}
	if c.IssuedAt.After(now.Add(Skew)) || c.NotBefore.After(now.Add(Skew)) {
		return reason.New(reason.JWTIssuedAt, "the token was issued in the future")
	}
	if life <= 0 {
		return reason.New(reason.JWTLifetime, "the token expires before it was issued")
	}
	if t.issuedAt.Before(challenge.Add(-Skew)) {
		return reason.New(reason.JWTIssuedAt, "the token was issued before the challenge")
	}
	return nil
}
