package jwt_test

import (
	"strings"
	"testing"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestSignaturesOfAnotherLibrary: what go-jose signs by each algorithm verifies,
// and not after a bit of it changed or half of it is gone.
func TestSignaturesOfAnotherLibrary(t *testing.T) {
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256"} {
		k := documenttest.NewJWTKey("k", alg)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: jose.JSONWebKey{Key: k.Signer(), KeyID: "k"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign(text(good()))
		if err != nil {
			t.Fatal(err)
		}
		token, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		s := issuersOf(t, profile, jwt.Settings{Issuer: issuerURL, Keys: keysOf(t, k.JWK().With(claims{"alg": nil})), Algorithms: []string{alg}})
		if _, err := s.Verify([]byte(token), want, noon); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		parts := strings.Split(token, ".")
		for name, bad := range map[string]string{
			"a bit of the signature": parts[0] + "." + parts[1] + "." + flip(parts[2]),
			"a bit of the claims":    parts[0] + "." + flip(parts[1]) + "." + parts[2],
			"half a signature":       parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])/8*4],
			"no signature":           parts[0] + "." + parts[1] + ".",
		} {
			if _, err := s.Verify([]byte(bad), want, noon); reason.Of(err) != reason.JWTSignature {
				t.Errorf("%s, %s: %v", alg, name, err)
			}
		}
	}
}

// flip changes the first bit.
func flip(s string) string {
	if s[0] == 'g' {
		return "A" + s[1:]
	}
	return "g" + s[1:]
}
