package cca_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/cca"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestChecks are one case for each check that the catalogue would not miss.
func TestChecks(t *testing.T) {
	type fields = documenttest.CCAFields
	m := newMachine(t, elliptic.P384())
	for name, c := range map[string]struct {
		f    fields
		want reason.Code
	}{
		"a byte behind the platform's claims":        {fields{PlatformMessage: func(s *documenttest.Sign1) { s.Payload = append(s.Payload, 0) }}, reason.CBORTrailing},
		"no instance id":                             {fields{Platform: func(c map[any]any) { delete(c, documenttest.CCAInstance) }}, reason.CBORMalformed},
		"a bare key under a profile that is no text": {fields{Legacy: true, Realm: func(c map[any]any) { c[documenttest.CCAProfile] = 5 }}, reason.CBORMalformed},
		"a bare key under another profile":           {fields{Legacy: true, Realm: func(c map[any]any) { c[documenttest.CCAProfile] = "x" }}, reason.CBORMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			c.f.Challenge = challenge
			_, err := cca.Verify(m.token(t, c.f), challenge, m.trust)
			if reason.Of(err) != c.want {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	token, err := cca.Verify(m.token(t, fields{Challenge: challenge}), challenge, m.trust)
	must(t, err)
	var checks []string
	for _, f := range token.Facts().Findings {
		checks = append(checks, f.Check)
	}
	if got := strings.Join(checks, " "); !strings.HasPrefix(got, "cca.platform cca.binding cca.realm") {
		t.Errorf("findings %s", got)
	}
}

// TestTrustChecks: what a key's name binds it to, and files that are no key.
func TestTrustChecks(t *testing.T) {
	m := newMachine(t, elliptic.P384())
	m.Instance = append([]byte{1}, bytes.Repeat([]byte{0xab}, 32)...)
	id := hex.EncodeToString(m.Instance)
	raw := m.token(t, documenttest.CCAFields{})
	for name, object := range map[string]cca.Object{
		"named in capitals":              {Name: "cca.platform/" + strings.ToUpper(id), Data: m.pem(t)},
		"named by more than an instance": {Name: "cca.platform/" + id + "zz", Data: m.pem(t)},
		"in 16 KiB":                      {Name: "x", Data: append(m.pem(t), bytes.Repeat([]byte("\n"), 16<<10-len(m.pem(t)))...)},
	} {
		trust, err := cca.NewTrust(object)
		must(t, err)
		if _, err := cca.Verify(raw, nil, trust); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	inPEM := func(b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}) }
	point, err := m.Key.PublicKey.Bytes()
	must(t, err)
	text := base64.RawURLEncoding.EncodeToString
	for name, data := range map[string][]byte{
		"an RSA key":                    inPEM(der),
		"no key":                        inPEM([]byte{0x30, 0}),
		"a JWK with no base64 behind x": fmt.Appendf(nil, `{"kty":"EC","crv":"P-384","x":"%s!","y":"%s"}`, text(point[1:49]), text(point[49:])),
	} {
		if _, err := cca.NewTrust(cca.Object{Name: "x", Data: data}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
