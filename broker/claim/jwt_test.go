package claim_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	audience = "payments-api"
	jti      = "0197b3c2-0000-7000-8000-000000000002"
)

var x5t = sha256.Sum256([]byte("certificate"))

// goodToken is a token of five minutes, bound to a certificate.
func goodToken() claim.Token {
	return claim.Token{
		Issuer: "https://zb.example:8443", Subject: "spiffe://zb.example/zone/payments/node/" + node, Audience: audience,
		ID: jti, IssuedAt: now.Unix(), Expires: now.Add(5 * time.Minute).Unix(), X5T: x5t[:],
	}
}

// tokens signs what no broker would.
type tokens struct {
	ec  *ecdsa.PrivateKey
	rsa *rsa.PrivateKey
}

func newTokens(t testing.TB) tokens {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return tokens{ec: newKey(t), rsa: key}
}

func (s tokens) bundle() *jwtbundle.Bundle {
	return jwtbundle.FromJWTAuthorities(td, map[string]crypto.PublicKey{"ec": s.ec.Public(), "rsa": s.rsa.Public()})
}

// sign joins header and payload and signs with the algorithm of the key, which
// the header may deny.
func (s tokens) sign(t testing.TB, key crypto.Signer, header, payload string) string {
	t.Helper()
	input := part(header) + "." + part(payload)
	digest := sha256.Sum256([]byte(input))
	// Without randomness: equal payloads have equal tokens, which fuzzing needs.
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := key.(*ecdsa.PrivateKey); ok {
		var v struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(signature, &v); err != nil {
			t.Fatal(err)
		}
		size := (k.Curve.Params().BitSize + 7) / 8
		signature = append(v.R.FillBytes(make([]byte, size)), v.S.FillBytes(make([]byte, size))...)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func part(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

type m = map[string]any

func unchanged(_, _ m) {}

const (
	headerEC  = `{"alg":"ES256","kid":"ec","typ":"JWT"}`
	headerRSA = `{"alg":"RS256","kid":"rsa","typ":"JWT"}`
)

// payload returns the good payload after one edit of its tree.
func payload(t testing.TB, edit func(top, zone map[string]any)) string {
	t.Helper()
	raw, err := claim.EncodeJWT(good(), goodToken())
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if err := dec.Decode(&top); err != nil {
		t.Fatal(err)
	}
	edit(top, top["trust_zone"].(map[string]any))
	out, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestJWTPayload(t *testing.T) {
	var got map[string]any
	if err := json.Unmarshal([]byte(payload(t, func(_, _ map[string]any) {})), &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"eat_profile", "ear_verifier_id", "ear_status", "submods", "trust_zone"} {
		if got[name] == nil {
			t.Errorf("the claims-set lacks %s", name)
		}
		delete(got, name)
	}
	want := map[string]any{
		"iss": "https://zb.example:8443", "sub": "spiffe://zb.example/zone/payments/node/" + node, "aud": []any{audience}, "jti": jti,
		"iat": float64(now.Unix()), "nbf": float64(now.Unix() - 30), "exp": float64(now.Unix() + 300),
		"cnf": map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(x5t[:])},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	bare := goodToken()
	bare.Issuer, bare.X5T = "", nil
	raw, err := claim.EncodeJWT(good(), bare)
	if err != nil || strings.Contains(string(raw), `"iss"`) || strings.Contains(string(raw), `"cnf"`) {
		t.Errorf("a bearer token without issuer: %s, %v", raw, err)
	}
}

func TestEncodeJWTRefusesWhatNobodyWouldRead(t *testing.T) {
	for name, r := range map[string]struct {
		edit func(*claim.Claims, *claim.Token)
		code reason.Code
	}{
		"T52_subject of another zone": {func(_ *claim.Claims, t *claim.Token) {
			t.Subject = strings.Replace(t.Subject, "payments", "billing", 1)
		}, reason.PolicyIdentityInvalid},
		"T52_subject of another node": {func(_ *claim.Claims, t *claim.Token) { t.Subject += "b" }, reason.PolicyIdentityInvalid},
		"no SPIFFE ID":                {func(_ *claim.Claims, t *claim.Token) { t.Subject = "payments" }, reason.PolicyIdentityInvalid},
		"no audience":                 {func(_ *claim.Claims, t *claim.Token) { t.Audience = "" }, reason.PolicyAudience},
		"audience with a space":       {func(_ *claim.Claims, t *claim.Token) { t.Audience = "a b" }, reason.PolicyAudience},
		"audience of other letters":   {func(_ *claim.Claims, t *claim.Token) { t.Audience = "pаyments" }, reason.PolicyAudience}, // Cyrillic
		"audience with DEL":           {func(_ *claim.Claims, t *claim.Token) { t.Audience = "a\x7f" }, reason.PolicyAudience},
		"audience too long":           {func(_ *claim.Claims, t *claim.Token) { t.Audience = strings.Repeat("a", claim.MaxAudience+1) }, reason.PolicyAudience},
		"T53_outlives its evidence":   {func(c *claim.Claims, t *claim.Token) { t.Expires = c.Zone.FreshUntil + 1 }, reason.PolicyEvidenceAge},
		"T53_ends before it starts":   {func(_ *claim.Claims, t *claim.Token) { t.Expires = t.IssuedAt }, reason.Internal},
		"T53_older than its evidence": {func(c *claim.Claims, t *claim.Token) { c.Zone.AttestedAt = t.IssuedAt + 31 }, reason.Internal},
		"lives too long": {func(c *claim.Claims, t *claim.Token) {
			c.Zone.FreshUntil = t.IssuedAt + 3600
			t.Expires = t.IssuedAt + 901
		}, reason.Internal},
		"id is no UUID":      {func(_ *claim.Claims, t *claim.Token) { t.ID = "7" }, reason.Internal},
		"issuer is no URL":   {func(_ *claim.Claims, t *claim.Token) { t.Issuer = "zb.example" }, reason.Internal},
		"confirmation short": {func(_ *claim.Claims, t *claim.Token) { t.X5T = t.X5T[:31] }, reason.Internal},
		"confirmation empty": {func(_ *claim.Claims, t *claim.Token) { t.X5T = []byte{} }, reason.Internal},
		"bad claims-set":     {func(c *claim.Claims, _ *claim.Token) { c.Zone.Tier = 5 }, reason.Internal},
	} {
		c, token := good(), goodToken()
		r.edit(&c, &token)
		if raw, err := claim.EncodeJWT(c, token); reason.Of(err) != r.code || raw != nil {
			t.Errorf("%s: %v, want %s", name, err, r.code)
		}
	}
	c, token := good(), goodToken()
	c.Zone.FreshUntil = token.IssuedAt + 900
	token.Audience, token.Expires = strings.Repeat("a", claim.MaxAudience), token.IssuedAt+900
	c.Zone.AttestedAt = token.IssuedAt + 30
	if _, err := claim.EncodeJWT(c, token); err != nil {
		t.Errorf("the limits themselves: %v", err)
	}
}

func TestValidIssuer(t *testing.T) {
	for _, s := range []string{"https://zb.example", "https://zb.example:8443", "https://zb.example/a/b", "https://[::1]:8443", "https://127.0.0.1:8443"} {
		if !claim.ValidIssuer(s) {
			t.Errorf("%s is refused", s)
		}
	}
	for _, s := range []string{
		"", "zb.example", "http://zb.example", "HTTPS://zb.example", "https://", "https://:8443", "https:zb.example", "https://zb.example/",
		"https://zb.example?", "https://zb.example?a=b", "https://zb.example#", "https://zb.example/#a", "https://me@zb.example",
		"https://zb.example/a b", "https://zb.example/ä", "https://zb.example\n", "https://zb.example/" + strings.Repeat("a", 255), "https://zb.example/%zz",
	} {
		if claim.ValidIssuer(s) {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestParseJWTInsecureShowsWhatWasWritten(t *testing.T) {
	s := newTokens(t)
	token := s.sign(t, s.ec, headerEC, payload(t, func(_, _ map[string]any) {}))
	got, err := claim.ParseJWTInsecure(token[:strings.LastIndex(token, ".")] + "." + part("no signature"))
	if err != nil {
		t.Fatal(err)
	}
	c := good()
	c.Expires = goodToken().Expires
	want := claim.UnverifiedJWT{Header: claim.Header{Algorithm: "ES256", KeyID: "ec", Type: "JWT"}, Token: goodToken(), Claims: c}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := claim.ParseJWTInsecure("a.b"); reason.Of(err) != reason.JWTMalformed || got.Claims.Zone.Name != "" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestVerifiedJWT(t *testing.T) {
	s := newTokens(t)
	for _, header := range []string{
		headerEC, `{"alg":"ES256","kid":"ec"}`, `{"kid":"ec","typ":"JOSE","alg":"ES256"}`,
		headerRSA,
	} {
		key := crypto.Signer(s.ec)
		if header == headerRSA {
			key = s.rsa
		}
		v, err := claim.VerifyJWT(s.sign(t, key, header, payload(t, unchanged)), s.bundle(), audience, now)
		if err != nil {
			t.Fatalf("%s: %v", header, err)
		}
		if v.ID().Path() != "/zone/payments/node/"+node || v.Zone() != "payments" || v.Tier() != 2 || v.Node() != node {
			t.Errorf("verified = %+v", v)
		}
		if v.Audience() != audience || v.JTI() != jti || v.Issuer() != "https://zb.example:8443" {
			t.Errorf("verified = %+v", v)
		}
		if !v.AttestedAt().Equal(now.Add(-time.Second)) || !v.FreshUntil().Equal(now.Add(5*time.Minute)) || !v.Expires().Equal(now.Add(5*time.Minute)) {
			t.Errorf("times = %s %s %s", v.AttestedAt(), v.FreshUntil(), v.Expires())
		}
		v.Claims().Submods[claim.SubmodTPM].PolicyIDs[0] = "changed"
		if v.Claims().Submods[claim.SubmodTPM].PolicyIDs[0] == "changed" {
			t.Error("a caller can change a verified claim")
		}
	}
	workload := payload(t, func(top, _ m) {
		top["sub"] = "spiffe://zb.example/zone/payments/workload/checkout"
		top["unknown"] = m{"member": 1}
	})
	if v, err := claim.VerifyJWT(s.sign(t, s.ec, headerEC, workload), s.bundle(), audience, now); err != nil || v.Node() != node {
		t.Errorf("workload: %v", err)
	}
}

// A token says by cnf over which TLS session it may come.
func TestJWTConfirmsOneCertificate(t *testing.T) {
	s, authority := newTokens(t), newCA(t)
	cert := authority.leaf(t, "/zone/payments/node/"+node)
	sum := sha256.Sum256(cert.Raw)
	token := goodToken()
	verify := func(x5t []byte) claim.VerifiedJWT {
		token.X5T = x5t
		raw, err := claim.EncodeJWT(good(), token)
		if err != nil {
			t.Fatal(err)
		}
		v, err := claim.VerifyJWT(s.sign(t, s.ec, headerEC, string(raw)), s.bundle(), audience, now)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	bound, bearer := verify(sum[:]), verify(nil)
	if !bound.ConfirmsCertificate(cert) || bound.Bearer() {
		t.Error("the token does not confirm its own certificate")
	}
	if bound.ConfirmsCertificate(authority.cert) || bound.ConfirmsCertificate(nil) || bound.ConfirmsCertificate(&x509.Certificate{}) {
		t.Error("the token confirms another certificate")
	}
	if !bearer.Bearer() || bearer.ConfirmsCertificate(cert) {
		t.Error("a bearer token confirms a certificate")
	}
	if (claim.VerifiedJWT{}).ConfirmsCertificate(cert) {
		t.Error("nothing confirms a certificate")
	}
}
