package oracle

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// This file asks go-sev-guest, which shares no line with verifier/snp, for its
// verdict on the same bytes. It judges signature, chain and certificate, and no
// policy; it fetches nothing here.

// sevGuest returns go-sev-guest's verdict.
func sevGuest(t testing.TB, report, cert, roots []byte, vlek bool, now time.Time) error {
	t.Helper()
	root := trust.AMDRootCertsProduct("Milan")
	if err := root.FromKDSCertBytes(roots); err != nil {
		t.Fatal(err)
	}
	parsed, err := abi.ReportToProto(report)
	if err != nil {
		return err
	}
	chain := &sevsnp.CertificateChain{VcekCert: cert}
	if vlek {
		chain = &sevsnp.CertificateChain{VlekCert: cert}
	}
	product := &sevsnp.SevProduct{Name: sevsnp.SevProduct_SEV_PRODUCT_MILAN, MachineStepping: wrapperspb.UInt32(0)}
	evidence := &sevsnp.Attestation{Report: parsed, CertificateChain: chain, Product: product}
	err = verify.SnpAttestation(evidence, &verify.Options{
		DisableCertFetching: true, Now: now, TrustedRoots: map[string][]*trust.AMDRootCerts{"Milan": {root}}, Product: product,
	})
	if err != nil {
		return err
	}
	// Chip and TCB against the certificate are the other half of the library; its
	// policies are as lax as they can be.
	return validate.SnpAttestation(evidence, &validate.Options{
		GuestPolicy: abi.SnpPolicy{SMT: true, MigrateMA: true, Debug: true, CXLAllowed: true}, PermitProvisionalFirmware: true,
	})
}

type snpSample struct {
	name, report, cert, roots string
	off                       int // of the report in the file
	vlek                      bool
	now                       string
}

var snpSamples = []snpSample{
	{"virtee", "amd-snp/virtee-milan-report.bin", "amd-snp/virtee-milan-vcek.der", "amd-snp/ask_ark_milan.pem", 0, false, "2023-04-05T00:00:00Z"},
	{"gosev", "amd-snp/gosev-milan-report.bin", "amd-snp/gosev-milan-vcek.der", "amd-snp/ask_ark_milan.pem", 0, false, "2022-09-25T00:55:28Z"},
	{"trustee VLEK", "amd-snp/trustee-test-vlek-report.bin", "amd-snp/trustee-test-vlek.der", "amd-snp/ask_ark_milan_vlek.pem", 0, true, "2024-12-11T22:14:21Z"},
	{"trustee VLEK, expired", "amd-snp/trustee-test-vlek-report.bin", "amd-snp/trustee-test-vlek.der", "amd-snp/ask_ark_milan_vlek.pem", 0, true, "2026-11-20T09:00:00Z"},
	{"another chip's VCEK", "amd-snp/gosev-milan-report.bin", "amd-snp/virtee-milan-vcek.der", "amd-snp/ask_ark_milan.pem", 0, false, "2023-04-05T00:00:00Z"},
	{"trustee Azure", "azure-hcl/trustee-az-snp-vtpm-hcl-report.bin", "azure-hcl/trustee-az-snp-vtpm-vcek.pem", "amd-snp/ask_ark_milan.pem", 32, false, "2024-01-01T00:00:00Z"},
	{"kinvolk Azure", "azure-hcl/kinvolk-hcl-report-snp.bin", "azure-hcl/kinvolk-certs.pem", "amd-snp/ask_ark_milan.pem", 32, false, "2023-01-02T04:48:19Z"},
}

// read returns report, certificate in DER, and roots.
func (s snpSample) read(t testing.TB) (report, cert, roots []byte) {
	t.Helper()
	report = bytes.Clone(cloudVector(t, s.report)[s.off : s.off+snp.ReportSize])
	return report, firstCertificate(cloudVector(t, s.cert)), cloudVector(t, s.roots)
}

// TestSNPReports: the verdicts are the same on every real report, and on
// the same report with one bit of every seventh byte changed.
func TestSNPReports(t *testing.T) {
	for _, s := range snpSamples {
		t.Run(s.name, func(t *testing.T) {
			report, cert, roots := s.read(t)
			tr, err := snp.NewTrust(snp.Objects{Roots: [][]byte{roots}})
			if err != nil {
				t.Fatal(err)
			}
			now, err := time.Parse(time.RFC3339, s.now)
			if err != nil {
				t.Fatal(err)
			}
			ours := func(raw []byte) error {
				_, err := snp.Verify(snp.Evidence{Report: raw, Certificate: cert}, nil, tr, now)
				return err
			}
			us, them := ours(report), sevGuest(t, report, cert, roots, s.vlek, now)
			if (us == nil) != (them == nil) {
				t.Fatalf("we say %v, the library %v", us, them)
			}
			changes := 0
			for off := 0; off < len(report); off += 7 {
				changed := bytes.Clone(report)
				changed[off] ^= 1 << (off % 8)
				changes++
				us, them := ours(changed), sevGuest(t, changed, cert, roots, s.vlek, now)
				if us == nil || them == nil {
					t.Errorf("byte %#x changed: we say %v, the library %v", off, us, them)
				}
			}
			t.Logf("unchanged: %v; both refuse it with any of %d bits changed", us, changes)
		})
	}
}

