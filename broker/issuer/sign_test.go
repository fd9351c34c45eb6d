package issuer_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// The private key is out of reach until Sign: Prepare works with any key in its
// place, and Sign refuses to work with another one.
func TestInvariant1_prepareDoesNotUseTheKey(t *testing.T) {
	c := &clock{start}
	i, err := issuer.New(issuer.Config{TrustDomain: trustDomain, Replica: "one", Now: c.now})
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
	key := ca.SwapKey(nil)
	p, err := i.Prepare(request(t, i, start))
	if err != nil {
		t.Fatalf("without the private key: %v", err)
	}
	ca.SwapKey(newKey(t))
	if _, err := i.Sign(p); reason.Of(err) != reason.Internal {
		t.Errorf("signed by another key: %v", err)
	}
	ca.SwapKey(key)
	p, err = i.Prepare(request(t, i, start))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Sign(p); err != nil {
		t.Errorf("with the key: %v", err)
	}
}

func TestSignIsForExactlyTheRecordedBytes(t *testing.T) {
	i, c, _ := newIssuer(t, 0)
	prepare := func() *issuer.Prepared {
		p, err := i.Prepare(request(t, i, c.now()))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := prepare()
	tbs := p.TBS()
	tbs[0] ^= 0xff // the caller's copy
	chain, err := i.Sign(p)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(chain[0])
	if err != nil || !bytes.Equal(cert.RawTBSCertificate, p.TBS()) {
		t.Errorf("signed bytes are not the prepared ones: %v", err)
	}
	if len(chain) != 1 {
		t.Errorf("chain of %d; the root must stay out", len(chain))
	}
	for name, edit := range map[string]func(*issuer.Prepared){
		"recorded bytes changed": (*issuer.Prepared).Break,
		"record changed":         func(p *issuer.Prepared) { p.Rerecord(strings.Repeat("0", 64)) },
	} {
		p := prepare()
		edit(p)
		chain, err := i.Sign(p)
		if reason.Of(err) != reason.Internal || chain != nil {
			t.Errorf("%s: %v", name, err)
		}
		// What stands in front of the key refuses, not something afterwards.
		if cause := errors.Unwrap(err); cause == nil || !strings.HasPrefix(cause.Error(), "sign certificate") {
			t.Errorf("%s: %v", name, cause)
		}
	}
}

// TestSignWrapsAsTheLibraryDoes: but for the signature, which is random, the
// certificate is byte for byte that of x509.CreateCertificate, and readers
// verify it.
func TestSignWrapsAsTheLibraryDoes(t *testing.T) {
	i, c, _ := newIssuer(t, 0)
	p, err := i.Prepare(request(t, i, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	template, parent, key := p.Template()
	library, err := x509.CreateCertificate(rand.Reader, template, parent, template.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := i.Sign(p)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := parse(t, chain[0]), parse(t, library)
	if err := ours.CheckSignatureFrom(parent); err != nil {
		t.Error(err)
	}
	before := func(c *x509.Certificate) []byte { // all but the signature, and the lengths around it
		at := bytes.Index(c.Raw, c.RawTBSCertificate)
		return c.Raw[at : len(c.Raw)-len(c.Signature)-3]
	}
	if !bytes.Equal(before(ours), before(theirs)) {
		t.Errorf("got  %x\nwant %x", before(ours), before(theirs))
	}
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSignIsSingleUse(t *testing.T) {
	i, c, _ := newIssuer(t, 0)
	p, err := i.Prepare(request(t, i, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	signed := 0
	for range 16 {
		wg.Go(func() {
			if _, err := i.Sign(p); err == nil {
				mu.Lock()
				signed++
				mu.Unlock()
			} else if reason.Of(err) != reason.Internal {
				t.Errorf("second call: %v", err)
			}
		})
	}
	wg.Wait()
	if signed != 1 {
		t.Errorf("%d signatures for one record", signed)
	}
	broken, err := i.Prepare(request(t, i, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	broken.Break()
	if _, err := i.Sign(broken); err == nil {
		t.Error("broken bytes are signed")
	}
	broken.Break()
	if _, err := i.Sign(broken); reason.Of(err) != reason.Internal {
		t.Errorf("retry after a failure: %v", err)
	}
}

func TestSignRefusesForeignPrepared(t *testing.T) {
	one, c, _ := newIssuer(t, 0)
	two, _, _ := newIssuer(t, 0)
	p, err := one.Prepare(request(t, one, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*issuer.Prepared{"foreign": p, "zero": {}, "nil": nil} {
		if _, err := two.Sign(p); reason.Of(err) != reason.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := one.Sign(p); err != nil {
		t.Errorf("a foreign try used it up: %v", err)
	}
}

func BenchmarkPrepare(b *testing.B) {
	i, c, _ := newIssuer(b, 0)
	req := request(b, i, c.now())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Prepare(req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	i, c, _ := newIssuer(b, 0)
	req := request(b, i, c.now())
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		p, err := i.Prepare(req)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := i.Sign(p); err != nil {
			b.Fatal(err)
		}
	}
}
