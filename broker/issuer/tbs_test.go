package issuer_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/issuer"
)

// caFor returns a CA with a form.
func caFor(t testing.TB) *issuer.CA {
	t.Helper()
	c := &clock{start}
	i, err := issuer.New(issuer.Config{TrustDomain: trustDomain, Replica: "one", Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	ca, _, err := i.NewCA(start)
	if err != nil {
		t.Fatal(err)
	}
	if !issuer.HasForm(ca.Certificate()) {
		t.Fatal("the library writes the probe differently: every certificate is encoded by it, at five times the cost")
	}
	return ca
}

// keysOf returns one key of each kind that an SVID may have.
func keysOf(t testing.TB) map[string][]byte {
	t.Helper()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"P-256": spki(t, newKey(t).Public()), "P-384": spki(t, p384.Public()),
		"RSA-2048": spki(t, rsa2048.Public()), "RSA-4096": spki(t, &rsa.PublicKey{N: bits(4096), E: 65537}),
	}
}

// sameTBS compares what the form writes with what the library writes.
func sameTBS(t *testing.T, ca *issuer.CA, l issuer.Leaf) (direct bool) {
	t.Helper()
	ski, err := issuer.SubjectKey(l.SPKI)
	if err != nil {
		t.Fatal(err)
	}
	got, ok, want, err := ca.TBS(l, ski)
	if err != nil && !ok {
		return false
	}
	if err != nil || ok && !bytes.Equal(got, want) {
		t.Errorf("%s from %s to %s, claim of %d bytes: %v\ngot  %x\nwant %x", l.ID, l.NotBefore, l.NotAfter, len(l.Claim), err, got, want)
	}
	return ok
}

func TestFormIsWhatTheLibraryWrites(t *testing.T) {
	ca := caFor(t)
	long := strings.Repeat("a", 120) + "." + strings.Repeat("b", 100)
	ids := []spiffeid.ID{
		spiffeid.RequireFromString("spiffe://zb.example/zone/payments/node/" + node),
		spiffeid.RequireFromString("spiffe://a/zone/b/workload/c"),
		spiffeid.RequireFromString("spiffe://under_score-dash.1.example/zone/UPPER._-/workload/.hidden"),
		spiffeid.RequireFromString("spiffe://" + long + "/zone/" + strings.Repeat("z", 128) + "/workload/" + strings.Repeat("w", 128)),
	}
	times := []time.Time{
		time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC),
		start.In(time.FixedZone("", -7200)), time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	for kind, key := range keysOf(t) {
		for _, id := range ids {
			for n, at := range times {
				for _, name := range []string{node, "a", "A-1.b", strings.Repeat("n", 64)} {
					l := issuer.Leaf{Serial: serial(byte(n)), NotBefore: at, NotAfter: at.Add(time.Hour), Name: name, ID: id, SPKI: key, Claim: []byte{1}}
					if at.Year() == 2049 {
						l.NotAfter = at
					}
					if !sameTBS(t, ca, l) {
						t.Errorf("%s, %s, %s, %s: the form does not fit", kind, id, at, name)
					}
				}
			}
		}
		for _, n := range []int{1, 100, 112, 113, 114, 115, 116, 117, 118, 127, 128, 220, 240, 241, 242, 255, 256, 1200, 65_000, 65_535, 65_536, 70_000} {
			if !sameTBS(t, ca, issuer.Leaf{Serial: serial(1), NotBefore: start, NotAfter: start, Name: node, ID: ids[0], SPKI: key, Claim: make([]byte, n)}) {
				t.Errorf("%s, claim of %d bytes: the form does not fit", kind, n)
			}
		}
	}
}

// serial is one that newSerial could return.
func serial(last byte) [16]byte { return [16]byte{0x7f, 15: last} }

// TestFormLeavesTheRest: what has another encoding than the form is the
// library's, and comes out of Prepare all the same.
func TestFormLeavesTheRest(t *testing.T) {
	ca, key := caFor(t), spki(t, newKey(t).Public())
	good := issuer.Leaf{
		Serial: serial(1), NotBefore: start, NotAfter: start.Add(time.Hour), Name: node,
		ID: spiffeid.RequireFromString("spiffe://zb.example/zone/payments/node/" + node), SPKI: key, Claim: []byte{1},
	}
	for name, edit := range map[string]func(*issuer.Leaf){
		"UTF8String":                  func(l *issuer.Leaf) { l.Name = "a_b" },
		"not ASCII":                   func(l *issuer.Leaf) { l.Name = "zürich" },
		"no common name":              func(l *issuer.Leaf) { l.Name = "" },
		"asterisk":                    func(l *issuer.Leaf) { l.Name = "a*" },
		"GeneralizedTime at end":      func(l *issuer.Leaf) { l.NotAfter = time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC) },
		"GeneralizedTime at both":     func(l *issuer.Leaf) { l.NotBefore = time.Date(1949, 12, 31, 23, 59, 59, 0, time.UTC) },
		"serial with padding":         func(l *issuer.Leaf) { l.Serial[0] = 0x80 },
		"serial of fewer bytes":       func(l *issuer.Leaf) { l.Serial[0] = 0 },
		"year behind GeneralizedTime": func(l *issuer.Leaf) { l.NotAfter = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		l := good
		edit(&l)
		if sameTBS(t, ca, l) {
			t.Errorf("%s: written by the form", name)
		}
	}
	i, c, _ := newIssuer(t, 0)
	req := request(t, i, c.now())
	req.CommonName = "under_score"
	if cert, _ := issue(t, i, req); cert.Subject.CommonName != req.CommonName {
		t.Errorf("common name %s", cert.Subject.CommonName)
	}
}

// FuzzForm: what Prepare lets through is written as the library writes it.
func FuzzForm(f *testing.F) {
	ca := caFor(f)
	var keys [][]byte
	for _, kind := range []string{"P-256", "P-384", "RSA-2048", "RSA-4096"} {
		keys = append(keys, keysOf(f)[kind])
	}
	f.Add(node, "zb.example", "payments", node, start.Unix(), int64(3600), byte(0x40), byte(0), 1200, []byte{1})
	f.Add("", "a", "b", "c", start.Unix(), int64(3600), byte(0x40), byte(0), 1, []byte{1})
	f.Add("a_b", "a", "b", "c", int64(2524607999), int64(1), byte(0x7f), byte(1), 127, []byte{0})
	f.Fuzz(func(t *testing.T, name, td, zone, last string, begin, life int64, head, kind byte, size int, claim []byte) {
		id, err := spiffeid.FromString("spiffe://" + td + "/zone/" + zone + "/node/" + last)
		if err != nil || len(claim) == 0 || size < 1 || size > 1<<17 || begin < -1<<40 || begin > 1<<40 || life < 0 || life > 1<<40 {
			return
		}
		l := issuer.Leaf{
			Serial: serial(kind), NotBefore: time.Unix(begin, 0), NotAfter: time.Unix(begin+life, 0), Name: name, ID: id,
			SPKI: keys[int(kind)%len(keys)], Claim: bytes.Repeat(claim, 1+size/len(claim))[:size],
		}
		l.Serial[0] = head
		sameTBS(t, ca, l)
	})
}

// TestCAWithoutForm: a CA whose probe differs signs as before, by the library.
func TestCAWithoutForm(t *testing.T) {
	certificate := func(edit func(*x509.Certificate), key any) *x509.Certificate {
		cert := *caFor(t).Certificate()
		edit(&cert)
		if key != nil {
			cert.PublicKey = key
		}
		return &cert
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]*x509.Certificate{
		"key identifier of 32 bytes": certificate(func(c *x509.Certificate) { c.SubjectKeyId = make([]byte, 32) }, nil),
		"no key identifier":          certificate(func(c *x509.Certificate) { c.SubjectKeyId = nil }, nil),
		"RSA":                        certificate(func(*x509.Certificate) {}, rsaKey.Public()),
		"the leaf's own name": certificate(func(c *x509.Certificate) {
			c.RawSubject, _ = asn1.Marshal(pkix.Name{Organization: []string{"Zonebroker"}, CommonName: strings.Repeat("a", 26)}.ToRDNSequence())
		}, nil),
		"lives past 2049": certificate(func(c *x509.Certificate) { c.NotAfter = time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC) }, nil),
	} {
		if issuer.HasForm(cert) {
			t.Errorf("%s: has a form", name)
		}
	}
	// The same random bytes make the same serial: but for the signature, the two
	// certificates are equal.
	c := &clock{start}
	i, err := issuer.New(issuer.Config{TrustDomain: trustDomain, Replica: "one", Now: c.now, Rand: iotest.OneByteReader(zeroes{})})
	if err != nil {
		t.Fatal(err)
	}
	ca, _, err := i.NewCA(start)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Activate(ca); err != nil {
		t.Fatal(err)
	}
	req := request(t, i, start)
	with, err := i.Prepare(req)
	if err != nil {
		t.Fatal(err)
	}
	ca.DropForm()
	without, err := i.Prepare(req)
	if err != nil || !bytes.Equal(with.TBS(), without.TBS()) || with.Record() != without.Record() {
		t.Errorf("%v\nwith the form    %x\nwithout the form %x", err, with.TBS(), without.TBS())
	}
	if chain, err := i.Sign(without); err != nil || parse(t, chain[0]).CheckSignatureFrom(ca.Certificate()) != nil {
		t.Errorf("signed by the library's bytes: %v", err)
	}
}

