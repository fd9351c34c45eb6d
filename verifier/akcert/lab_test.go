package akcert_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"math/big"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// This file is a cloud: a root, an intermediate and AK certificates in which a
// test changes one thing.

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

var (
	oidInstance = encoding_asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 21}
	oidAK       = encoding_asn1.ObjectIdentifier{2, 23, 133, 8, 3}
	oidEK       = encoding_asn1.ObjectIdentifier{2, 23, 133, 8, 1}
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: noon.AddDate(-10, 0, 0), NotAfter: noon.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func newCA(t testing.TB, template *x509.Certificate, parent *authority) *authority {
	t.Helper()
	a := &authority{cert: template, key: newKey(t)}
	issuer := a
	if parent != nil {
		issuer = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, a.key.Public(), issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// cloud has a root and an intermediate that signs AK certificates.
type cloud struct {
	root, issuer *authority
	roots        x509chain.Roots
}

func newCloud(t testing.TB) *cloud {
	t.Helper()
	c := &cloud{root: newCA(t, caTemplate("Cloud EK/AK CA Root"), nil)}
	c.issuer = newCA(t, caTemplate("Cloud EK/AK CA Intermediate"), c.root)
	c.roots = roots(t, c.root.cert.Raw)
	return c
}

func roots(t testing.TB, bundles ...[]byte) x509chain.Roots {
	t.Helper()
	r, err := x509chain.NewRoots(bundles...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// instance is what stands in the extension.
type instance struct {
	zone, project, name string
	number, id          uint64
	production          bool
	noProperties        bool
}

var testVM = instance{"europe-west3-b", "acme-prod", "db-1", 4711, 1<<63 + 5, true, false}

func (i instance) der() []byte {
	b := cryptobyte.NewBuilder(nil)
	text := func(b *cryptobyte.Builder, s string) {
		b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
	}
	explicit := func(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		text(b, i.zone)
		b.AddASN1Uint64(i.number)
		text(b, i.project)
		b.AddASN1Uint64(i.id)
		text(b, i.name)
		if i.noProperties {
			return
		}
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Int64(0) })
				b.AddASN1(explicit(1), func(b *cryptobyte.Builder) { b.AddASN1Boolean(i.production) })
				b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1Boolean(true) })
			})
		})
	})
	return b.BytesOrPanic()
}

// akTemplate is an AK certificate as Google issues them.
func akTemplate() *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "4711"},
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(9, 0, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: oidInstance, Value: testVM.der()}},
	}
}

// request is one certificate handed in, and what it is judged by.
type request struct {
	template *x509.Certificate
	pub      crypto.PublicKey
	issuer   *authority
	rewrap   func([]byte) []byte
	chain    [][]byte
	ak       []byte // nil: the SPKI of pub
	roots    x509chain.Roots
	opts     akcert.Options
	now      time.Time
}

func (c *cloud) request(t testing.TB) *request {
	return &request{
		template: akTemplate(), pub: newKey(t).Public(), issuer: c.issuer,
		chain: [][]byte{c.issuer.cert.Raw}, roots: c.roots, now: noon,
	}
}

func (r *request) verify(t testing.TB) (akcert.Certificate, error) {
	t.Helper()
	raw, err := x509.CreateCertificate(rand.Reader, r.template, r.issuer.cert, r.pub, r.issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	if r.rewrap != nil {
		raw = r.rewrap(raw)
	}
	if r.ak == nil {
		r.ak = spkiOf(t, r.pub)
	}
	return akcert.Verify(raw, r.chain, r.ak, r.roots, r.opts, r.now)
}

func spkiOf(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantCode(t testing.TB, err error, want reason.Code) {
	t.Helper()
	if got := reason.Of(err); got != want {
		t.Errorf("code %q, want %q (%v)", got, want, err)
	}
}

// revoking is a revocation list of a that names serial, good until next.
func (a *authority) revoking(t testing.TB, serial int64, next time.Time) x509chain.CRLs {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: noon.AddDate(0, -1, 0), NextUpdate: next,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(serial), RevocationTime: noon.AddDate(0, -1, 0)}},
	}, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := x509chain.NewCRLs(der)
	if err != nil {
		t.Fatal(err)
	}
	return lists
}