var snpNoon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// snpScene is a report of a test PKI of AMD's shape.
type snpScene struct {
	report documenttest.SNPReport
	vlek   bool
	chip   [64]byte // of the certificate, as tcb
	tcb    uint64
	before func([]byte) // the signature
	after  func([]byte)
	now    time.Time
}

// TestSNPReportsOfTestPKI: reports of a test PKI of AMD's shape, each good or with
// one thing that both have to see.
func TestSNPReportsOfTestPKI(t *testing.T) {
	amd, err := documenttest.NewAMD("Milan", snpNoon)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(off int) func([]byte) { return func(b []byte) { b[off] ^= 1 } }
	for name, change := range map[string]func(s *snpScene){
		"good":                 func(*snpScene) {},
		"version 2":            func(s *snpScene) { s.report.Version = 2 },
		"VLEK":                 func(s *snpScene) { s.vlek, s.report.KeyInfo = true, 1<<2 },
		"debug is no matter":   func(s *snpScene) { s.report.Policy |= 1 << 19 },
		"VMPL is no matter":    func(s *snpScene) { s.report.VMPL = 3 },
		"another TCB":          func(s *snpScene) { s.tcb-- },
		"another chip":         func(s *snpScene) { s.chip[0]++ },
		"policy bit 17":        func(s *snpScene) { s.report.Policy &^= 1 << 17 },
		"policy bit 30":        func(s *snpScene) { s.report.Policy |= 1 << 30 },
		"version 1":            func(s *snpScene) { s.report.Version = 1 },
		"version 6":            func(s *snpScene) { s.report.Version = 6 },
		"algorithm":            func(s *snpScene) { s.report.Algorithm = 2 },
		"expired":              func(s *snpScene) { s.now = snpNoon.AddDate(8, 0, 0) },
		"not yet valid":        func(s *snpScene) { s.now = snpNoon.AddDate(-1, 0, 0) },
		"CPUID of Genoa":       func(s *snpScene) { s.report.CPUID = [3]byte{0x19, 0x11, 1} },
		"VLEK and names VCEK":  func(s *snpScene) { s.vlek = true },
		"reserved key bit":     func(s *snpScene) { s.report.KeyInfo = 1 << 6 },
		"reserved field":       func(s *snpScene) { s.before = flip(0x4c) },
		"behind CPUID":         func(s *snpScene) { s.before = flip(0x190) },
		"behind LAUNCH_TCB":    func(s *snpScene) { s.before = flip(0x210) },
		"signature":            func(s *snpScene) { s.after = flip(0x2a1) },
		"another REPORT_DATA":  func(s *snpScene) { s.after = flip(0x50) },
		"signature of nothing": func(s *snpScene) { s.after = func(b []byte) { clear(b[0x2a0:]) } },
	} {
		t.Run(name, func(t *testing.T) {
			s := snpScene{report: amd.Report(), before: func([]byte) {}, after: func([]byte) {}, now: snpNoon}
			s.chip, s.tcb = s.report.ChipID, s.report.Reported
			change(&s)
			raw, cert := s.sign(t, amd)
			trusted, err := snp.NewTrust(snp.Objects{Roots: [][]byte{amd.Roots()}})
			if err != nil {
				t.Fatal(err)
			}
			_, us := snp.Verify(snp.Evidence{Report: raw, Certificate: cert}, nil, trusted, s.now)
			them := sevGuest(t, raw, cert, bundleOf(amd, s.vlek), s.vlek, s.now)
			if (us == nil) != (them == nil) {
				t.Errorf("we say %v, the library %v", us, them)
			}
		})
	}
}

func (s *snpScene) sign(t *testing.T, amd *documenttest.AMD) (report, cert []byte) {
	t.Helper()
	e, err := amd.VCEK(s.chip, s.tcb, nil)
	if s.vlek {
		e, err = amd.VLEK("CN=cc.example.com", s.tcb, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw := s.report.Bytes()
	s.before(raw)
	if raw, err = e.Sign(raw); err != nil {
		t.Fatal(err)
	}
	s.after(raw)
	return raw, e.Certificate
}

// bundleOf is what AMD's service hands out for one kind of key.
func bundleOf(a *documenttest.AMD, vlek bool) []byte {
	issuer := a.ASK()
	if vlek {
		issuer = a.ASVK()
	}
	var out []byte
	for _, der := range [][]byte{issuer, a.ARK()} {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// cloudVector reads a file of the cloud vectors, or skips with a sentence.
func cloudVector(t testing.TB, name string) []byte {
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

// firstCertificate returns the first certificate of a file in DER.
func firstCertificate(b []byte) []byte {
	if block, _ := pem.Decode(b); block != nil {
		return block.Bytes
	}
	return b
}
