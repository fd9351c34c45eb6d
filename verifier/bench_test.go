package verifier_test

import "testing"

// BenchmarkAppraise is everything that a broker checks of evidence: keys, quote,
// certification, event log, EK certificate.
//
//	enrol  a first contact: certificate chain and event log
//	boot   a renewal that sends its event log: the first after a reboot
//	renew  a renewal of the same boot: the log that the broker kept is explained anew
func BenchmarkAppraise(b *testing.B) {
	boot := newRenew(b)
	boot.want.Baseline = nil // so that the log is read
	renew := newRenew(b)
	renew.ev.TPM2.EventLog = nil
	for _, c := range []struct {
		name string
		a    *attempt
	}{{"enrol", newEnrol(b)}, {"boot", boot}, {"renew", renew}} {
		mustAppraise(b, c.a)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.a.appraise(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
