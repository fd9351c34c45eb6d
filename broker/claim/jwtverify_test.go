package claim_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// refused runs rows whose tokens must not count.
type refused struct {
	name  string
	token string
	code  reason.Code
}

func (r refused) run(t *testing.T, bundle jwtbundle.Source, at time.Time) {
	t.Helper()
	t.Run(r.name, func(t *testing.T) {
		t.Helper()
		v, err := claim.VerifyJWT(r.token, bundle, audience, at)
		if reason.Of(err) != r.code {
			t.Errorf("err = %v, want %s", err, r.code)
		}
		if v.Zone() != "" || v.ID() != (spiffeid.ID{}) {
			t.Error("a refused token says something")
		}
	})
}

// The header is where an attacker tells a verifier how to be deceived.
func TestT52_headersAreRefused(t *testing.T) {
	s := newTokens(t)
	plain := payload(t, unchanged)
	// A key source that fails the test when it is asked.
	untouched := source(func(spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
		t.Error("a key was looked for")
		return nil, errors.New("no")
	})
	header := func(members string) string {
		return s.sign(t, s.ec, `{"alg":"ES256","kid":"ec"`+members+`}`, plain)
	}
	alg := func(name string) string { return s.sign(t, s.ec, `{"alg":`+name+`,"kid":"ec"}`, plain) }
	unsigned := part(`{"alg":"none","kid":"ec"}`) + "." + part(plain) + "."
	for _, r := range []refused{
		{"T52_alg none with a signature", alg(`"none"`), reason.JWTAlg},
		{"T52_alg none without a signature", unsigned, reason.JWTMalformed},
		{"T52_alg nOnE", alg(`"nOnE"`), reason.JWTAlg},
		{"T52_alg HS256", alg(`"HS256"`), reason.JWTAlg},
		{"T52_alg HS512", alg(`"HS512"`), reason.JWTAlg},
		{"T52_alg EdDSA", alg(`"EdDSA"`), reason.JWTAlg},
		{"T52_alg ES384", alg(`"ES384"`), reason.JWTAlg},
		{"T52_alg PS256", alg(`"PS256"`), reason.JWTAlg},
		{"T52_alg in small letters", alg(`"es256"`), reason.JWTAlg},
		{"T52_alg unknown", alg(`"XX1"`), reason.JWTAlg},
		{"T52_alg empty", alg(`""`), reason.JWTAlg},
		{"T52_alg a list", alg(`["ES256"]`), reason.JWTAlg},
		{"T52_alg missing", s.sign(t, s.ec, `{"kid":"ec"}`, plain), reason.JWTAlg},
		{"T52_alg of other case", s.sign(t, s.ec, `{"Alg":"ES256","kid":"ec"}`, plain), reason.JWTAlg},
		{"T52_alg twice", header(`,"alg":"none"`), reason.JWTMalformed},
		{"T52_kid missing", s.sign(t, s.ec, `{"alg":"ES256"}`, plain), reason.JWTKID},
		{"T52_kid empty", s.sign(t, s.ec, `{"alg":"ES256","kid":""}`, plain), reason.JWTKID},
		{"T52_kid no text", s.sign(t, s.ec, `{"alg":"ES256","kid":1}`, plain), reason.JWTKID},
		{"T52_kid too long", s.sign(t, s.ec, `{"alg":"ES256","kid":"`+strings.Repeat("a", 256)+`"}`, plain), reason.JWTKID},
		{"T52_kid twice", header(`,"kid":"rsa"`), reason.JWTMalformed},
		{"T52_typ of another kind of token", header(`,"typ":"wit+jwt"`), reason.JWTMalformed},
		{"T52_typ of an attestation result", header(`,"typ":"eat+jwt"`), reason.JWTMalformed},
		{"T52_typ in small letters", header(`,"typ":"jwt"`), reason.JWTMalformed},
		{"T52_typ empty", header(`,"typ":""`), reason.JWTMalformed},
		{"T52_typ null", header(`,"typ":null`), reason.JWTMalformed},
		{"T52_crit", header(`,"crit":["exp"],"exp":1`), reason.JWTCrit},
		{"T52_own key", header(`,"jwk":{"kty":"EC"}`), reason.JWTMalformed},
		{"T52_key URL", header(`,"jku":"https://evil.example"`), reason.JWTMalformed},
		{"T52_own certificate", header(`,"x5c":["AA"]`), reason.JWTMalformed},
		{"T52_payload not encoded", header(`,"b64":false`), reason.JWTMalformed},
		{"T52_content type", header(`,"cty":"JWT"`), reason.JWTMalformed},
		{"header too large", header(`,"x":"` + strings.Repeat("x", 1<<10) + `"`), reason.JWTMalformed},
		{"header of spaces", header(strings.Repeat(" ", 1<<10)), reason.JWTMalformed},
		{"header a list", s.sign(t, s.ec, `["ES256"]`, plain), reason.JWTMalformed},
		{"header with a tail", s.sign(t, s.ec, headerEC+"{}", plain), reason.JWTMalformed},
		{"header not JSON", s.sign(t, s.ec, "ES256", plain), reason.JWTMalformed},
	} {
		r.run(t, untouched, now)
	}
}

