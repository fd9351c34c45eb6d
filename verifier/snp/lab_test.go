package snp_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// This file is a chip of each product under a test PKI of AMD's shape.

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

var products = map[string]func() *documenttest.AMD{"Milan": pki("Milan"), "Genoa": pki("Genoa"), "Turin": pki("Turin")}

func pki(product string) func() *documenttest.AMD {
	return sync.OnceValue(func() *documenttest.AMD {
		a, err := documenttest.NewAMD(product, noon)
		if err != nil {
			panic(err)
		}
		return a
	})
}

// scene is a report with its certificate and what it is judged by; a test changes
// one thing.
type scene struct {
	amd     *documenttest.AMD
	report  documenttest.SNPReport
	vlek    bool
	cert    func(*x509.Certificate)
	chip    *[64]byte // of the VCEK; nil: that of the report
	tcb     *uint64   // of the certificate; nil: that of the report
	rewrite func([]byte) []byte
	resign  func([]byte) []byte // after the signature
	send    func([]byte) []byte // of the certificate
	want    []byte
	objects snp.Objects
	now     time.Time
}

func newScene(product string) *scene {
	a := products[product]()
	s := &scene{amd: a, report: a.Report(), objects: snp.Objects{Roots: [][]byte{a.Roots()}}, now: noon}
	for i := range s.report.ReportData {
		s.report.ReportData[i] = byte(i)
	}
	s.want = append([]byte{}, s.report.ReportData[:]...)
	return s
}

func (s *scene) endorser(t testing.TB) *documenttest.Endorser {
	t.Helper()
	tcb, chip := s.report.Reported, s.report.ChipID
	if s.tcb != nil {
		tcb = *s.tcb
	}
	if s.chip != nil {
		chip = *s.chip
	}
	var e *documenttest.Endorser
	var err error
	if s.vlek {
		e, err = s.amd.VLEK("CN=cc.example.com", tcb, s.cert)
	} else {
		e, err = s.amd.VCEK(chip, tcb, s.cert)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (s *scene) evidence(t testing.TB) snp.Evidence {
	t.Helper()
	e := s.endorser(t)
	raw := s.report.Bytes()
	if s.rewrite != nil {
		raw = s.rewrite(raw)
	}
	if len(raw) == snp.ReportSize {
		signed, err := e.Sign(raw)
		if err != nil {
			t.Fatal(err)
		}
		raw = signed
	}
	if s.resign != nil {
		raw = s.resign(raw)
	}
	cert := e.Certificate
	if s.send != nil {
		cert = s.send(cert)
	}
	return snp.Evidence{Report: raw, Certificate: cert}
}

func (s *scene) trust(t testing.TB) snp.Trust {
	t.Helper()
	trust, err := snp.NewTrust(s.objects)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

func (s *scene) verify(t testing.TB) (snp.Attestation, error) {
	t.Helper()
	return snp.Verify(s.evidence(t), s.want, s.trust(t), s.now)
}

func wantCode(t testing.TB, err error, want reason.Code) {
	t.Helper()
	if got := reason.Of(err); got != want {
		t.Errorf("code %q, want %q (%v)", got, want, err)
	}
}

// flip changes one bit.
func flip(off int, bit byte) func([]byte) []byte {
	return func(b []byte) []byte {
		b[off] ^= bit
		return b
	}
}

// vector reads a file of the cloud vectors, or skips with a sentence.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	b, err := os.ReadFile(filepath.Join(dir, "cloud", name))
	if err != nil {
		t.Skipf("no vectors: %v; set ZONEBROKER_VECTORS to run these cases", err)
	}
	return b
}
