package ekcert_test

import (
	"crypto/elliptic"
	encoding_asn1 "encoding/asn1"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestPairIsOfItsTypes: an attribute in the place of another type, or under what
// is no name, is not passed over.
func TestPairIsOfItsTypes(t *testing.T) {
	text := func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte("x")) })
	}
	pair := func(tag asn1.Tag, name func(b *cryptobyte.Builder)) []byte {
		return namesWith(func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(tag, func(b *cryptobyte.Builder) { name(b); text(b) })
			})
		})
	}
	other := func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier{2, 5, 4, 3}) }
	m := newMaker(t)
	for name, c := range map[string]struct {
		san  []byte
		want reason.Code
	}{
		"another attribute":         {pair(asn1.SEQUENCE, other), ""},
		"a pair in a set":           {pair(asn1.SET, other), reason.EKCertSAN},
		"a number in a name's spot": {pair(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1Int64(1) }), reason.EKCertSAN},
	} {
		t.Run(name, func(t *testing.T) {
			r := m.request(newKey(t, elliptic.P256()).Public())
			setSAN(r.template, c.san)
			_, err := r.verify(t)
			wantCode(t, err, c.want)
		})
	}
}

// TestNoTimeComesFirst: without a time nothing else about the certificate is told.
func TestNoTimeComesFirst(t *testing.T) {
	r := newMaker(t).request(newKey(t, elliptic.P256()).Public())
	r.template.NotBefore, r.template.IsCA, r.now = time.Time{}, true, time.Time{}
	_, err := r.verify(t)
	wantCode(t, err, reason.EKCertValidity)
}

// TestPlutonIsMicrosofts: in the model of another maker the word says nothing.
func TestPlutonIsMicrosofts(t *testing.T) {
	for maker, want := range map[string]string{"STM": ekcert.KindDiscrete, "GOOG": ekcert.KindVirtual, "": ekcert.KindUnknown} {
		if got := ekcert.Kind(maker, "Pluton"); got != want {
			t.Errorf("%q: %s, want %s", maker, got, want)
		}
	}
}
