package jwt_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
)

// TestKeyOfPKCS1: a cluster's key may lie there as openssl rsa writes it.
func TestKeyOfPKCS1(t *testing.T) {
	k := documenttest.NewJWTKey("", "RS256")
	private, ok := k.Signer().(*rsa.PrivateKey)
	if !ok {
		t.Fatal("the key is no RSA key")
	}
	pkcs1 := func(b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: b}) }
	keys, err := jwt.ParseKeys(pkcs1(x509.MarshalPKCS1PublicKey(&private.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	s := issuersOf(t, profile, jwt.Settings{Name: "a", Issuer: issuerURL, Keys: keys})
	if _, err := s.Verify(k.Token(good()), want, noon); err != nil {
		t.Error(err)
	}
	for name, b := range map[string][]byte{
		"none":          []byte("x"),
		"a private key": x509.MarshalPKCS1PrivateKey(private),
		"of 8 bits":     x509.MarshalPKCS1PublicKey(&rsa.PublicKey{N: big.NewInt(143), E: 3}),
	} {
		if _, err := jwt.ParseKeys(pkcs1(b)); err == nil {
			t.Errorf("%s was taken for a key", name)
		}
	}
}