type source func(spiffeid.TrustDomain) (*jwtbundle.Bundle, error)

func (s source) GetJWTBundleForTrustDomain(td spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
	return s(td)
}

func TestT52_formsAreRefused(t *testing.T) {
	s := newTokens(t)
	plain := payload(t, unchanged)
	token := s.sign(t, s.ec, headerEC, plain)
	parts := strings.Split(token, ".")
	last := token[len(token)-1]
	// The last character of 64 bytes carries four bits that must be zero.
	loose := token[:len(token)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", last)|1])
	for _, r := range []refused{
		{"empty", "", reason.JWTMalformed},
		{"two parts", parts[0] + "." + parts[1], reason.JWTMalformed},
		{"four parts", token + "." + parts[2], reason.JWTMalformed},
		{"five parts of an encryption", token + ".a.b", reason.JWTMalformed},
		{"no signature", parts[0] + "." + parts[1] + ".", reason.JWTMalformed},
		{"no payload", parts[0] + ".." + parts[2], reason.JWTMalformed},
		{"JSON serialisation", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, reason.JWTMalformed},
		{"line break inside", token[:20] + "\n" + token[20:], reason.JWTMalformed},
		{"line break behind", token + "\n", reason.JWTMalformed},
		{"return behind", token + "\r", reason.JWTMalformed},
		{"space before", " " + token, reason.JWTMalformed},
		{"padding", token + "==", reason.JWTMalformed},
		{"other alphabet", parts[0] + "." + parts[1] + "." + strings.Repeat("+", 86), reason.JWTMalformed},
		{"loose bits", loose, reason.JWTMalformed},
		{"too large", token + strings.Repeat("A", 24<<10), reason.JWTMalformed},
		{"payload too large", s.sign(t, s.ec, headerEC, strings.Replace(plain, `{`, `{"x":"`+strings.Repeat("x", 16<<10)+`",`, 1)), reason.JWTMalformed},
		{"payload no object", s.sign(t, s.ec, headerEC, `"x"`), reason.JWTMalformed},
		{"payload with a tail", s.sign(t, s.ec, headerEC, plain+"{}"), reason.JWTMalformed},
		{"payload not UTF-8", s.sign(t, s.ec, headerEC, strings.Replace(plain, `{`, "{\"x\":\"\xff\",", 1)), reason.JWTMalformed},
		{"T52_sub twice", s.sign(t, s.ec, headerEC, strings.Replace(plain, `"sub":`, `"sub":"spiffe://zb.example/x","sub":`, 1)), reason.JWTMalformed},
		{"T52_aud twice", s.sign(t, s.ec, headerEC, strings.Replace(plain, `"aud":`, `"aud":["x"],"aud":`, 1)), reason.JWTMalformed},
		{"T52_exp twice", s.sign(t, s.ec, headerEC, strings.Replace(plain, `"exp":`, `"exp":9999999999,"exp":`, 1)), reason.JWTMalformed},
		{"T52_tier twice", s.sign(t, s.ec, headerEC, strings.Replace(plain, `"tier":2`, `"tier":2,"tier":4`, 1)), reason.JWTMalformed},
	} {
		r.run(t, s.bundle(), now)
	}
}

func TestT52_keysAndSignatures(t *testing.T) {
	s, stranger := newTokens(t), newTokens(t)
	plain := payload(t, unchanged)
	token := s.sign(t, s.ec, headerEC, plain)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	authorities := s.bundle().JWTAuthorities()
	authorities["small"] = small.Public()
	authorities["huge"] = &rsa.PublicKey{N: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 4096), big.NewInt(1)), E: 65537}
	authorities["hollow"], authorities["nil rsa"], authorities["nil ec"] = &rsa.PublicKey{}, (*rsa.PublicKey)(nil), (*ecdsa.PublicKey)(nil)
	authorities["bytes"] = []byte("secret")
	other := map[string]*ecdsa.PrivateKey{}
	for name, curve := range map[string]elliptic.Curve{"P-384": elliptic.P384(), "P-224": elliptic.P224()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		authorities[name], other[name] = key.Public(), key
	}
	trusted := jwtbundle.FromJWTAuthorities(td, authorities)
	ec := func(kid string) string {
		return s.sign(t, s.ec, `{"alg":"ES256","kid":"`+kid+`"}`, plain)
	}
	rs := func(kid string) string {
		return s.sign(t, s.rsa, `{"alg":"RS256","kid":"`+kid+`"}`, plain)
	}
	for _, r := range []refused{
		{"T52_kid of no key", ec("none"), reason.JWTKID},
		{"T52_kid of another case", ec("EC"), reason.JWTKID},
		{"T52_kid of a key of another kind", ec("rsa"), reason.JWTAlg},
		{"T52_kid of a key of another kind, RSA", rs("ec"), reason.JWTAlg},
		{"T52_alg of another kind than key and signature", s.sign(t, s.rsa, `{"alg":"ES256","kid":"rsa"}`, plain), reason.JWTAlg},
		{"T52_key on another curve", s.sign(t, other["P-384"], `{"alg":"ES256","kid":"P-384"}`, plain), reason.JWTAlg},
		{"T52_key on a weak curve", s.sign(t, other["P-224"], `{"alg":"ES256","kid":"P-224"}`, plain), reason.JWTAlg},
		{"T52_small RSA key", s.sign(t, small, `{"alg":"RS256","kid":"small"}`, plain), reason.JWTAlg},
		{"T52_huge RSA key", rs("huge"), reason.JWTAlg},
		{"T52_RSA key without a number", rs("hollow"), reason.JWTAlg},
		{"T52_no RSA key", rs("nil rsa"), reason.JWTAlg},
		{"T52_no EC key", ec("nil ec"), reason.JWTAlg},
		{"T52_secret as key", ec("bytes"), reason.JWTAlg},
		{"T52_signed by a stranger", stranger.sign(t, stranger.ec, headerEC, plain), reason.JWTSignature},
		{"T52_signed by a stranger, RSA", stranger.sign(t, stranger.rsa, headerRSA, plain), reason.JWTSignature},
		{"T52_signature cut", token[:strings.LastIndex(token, ".")] + "." + part("short"), reason.JWTSignature},
		{"T52_signature of zeros", token[:strings.LastIndex(token, ".")] + "." + part(strings.Repeat("\x00", 64)), reason.JWTSignature},
		{"T52_signature with a zero inside", token[:strings.LastIndex(token, ".")] + "." + inserted(t, token), reason.JWTSignature},
		{"T52_signature longer", token[:strings.LastIndex(token, ".")] + "." + part(strings.Repeat("\x00", 65)), reason.JWTSignature},
		{"T52_payload exchanged", part(headerEC) + "." + part(payload(t, func(_, z m) { z["tier"] = 4 })) + token[strings.LastIndex(token, "."):], reason.JWTSignature},
		{"T52_header exchanged", part(`{"alg":"ES256","kid":"ec"}`) + token[strings.Index(token, "."):], reason.JWTSignature},
	} {
		r.run(t, trusted, now)
	}
}

