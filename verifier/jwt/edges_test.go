package jwt_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestVerifyEdges are the cases beside those that anybody would think of.
func TestVerifyEdges(t *testing.T) {
	l := newLab(t)
	fixed := issuersOf(t, profile, jwt.Settings{Issuer: issuerURL, Keys: keysOf(t, l.rsa.JWK()), Audience: "own"})
	token := func(more claims) []byte { return l.rsa.Token(good().With(more)) }
	at := noon.Add(30 * time.Second).Unix()
	for name, c := range map[string]struct {
		issuers jwt.Issuers
		token   []byte
		want    jwt.Expect
		code    reason.Code
	}{
		"an empty audience that nobody asked for":   {l.issuers, token(claims{"aud": ""}), jwt.Expect{}, reason.JWTAudience},
		"no audience, none is expected":             {l.issuers, token(claims{"aud": nil}), jwt.Expect{NoAudience: true}, ""},
		"the issuer's own, though none expected":    {fixed, token(claims{"aud": nil}), jwt.Expect{NoAudience: true}, reason.JWTAudience},
		"an audience that is a number":              {l.issuers, token(claims{"aud": []int{1}}), want, reason.JWTMalformed},
		"expires in the second of its issue":        {l.issuers, token(claims{"iat": at, "exp": at}), want, reason.JWTLifetime},
		"exp in the year 9999":                      {l.issuers, token(claims{"exp": 253402300799}), want, reason.JWTLifetime},
		"exp behind the year 9999":                  {l.issuers, token(claims{"exp": 253402300800}), want, reason.JWTLifetime},
		"iat zero":                                  {l.issuers, token(claims{"iat": 0}), want, reason.JWTLifetime},
		"iat one":                                   {l.issuers, token(claims{"iat": 1}), want, reason.JWTLifetime},
		"exp with an exponent":                      {l.issuers, token(claims{"exp": raw2("1.7951832e9")}), want, reason.JWTMalformed},
		"header null":                               {l.issuers, []byte(headerText("null") + ".e30.AAAA"), want, reason.JWTAlg},
		"claims null":                               {l.issuers, l.rsa.Raw(l.rsa.Header(), []byte("null")), want, reason.JWTIssuer},
		"a jwk in the header that is none":          {l.issuers, l.rsa.Raw(l.rsa.Header().With(claims{"jwk": claims{"kty": "EC"}}), text(good())), want, ""},
		"letters beside those of base64url":         {l.issuers, append([]byte("~"), l.rsa.Token(good())...), want, reason.JWTMalformed},
		"the alphabet of plain base64":              {l.issuers, append([]byte("+/"), l.rsa.Token(good())...), want, reason.JWTMalformed},
		"a carriage return":                         {l.issuers, bytes.Replace(l.rsa.Token(good()), []byte("."), []byte("\r."), 1), want, reason.JWTMalformed},
		"a challenge of no time, an older token":    {l.issuers, token(claims{"iat": noon.Add(-30 * time.Minute).Unix(), "exp": noon.Add(time.Minute).Unix()}), jwt.Expect{Audience: audience}, ""},
		"the audience of the challenge, own wanted": {fixed, token(nil), want, reason.JWTAudience},
	} {
		if _, err := c.issuers.Verify(c.token, c.want, noon); reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
}

// TestAgeUnderTheOperatorsLimit: a token without expiry is no older than the
// operator lets tokens live.
func TestAgeUnderTheOperatorsLimit(t *testing.T) {
	k := documenttest.NewJWTKey("", "ES256")
	p := jwt.Profile{Format: "test", Algorithms: []string{"ES256"}, MaxLifetime: time.Hour, MaxAge: 5 * time.Minute, Anonymous: true}
	s := issuersOf(t, p, jwt.Settings{Name: "v", Keys: keysOf(t, k.JWK()), MaxLifetime: time.Minute})
	token := k.Token(claims{"iat": noon.Unix()})
	if got, err := s.Verify(token, jwt.Expect{NoAudience: true}, noon.Add(59*time.Second)); err != nil || !got.ExpiresAt().Equal(noon.Add(time.Minute)) {
		t.Errorf("%v, %v", got.ExpiresAt(), err)
	}
	if _, err := s.Verify(token, jwt.Expect{NoAudience: true}, noon.Add(time.Minute)); reason.Of(err) != reason.JWTExpired {
		t.Errorf("a minute old: %v", err)
	}
}

func TestParseKeysEdges(t *testing.T) {
	r, ec := documenttest.NewJWTKey("rsa-1", "RS256"), documenttest.NewJWTKey("ec-1", "ES256")
	set := documenttest.JWKS
	modulus := func(n int) claims {
		b := bytes.Repeat([]byte{0xff}, n)
		return claims{"kty": "RSA", "kid": "n", "e": "AQAB", "n": b64(b)}
	}
	member := func(c claims, name string) string { s, _ := c[name].(string); return s }
	pemOf := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	edwards, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	x, err := base64.RawURLEncoding.DecodeString(member(ec.JWK(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	y, err := base64.RawURLEncoding.DecodeString(member(ec.JWK(), "y"))
	if err != nil {
		t.Fatal(err)
	}
	fill := func(n int) []byte {
		raw := set(ec.JWK().With(claims{"x5u": ""}))
		return set(ec.JWK().With(claims{"x5u": long(n - len(raw))}))
	}
	for name, c := range map[string]struct {
		raw []byte
		ok  bool
	}{
		"256 KiB":                          {fill(256 << 10), true},
		"a byte more":                      {fill(256<<10 + 1), false},
		"an id of 256 letters":             {set(ec.JWK().With(claims{"kid": long(256)})), true},
		"for verification":                 {set(ec.JWK().With(claims{"key_ops": []string{"verify"}})), true},
		"the key beside a certificate":     {set(r.JWK().With(claims{"x5c": []string{"AAAA"}})), true},
		"the point beside a certificate":   {set(ec.JWK().With(claims{"x5c": []string{"AAAA"}})), true},
		"x5c that is not base64":           {set(claims{"kty": "RSA", "kid": "m", "x5c": []string{"!"}}), false},
		"a modulus with something behind":  {set(r.JWK().With(claims{"n": member(r.JWK(), "n") + "!"})), false},
		"an exponent with something":       {set(r.JWK().With(claims{"e": "AQAB!"})), false},
		"an exponent with a zero before":   {set(r.JWK().With(claims{"e": "AAEAAQ"})), true},
		"exponent three":                   {set(r.JWK().With(claims{"e": "Aw"})), true},
		"RSA-8192":                         {set(modulus(1024)), true},
		"longer than RSA-8192":             {set(modulus(1025)), false},
		"x with something behind":          {set(ec.JWK().With(claims{"x": member(ec.JWK(), "x") + "!"})), false},
		"y with something behind":          {set(ec.JWK().With(claims{"y": member(ec.JWK(), "y") + "!"})), false},
		"a byte of x in y":                 {set(ec.JWK().With(claims{"x": b64(x[:31]), "y": b64(append([]byte{x[31]}, y...))})), false},
		"a secret in an RSA key":           {set(r.JWK().With(claims{"k": "AA"})), false},
		"a secret without its value":       {set(claims{"kty": "oct", "kid": "s"}, ec.JWK()), false},
		"an Ed25519 key in PEM":            {pemOf("PUBLIC KEY", edwards), false},
		"a certificate in PEM that is one": {pemOf("CERTIFICATE", certificateOf(t, ec)), true},
		"a certificate that is none":       {pemOf("CERTIFICATE", []byte("x")), false},
		"a bare key of a wrong type":       {text(ec.JWK().With(claims{"kid": 5})), false},
		"no key at all":                    {[]byte(`{}`), false},
	} {
		got, err := jwt.ParseKeys(c.raw)
		if (err == nil) != c.ok || (got.Len() > 0) != c.ok {
			t.Errorf("%s: %d keys, %v", name, got.Len(), err)
		}
	}
}

func TestParseKey(t *testing.T) {
	r, ec := documenttest.NewJWTKey("rsa-1", "RS256"), documenttest.NewJWTKey("ec-1", "ES256")
	fill := func(n int) []byte {
		return text(ec.JWK().With(claims{"x5u": long(n - len(text(ec.JWK().With(claims{"x5u": ""}))))}))
	}
	for name, c := range map[string]struct {
		raw []byte
		ok  bool
	}{
		"RSA":          {text(r.JWK()), true},
		"EC":           {text(ec.JWK()), true},
		"16 KiB":       {fill(16 << 10), true},
		"a byte more":  {fill(16<<10 + 1), false},
		"no JSON":      {[]byte("x"), false},
		"private":      {text(ec.JWK().With(claims{"d": "AA"})), false},
		"a secret":     {text(claims{"kty": "oct"}), false},
		"other curve":  {text(ec.JWK().With(claims{"crv": "secp256k1"})), false},
		"off its own":  {text(ec.JWK().With(claims{"y": b64(make([]byte, 32))})), false},
		"no point":     {text(claims{"kty": "EC", "crv": "P-256"}), false},
		"one of weeks": {text(claims{"kty": "RSA", "n": "AQ", "e": "AQAB"}), false},
	} {
		got, err := jwt.ParseKey(c.raw)
		if (err == nil) != c.ok || (got != nil && err == nil) != c.ok {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestIssuersEdges(t *testing.T) {
	k := documenttest.NewJWTKey("k", "ES256")
	many := make([]jwt.Settings, 256)
	for i := range many {
		many[i] = jwt.Settings{Issuer: fmt.Sprint(i), Keys: keysOf(t, k.JWK())}
	}
	if s, err := jwt.NewIssuers(profile, many); err != nil || s.Len() != 256 {
		t.Errorf("%d issuers, %v", s.Len(), err)
	}
	if _, err := (jwt.Object{Name: "o", Raw: []byte("{")}).Format(); err == nil {
		t.Error("a format was read from no JSON")
	}
	object := func(n int) []byte {
		raw := documenttest.JWTObject("test", issuerURL, claims{"audience": ""}, k.JWK())
		return documenttest.JWTObject("test", issuerURL, claims{"audience": long(n - len(raw))}, k.JWK())
	}
	const most = 264 << 10
	for n, ok := range map[int]bool{most: true, most + 1: false} {
		if _, err := jwt.Parse(profile, []jwt.Object{{Name: "o", Raw: object(n)}}); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "too large") {
			t.Errorf("an object of %d bytes: %v", n, err)
		}
	}
}
