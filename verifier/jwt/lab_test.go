package jwt_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
)

type claims = documenttest.Claims

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const (
	issuerURL = "https://issuer.test"
	audience  = "zonebroker:test"
)

// profile is that of a format whose tokens have everything.
var profile = jwt.Profile{Format: "test", Algorithms: []string{"RS256", "ES256"}, MaxLifetime: time.Hour, Members: []string{"audience"}}

func good() claims {
	return claims{"iss": issuerURL, "aud": audience, "iat": noon.Unix(), "exp": noon.Add(time.Hour).Unix()}
}

func keysOf(t testing.TB, keys ...claims) jwt.Keys {
	t.Helper()
	out, err := jwt.ParseKeys(documenttest.JWKS(keys...))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func issuersOf(t testing.TB, p jwt.Profile, settings ...jwt.Settings) jwt.Issuers {
	t.Helper()
	out, err := jwt.NewIssuers(p, settings)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lab is one issuer with a key for signatures, one for encryption and one of
// ES256.
type lab struct {
	rsa, enc, ec *documenttest.JWTKey
	issuers      jwt.Issuers
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{rsa: documenttest.NewJWTKey("rsa-1", "RS256"), enc: documenttest.NewJWTKey("enc-1", "RS256"), ec: documenttest.NewJWTKey("ec-1", "ES256")}
	l.issuers = issuersOf(t, profile, jwt.Settings{Name: "a", Issuer: issuerURL, Keys: keysOf(
		t, l.rsa.JWK(), l.enc.JWK().With(claims{"use": "enc"}), l.ec.JWK(), l.enc.JWK().With(claims{"kid": "pinned-alg", "alg": "PS256"}),
		l.enc.JWK().With(claims{"kid": "ops", "use": nil, "key_ops": []string{"encrypt"}}),
	)})
	return l
}

var want = jwt.Expect{Audience: audience, IssuedAt: noon}

func text(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func long(n int) string { return strings.Repeat("a", n) }
