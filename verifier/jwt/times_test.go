package jwt_test

import (
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestTimesOutsideOfTheCalendar: a time that is null is missing, and one that no
// calendar has is judged as what it is: over, to come, or a life for ever.
func TestTimesOutsideOfTheCalendar(t *testing.T) {
	l := newLab(t)
	soon := noon.Add(5 * time.Minute).Unix()
	for name, c := range map[string]struct {
		more claims
		code reason.Code
	}{
		"exp null":                  {claims{"exp": raw2("null")}, reason.JWTLifetime},
		"iat null":                  {claims{"iat": raw2("null")}, reason.JWTLifetime},
		"nbf null":                  {claims{"nbf": raw2("null")}, ""},
		"exp zero":                  {claims{"exp": 0}, reason.JWTExpired},
		"exp before 1970":           {claims{"exp": -1}, reason.JWTExpired},
		"exp below 64 bits":         {claims{"exp": raw2("-9223372036854775809")}, reason.JWTExpired},
		"exp in milliseconds":       {claims{"exp": soon * 1000}, reason.JWTLifetime},
		"exp of 63 bits":            {claims{"exp": raw2("9223372036854775807")}, reason.JWTLifetime},
		"exp above 64 bits":         {claims{"exp": raw2("99999999999999999999999")}, reason.JWTLifetime},
		"iat in milliseconds":       {claims{"iat": noon.Unix() * 1000}, reason.JWTIssuedAt},
		"iat above 64 bits":         {claims{"iat": raw2("9223372036854775808")}, reason.JWTIssuedAt},
		"iat before 1970":           {claims{"iat": -5}, reason.JWTLifetime},
		"nbf zero":                  {claims{"nbf": 0}, ""},
		"nbf before 1970":           {claims{"nbf": -1}, ""},
		"nbf in milliseconds":       {claims{"nbf": noon.Unix() * 1000}, reason.JWTIssuedAt},
		"a fraction":                {claims{"exp": raw2("1795179900.5")}, reason.JWTMalformed},
		"a fraction above 64 bits":  {claims{"exp": raw2("99999999999999999999999.5")}, reason.JWTMalformed},
		"an exponent above 64 bits": {claims{"exp": raw2("1e30")}, reason.JWTMalformed},
		"text":                      {claims{"exp": "1795179900"}, reason.JWTMalformed},
	} {
		if _, err := l.issuers.Verify(l.rsa.Token(good().With(c.more)), want, noon); reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
}

// TestNullExpiryIsNone: where tokens need no expiry, null is none, and the age
// counts.
func TestNullExpiryIsNone(t *testing.T) {
	k := documenttest.NewJWTKey("", "ES256")
	p := jwt.Profile{Format: "test", Algorithms: []string{"ES256"}, MaxLifetime: time.Hour, MaxAge: 5 * time.Minute, Anonymous: true}
	s := issuersOf(t, p, jwt.Settings{Name: "v", Keys: keysOf(t, k.JWK())})
	token := k.Token(claims{"iat": noon.Unix(), "exp": raw2("null")})
	if got, err := s.Verify(token, jwt.Expect{NoAudience: true}, noon); err != nil || !got.ExpiresAt().Equal(noon.Add(5*time.Minute)) {
		t.Errorf("%v, %v", got.ExpiresAt(), err)
	}
	if _, err := s.Verify(token, jwt.Expect{NoAudience: true}, noon.Add(5*time.Minute)); reason.Of(err) != reason.JWTExpired {
		t.Errorf("five minutes old: %v", err)
	}
}

// TestExpiredComesFirst: a token that has expired is that, whatever else its times
// lack.
func TestExpiredComesFirst(t *testing.T) {
	l := newLab(t)
	over := noon.Add(-time.Second).Unix()
	for name, more := range map[string]claims{
		"no iat":            {"iat": nil, "exp": over},
		"iat null":          {"iat": raw2("null"), "exp": over},
		"iat in the future": {"iat": noon.Add(time.Hour).Unix(), "exp": over},
		"nbf in the future": {"nbf": noon.Add(time.Hour).Unix(), "exp": over},
	} {
		if _, err := l.issuers.Verify(l.rsa.Token(good().With(more)), want, noon); reason.Of(err) != reason.JWTExpired {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeyBeforeIssuer: a token that no key is known for is refused for its key,
// whatever issuer it names: that is a claim, and claims are read when the signature
// has verified.
func TestKeyBeforeIssuer(t *testing.T) {
	l, stranger := newLab(t), documenttest.NewJWTKey("stg-1", "ES256")
	other := claims{"iss": "https://issuer-stg.test"}
	for name, c := range map[string]struct {
		token []byte
		code  reason.Code
	}{
		"another issuer, an unknown key":      {stranger.Token(good().With(other)), reason.JWTKID},
		"another issuer, forged under the id": {documenttest.NewJWTKey("ec-1", "ES256").Token(good().With(other)), reason.JWTSignature},
		"another issuer, a known key":         {l.rsa.Token(good().With(other)), reason.JWTIssuer},
	} {
		if _, err := l.issuers.Verify(c.token, want, noon); reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
}
