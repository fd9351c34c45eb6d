package main

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/issuer"
)

func someCredential(t testing.TB) credential {
	t.Helper()
	key, _, err := newRoleKey()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	der, err := newRoleCertificate("alice", key, now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	anchor, err := issuer.NewAnchor(now, nil)
	if err != nil {
		t.Fatal(err)
	}
	return credential{
		name: "alice", server: "https://127.0.0.1:8443", anchor: anchor.CertificatePEM(),
		cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
	}
}

func encoded(t testing.TB, c credential) string {
	t.Helper()
	text, err := c.encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCredentialFile(t *testing.T) {
	c := someCredential(t)
	text := encoded(t, c)
	got, err := parseCredential([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got.name != c.name || got.server != c.server || !bytes.Equal(got.anchor, c.anchor) || !bytes.Equal(got.cert.Certificate[0], c.cert.Certificate[0]) {
		t.Errorf("read back as %+v", got)
	}
	// Any TLS program takes key and certificate from it.
	if _, err := tls.X509KeyPair([]byte(text), []byte(text)); err != nil {
		t.Error(err)
	}
	blocks := map[string]string{}
	for rest := []byte(text); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		blocks[b.Type] = string(pem.EncodeToMemory(b))
	}
	other := encoded(t, someCredential(t))
	foreign, _ := pem.Decode([]byte(other))
	for name, bad := range map[string]string{
		"empty":               "",
		"no_key":              blocks[certBlock] + blocks[brokerBlock],
		"no_certificate":      blocks[keyBlock] + blocks[brokerBlock],
		"no_broker":           blocks[keyBlock] + blocks[certBlock],
		"two_keys":            text + blocks[keyBlock],
		"key_of_another":      string(pem.EncodeToMemory(foreign)) + blocks[certBlock] + blocks[brokerBlock],
		"key_is_no_key":       strings.ReplaceAll(blocks[certBlock], certBlock, keyBlock) + blocks[certBlock] + blocks[brokerBlock],
		"certificate_is_none": blocks[keyBlock] + strings.ReplaceAll(blocks[keyBlock], keyBlock, certBlock) + blocks[brokerBlock],
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseCredential([]byte(bad)); err == nil {
				t.Error("it was taken")
			}
		})
	}
}

func FuzzParseCredential(f *testing.F) {
	f.Add([]byte(encoded(f, someCredential(f))))
	f.Add([]byte("-----BEGIN ZONEBROKER BROKER-----\nServer: x\n\nAAAA\n-----END ZONEBROKER BROKER-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCredential(text)
		if err != nil {
			return
		}
		again, err := parseCredential([]byte(encoded(t, c)))
		if err != nil || again.server != c.server {
			t.Errorf("%q became %q, %v", c.server, again.server, err)
		}
	})
}
