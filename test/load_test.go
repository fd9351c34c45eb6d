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
	p := startLoad(b)
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
	hosts := make([]*labHost, callers)
	for i := range hosts {
		hosts[i] = newLabHost(b)
	}
	p.admitLab(b, hosts)
	clients := make([]*client.Client, callers)
	inParallel(b, 8, callers, func(i int) error {
		c := hosts[i].connect(p)
		err := hosts[i].enrol(b.Context(), c)
		c.Close()
		clients[i] = hosts[i].connect(p)
		return err
	})
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	measure(b, p, callers, func(ctx context.Context, caller, _ int) error {
		if reconnect {
			clients[caller].Close()
		}
		return hosts[caller].renew(ctx, clients[caller])
	})
}

// measure runs b.N operations by so many callers and reports rate, latencies and
// what each operation cost whom.
func measure(b *testing.B, p *replica, callers int, do func(ctx context.Context, caller, op int) error) {
	took := make([][]time.Duration, callers)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	before := p.usage(b)
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
	after := p.usage(b)
	all := slices.Concat(took...)
	slices.Sort(all)
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) }
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "att/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(each(after.broker-before.broker), "broker-cpu-µs/op")
	b.ReportMetric(each(after.postgres-before.postgres), "postgres-cpu-µs/op")
	b.ReportMetric(each(after.client-before.client), "client-cpu-µs/op")
	b.ReportMetric(float64(after.commits-before.commits)/float64(b.N), "commits/op")
	b.ReportMetric(memoryOf(b, p.cmd.Process.Pid, "VmRSS"), "broker-MB")
	b.ReportMetric(memoryOf(b, p.cmd.Process.Pid, "VmHWM"), "broker-peak-MB")
}
