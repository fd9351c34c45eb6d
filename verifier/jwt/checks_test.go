package jwt_test

import (
	"bytes"
	"crypto/elliptic"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
)

// TestKeysOfWrongTypes: a key set that does not parse is refused whole. What was
// read of it until then may lack the member that says what a key is not for.
func TestKeysOfWrongTypes(t *testing.T) {
	r, ec := documenttest.NewJWTKey("rsa-1", "RS256"), documenttest.NewJWTKey("ec-1", "ES256")
	bare := bytes.Replace(text(ec.JWK().With(claims{"use": nil})), []byte("}"), []byte(`,"use":5}`), 1)
	for name, raw := range map[string][]byte{
		"a bare key": bare, "a set": []byte(`{"keys":[` + string(bare) + `]}`),
		"a set behind a good one": []byte(`{"keys":[` + string(text(r.JWK())) + `,` + string(bare) + `]}`),
	} {
		if got, err := jwt.ParseKeys(raw); err == nil || got.Len() > 0 {
			t.Errorf("%s: %d keys, %v", name, got.Len(), err)
		}
	}
	if _, err := jwt.ParseKey(bare); err == nil {
		t.Error("one key")
	}
	if _, err := jwt.ParseKey(text(ec.JWK().With(claims{"kty": "OKP"}))); err == nil {
		t.Error("a key of another kind, on a curve that is used")
	}
}

// TestKeysWithSomethingBehind: base64 that decodes but for its last letter. A key
// would have many spellings, and one that another reader refuses.
func TestKeysWithSomethingBehind(t *testing.T) {
	point := documenttest.ECKey(elliptic.P384())
	raw, err := point.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	ec := claims{"kty": "EC", "kid": "p", "crv": "P-384", "x": b64(raw[1:49]), "y": b64(raw[49:])}
	modulus := claims{"kty": "RSA", "kid": "n", "e": "AQAB", "n": b64(bytes.Repeat([]byte{0xff}, 258))}
	der := certificateOf(t, documenttest.NewJWTKey("rsa-1", "RS256"))
	whole := base64.StdEncoding.EncodeToString(der)
	certificate := claims{"kty": "RSA", "kid": "c", "x5c": []string{whole}}
	for name, c := range map[string]struct {
		key claims
		err string
	}{
		"P-384":         {ec, ""},
		"x":             {ec.With(claims{"x": b64(raw[1:49]) + "!"}), "coordinates"},
		"y":             {ec.With(claims{"y": b64(raw[49:]) + "!"}), "coordinates"},
		"a short x":     {ec.With(claims{"x": "AAAA"}), "coordinates"},
		"a modulus":     {modulus, ""},
		"n":             {modulus.With(claims{"n": b64(bytes.Repeat([]byte{0xff}, 258)) + "!"}), "modulus"},
		"a certificate": {certificate, ""},
		"x5c":           {certificate.With(claims{"x5c": []string{whole + "!"}}), "x5c is not base64"},
	} {
		_, err := jwt.ParseKeys(documenttest.JWKS(c.key))
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeysForVerification: a key that says what it is for is used for that.
func TestKeysForVerification(t *testing.T) {
	r := documenttest.NewJWTKey("rsa-1", "RS256")
	for name, more := range map[string]claims{
		"its algorithm": {"alg": "RS256"}, "to verify": {"use": nil, "key_ops": []string{"verify"}}, "for signatures": {"use": "sig"},
	} {
		s := issuersOf(t, profile, jwt.Settings{Issuer: issuerURL, Keys: keysOf(t, r.JWK().With(more))})
		if _, err := s.Verify(r.Token(good()), want, noon); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
