package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store/storetest"
)

// BenchmarkAppend records attestations of known nodes: compare-and-set, record,
// evidence, SVID, log, commit with fsync. One node a caller.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 8, 32, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			db := storetest.New(b)
			w := &world{t: b, db: db, s: db.Open(b, nil)}
			snaps := make([]ledger.Snapshot, callers)
			for i := range snaps {
				snaps[i] = w.enrol(i)
			}
			var next atomic.Int64
			b.ResetTimer()
			var wg sync.WaitGroup
			for i := range snaps {
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						c := attestation(b, snaps[i], ledger.VerdictAllow)
						p, err := w.s.Append(b.Context(), c)
						if err != nil {
							b.Error(err)
							return
						}
						c.State.Version = p.Version
						snaps[i].State = *c.State
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkAppendNew records first attestations: what BenchmarkAppend does, and
// the row of a node that nobody knew.
func BenchmarkAppendNew(b *testing.B) {
	for _, callers := range []int{1, 8, 32, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			db := storetest.New(b)
			w := &world{t: b, db: db, s: db.Open(b, nil)}
			var next atomic.Int64
			b.ResetTimer()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						n := testNode(int(i), 0, ledger.Admission{ID: recordID(b)})
						c := attestation(b, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
						c.Node = &n
						if _, err := w.s.Append(b.Context(), c); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
