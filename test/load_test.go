package test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/client"
)

// BenchmarkAttestation measures the whole attestation, both requests, over HTTP/2
// and TLS 1.3 against a broker process and a real Postgres with fsync on. Client,
// broker and database share the machine.
//
//	new        first contacts: credential, quote with event log, first SVID; a kept connection a caller
//	renew      renewals with the node's SVID on a kept connection, a node a caller
//	reconnect  renewals with a new connection each: what an agent does that renews seldom
func BenchmarkAttestation(b *testing.B) {
	p := startLoad(b, loadLimits+loadQueue)
	b.Logf("broker after the start: %.0f MB", memoryOf(b, p.cmd.Process.Pid, "VmRSS"))
	for _, callers := range []int{8, 32, 256} {
		b.Run(fmt.Sprintf("new/callers=%d", callers), func(b *testing.B) { benchmarkNew(b, p, callers) })
		b.Run(fmt.Sprintf("renew/callers=%d", callers), func(b *testing.B) { benchmarkRenew(b, p, callers, false) })
		b.Run(fmt.Sprintf("reconnect/callers=%d", callers), func(b *testing.B) { benchmarkRenew(b, p, callers, true) })
	}
}

func benchmarkNew(b *testing.B, p *replica, callers int) {
	hosts := make([]*labHost, b.N)
	inParallel(b, 4, len(hosts), func(i int) error { hosts[i] = newLabHost(b); return nil })
	p.admitLab(b, hosts)
	clients := make([]*client.Client, callers)
	for i := range clients {
		clients[i] = hosts[0].connect(p)
		defer clients[i].Close()
	}
	measure(b, p, callers, func(ctx context.Context, caller, op int) error { return hosts[op].enrol(ctx, clients[caller]) })
}

func benchmarkRenew(b *testing.B, p *replica, callers int, reconnect bool) {
	f := newLabFleet(b, p, callers)
	defer f.close()
	inParallel(b, callers, callers, func(i int) error { return f.hosts[i].renew(b.Context(), f.clients[i]) })
	measure(b, p, callers, func(ctx context.Context, caller, _ int) error {
		if reconnect {
			f.clients[caller].Close()
		}
		return f.hosts[caller].renew(ctx, f.clients[caller])
	})
}

// latencies are the times of operations, sorted.
type latencies []time.Duration

// at returns a quantile in milliseconds.
func (l latencies) at(q float64) float64 {
	if len(l) == 0 {
		return 0
	}
	return float64(l[min(int(q*float64(len(l))), len(l)-1)].Microseconds()) / 1000
}

func (l latencies) report(b *testing.B) {
	b.ReportMetric(l.at(0.5), "p50-ms")
	b.ReportMetric(l.at(0.99), "p99-ms")
}

// drive runs b.N operations by so many callers, each asking again as soon as it
// has its answer.
func drive(b *testing.B, callers int, do func(ctx context.Context, caller, op int) error) latencies {
	took := make([][]time.Duration, callers)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	b.ResetTimer()
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for {
				op := int(next.Add(1)) - 1
				if op >= b.N || failed.Load() != nil {
					return
				}
				began := time.Now()
				if err := do(b.Context(), caller, op); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				took[caller] = append(took[caller], time.Since(began))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	return all
}

// measure drives the broker and reports rate, latencies and what each operation
// cost whom.
func measure(b *testing.B, p *replica, callers int, do func(ctx context.Context, caller, op int) error) {
	before := p.usage(b)
	all := drive(b, callers, do)
	after := p.usage(b)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "att/s")
	all.report(b)
	after.report(b, before)
	b.ReportMetric(memoryOf(b, p.cmd.Process.Pid, "VmRSS"), "broker-MB")
	b.ReportMetric(memoryOf(b, p.cmd.Process.Pid, "VmHWM"), "broker-peak-MB")
}

// report says what each operation cost since before.
func (u usage) report(b *testing.B, before usage) {
	cpu := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) }
	each := func(n int64) float64 { return float64(n) / float64(b.N) }
	b.ReportMetric(cpu(u.broker-before.broker), "broker-cpu-µs/op")
	b.ReportMetric(cpu(u.postgres-before.postgres), "postgres-cpu-µs/op")
	b.ReportMetric(cpu(u.client-before.client), "client-cpu-µs/op")
	b.ReportMetric(each(u.commits-before.commits), "commits/op")
	b.ReportMetric(each(u.wal-before.wal)/1024, "wal-kB/op")
	if u.mallocs > 0 {
		b.ReportMetric(each(u.mallocs-before.mallocs), "broker-allocs/op")
	}
}
