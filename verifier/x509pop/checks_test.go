package x509pop_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
	"github.com/zonebroker/zonebroker/verifier/x509pop"
)

// TestFacts: all that the certificate says, each under its name, and both checks.
func TestFacts(t *testing.T) {
	p := good(t)
	e := p.make()
	got, err := x509pop.Verify(e, bound, p.trust(), p.now)
	if err != nil {
		t.Fatal(err)
	}
	f := got.Facts()
	block, _ := pem.Decode(e.Certificate)
	fingerprint, root := sha256.Sum256(block.Bytes), sha256.Sum256(p.ca.Root.Certificate.Raw)
	want := []document.Selector{
		{Name: "x509pop.ca", Value: hex.EncodeToString(root[:])},
		{Name: "x509pop.fingerprint", Value: hex.EncodeToString(fingerprint[:])},
		{Name: "x509pop.issuer", Value: "CN=Machines,O=Example"},
		{Name: "x509pop.san.dns", Value: "db-1.example"},
		{Name: "x509pop.serial", Value: "beef"},
		{Name: "x509pop.subject", Value: "CN=db-1.example"},
		{Name: "x509pop.subject_cn", Value: "db-1.example"},
	}
	if !slices.Equal(f.Selectors, want) {
		t.Errorf("%v", f.Selectors)
	}
	var checks []string
	for _, found := range f.Findings {
		checks = append(checks, found.Check)
	}
	if !slices.Equal(checks, []string{"x509pop.chain", "x509pop.possession"}) {
		t.Errorf("%v", checks)
	}
}

// TestTwoRoots: a CA that was certified anew is two owners, in an order that does
// not hang on that of the files: who owns a node must not change with a restart.
func TestTwoRoots(t *testing.T) {
	p := good(t)
	anew := documenttest.Certify(&x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: p.ca.Root.Certificate.Subject, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}, p.ca.Root.Key, nil, now)
	der := [][]byte{p.ca.Root.Certificate.Raw, anew.Certificate.Raw}
	var want []document.Owner
	for _, raw := range der {
		sum := sha256.Sum256(raw)
		want = append(want, document.Owner{Kind: document.OwnerX509CA, Value: hex.EncodeToString(sum[:])})
	}
	slices.SortFunc(want, func(a, b document.Owner) int { return strings.Compare(a.Value, b.Value) })
	e := p.make()
	for range 2 {
		slices.Reverse(der)
		roots, err := x509chain.NewRoots(der...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := x509pop.Verify(e, bound, x509pop.Trust{Roots: roots}, now)
		if err != nil {
			t.Fatal(err)
		}
		if owners := got.Facts().Owners; !slices.Equal(owners, want) {
			t.Errorf("%v", owners)
		}
	}
}

// TestLimits: what has the size of a limit is judged for what it is.
func TestLimits(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(p *proof, e *x509pop.Evidence)
		code   reason.Code
	}{
		"as long as may be": {func(_ *proof, e *x509pop.Evidence) {
			e.Issuers = append(e.Issuers, bytes.Repeat([]byte("\n"), x509pop.MaxDocument-len(e.Certificate)-len(e.Issuers))...)
		}, ""},
		"a byte longer": {func(_ *proof, e *x509pop.Evidence) {
			e.Issuers = append(e.Issuers, bytes.Repeat([]byte("\n"), x509pop.MaxDocument+1-len(e.Certificate)-len(e.Issuers))...)
		}, reason.RequestTooLarge},
		"a signature of 512 bytes": {func(_ *proof, e *x509pop.Evidence) { e.Signature = make([]byte, x509pop.MaxSignature) }, reason.X509PoPSignature},
		"four issuers":             {func(p *proof, e *x509pop.Evidence) { e.Issuers = bytes.Repeat(p.ca.ChainPEM(), 4) }, ""},
		"a key of 8192 bits": {func(p *proof, e *x509pop.Evidence) {
			long := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8191, 1), E: 65537}
			e.Certificate = p.ca.Issue(p.template, long)
		}, reason.RequestTooLarge},
		"a block that does not parse before one of another kind": {func(_ *proof, e *x509pop.Evidence) {
			block, _ := pem.Decode(e.Certificate)
			block.Type = "X509 CRL"
			e.Certificate = append([]byte("-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n"), pem.EncodeToMemory(block)...)
		}, reason.X509PoPEncoding},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			p := good(t)
			e := p.make()
			tc.change(&p, &e)
			if _, err := x509pop.Verify(e, bound, p.trust(), p.now); reason.Of(err) != tc.code {
				t.Errorf("want %q, got %v", tc.code, err)
			}
		})
	}
}

// TestWhyRefused: a revoked certificate is refused in the words of its list, not
// as one whose issuer may not certify clients.
func TestWhyRefused(t *testing.T) {
	p := good(t)
	var err error
	if p.crls, err = x509chain.NewCRLs(p.ca.CRL(true, now.AddDate(0, 1, 0))); err != nil {
		t.Fatal(err)
	}
	if _, err := x509pop.Verify(p.make(), bound, p.trust(), now); err == nil || !strings.Contains(err.Error(), "Machines") {
		t.Errorf("%v", err)
	}
}
