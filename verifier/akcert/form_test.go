package akcert_test

import (
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var null = []byte{5, 0}

// wrap is an element of a tag around others.
func wrap(tag asn1.Tag, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	return b.BytesOrPanic()
}

func explicit(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }

// TestInstanceForm: each member of the extension is of its type, and nothing
// stands behind.
func TestInstanceForm(t *testing.T) {
	c := newCloud(t)
	text := wrap(asn1.UTF8String, []byte("a"))
	yes := []byte{1, 1, 0xff}
	good := [][]byte{text, {2, 1, 5}, text, {2, 1, 6}, text, wrap(explicit(0), wrap(asn1.SEQUENCE, wrap(explicit(1), yes)))}
	judge := func(ext []byte) (akcert.Certificate, error) {
		r := c.request(t)
		r.template.ExtraExtensions[0].Value = ext
		return r.verify(t)
	}
	cert, err := judge(wrap(asn1.SEQUENCE, good...))
	if want := (akcert.Instance{Cloud: "gce", Zone: "a", Project: "a", ProjectNumber: "5", ID: "6", Name: "a"}); err != nil || cert.Instance() != want {
		t.Fatalf("%+v, %v", cert.Instance(), err)
	}
	for i := range good {
		bad := append([][]byte{}, good...)
		bad[i] = null
		_, err := judge(wrap(asn1.SEQUENCE, bad...))
		wantCode(t, err, reason.TPM2AKCertEncoding)
	}
	for name, props := range map[string][]byte{
		"behind the properties":    append(append([]byte{}, good[5]...), null...),
		"properties of other form": wrap(explicit(0), null),
		"behind their sequence":    wrap(explicit(0), wrap(asn1.SEQUENCE, wrap(explicit(1), yes)), null),
		"a member cut short":       wrap(explicit(0), wrap(asn1.SEQUENCE, []byte{0xa1})),
		"production is no boolean": wrap(explicit(0), wrap(asn1.SEQUENCE, wrap(explicit(1), null))),
		"behind production":        wrap(explicit(0), wrap(asn1.SEQUENCE, wrap(explicit(1), yes, null))),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := judge(wrap(asn1.SEQUENCE, append(append([][]byte{}, good[:5]...), props)...))
			wantCode(t, err, reason.TPM2AKCertEncoding)
		})
	}
}

// TestForm: what is just inside the limits, and names that are no machine's.
func TestForm(t *testing.T) {
	c := newCloud(t)
	r := c.request(t)
	r.rewrap = func(d []byte) []byte { return append(d, make([]byte, 4096-len(d))...) }
	r.chain = [][]byte{c.issuer.cert.Raw, c.issuer.cert.Raw, c.issuer.cert.Raw, c.issuer.cert.Raw}
	if _, err := r.verify(t); err != nil {
		t.Errorf("4096 bytes and four issuers: %v", err)
	}
	r = c.request(t)
	r.chain = [][]byte{make([]byte, 4096)}
	_, err := r.verify(t)
	wantCode(t, err, reason.TPM2AKCertEncoding)
	r = c.request(t)
	r.template.ExtraExtensions, r.template.Subject = nil, pkix.Name{CommonName: "4711"}
	if cert, err := r.verify(t); err != nil || cert.Instance() != (akcert.Instance{}) {
		t.Errorf("a name without a cloud: %+v, %v", cert.Instance(), err)
	}
	for _, usage := range []encoding_asn1.ObjectIdentifier{oidAK, oidEK} {
		r = c.request(t)
		r.template.UnknownExtKeyUsage = []encoding_asn1.ObjectIdentifier{usage, {1, 2, 3}}
		if _, err := r.verify(t); err != nil {
			t.Errorf("a usage beside %s: %v", usage, err)
		}
	}
}
