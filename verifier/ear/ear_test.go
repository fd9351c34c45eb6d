package ear_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/ear"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

type claims = documenttest.Claims

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const nonce = "AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

var (
	bound  = [32]byte{1, 2, 3}
	signer = documenttest.NewJWTKey("", "ES256")
	want   = ear.Expect{Nonce: nonce, Bound: bound, IssuedAt: noon}
)

func verifiers(t testing.TB, more claims) jwt.Issuers {
	t.Helper()
	settings, err := jwt.Parse(ear.Profile, []jwt.Object{{Name: "veraison", Raw: documenttest.JWTObject("ear", "", more, signer.JWK())}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := ear.NewIssuers(settings)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func submods(status map[string]any) claims {
	out := claims{}
	for name, s := range status {
		out[name] = documenttest.EARSubmodule(s)
	}
	return claims{"submods": out}
}

func TestVerify(t *testing.T) {
	good := documenttest.EARClaims(nonce, noon)
	one := func(status any) claims { return good.With(submods(map[string]any{"cpu0": status})) }
	evil := documenttest.NewJWTKey("", "ES256")
	for name, c := range map[string]struct {
		token      []byte
		configured claims
		code       reason.Code
		fears      int
	}{
		"good":                         {signer.Token(good), nil, "", 0},
		"affirming by number":          {signer.Token(one(2)), nil, "", 0},
		"no exp, young":                {signer.Token(good.With(claims{"exp": nil})), nil, "", 0},
		"no exp, old":                  {signer.Token(good.With(claims{"exp": nil, "iat": noon.Add(-5 * time.Minute).Unix()})), nil, reason.JWTExpired, 0},
		"older than the challenge":     {signer.Token(good.With(claims{"iat": noon.Add(-61 * time.Second).Unix()})), nil, reason.JWTIssuedAt, 0},
		"another nonce":                {signer.Token(good.With(claims{"eat_nonce": "AAAA"})), nil, reason.EARNonceMismatch, 0},
		"no nonce":                     {signer.Token(good.With(claims{"eat_nonce": nil})), nil, reason.EARNonceMismatch, 0},
		"the nonce among two":          {signer.Token(good.With(claims{"eat_nonce": []string{nonce, "AAAA"}})), nil, reason.EARNonceMismatch, 0},
		"the nonce in a list":          {signer.Token(good.With(claims{"eat_nonce": []string{nonce}})), nil, "", 0},
		"a key in the header":          {evil.Raw(claims{"alg": "ES256", "jwk": evil.JWK()}, marshal(good)), nil, reason.JWTSignature, 0},
		"none":                         {signer.Token(one("none")), nil, reason.EARStatus, 0},
		"none by number":               {signer.Token(one(0)), nil, reason.EARStatus, 0},
		"warning":                      {signer.Token(one("warning")), nil, "", 1},
		"warning by number":            {signer.Token(one(32)), nil, "", 1},
		"contraindicated":              {signer.Token(one("contraindicated")), nil, reason.EARStatus, 0},
		"contraindicated by number":    {signer.Token(one(96)), nil, reason.EARStatus, 0},
		"a tier between":               {signer.Token(one(3)), nil, reason.EARStatus, 0},
		"a tier that is an object":     {signer.Token(one(claims{})), nil, reason.EARStatus, 0},
		"a nonce that is a number":     {signer.Token(good.With(claims{"eat_nonce": 5})), nil, reason.JWTMalformed, 0},
		"a tier nobody knows":          {signer.Token(one("fine")), nil, reason.EARStatus, 0},
		"Affirming":                    {signer.Token(one("Affirming")), nil, reason.EARStatus, 0},
		"status null":                  {signer.Token(one(nil)), nil, reason.EARStatus, 0},
		"status true":                  {signer.Token(one(true)), nil, reason.EARStatus, 0},
		"a tier and a half":            {signer.Token(one(2.5)), nil, reason.EARStatus, 0},
		"a number as text":             {signer.Token(one("2")), nil, reason.EARStatus, 0},
		"no tier of what counts not":   {signer.Token(good.With(submods(map[string]any{"cpu0": "affirming", "gpu0": nil}))), claims{"submods": []string{"cpu0"}}, "", 0},
		"no status":                    {signer.Token(good.With(claims{"submods": claims{"cpu0": claims{}}})), nil, reason.EARStatus, 0},
		"no submodules":                {signer.Token(good.With(claims{"submods": claims{}})), nil, reason.EARStatus, 0},
		"one of two is none":           {signer.Token(good.With(submods(map[string]any{"cpu0": "affirming", "gpu0": "none"}))), nil, reason.EARStatus, 0},
		"one of two is a warning":      {signer.Token(good.With(submods(map[string]any{"cpu0": "affirming", "gpu0": "warning"}))), nil, "", 1},
		"none of what does not count":  {signer.Token(good.With(submods(map[string]any{"cpu0": "affirming", "gpu0": "none"}))), claims{"submods": []string{"cpu0"}}, "", 0},
		"what counts is missing":       {signer.Token(good), claims{"submods": []string{"cpu0", "gpu0"}}, reason.EARStatus, 0},
		"an audience nobody asked for": {signer.Token(good.With(claims{"aud": "x"})), nil, "", 0},
		"without the configured one":   {signer.Token(good), claims{"audience": "x"}, reason.JWTAudience, 0},
		"with the configured one":      {signer.Token(good.With(claims{"aud": "x"})), claims{"audience": "x"}, "", 0},
		"a configured iss is missing":  {signer.Token(good), claims{"issuer": "https://v.test"}, reason.JWTIssuer, 0},
		"two hours":                    {signer.Token(good.With(claims{"exp": noon.Add(2 * time.Hour).Unix()})), nil, reason.JWTLifetime, 0},
	} {
		got, err := ear.Verify(c.token, want, verifiers(t, c.configured), noon)
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
		f := got.Facts()
		if (err != nil) != (f.Class == "") || len(f.Hazards) != c.fears || c.fears > 0 && f.Hazards[0].Code != reason.EARStatus {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func marshal(c claims) []byte {
	// A token's middle part is what is wanted; the key does not matter.
	return documenttest.Payload(signer.Token(c))
}

func TestFacts(t *testing.T) {
	got, err := ear.Verify(signer.Token(documenttest.EARClaims(nonce, noon).With(submods(map[string]any{"cpu0": 2, "gpu0": "affirming"}))), want, verifiers(t, nil), noon)
	if err != nil {
		t.Fatal(err)
	}
	f := got.Facts()
	if diff := cmp.Diff([]string{"ear.signature", "ear.nonce", "ear.status"}, checks(&f)); diff != "" {
		t.Error(diff)
	}
	if f.Class != document.ClassB || !f.NonceBound || !f.KeyBound || f.Machine != (document.Machine{}) ||
		len(f.Owners) != 1 || f.Owners[0] != (document.Owner{Kind: "ear.verifier", Value: "veraison"}) {
		t.Errorf("%+v", f)
	}
	if diff := cmp.Diff([]document.Selector{
		{Name: "ear.policy", Value: "https://veraison.example/policy/1/60a0068d"},
		{Name: "ear.policy", Value: "https://veraison.example/policy/1/60a0068d"},
		{Name: "ear.profile", Value: "tag:github.com,2023:veraison/ear"},
		{Name: "ear.submod", Value: "cpu0=affirming"},
		{Name: "ear.submod", Value: "gpu0=affirming"},
		{Name: "ear.verifier", Value: "veraison"},
		{Name: "ear.verifier_build", Value: "v1.0.0"},
		{Name: "ear.verifier_developer", Value: "Acme Inc."},
	}, f.Selectors); diff != "" {
		t.Error(diff)
	}
}

func checks(f *document.Facts) []string {
	var out []string
	for _, x := range f.Findings {
		out = append(out, x.Check)
	}
	return out
}

// TestWarningIsNotCalledAffirming: nor does a result without a nonce carry an empty
// one.
func TestWarningIsNotCalledAffirming(t *testing.T) {
	got, err := ear.Verify(signer.Token(documenttest.EARClaims(nonce, noon).With(submods(map[string]any{"cpu0": "warning"}))), want, verifiers(t, nil), noon)
	if f := got.Facts(); err != nil || slices.Contains(checks(&f), "ear.status") || f.Values("ear.submod")[0] != "cpu0=warning" {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := ear.NewIssuers([]jwt.Settings{{}}); err == nil {
		t.Error("a verifier without a key was taken")
	}
}

// TestNothingAskedFor: a result that was asked to be bound to nothing is a bearer
// document, whatever nonce it has; an empty signature is not nothing.
func TestNothingAskedFor(t *testing.T) {
	for _, has := range []any{nil, "", nonce} {
		token := signer.Token(documenttest.EARClaims("", noon).With(claims{"eat_nonce": has}))
		got, err := ear.Verify(token, ear.Expect{Bound: bound, IssuedAt: noon}, verifiers(t, nil), noon)
		f := got.Facts()
		if err != nil || f.Class != document.ClassC || f.NonceBound || f.KeyBound || slices.Contains(checks(&f), "ear.nonce") || slices.Contains(checks(&f), "ear.key") {
			t.Errorf("nonce %v: %+v, %v", has, f, err)
		}
		if _, err := ear.Verify(token, ear.Expect{Signature: []byte{}}, verifiers(t, nil), noon); reason.Of(err) != reason.EARNonceMismatch {
			t.Errorf("nonce %v, an empty signature: %v", has, err)
		}
	}
	if _, err := ear.Verify(signer.Token(documenttest.EARClaims("", noon).With(submods(map[string]any{"cpu0": "none"}))), ear.Expect{}, verifiers(t, nil), noon); reason.Of(err) != reason.EARStatus {
		t.Errorf("not affirming: %v", err)
	}
}

// bySignature is a result of Trustee's shape: bound to a key, without a nonce.
func bySignature(key any) claims {
	sub := documenttest.EARSubmodule("affirming").With(claims{
		"ear.veraison.annotated-evidence": claims{"runtime_data_claims": claims{"tee-pubkey": key, "nonce": "of Trustee's own"}},
	})
	return documenttest.EARClaims("", noon).With(claims{"eat_nonce": nil, "submods": claims{"cpu0": sub}})
}

func sign(t *testing.T, k *documenttest.JWTKey, message []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(message)
	var opts crypto.SignerOpts = crypto.SHA256
	if k.Alg != "ES256" {
		opts = &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
	}
	out, err := k.Signer().Sign(rand.Reader, digest[:], opts)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestKeyInTheResult: where a result has no nonce, the key that it is bound to has
// to answer the challenge.
func TestKeyInTheResult(t *testing.T) {
	ec, other, r := documenttest.NewJWTKey("", "ES256"), documenttest.NewJWTKey("", "ES256"), documenttest.NewJWTKey("tee", "PS256")
	good := bySignature(ec.JWK())
	sub, _ := good["submods"].(claims)
	second, _ := bySignature(other.JWK())["submods"].(claims)
	old := good.With(claims{"iat": noon.Add(-4 * time.Minute).Unix(), "exp": noon.Add(time.Minute).Unix()})
	for name, c := range map[string]struct {
		claims    claims
		signature []byte
		code      reason.Code
	}{
		"ECDSA":                    {good, sign(t, ec, bound[:]), ""},
		"RSA-PSS":                  {bySignature(r.JWK()), sign(t, r, bound[:]), ""},
		"older than the challenge": {old, sign(t, ec, bound[:]), ""},
		"no signature":             {good, nil, reason.EARNonceMismatch},
		"an empty signature":       {good, []byte{}, reason.EARNonceMismatch},
		"another key":              {good, sign(t, other, bound[:]), reason.EARNonceMismatch},
		"another challenge":        {good, sign(t, ec, make([]byte, 32)), reason.EARNonceMismatch},
		"another nonce beside":     {good.With(claims{"eat_nonce": "AAAA"}), sign(t, ec, bound[:]), reason.EARNonceMismatch},
		"no key in the result":     {documenttest.EARClaims("", noon).With(claims{"eat_nonce": nil}), sign(t, ec, bound[:]), reason.EARNonceMismatch},
		"a private key":            {bySignature(ec.JWK().With(claims{"d": "AAAA"})), sign(t, ec, bound[:]), reason.EARNonceMismatch},
		"a key of another kind":    {bySignature(claims{"kty": "oct", "k": "AAAA"}), sign(t, ec, bound[:]), reason.EARNonceMismatch},
		"a curve that is not used": {bySignature(ec.JWK().With(claims{"crv": "secp256k1"})), sign(t, ec, bound[:]), reason.EARNonceMismatch},
		"two submodules, two keys": {good.With(claims{"submods": sub.With(claims{"gpu0": second["cpu0"]})}), sign(t, ec, bound[:]), reason.EARNonceMismatch},
		"two submodules, one key":  {good.With(claims{"submods": sub.With(claims{"gpu0": sub["cpu0"]})}), sign(t, ec, bound[:]), ""},
		"the longest signature":    {good, make([]byte, 1024), reason.EARNonceMismatch},
		"a longer one":             {good, make([]byte, 1025), reason.RequestTooLarge},
	} {
		got, err := ear.Verify(signer.Token(c.claims), ear.Expect{Nonce: nonce, Bound: bound, Signature: c.signature, IssuedAt: noon}, verifiers(t, nil), noon)
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
		f := got.Facts()
		if (err != nil) != (f.Class == "") || err == nil && !slices.Contains(checks(&f), "ear.key") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if _, ok := ec.Signer().Public().(*ecdsa.PublicKey); !ok {
		t.Error("not a key of ECDSA")
	}
}

func FuzzClaims(f *testing.F) {
	trusted := verifiers(f, nil)
	f.Add(`"submods":{"a":{"ear.status":2}}`, []byte{})
	f.Add(`"submods":{"a":{"ear.status":"affirming","ear.veraison.annotated-evidence":{"runtime_data_claims":{"tee-pubkey":{"kty":"RSA"}}}}}`, []byte{1})
	f.Add(`"eat_nonce":[null],"submods":null`, []byte{2})
	f.Fuzz(func(t *testing.T, members string, signature []byte) {
		raw := signer.Raw(signer.Header(), []byte(`{"iat":1795176000,`+members+`}`))
		got, err := ear.Verify(raw, ear.Expect{Nonce: nonce, Bound: bound, Signature: signature}, trusted, noon)
		if err == nil && (got.Facts().Class == "" || len(got.Facts().Findings) == 0) {
			t.Errorf("a result without facts: %s", members)
		}
	})
}

func BenchmarkVerifyEAR(b *testing.B) {
	trusted := verifiers(b, nil)
	raw := signer.Token(documenttest.EARClaims(nonce, noon))
	b.ReportAllocs()
	for b.Loop() {
		got, err := ear.Verify(raw, want, trusted, noon)
		if err != nil || got.Facts().Class == "" {
			b.Fatal(err)
		}
	}
}