// inserted returns the signature of a token with a zero between r and s, which
// leaves both numbers as they are.
func inserted(t *testing.T, token string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(token[strings.LastIndex(token, ".")+1:])
	if err != nil {
		t.Fatal(err)
	}
	return part(string(raw[:32]) + "\x00" + string(raw[32:]))
}

func TestT52_trustDomains(t *testing.T) {
	s := newTokens(t)
	otherTD := spiffeid.RequireTrustDomainFromString("other.example")
	token := s.sign(t, s.ec, headerEC, payload(t, unchanged))
	foreign := s.sign(t, s.ec, headerEC, payload(t, func(top, _ m) { top["sub"] = "spiffe://other.example/zone/payments/node/" + node }))
	other := jwtbundle.FromJWTAuthorities(otherTD, s.bundle().JWTAuthorities())
	give := func(b *jwtbundle.Bundle) source {
		return func(spiffeid.TrustDomain) (*jwtbundle.Bundle, error) { return b, nil }
	}
	refused{"T52_token of another trust domain", foreign, reason.AuthInvalid}.run(t, s.bundle(), now)
	refused{"T52_bundle of another trust domain", token, reason.AuthInvalid}.run(t, other, now)
	refused{"T52_source confuses trust domains", token, reason.AuthInvalid}.run(t, give(other), now)
	refused{"T52_source has nothing", token, reason.AuthInvalid}.run(t, give(nil), now)
	refused{"no source", token, reason.AuthInvalid}.run(t, nil, now)
	refused{"T52_keys of each trust domain apart", foreign, reason.JWTKID}.run(t, jwtbundle.NewSet(s.bundle(), jwtbundle.New(otherTD)), now)
	// A federated checker knows both, and is told whose identity it is.
	v, err := claim.VerifyJWT(foreign, jwtbundle.NewSet(s.bundle(), other), audience, now)
	if err != nil || v.ID().TrustDomain() != otherTD {
		t.Errorf("%v, %v", v.ID(), err)
	}
}

