package broker_test

import (
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
)

// BenchmarkAttest is the pipeline of one attestation, both requests, without HTTP
// and over a store in memory: what remains of the broker's time and allocations
// when wire and database are taken away. What the host computes is not counted.
func BenchmarkAttest(b *testing.B) {
	b.Run("renew", func(b *testing.B) {
		r := newBenchRig(b)
		h := r.enrolled()
		h.withoutLog = true
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			r.wait(10 * time.Millisecond)
			h.tpm.Wait(10 * time.Millisecond)
			timed(b, h, h.askRenew)
		}
	})
	b.Run("new", func(b *testing.B) {
		r := newBenchRig(b)
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			r.wait(10 * time.Millisecond)
			h := r.admitted()
			timed(b, h, h.askEnrol)
		}
	})
}

// timed counts what the broker does of both requests, and not what the host does.
func timed(b *testing.B, h *host, ask func() (api.Challenge, error)) {
	b.StartTimer()
	ch, err := ask()
	b.StopTimer()
	h.r.must(err)
	req := h.answer(ch)
	b.StartTimer()
	_, err = h.attest(req)
	h.r.must(err)
}

// newBenchRig has no rates.
func newBenchRig(b *testing.B) *rig {
	b.Helper()
	r := newRig(b)
	r.cfg.NodeRate, r.cfg.EnrolmentRate = 1<<30, 1<<30
	r.b, r.iss = r.newReplica("b")
	r.must(r.b.Start(b.Context()))
	r.activate()
	return r
}
