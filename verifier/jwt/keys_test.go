package jwt_test

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
)

func certificateOf(t testing.TB, k *documenttest.JWTKey) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: noon}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Signer().Public(), k.Signer())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestParseKeys(t *testing.T) {
	r, ec := documenttest.NewJWTKey("rsa-1", "RS256"), documenttest.NewJWTKey("ec-1", "ES256")
	set := documenttest.JWKS
	der := certificateOf(t, r)
	spki, err := x509.MarshalPKIXPublicKey(ec.Signer().Public())
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := claims{"kty": "RSA", "kid": "w", "e": "AQAB", "n": b64(small.N.Bytes())}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	many := func(n int) (out []claims) {
		for i := range n {
			out = append(out, ec.JWK().With(claims{"kid": fmt.Sprint(i)}))
		}
		return out
	}
	for name, c := range map[string]struct {
		raw  []byte
		keys int
		err  string
	}{
		"a set":                   {set(r.JWK(), ec.JWK()), 2, ""},
		"64 keys":                 {set(many(64)...), 64, ""},
		"65 keys":                 {set(many(65)...), 0, "more than 64"},
		"one key without an id":   {set(ec.JWK().With(claims{"kid": nil})), 1, ""},
		"a bare key":              {text(ec.JWK()), 1, ""},
		"PEM":                     {block("PUBLIC KEY", spki), 1, ""},
		"a certificate":           {block("CERTIFICATE", der), 1, ""},
		"two PEM blocks":          {append(block("PUBLIC KEY", spki), block("PUBLIC KEY", spki)...), 0, "stand alone"},
		"a private key in PEM":    {block("PRIVATE KEY", spki), 0, "no public key"},
		"only a certificate, x5c": {set(claims{"kty": "RSA", "kid": "m", "x5c": []string{base64.StdEncoding.EncodeToString(der)}}), 1, ""},
		"x5c that is none":        {set(claims{"kty": "RSA", "kid": "m", "x5c": []string{"AAAA"}}), 0, "x509"},
		"members nobody knows":    {set(ec.JWK().With(claims{"cloud_instance_name": "x", "x5t": "y"})), 1, ""},
		"another kind beside":     {set(ec.JWK(), claims{"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": "AA"}), 1, ""},
		"another curve beside":    {set(ec.JWK(), claims{"kty": "EC", "kid": "o", "crv": "secp256k1", "x": "AA", "y": "AA"}), 1, ""},
		"only another kind":       {set(claims{"kty": "OKP", "kid": "o"}), 0, "no RSA or EC key"},
		"an empty set":            {set(), 0, "no RSA or EC key"},
		"two without an id":       {set(ec.JWK().With(claims{"kid": nil}), r.JWK()), 0, "id of its own"},
		"two of one id":           {set(ec.JWK(), r.JWK().With(claims{"kid": "ec-1"})), 0, "id of its own"},
		"an endless id":           {set(ec.JWK().With(claims{"kid": long(257)})), 0, "id of its own"},
		"a private key":           {set(ec.JWK().With(claims{"d": "AA"})), 0, "private"},
		"a secret":                {set(claims{"kty": "oct", "kid": "s", "k": "AA"}), 0, "private"},
		"RSA-1024":                {set(weak), 0, "2048"},
		"an even exponent":        {set(r.JWK().With(claims{"e": "AQAA"})), 0, "exponent"},
		"exponent one":            {set(r.JWK().With(claims{"e": "AQ"})), 0, "exponent"},
		"a long exponent":         {set(r.JWK().With(claims{"e": "AQAAAAAB"})), 0, "not that of an RSA key"},
		"RSA without modulus":     {set(claims{"kty": "RSA", "kid": "x", "e": "AQAB"}), 0, "2048"},
		"a point off the curve":   {set(ec.JWK().With(claims{"y": b64(make([]byte, 32))})), 0, "key 0"},
		"a short coordinate":      {set(ec.JWK().With(claims{"y": "AAAA"})), 0, "coordinates"},
		"P-384 with 32 bytes":     {set(ec.JWK().With(claims{"crv": elliptic.P384().Params().Name})), 0, "coordinates"},
		"a member twice":          {[]byte(strings.Replace(string(set(ec.JWK())), `"kid":"ec-1"`, `"kid":"ec-1","kid":"ec-2"`, 1)), 0, "twice"},
		"larger than 256 KiB":     {set(ec.JWK().With(claims{"x": long(256 << 10)})), 0, "256 KiB"},
		"no JSON":                 {[]byte("keys"), 0, "not one JSON"},
	} {
		got, err := jwt.ParseKeys(c.raw)
		if got.Len() != c.keys || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %d keys, %v", name, got.Len(), err)
		}
	}
}

