package claim_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func BenchmarkVerifyJWT(b *testing.B) {
	s := newTokens(b)
	plain, trusted := payload(b, unchanged), s.bundle()
	for name, token := range map[string]string{"ES256": s.sign(b, s.ec, headerEC, plain), "RS256": s.sign(b, s.rsa, headerRSA, plain)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := claim.VerifyJWT(token, trusted, audience, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzVerifyJWT: no panic; a token that verifies is one that was signed, byte
// by byte; and whatever payload a broker may be brought to sign, a token that
// counts names its zone in the subject and ends with its evidence.
func FuzzVerifyJWT(f *testing.F) {
	// Each worker is a process of its own and must have the same key.
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), []byte(strings.Repeat("k", 32)))
	if err != nil {
		f.Fatal(err)
	}
	s := tokens{ec: key}
	plain := payload(f, unchanged)
	signed := s.sign(f, key, headerEC, plain)
	trusted := jwtbundle.FromJWTAuthorities(td, map[string]crypto.PublicKey{"ec": key.Public()})
	f.Add(signed, plain)
	f.Add(part(headerEC)+"."+part(plain)+".AAAA", `{"iat":1e400}`)
	f.Add("..", strings.Replace(plain, `"iat":`, `"iat":1,"iat":`, 1))
	f.Fuzz(func(t *testing.T, token, body string) {
		if _, err := claim.VerifyJWT(token, trusted, audience, now); err == nil && token != signed {
			t.Fatalf("forged: %s", token)
		} else if err != nil && reason.Of(err) == "" {
			t.Fatalf("%v has no code", err)
		}
		v, err := claim.VerifyJWT(s.sign(t, s.ec, headerEC, body), trusted, audience, now)
		if err != nil {
			return
		}
		if v.Expires().After(v.FreshUntil()) || !v.Expires().After(now) || v.Audience() != audience || !strings.HasPrefix(v.ID().Path(), "/zone/"+v.Zone()+"/") {
			t.Fatalf("verified = %+v", v)
		}
		u, err := claim.ParseJWTInsecure(part(headerEC) + "." + part(body) + ".AAAA")
		if err != nil {
			t.Fatal(err)
		}
		again, err := claim.EncodeJWT(u.Claims, u.Token)
		if err != nil {
			t.Fatalf("what verifies does not encode: %v", err)
		}
		back, err := claim.ParseJWTInsecure(part(headerEC) + "." + part(string(again)) + ".AAAA")
		if diff := cmp.Diff(u, back); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}
