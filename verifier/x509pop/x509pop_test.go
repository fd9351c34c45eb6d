package x509pop_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
	"github.com/zonebroker/zonebroker/verifier/x509pop"
)

var (
	now   = time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	bound = [32]byte{1, 2, 3}
)

// proof is evidence in which a test changes one thing.
type proof struct {
	ca       *documenttest.X509CA
	key      crypto.Signer
	template *x509.Certificate
	evidence func(e *x509pop.Evidence)
	roots    x509chain.Roots
	crls     x509chain.CRLs
	now      time.Time
	code     reason.Code
}

func good(t testing.TB) proof {
	t.Helper()
	ca := documenttest.NewX509CA(now)
	roots, err := x509chain.NewRoots(ca.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	return proof{ca: ca, key: documenttest.ECKey(elliptic.P256()), template: ca.Template("db-1.example"), roots: roots, now: now}
}

func (p *proof) trust() x509pop.Trust { return x509pop.Trust{Roots: p.roots, CRLs: p.crls} }

func (p *proof) make() x509pop.Evidence {
	e := x509pop.Evidence{
		Certificate: p.ca.Issue(p.template, p.key.Public()), Issuers: p.ca.ChainPEM(), Signature: documenttest.Possess(p.key, bound),
	}
	if p.evidence != nil {
		p.evidence(&e)
	}
	return e
}

func TestAccepted(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(p *proof){
		"P-256":   func(*proof) {},
		"P-384":   func(p *proof) { p.key = documenttest.ECKey(elliptic.P384()) },
		"RSA":     func(p *proof) { p.key = documenttest.RSAKey(2) },
		"Ed25519": func(p *proof) { p.key = ed },
		"DER": func(p *proof) {
			p.evidence = func(e *x509pop.Evidence) {
				block, _ := pem.Decode(e.Certificate)
				e.Certificate = block.Bytes
			}
		},
		"one bundle": func(p *proof) {
			p.evidence = func(e *x509pop.Evidence) { e.Certificate, e.Issuers = append(e.Certificate, e.Issuers...), nil }
		},
		"no extended usage":  func(p *proof) { p.template.ExtKeyUsage = nil },
		"any extended usage": func(p *proof) { p.template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"no key usage":       func(p *proof) { p.template.KeyUsage = 0 },
		"last moment":        func(p *proof) { p.now = p.template.NotAfter },
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			p := good(t)
			change(&p)
			uri, _ := url.Parse("spiffe://old.example/agent")
			p.template.URIs = []*url.URL{uri}
			got, err := x509pop.Verify(p.make(), bound, p.trust(), p.now)
			if err != nil {
				t.Fatal(err)
			}
			f := got.Facts()
			spki, err := x509.MarshalPKIXPublicKey(p.key.Public())
			if err != nil {
				t.Fatal(err)
			}
			key, root := sha256.Sum256(spki), sha256.Sum256(p.ca.Root.Certificate.Raw)
			machine := document.Machine{Kind: document.MachineX509, Name: hex.EncodeToString(key[:])}
			if f.Class != document.ClassB || !f.NonceBound || !f.KeyBound || f.Machine != machine ||
				!slices.Equal(f.Owners, []document.Owner{{Kind: document.OwnerX509CA, Value: hex.EncodeToString(root[:])}}) {
				t.Errorf("%+v", f)
			}
			for name, want := range map[string]string{
				"x509pop.subject_cn": "db-1.example", "x509pop.san.dns": "db-1.example", "x509pop.san.uri": "spiffe://old.example/agent",
				"x509pop.serial": "beef", "x509pop.issuer": "CN=Machines,O=Example", "x509pop.subject": "CN=db-1.example",
			} {
				if got := f.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s is %q", name, got)
				}
			}
		})
	}
	if f := (x509pop.Proof{}).Facts(); f.Class != "" || f.Machine != (document.Machine{}) {
		t.Errorf("the zero value says %+v", f)
	}
}

