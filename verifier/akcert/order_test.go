package akcert_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestTimeComesFirst: validity is judged before usage, also where there is no time
// and the certificate began at none.
func TestTimeComesFirst(t *testing.T) {
	c := newCloud(t)
	for name, change := range map[string]func(r *request){
		"not yet valid": func(r *request) { r.now = r.template.NotBefore.Add(-time.Second) },
		"no time":       func(r *request) { r.template.NotBefore, r.now = time.Time{}, time.Time{} },
	} {
		t.Run(name, func(t *testing.T) {
			r := c.request(t)
			r.template.IsCA = true
			change(r)
			_, err := r.verify(t)
			wantCode(t, err, reason.TPM2AKCertValidity)
		})
	}
}

// TestSubjectKeyThatNoTPMHas: there is no plain form that anything could equal.
func TestSubjectKeyThatNoTPMHas(t *testing.T) {
	c := newCloud(t)
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, akTemplate(), c.issuer.cert, pub, c.issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	key, err := akcert.SubjectKey(raw)
	if wantCode(t, err, reason.TPM2AKCertEncoding); key != nil {
		t.Errorf("key %x", key)
	}
}

// TestInstanceIsASequence: the members of a good one in another element, or with
// properties that end early, are none.
func TestInstanceIsASequence(t *testing.T) {
	c := newCloud(t)
	text := wrap(asn1.UTF8String, []byte("a"))
	members := [][]byte{text, {2, 1, 5}, text, {2, 1, 6}, text}
	for name, ext := range map[string][]byte{
		"a set":                wrap(asn1.SET, members...),
		"properties cut short": wrap(asn1.SEQUENCE, append(members, []byte{0xa0, 5, 0x30})...),
	} {
		t.Run(name, func(t *testing.T) {
			r := c.request(t)
			r.template.ExtraExtensions[0].Value = ext
			_, err := r.verify(t)
			wantCode(t, err, reason.TPM2AKCertEncoding)
		})
	}
}
