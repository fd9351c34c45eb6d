package x509chain_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// authority is a CA; of two with one name, the keys differ.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t testing.TB, name string, serial int64, parent *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a := &authority{template, key}
	if parent == nil {
		parent = a
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// list is a revocation list: when it was made, how long it is good, whom it names.
type list struct {
	made, next time.Time
	serials    []int64
	extra      []pkix.Extension
}

var fresh = list{made: noon.AddDate(0, 0, -1), next: noon.AddDate(0, 0, 30)}

func (l list) naming(serials ...int64) list {
	l.serials = serials
	return l
}

func (l list) until(next time.Time) list {
	l.next = next
	return l
}

func (l list) with(ext ...pkix.Extension) list {
	l.extra = ext
	return l
}

func (a *authority) sign(t testing.TB, l list) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: l.made, NextUpdate: l.next, ExtraExtensions: l.extra}
	for _, s := range l.serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: l.made})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func inPEM(lists ...[]byte) []byte {
	var out []byte
	for _, l := range lists {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: l})...)
	}
	return out
}

func TestCheck(t *testing.T) {
	root := newCA(t, "Root", 1, nil)
	ca := newCA(t, "EK CA", 2, root)
	sibling := newCA(t, "EK CA", 9, root) // the same name with another key
	leaf := newCA(t, "EK", 77, ca)
	chain := []*x509.Certificate{leaf.cert, ca.cert, root.cert}
	older := list{made: noon.AddDate(0, 0, -9), next: noon.AddDate(0, 0, 9)}
	for name, c := range map[string]struct {
		files [][]byte
		want  error
	}{
		"no list":                                     {nil, nil},
		"nobody is revoked":                           {[][]byte{ca.sign(t, fresh), root.sign(t, fresh)}, nil},
		"another is revoked":                          {[][]byte{ca.sign(t, fresh.naming(76, 78))}, nil},
		"the leaf is revoked":                         {[][]byte{ca.sign(t, fresh.naming(1, 77))}, x509chain.ErrRevoked},
		"the leaf is revoked, in PEM":                 {[][]byte{inPEM(root.sign(t, fresh), ca.sign(t, fresh.naming(77)))}, x509chain.ErrRevoked},
		"the issuer is revoked":                       {[][]byte{root.sign(t, fresh.naming(2))}, x509chain.ErrRevoked},
		"the serial is revoked by another issuer":     {[][]byte{root.sign(t, fresh.naming(77))}, nil},
		"the anchor revokes itself":                   {[][]byte{root.sign(t, fresh.naming(1))}, nil},
		"stale":                                       {[][]byte{ca.sign(t, fresh.until(noon.Add(-time.Second)))}, x509chain.ErrStaleCRL},
		"stale list of the issuer's issuer":           {[][]byte{root.sign(t, fresh.until(noon.Add(-time.Second)))}, x509chain.ErrStaleCRL},
		"good until now":                              {[][]byte{ca.sign(t, fresh.until(noon))}, nil},
		"revoked in a stale list":                     {[][]byte{ca.sign(t, fresh.naming(77).until(noon.Add(-time.Second)))}, x509chain.ErrRevoked},
		"the newest counts: revoked":                  {[][]byte{ca.sign(t, older), ca.sign(t, fresh.naming(77))}, x509chain.ErrRevoked},
		"the newest counts: no longer revoked":        {[][]byte{ca.sign(t, fresh), ca.sign(t, older.naming(77))}, nil},
		"signed by another CA of the name":            {[][]byte{sibling.sign(t, fresh)}, x509chain.ErrCRLKey},
		"beside a list of another CA of the name":     {[][]byte{sibling.sign(t, fresh.naming(77)), ca.sign(t, fresh)}, nil},
		"a part of the certificates, not indirect":    {[][]byte{ca.sign(t, fresh.naming(77).with(distribution(0x81, 1, 0xff)))}, x509chain.ErrRevoked},
		"says that it is not indirect":                {[][]byte{ca.sign(t, fresh.naming(77).with(distribution(0x84, 1, 0)))}, x509chain.ErrRevoked},
		"an unknown extension that is not critical":   {[][]byte{ca.sign(t, fresh.with(pkix.Extension{Id: oidUnknown, Value: []byte{5, 0}}))}, nil},
		"a list of a CA that is not in the chain":     {[][]byte{newCA(t, "Other", 1, nil).sign(t, fresh.naming(77))}, nil},
		"stale list of a CA that is not in the chain": {[][]byte{newCA(t, "Other", 1, nil).sign(t, fresh.until(noon.Add(-time.Hour)))}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			lists, err := x509chain.NewCRLs(c.files...)
			if err != nil {
				t.Fatal(err)
			}
			if err := lists.Check(chain, noon); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			} else if err != nil && !strings.Contains(err.Error(), "CN=") {
				t.Errorf("%v: does not name the issuer", err)
			}
		})
	}
}