// TestParsedKeysVerify: each way of writing a key down is the key.
func TestParsedKeysVerify(t *testing.T) {
	r := documenttest.NewJWTKey("rsa-1", "RS256")
	der := certificateOf(t, r)
	for name, raw := range map[string][]byte{
		"set":  documenttest.JWKS(r.JWK()),
		"x5c":  documenttest.JWKS(claims{"kty": "RSA", "kid": "rsa-1", "x5c": []string{base64.StdEncoding.EncodeToString(der)}}),
		"PEM":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"bare": text(r.JWK()),
	} {
		keys, err := jwt.ParseKeys(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := issuersOf(t, profile, jwt.Settings{Issuer: issuerURL, Keys: keys}).Verify(r.Token(good()), want, noon); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseObjects(t *testing.T) {
	ec := documenttest.NewJWTKey("ec-1", "ES256")
	object := func(more claims) []byte { return documenttest.JWTObject("test", issuerURL, more, ec.JWK()) }
	for name, c := range map[string]struct {
		raw []byte
		n   int
		err string
	}{
		"plain":                {object(nil), 1, ""},
		"of another format":    {object(claims{"format": "ear", "submods": []string{"a"}}), 0, ""},
		"with all it may have": {object(claims{"audience": "x", "algorithms": []string{"ES256"}, "max_lifetime": "24h"}), 1, ""},
		"no format":            {object(claims{"format": nil}), 0, "names no format"},
		"an unknown member":    {object(claims{"issuers": []string{}}), 0, "unknown field"},
		"Issuer for issuer":    {object(claims{"issuer": nil, "Issuer": issuerURL}), 0, "case"},
		"another's cluster":    {object(claims{"cluster": "x"}), 0, `"cluster"`},
		"another's submods":    {object(claims{"submods": []string{"x"}}), 0, `"submods"`},
		"too long a life":      {object(claims{"max_lifetime": "24h1s"}), 0, "max_lifetime"},
		"no life":              {object(claims{"max_lifetime": "0s"}), 0, "max_lifetime"},
		"a life of no unit":    {object(claims{"max_lifetime": "60"}), 0, "max_lifetime"},
		"no keys":              {object(claims{"jwks": claims{"keys": []claims{}}}), 0, "no RSA"},
		"too large":            {object(claims{"audience": long(265 << 10)}), 0, "too large"},
	} {
		got, err := jwt.Parse(profile, []jwt.Object{{Name: "o", Raw: c.raw}})
		if len(got) != c.n || (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), "jwks/o")) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	got, err := jwt.Parse(profile, []jwt.Object{{Name: "o", Raw: object(claims{"audience": "x", "algorithms": []string{"ES256"}, "max_lifetime": "90m"})}})
	if err != nil || got[0].Name != "o" || got[0].Issuer != issuerURL || got[0].Audience != "x" || got[0].MaxLifetime != 90*time.Minute || len(got[0].Algorithms) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if f, err := (jwt.Object{Name: "o", Raw: object(nil)}).Format(); f != "test" || err != nil {
		t.Errorf("format %q, %v", f, err)
	}
}

func TestNewIssuersRefuses(t *testing.T) {
	a, b := documenttest.NewJWTKey("k", "ES256"), documenttest.NewJWTKey("l", "ES256")
	five := func() (out []jwt.Settings) {
		for i := range 5 {
			out = append(out, jwt.Settings{Name: fmt.Sprint(i), Issuer: fmt.Sprint(i), Keys: keysOf(t, documenttest.NewJWTKey("k", "ES256").JWK())})
		}
		return out
	}()
	for name, c := range map[string]struct {
		settings []jwt.Settings
		err      string
	}{
		"four keys of one id":   {five[:4], ""},
		"five keys of one id":   {five, "a fifth key"},
		"no issuer":             {[]jwt.Settings{{Name: "a", Keys: keysOf(t, a.JWK())}}, "issuer is missing"},
		"no key":                {[]jwt.Settings{{Name: "a", Issuer: "x"}}, "no key"},
		"HMAC":                  {[]jwt.Settings{{Name: "a", Issuer: "x", Keys: keysOf(t, a.JWK()), Algorithms: []string{"HS256"}}}, "HS256"},
		"one issuer, two sets":  {[]jwt.Settings{{Issuer: "x", Keys: keysOf(t, a.JWK())}, {Issuer: "x", Keys: keysOf(t, b.JWK())}}, ""},
		"one issuer, one key":   {[]jwt.Settings{{Issuer: "x", Keys: keysOf(t, a.JWK())}, {Issuer: "x", Keys: keysOf(t, a.JWK(), b.JWK())}}, "key and the iss"},
		"more than are allowed": {make([]jwt.Settings, 257), "256"},
	} {
		_, err := jwt.NewIssuers(profile, c.settings)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	ec := documenttest.NewJWTKey("ec-1", "ES256")
	f.Add(documenttest.JWKS(ec.JWK(), documenttest.NewJWTKey("rsa-1", "RS256").JWK()))
	f.Add(text(ec.JWK()))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var k jwt.Keys
		var err error
		evidencetest.Bounded(t, len(raw), 256, func() { k, err = jwt.ParseKeys(raw) })
		if err == nil && k.Len() == 0 {
			t.Error("a set without keys was taken")
		}
	})
}