func TestT52_membersAreRefused(t *testing.T) {
	s := newTokens(t)
	with := func(edit func(top, zone m)) string { return s.sign(t, s.ec, headerEC, payload(t, edit)) }
	set := func(name string, value any) string { return with(func(top, _ m) { top[name] = value }) }
	gone := func(name string) string { return with(func(top, _ m) { delete(top, name) }) }
	sub := func(path string) string { return set("sub", "spiffe://zb.example"+path) }
	for _, r := range []refused{
		{"T52_aud of somebody else", set("aud", []string{"billing-api"}), reason.JWTAudience},
		{"T52_aud of other case", set("aud", []string{"Payments-API"}), reason.JWTAudience},
		{"T52_aud longer", set("aud", []string{audience + "-2"}), reason.JWTAudience},
		{"T52_aud with another", set("aud", []string{audience, "billing-api"}), reason.JWTAudience},
		{"T52_aud twice the same", set("aud", []string{audience, audience}), reason.JWTAudience},
		{"T52_aud as text", set("aud", audience), reason.JWTAudience},
		{"T52_aud with a number", set("aud", []any{1}), reason.JWTAudience},
		{"T52_aud empty", set("aud", []string{}), reason.JWTAudience},
		{"T52_aud of nobody", set("aud", []string{""}), reason.JWTAudience},
		{"T52_aud missing", gone("aud"), reason.JWTAudience},
		{"T52_sub of another zone", sub("/zone/billing/node/" + node), reason.AuthInvalid},
		{"T52_sub of another node", sub("/zone/payments/node/" + node[1:] + "b"), reason.AuthInvalid},
		{"T52_sub not earned", sub("/trial/payments/node/" + node), reason.AuthInvalid},
		{"T52_sub of the broker", sub("/broker"), reason.AuthInvalid},
		{"T52_sub deeper", sub("/zone/payments/node/" + node + "/x"), reason.AuthInvalid},
		{"T52_sub of another kind", sub("/zone/payments/agent/" + node), reason.AuthInvalid},
		{"T52_sub a trust domain", sub(""), reason.AuthInvalid},
		{"T52_sub not a SPIFFE ID", set("sub", "payments"), reason.AuthInvalid},
		{"T52_sub with a dot segment", sub("/zone/payments/node/../" + node), reason.AuthInvalid},
		{"T52_sub missing", gone("sub"), reason.AuthInvalid},
		{"T52_sub no text", set("sub", 1), reason.AuthInvalid},
		{"T52_zone of another name", with(func(_, z m) { z["name"] = "billing" }), reason.AuthInvalid},
		{"zone claim missing", gone("trust_zone"), reason.AuthInvalid},
		{"zone claim with more", with(func(_, z m) { z["more"] = 1 }), reason.AuthInvalid},
		{"claims-set of another profile", set("eat_profile", "x"), reason.AuthInvalid},
		{"iss not a URL", set("iss", "zb.example"), reason.JWTIssuer},
		{"iss null", set("iss", nil), reason.JWTIssuer},
		{"jti missing", gone("jti"), reason.JWTMalformed},
		{"jti of another spelling", set("jti", strings.ToUpper("0197b3c2-0000-7000-8000-00000000000a")), reason.JWTMalformed},
		{"cnf of another method", set("cnf", m{"jkt": "x"}), reason.JWTMalformed},
		{"cnf with a second method", with(func(top, _ m) { top["cnf"].(m)["jwk"] = m{} }), reason.JWTMalformed},
		{"cnf empty", set("cnf", m{}), reason.JWTMalformed},
		{"cnf null", set("cnf", nil), reason.JWTMalformed},
		{"cnf short", set("cnf", m{"x5t#S256": "AAAA"}), reason.JWTMalformed},
		{"cnf padded", with(func(top, _ m) { top["cnf"].(m)["x5t#S256"] = top["cnf"].(m)["x5t#S256"].(string) + "=" }), reason.JWTMalformed},
	} {
		r.run(t, s.bundle(), now)
	}
	token := with(unchanged)
	if _, err := claim.VerifyJWT(token, s.bundle(), "", now); reason.Of(err) != reason.JWTAudience {
		t.Errorf("T52_no audience expected: %v", err)
	}
}