var oidUnknown = encoding_asn1.ObjectIdentifier{1, 2, 3, 4}

// distribution is an IssuingDistributionPoint with one member.
func distribution(member ...byte) pkix.Extension {
	return pkix.Extension{Id: encoding_asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: append([]byte{0x30, byte(len(member))}, member...)}
}

func TestNewCRLsRefuses(t *testing.T) {
	ca := newCA(t, "EK CA", 2, nil)
	good := ca.sign(t, fresh)
	delta := pkix.Extension{Id: encoding_asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}
	for name, file := range map[string][]byte{
		"empty":                 {},
		"cut short":             good[:len(good)-1],
		"no nextUpdate":         ca.withoutNextUpdate(t),
		"bytes behind":          append(bytes.Clone(good), 0),
		"a certificate in PEM":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}),
		"one good, one not":     inPEM(good, good[:20]),
		"a delta list":          ca.sign(t, fresh.with(delta)),
		"unknown and critical":  ca.sign(t, fresh.with(pkix.Extension{Id: oidUnknown, Critical: true, Value: []byte{5, 0}})),
		"indirect":              ca.sign(t, fresh.with(distribution(0x84, 1, 0xff))),
		"a scope cut short":     ca.sign(t, fresh.with(distribution(0x84, 2, 0))),
		"a scope of other form": ca.sign(t, fresh.with(pkix.Extension{Id: encoding_asn1.ObjectIdentifier{2, 5, 29, 28}, Value: []byte{5, 0}})),
		"larger than the limit": make([]byte, x509chain.MaxCRL+1),
	} {
		if lists, err := x509chain.NewCRLs(file); err == nil || lists.Len() != 0 {
			t.Errorf("%s: taken", name)
		}
	}
	if lists, err := x509chain.NewCRLs(good, inPEM(good, good)); err != nil || lists.Len() != 3 {
		t.Errorf("%d lists, %v", lists.Len(), err)
	}
}

// withoutNextUpdate takes nextUpdate out and signs again.
func (a *authority) withoutNextUpdate(t *testing.T) []byte {
	t.Helper()
	l, err := x509.ParseRevocationList(a.sign(t, fresh))
	if err != nil {
		t.Fatal(err)
	}
	in := cryptobyte.String(l.RawTBSRevocationList)
	var tbs, element cryptobyte.String
	if !in.ReadASN1(&tbs, asn1.SEQUENCE) {
		t.Fatal("no list")
	}
	var kept []byte
	for i := 0; !tbs.Empty(); i++ {
		var tag asn1.Tag
		if !tbs.ReadAnyASN1Element(&element, &tag) {
			t.Fatal("no element")
		}
		if i != 4 { // version, signature, issuer, thisUpdate, nextUpdate
			kept = append(kept, element...)
		}
	}
	var signed, out cryptobyte.Builder
	signed.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(kept) })
	digest := sha256.Sum256(signed.BytesOrPanic())
	sig, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	out.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(signed.BytesOrPanic())
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2})
		})
		b.AddASN1BitString(sig)
	})
	return out.BytesOrPanic()
}

// FuzzNewCRLs: a list that the issuer did not sign never clears a certificate
// that it revoked.
func FuzzNewCRLs(f *testing.F) {
	root := newCA(f, "Root", 1, nil)
	other := newCA(f, "Root", 1, nil)
	leaf := newCA(f, "EK", 77, root)
	good := root.sign(f, fresh.naming(77))
	f.Add(good)
	f.Add(inPEM(good, other.sign(f, fresh)))
	f.Add(other.sign(f, fresh.with(distribution(0x84, 1, 0))))
	f.Fuzz(func(t *testing.T, b []byte) {
		var lists x509chain.CRLs
		var err error
		evidencetest.Bounded(t, len(b), 64, func() { lists, err = x509chain.NewCRLs(b, good) })
		if err != nil {
			return
		}
		if err := lists.Check([]*x509.Certificate{leaf.cert, root.cert}, noon); !errors.Is(err, x509chain.ErrRevoked) {
			t.Errorf("cleared: %v", err)
		}
	})
}
