package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
)

// BenchmarkStore measures commits as their callers see them, beside what the
// machine could do at most and what it would do without a group commit:
//
//	disk      fdatasync of 8 kB, one after the other, where Postgres writes
//	insert    a bare row of the same bytes and indices a transaction, nothing else
//	single    renewals, one a commit, with all that a commit does
//	record    records of a kilobyte that touch no node: what the log can do
//	renewal   attestations of known nodes: compare-and-set, record, evidence, SVID
//	new       first attestations: that, and the row of a node that nobody knew
//
// Its metrics, a row each: client-µs and pg-µs of CPU, WAL bytes; log-% is the
// share of sequencing and Merkle tree in the CPU of both; x-single how many times
// the rows of single; of-disk commits per fdatasync that the disk could do.
func BenchmarkStore(b *testing.B) {
	base := &baseline{single: make(map[int]float64)}
	b.Run("disk", base.disk)
	for _, callers := range []int{1, 32, 256, 1024} {
		name := func(kind string) string { return fmt.Sprintf("%s/callers=%d", kind, callers) }
		b.Run(name("insert"), func(b *testing.B) { base.run(b, "insert", callers) })
		b.Run(name("single"), func(b *testing.B) { base.run(b, "single", callers) })
		for _, kind := range []string{"record", "renewal", "new"} {
			b.Run(name(kind), func(b *testing.B) { base.run(b, kind, callers) })
		}
	}
}

// baseline is what other rows are compared with; zero where it was not run.
type baseline struct {
	syncs  float64         // fdatasync a second
	single map[int]float64 // rows a second by callers
}

