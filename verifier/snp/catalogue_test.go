package snp_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// TestCloudCatalogue has rows 91 to 102 of the list of bad inputs (cloud.md,
// section 4): those of real reports first, then forgeries of a test PKI.
func TestCloudCatalogue(t *testing.T) {
	for _, r := range []struct {
		name, report, cert, roots, time string
		change                          func([]byte) []byte
		want                            reason.Code
	}{
		{"row 91 debug (real)", "gosev-milan-report.bin", "gosev-milan-vcek.der", "ask_ark_milan.pem", "2022-09-25T00:55:28Z", nil, reason.SNPDebug},
		{"row 92 debug bit flipped", "virtee-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_milan.pem", "2023-04-05T00:00:00Z", flip(0x0a, 1<<3), reason.SNPSignature},
		{"row 93 VMPL flipped", "virtee-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_milan.pem", "2023-04-05T00:00:00Z", flip(0x30, 1), reason.SNPSignature},
		{"row 93 VMPL 1 (real)", "trustee-test-vlek-report.bin", "trustee-test-vlek.der", "ask_ark_milan_vlek.pem", "2024-12-11T22:14:21Z", nil, reason.SNPVMPL},
		{"row 94 REPORT_DATA flipped", "virtee-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_milan.pem", "2023-04-05T00:00:00Z", flip(0x50, 1), reason.SNPSignature},
		{"row 95 reported TCB changed", "virtee-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_milan.pem", "2023-04-05T00:00:00Z", flip(0x180, 1), reason.SNPSignature},
		{"row 96 CHIP_ID changed", "virtee-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_milan.pem", "2023-04-05T00:00:00Z", flip(0x1a0, 1), reason.SNPSignature},
		{"row 97 algorithm", "virtee-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_milan.pem", "2023-04-05T00:00:00Z", flip(0x34, 2), reason.SNPAlgorithm},
		{"row 98 1183 bytes", "virtee-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_milan.pem", "2023-04-05T00:00:00Z", func(b []byte) []byte { return b[:1183] }, reason.SNPMalformed},
		{"row 99 r and s zero", "virtee-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_milan.pem", "2023-04-05T00:00:00Z", func(b []byte) []byte { clear(b[0x2a0:]); return b }, reason.SNPSignature},
		{"row 100 VCEK of another chip (real)", "gosev-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_milan.pem", "2023-04-05T00:00:00Z", nil, reason.SNPSignature},
		{"row 101 VCEK under the VLEK's root", "virtee-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_milan_vlek.pem", "2023-04-05T00:00:00Z", nil, reason.SNPUntrusted},
		{"row 101 VCEK under another product's root", "virtee-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_genoa.pem", "2023-04-05T00:00:00Z", nil, reason.SNPUntrusted},
		{"row 102 VLEK expired (real)", "trustee-test-vlek-report.bin", "trustee-test-vlek.der", "ask_ark_milan_vlek.pem", "2026-11-20T09:00:00Z", nil, reason.SNPValidity},
		{"the good case (real)", "virtee-milan-report.bin", "virtee-milan-vcek.der", "ask_ark_milan.pem", "2023-04-05T00:00:00Z", nil, ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			raw, cert := bytes.Clone(vector(t, "amd-snp/"+r.report)), vector(t, "amd-snp/"+r.cert)
			if r.change != nil {
				raw = r.change(raw)
			}
			wantCode(t, byDefault(t, raw, cert, vector(t, "amd-snp/"+r.roots), at(t, r.time)), r.want)
		})
	}
	t.Run("row 101 forged VCEK, test PKI with AMD's names", func(t *testing.T) {
		s := newScene("Milan")
		ev := s.evidence(t)
		wantCode(t, byDefault(t, ev.Report, ev.Certificate, vector(t, "amd-snp/ask_ark_milan.pem"), noon), reason.SNPUntrusted)
	})
	t.Run("row 101 forged VCEK, a byte of the real one changed", func(t *testing.T) {
		cert := bytes.Clone(vector(t, "amd-snp/virtee-milan-vcek.der"))
		hwid := bytes.Index(cert, vector(t, "amd-snp/virtee-milan-report.bin")[0x1a0:0x1e0])
		if hwid < 0 {
			t.Fatal("the VCEK does not name the chip of the report")
		}
		cert[hwid] ^= 1
		wantCode(t, byDefault(t, vector(t, "amd-snp/virtee-milan-report.bin"), cert, vector(t, "amd-snp/ask_ark_milan.pem"), at(t, "2023-04-05T00:00:00Z")), reason.SNPUntrusted)
	})
	t.Run("T44 reported TCB below the floor, test PKI", func(t *testing.T) {
		s := newScene("Milan")
		s.report.Reported = 0x4405000000000002
		ev := s.evidence(t)
		wantCode(t, byDefault(t, ev.Report, ev.Certificate, s.amd.Roots(), noon), reason.SNPTCBLow)
	})
}

// byDefault is default policy: what verifies is refused for its first hazard.
func byDefault(t *testing.T, raw, cert, roots []byte, now time.Time) error {
	t.Helper()
	trust, err := snp.NewTrust(snp.Objects{Roots: [][]byte{roots}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := snp.Verify(snp.Evidence{Report: raw, Certificate: cert}, nil, trust, now)
	if err != nil {
		return err
	}
	if h := a.Facts().Hazards; len(h) > 0 {
		return reason.New(h[0].Code, h[0].Detail)
	}
	return nil
}

func at(t *testing.T, s string) time.Time {
	t.Helper()
	out, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