func TestT53_times(t *testing.T) {
	s := newTokens(t)
	at := now.Unix()
	with := func(edit func(top, zone m)) string { return s.sign(t, s.ec, headerEC, payload(t, edit)) }
	set := func(name string, value any) string { return with(func(top, _ m) { top[name] = value }) }
	gone := func(name string) string { return with(func(top, _ m) { delete(top, name) }) }
	for _, r := range []refused{
		{"T53_outlives its evidence", with(func(_, z m) { z["fresh_until"] = at + 299 }), reason.JWTLifetime},
		{"T53_lives too long", with(func(top, z m) { top["exp"], z["fresh_until"] = at+901, at+3600 }), reason.JWTLifetime},
		{"T53_without exp", gone("exp"), reason.JWTLifetime},
		{"T53_without iat", gone("iat"), reason.JWTLifetime},
		{"T53_without nbf", gone("nbf"), reason.JWTLifetime},
		{"T53_exp a text", set("exp", "9999999999"), reason.JWTLifetime},
		{"T53_exp a fraction", set("exp", 1795262700.5), reason.JWTLifetime},
		{"T53_exp an exponent", set("exp", json.Number("1e10")), reason.JWTLifetime},
		{"T53_exp not after iat", set("exp", at), reason.JWTLifetime},
		{"T53_nbf zero", set("nbf", 0), reason.JWTLifetime},
		{"T53_nbf long before iat", set("nbf", at-31), reason.JWTIssuedAt},
		{"T53_nbf after iat", set("nbf", at+1), reason.JWTIssuedAt},
		{"T53_issued before its evidence", with(func(_, z m) { z["attested_at"] = at + 31 }), reason.JWTIssuedAt},
	} {
		r.run(t, s.bundle(), now)
	}
	plain := with(unchanged)
	for _, r := range []struct {
		name string
		at   time.Time
		code reason.Code
	}{
		{"T53_no time", time.Time{}, reason.AuthInvalid},
		{"T53_clock a day back", now.AddDate(0, 0, -1), reason.JWTIssuedAt},
		{"T53_clock 31 s back", now.Add(-31 * time.Second), reason.JWTIssuedAt},
		{"T53_clock 30 s back", now.Add(-30 * time.Second), ""},
		{"T53_last moment", now.Add(5*time.Minute - time.Nanosecond), ""},
		{"T53_at its end", now.Add(5 * time.Minute), reason.JWTExpired},
		{"T53_clock a day forward", now.AddDate(0, 0, 1), reason.JWTExpired},
	} {
		if _, err := claim.VerifyJWT(plain, s.bundle(), audience, r.at); reason.Of(err) != r.code {
			t.Errorf("%s: %v, want %s", r.name, err, r.code)
		}
	}
	// Nothing lengthens the life of a token.
	for _, grace := range []claim.Grace{claim.GraceAlways, claim.GraceOutageOnly} {
		_, err := claim.VerifyJWT(plain, s.bundle(), audience, now.Add(5*time.Minute), claim.WithGrace(grace), claim.WithOutage(true))
		if reason.Of(err) != reason.JWTExpired {
			t.Errorf("T53_grace %s: %v", grace, err)
		}
	}
	if _, err := claim.VerifyJWT(plain, s.bundle(), audience, now, claim.WithMinEpoch(2)); reason.Of(err) != reason.PolicyEvidenceAge {
		t.Errorf("epoch ended: %v", err)
	}
	if _, err := claim.VerifyJWT(plain, s.bundle(), audience, now, claim.WithMinEpoch(1)); err != nil {
		t.Errorf("epoch current: %v", err)
	}
}