// disk writes and syncs 8 kB over and over within a file, as Postgres does with
// its WAL.
func (base *baseline) disk(b *testing.B) {
	f, err := os.Create(filepath.Join(storetest.New(b).DataDir(b), "bench-sync"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	page := make([]byte, 8<<10)
	const pages = 2048 // of a WAL segment
	if _, err := f.Write(make([]byte, pages*len(page))); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	waits := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for i := range b.N {
		began := time.Now()
		if _, err := f.WriteAt(page, int64(i%pages*len(page))); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		waits = append(waits, time.Since(began))
	}
	b.StopTimer()
	base.syncs = float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(0, "ns/op")
	reportWaits(b, waits)
	b.ReportMetric(base.syncs, "commits/s")
}

// singles is how many connections commit single rows at once; more do not help
// two cores and one disk.
const singles = 32

func (base *baseline) run(b *testing.B, kind string, callers int) {
	w := &world{t: b, db: storetest.New(b)}
	w.s = w.db.Open(b, nil)
	commits := w.makeCommits(kind, callers, b.N)
	appendOne := func(ctx context.Context, _ int, c ledger.Commit) error {
		_, err := w.s.Append(ctx, c)
		return err
	}
	switch kind {
	case "insert":
		appendOne = w.insertOne(min(callers, singles))
	case "single":
		appendOne = w.appendAlone(min(callers, singles))
	}
	waits := make([][]time.Duration, callers)
	batches, usage, client := w.batches(), w.db.Usage(b), clientCPU(b)
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for _, c := range commits(i) {
				began := time.Now()
				if err := appendOne(b.Context(), i, c); err != nil {
					b.Error(err)
					return
				}
				waits[i] = append(waits[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	m := measured{client: clientCPU(b) - client, used: w.db.Usage(b).Since(usage), all: slices.Concat(waits...)}
	m.commits = float64(w.batches() - batches)
	if kind == "insert" {
		m.commits = float64(len(m.all))
	}
	base.report(b, kind, callers, m)
	if sample := commits(0); kind == "record" || kind == "renewal" {
		w.reportLog(b, sample[0].Record, m)
	}
}

// measured is what one run took.
type measured struct {
	client  time.Duration
	used    storetest.Usage
	all     []time.Duration // until each row was acknowledged
	commits float64
}

func (base *baseline) report(b *testing.B, kind string, callers int, m measured) {
	rows, seconds := float64(len(m.all)), b.Elapsed().Seconds()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rows/seconds, "rows/s")
	reportWaits(b, m.all)
	b.ReportMetric(m.commits/seconds, "commits/s")
	b.ReportMetric(rows/m.commits, "rows/commit")
	b.ReportMetric(float64(m.client.Microseconds())/rows, "client-µs")
	b.ReportMetric(float64(m.used.CPU.Microseconds())/rows, "pg-µs")
	b.ReportMetric(float64(m.used.WAL)/rows, "WAL-B")
	if kind == "single" {
		base.single[callers] = rows / seconds
	}
	if one := base.single[callers]; one > 0 {
		b.ReportMetric(rows/seconds/one, "x-single")
	}
	if base.syncs > 0 {
		b.ReportMetric(m.commits/seconds/base.syncs, "of-disk")
	}
}

func reportWaits(b *testing.B, all []time.Duration) {
	slices.Sort(all)
	at := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
}

// clientCPU is the CPU time of this process: callers and the writer.
func clientCPU(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// batches counts the commits of all writers.
func (w *world) batches() int64 {
	return query[int64](w.t, w.db, `SELECT coalesce(sum(seq), 0) FROM log_writer`)
}

// appendAlone appends by n brokers, each with one commit at a time, so that each
// commit holds one row.
func (w *world) appendAlone(n int) func(context.Context, int, ledger.Commit) error {
	stores, turns := make([]*store.Store, n), make([]sync.Mutex, n)
	for i := range stores {
		stores[i] = w.db.Open(w.t, nil)
	}
	return func(ctx context.Context, caller int, c ledger.Commit) error {
		turns[caller%n].Lock()
		defer turns[caller%n].Unlock()
		_, err := stores[caller%n].Append(ctx, c)
		return err
	}
}

// insertOne inserts rows of the same bytes into a table with the same columns and
// indices, over n connections: no log, no node, no evidence.
func (w *world) insertOne(n int) func(context.Context, int, ledger.Commit) error {
	w.db.Exec(w.t, `CREATE TABLE bare (LIKE attestation INCLUDING ALL); GRANT INSERT ON bare TO zb_writer`)
	cfg, err := pgxpool.ParseConfig(w.db.WriterDSN)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.MaxConns = int32(n)
	pool, err := pgxpool.NewWithConfig(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(pool.Close)
	const insert = `INSERT INTO bare (recorded_at, log_id, log_idx, record_id, type, node_id, zone, verdict, reason, attested_at, fresh_until,
		policy_version, salt, body) VALUES (clock_timestamp(), 'main', 0, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`
	return func(ctx context.Context, _ int, c ledger.Commit) error {
		r := c.Record
		_, err := pool.Exec(ctx, insert, r.ID, r.Type, string(r.Node), r.Zone, r.Verdict, r.Reason, r.AttestedAt, r.FreshUntil, r.PolicyVersion, r.Salt[:], string(r.Body))
		return err
	}
}

// reportLog reports the share of sequencing and the Merkle tree in the CPU of a
// run: what its statements and hashes cost alone, in batches of that run's size.
func (w *world) reportLog(b *testing.B, sample ledger.Record, m measured) {
	cfg := w.db.Config()
	cfg.LogID = "bench-log"
	s, err := store.Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	batch := make([]ledger.Record, max(1, int(float64(len(m.all))/m.commits+0.5)))
	for i := range batch {
		batch[i] = sample
	}
	const batches = 300
	cost := func(log bool) time.Duration {
		before, client := w.db.Usage(b), clientCPU(b)
		if err := s.BenchLog(b.Context(), batches, batch, log); err != nil {
			b.Fatal(err)
		}
		return clientCPU(b) - client + w.db.Usage(b).Since(before).CPU
	}
	with, without := cost(true), cost(false)
	perRow := float64((with - without).Microseconds()) / float64(batches*len(batch))
	total := float64((m.client + m.used.CPU).Microseconds()) / float64(len(m.all))
	b.ReportMetric(100*perRow/total, "log-%")
}