func TestRefused(t *testing.T) {
	root := &x509.Certificate{ // of the same name
		Subject: pkix.Name{Organization: []string{"Example"}, CommonName: "Root"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	strangers, err := x509chain.NewRoots(documenttest.Certify(root, documenttest.RSAKey(3), nil, now).Certificate.Raw)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(p *proof){
		"no signature": func(p *proof) {
			p.code, p.evidence = reason.X509PoPSignature, func(e *x509pop.Evidence) { e.Signature = nil }
		},
		"the signature of another challenge": func(p *proof) {
			p.code, p.evidence = reason.X509PoPSignature, func(e *x509pop.Evidence) { e.Signature = documenttest.Possess(p.key, [32]byte{}) }
		},
		"the signature of another key": func(p *proof) {
			p.code, p.evidence = reason.X509PoPSignature, func(e *x509pop.Evidence) {
				e.Signature = documenttest.Possess(documenttest.ECKey(elliptic.P256()), bound)
			}
		},
		"RSA in the old padding": func(p *proof) {
			key := documenttest.RSAKey(2)
			p.key, p.code = key, reason.X509PoPSignature
			p.evidence = func(e *x509pop.Evidence) {
				sum := sha256.Sum256(bound[:])
				e.Signature, _ = rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
			}
		},
		"RSA of 1024 bits": func(p *proof) { p.key, p.code = weak, reason.X509PoPSignature },
		"P-224":            func(p *proof) { p.key, p.code = documenttest.ECKey(elliptic.P224()), reason.X509PoPSignature },
		"a CA": func(p *proof) {
			p.template.IsCA, p.template.KeyUsage, p.code = true, x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign, reason.X509PoPUsage
		},
		"a server": func(p *proof) {
			p.template.ExtKeyUsage, p.code = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, reason.X509PoPUsage
		},
		"an unknown usage": func(p *proof) {
			p.template.ExtKeyUsage, p.template.UnknownExtKeyUsage, p.code = nil, []encoding_asn1.ObjectIdentifier{{1, 2, 3}}, reason.X509PoPUsage
		},
		"a key that encrypts": func(p *proof) { p.template.KeyUsage, p.code = x509.KeyUsageKeyEncipherment, reason.X509PoPUsage },
		"expired":             func(p *proof) { p.now, p.code = p.template.NotAfter.Add(time.Second), reason.X509PoPValidity },
		"not yet valid":       func(p *proof) { p.now, p.code = p.template.NotBefore.Add(-time.Second), reason.X509PoPValidity },
		"no time":             func(p *proof) { p.now, p.code = time.Time{}, reason.X509PoPValidity },
		"another root":        func(p *proof) { p.roots, p.code = strangers, reason.X509PoPUntrusted },
		"no roots":            func(p *proof) { p.roots, p.code = x509chain.Roots{}, reason.X509PoPUntrusted },
		"the issuer missing": func(p *proof) {
			p.code, p.evidence = reason.X509PoPUntrusted, func(e *x509pop.Evidence) { e.Issuers = nil }
		},
		"a root sent along": func(p *proof) {
			p.roots, p.code = strangers, reason.X509PoPUntrusted
			p.evidence = func(e *x509pop.Evidence) { e.Issuers = append(e.Issuers, p.ca.RootPEM()...) }
		},
		"an unknown critical extension": func(p *proof) {
			p.template.ExtraExtensions = []pkix.Extension{{Id: encoding_asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
			p.code = reason.X509PoPUntrusted
		},
		"an issuer for servers alone": func(p *proof) {
			t := *p.ca.Issuer.Certificate
			t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			p.ca.Issuer = documenttest.Certify(&t, documenttest.RSAKey(1), &p.ca.Root, now)
			p.code = reason.X509PoPUntrusted
		},
		"no certificate": func(p *proof) {
			p.code, p.evidence = reason.X509PoPEncoding, func(e *x509pop.Evidence) { e.Certificate = nil }
		},
		"another PEM": func(p *proof) {
			p.code, p.evidence = reason.X509PoPEncoding, func(e *x509pop.Evidence) {
				e.Issuers = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{5, 0}})
			}
		},
		"something between": func(p *proof) {
			p.code, p.evidence = reason.X509PoPEncoding, func(e *x509pop.Evidence) { e.Issuers = append(append(e.Issuers, "x\n"...), e.Issuers...) }
		},
		"PEM cut short": func(p *proof) {
			p.code, p.evidence = reason.X509PoPEncoding, func(e *x509pop.Evidence) { e.Issuers = e.Issuers[:len(e.Issuers)-10] }
		},
		"bytes behind the certificate": func(p *proof) {
			p.code, p.evidence = reason.X509PoPEncoding, func(e *x509pop.Evidence) {
				block, _ := pem.Decode(e.Certificate)
				e.Certificate = append(block.Bytes, 5, 0)
			}
		},
		"five issuers": func(p *proof) {
			p.code, p.evidence = reason.RequestTooLarge, func(e *x509pop.Evidence) {
				for range 4 {
					e.Issuers = append(e.Issuers, p.ca.ChainPEM()...)
				}
			}
		},
		"too large": func(p *proof) {
			p.code, p.evidence = reason.RequestTooLarge, func(e *x509pop.Evidence) { e.Certificate = make([]byte, x509pop.MaxDocument+1); e.Issuers = nil }
		},
		"a long signature": func(p *proof) {
			p.code, p.evidence = reason.RequestTooLarge, func(e *x509pop.Evidence) { e.Signature = make([]byte, x509pop.MaxSignature+1) }
		},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			p := good(t)
			change(&p)
			if _, err := x509pop.Verify(p.make(), bound, p.trust(), p.now); reason.Of(err) != p.code {
				t.Errorf("want %s, got %v", p.code, err)
			}
		})
	}
}

