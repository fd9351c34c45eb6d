package snp_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/verifier/snp"
)

// FuzzVerify: whatever comes, no panic, and nothing passes that is not the signed
// report to the last byte of what the signature covers.
func FuzzVerify(f *testing.F) {
	s := newScene("Milan")
	good := s.evidence(f)
	trust := s.trust(f)
	f.Add(good.Report, good.Certificate)
	f.Add(good.Report, pemOf(good.Certificate))
	for _, product := range []string{"Genoa", "Turin"} {
		other := newScene(product).evidence(f)
		f.Add(other.Report, other.Certificate)
	}
	f.Fuzz(func(t *testing.T, report, cert []byte) {
		a, err := snp.Verify(snp.Evidence{Report: report, Certificate: cert}, nil, trust, noon)
		if err != nil {
			return
		}
		if string(report[:0x2a0]) != string(good.Report[:0x2a0]) {
			t.Errorf("another report passed: %x", report)
		}
		if a.Facts().Machine.Name == "" {
			t.Error("no machine")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	s := newScene("Milan")
	ev, trust := s.evidence(b), s.trust(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := snp.Verify(ev, s.want, trust, noon); err != nil {
			b.Fatal(err)
		}
	}
}

// TestAllocations: what is allocated does not depend on what a report claims.
func TestAllocations(t *testing.T) {
	s := newScene("Milan")
	ev, trust := s.evidence(t), s.trust(t)
	got := testing.AllocsPerRun(20, func() {
		if _, err := snp.Verify(ev, s.want, trust, noon); err != nil {
			t.Fatal(err)
		}
	})
	if got > 300 {
		t.Errorf("%.0f allocations a report", got)
	}
}
