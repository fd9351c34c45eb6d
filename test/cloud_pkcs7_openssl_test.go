package test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/deploy/hostdeps/hostdepstest"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/pkcs7"
)

// cms is OpenSSL with a signer's files in a folder.
type cms struct {
	t       *testing.T
	openssl string
	dir     string
}

func (c *cms) write(name string, b []byte) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

func (c *cms) run(args ...string) ([]byte, error) {
	out, err := exec.Command(c.openssl, args...).Output()
	return out, err
}

// verifies asks OpenSSL for the content of a message under the signer's
// certificate alone.
func (c *cms) verifies(message []byte) ([]byte, bool) {
	c.t.Helper()
	out, err := c.run("cms", "-verify", "-binary", "-inform", "DER", "-in", c.write("message", message),
		"-certfile", filepath.Join(c.dir, "cert.pem"), "-nointern", "-noverify")
	return out, err == nil
}

// TestOpenSSLReadsTheSameMessages: what OpenSSL signs, in every form that clouds
// write, reads here as what was signed; what the makers of our tests sign, OpenSSL
// verifies; and of a message of which one bit is changed we accept nothing that
// OpenSSL refuses (test PKI).
func TestOpenSSLReadsTheSameMessages(t *testing.T) {
	c := &cms{t: t, openssl: hostdepstest.Program(t, hostdeps.OpenSSL, "openssl"), dir: t.TempDir()}
	now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	pki := documenttest.NewEC2("eu-west-1", now)
	content := documenttest.NewEC2Instance("eu-west-1", now).JSON()
	key, err := x509.MarshalPKCS8PrivateKey(pki.Signer.Key)
	must(t, err)
	cert := c.write("cert.pem", pki.CertificatePEM())
	keyFile := c.write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	in := c.write("content", content)
	ours := func(message []byte, p pkcs7.Profile) ([]byte, error) {
		claimed, err := pkcs7.Parse(message, p)
		if err != nil {
			return nil, err
		}
		got, err := claimed.VerifiedBy(pki.Signer.Certificate)
		return got.Content(), err
	}
	all := pkcs7.Profile{BER: true, NoAttributes: true, DigestWithRSA: true}
	for name, more := range map[string][]string{
		"with attributes": {"-nocerts"}, "with the certificate": {}, "open lengths": {"-nocerts", "-stream"}, "without attributes": {"-noattr"},
	} {
		args := append([]string{"cms", "-sign", "-binary", "-nodetach", "-md", "sha256", "-outform", "DER", "-in", in, "-signer", cert, "-inkey", keyFile}, more...)
		message, err := c.run(args...)
		must(t, err)
		if got, err := ours(message, all); err != nil || !bytes.Equal(got, content) {
			t.Errorf("OpenSSL's message %s: %v", name, err)
		}
		if bytes.HasPrefix(message, []byte{0x30, 0x80}) != (name == "open lengths") {
			t.Errorf("OpenSSL's message %s begins with %x", name, message[:2])
		}
	}
	for name, m := range map[string]documenttest.Message{
		"of AWS": {Indefinite: true}, "in DER": {}, "of Azure": {NoAttributes: true, Bag: []*x509.Certificate{pki.Signer.Certificate}},
	} {
		m.Content, m.Signers = content, []documenttest.RSASigner{pki.Signer}
		message := documenttest.PKCS7(m)
		if got, ok := c.verifies(message); !ok || !bytes.Equal(got, content) {
			t.Errorf("OpenSSL refuses our message %s", name)
		}
		accepted := 0
		for i := range message {
			changed := bytes.Clone(message)
			changed[i] ^= 1 << (i % 8)
			got, err := ours(changed, all)
			if err != nil {
				continue
			}
			accepted++
			if theirs, ok := c.verifies(changed); !ok || !bytes.Equal(theirs, got) || !bytes.Equal(got, content) {
				t.Errorf("%s, byte %d: OpenSSL refuses what we accept", name, i)
			}
		}
		t.Logf("%s: %d of %d changed messages pass both", name, accepted, len(message))
	}
}