// FuzzVerify: whatever comes in, no other key passes than the one that was
// certified.
func FuzzVerify(f *testing.F) {
	p := good(f)
	e := p.make()
	want, err := x509pop.Verify(e, bound, p.trust(), now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Certificate, e.Issuers, e.Signature)
	f.Fuzz(func(t *testing.T, certificate, issuers, signature []byte) {
		evidencetest.Bounded(t, len(certificate)+len(issuers), 64, func() {
			got, err := x509pop.Verify(x509pop.Evidence{Certificate: certificate, Issuers: issuers, Signature: signature}, bound, p.trust(), now)
			if err == nil && got.Facts().Machine != want.Facts().Machine {
				t.Error("another key passed")
			}
		})
	})
}

func BenchmarkVerify(b *testing.B) {
	p := good(b)
	e := p.make()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x509pop.Verify(e, bound, p.trust(), now); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRevoked: what an issuer took back is no machine's, and a list that is past
// its end leaves open what it took back. Lists of others say nothing.
func TestRevoked(t *testing.T) {
	for name, c := range map[string]struct {
		list func(ca *documenttest.X509CA) []byte
		code reason.Code
	}{
		"a list without it": {func(ca *documenttest.X509CA) []byte { return ca.CRL(false, now.AddDate(0, 1, 0)) }, ""},
		"revoked":           {func(ca *documenttest.X509CA) []byte { return ca.CRL(true, now.AddDate(0, 1, 0)) }, reason.X509PoPUntrusted},
		"a list of before":  {func(ca *documenttest.X509CA) []byte { return ca.CRL(false, now.Add(-time.Second)) }, reason.X509PoPUntrusted},
	} {
		p := good(t)
		var err error
		if p.crls, err = x509chain.NewCRLs(c.list(p.ca)); err != nil {
			t.Fatal(err)
		}
		if _, err := x509pop.Verify(p.make(), bound, p.trust(), p.now); reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
}