// zeroes are random bytes that anybody can guess.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestSubjectKeyIsThatOfTheLibrary: the short way to a P-256 key says what the
// long way says.
func TestSubjectKeyIsThatOfTheLibrary(t *testing.T) {
	good := spki(t, newKey(t).Public())
	for at := range good {
		for _, flip := range []byte{1, 0x80, 0xff} {
			key := bytes.Clone(good)
			key[at] ^= flip
			_, err := issuer.SubjectKey(key)
			pub, perr := x509.ParsePKIXPublicKey(key)
			k, ok := pub.(*ecdsa.PublicKey)
			if same := perr == nil && ok && k.Curve == elliptic.P256(); same != (err == nil) {
				t.Errorf("byte %d with %#x: %v, the library says %v", at, flip, err, perr)
			}
		}
	}
	for name, key := range map[string][]byte{
		"cut": good[:90], "longer": append(bytes.Clone(good), 0), "head alone": good[:26],
		"infinity": append(bytes.Clone(good[:26]), 0), "compressed": append(append(bytes.Clone(good[:26]), 2), good[27:59]...),
		"off the curve": offCurve(good),
	} {
		if _, err := issuer.SubjectKey(key); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// offCurve adds one to the last coordinate.
func offCurve(key []byte) []byte {
	out := bytes.Clone(key)
	y := new(big.Int).SetBytes(out[len(out)-32:])
	y.Add(y, big.NewInt(1)).FillBytes(out[len(out)-32:])
	return out
}
