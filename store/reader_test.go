package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// heldReads is a store whose first readings of nodes wait, so that further ones
// queue behind them. It counts readings.
type heldReads struct {
	*world
	heard forgeries
	count atomic.Int64
	begun chan struct{} // of readings that wait
	gate  chan struct{}
	want  reason.Code // of the two that were held
	wg    sync.WaitGroup
}

// holdReads enrols so many nodes, and holds two reads by AK and whatever else
// comes until it held all.
func holdReads(t *testing.T, nodes int, all int64) (*heldReads, []ledger.Snapshot) {
	t.Helper()
	w := newWorld(t)
	snaps := make([]ledger.Snapshot, nodes)
	for i := range snaps {
		snaps[i] = w.enrol(i)
	}
	h := &heldReads{world: w, gate: make(chan struct{}), begun: make(chan struct{}, all)}
	h.s = w.db.Open(t, func(c *store.Config) {
		c.OnForged = h.heard.hear
		c.Step = func(name string) {
			if name == "store.read" && h.count.Add(1) <= all {
				h.begun <- struct{}{}
				<-h.gate
			}
		}
	})
	for range 2 {
		h.wg.Go(func() {
			_, err := h.s.NodeByAK(t.Context(), snaps[0].Node.AKName)
			wantCode(t, err, h.want)
		})
	}
	<-h.begun
	<-h.begun
	return h, snaps
}

// waits until so many reads are queued.
func (h *heldReads) queued(want int) {
	h.t.Helper()
	for range 1000 {
		if n, _ := h.s.ReadsByAK(); n == want {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Fatalf("%d reads never waited", want)
}

// release lets the two go on and waits until everything is read.
func (h *heldReads) release() {
	h.t.Helper()
	close(h.gate)
	h.wg.Wait()
	for range 1000 {
		if n, running := h.s.ReadsByAK(); n == 0 && running == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	h.t.Error("somebody still reads")
}

// TestReadsShareAStatement: reads that wait at the same time are one statement
// of at most 256, and each gets its own answer: its node, none, or the refusal of
// a row that no broker wrote, be it one that does not even scan.
func TestReadsShareAStatement(t *testing.T) {
	h, snaps := holdReads(t, 12, 2)
	forged, unreadable := snaps[3].Node.ID, snaps[4].Node.ID
	h.db.Exec(t, `UPDATE node SET manufacturer = 'mine' WHERE node_id = '`+string(forged)+`'`,
		`UPDATE node SET groups = ARRAY[NULL, 'a'] WHERE node_id = '`+string(unreadable)+`'`)
	for i := range store.GroupSize + 40 {
		h.wg.Go(func() {
			if i%20 == 19 {
				if got, err := h.s.NodeByAK(t.Context(), fmt.Appendf(nil, "nobody %d", i)); err != nil || got.Found {
					t.Errorf("nobody was read: %v, %v", got.Node.ID, err)
				}
				return
			}
			want := snaps[i%len(snaps)]
			got, err := h.s.NodeByAK(t.Context(), want.Node.AKName)
			switch {
			case want.Node.ID == forged:
				wantCode(t, err, reason.StoreRowForged)
			case want.Node.ID == unreadable:
				wantCode(t, err, reason.StoreUnavailable)
			case err != nil:
				t.Error(err)
			default:
				if d := cmp.Diff(want.Node, got.Node); d != "" {
					t.Error(d)
				}
			}
		})
	}
	h.queued(store.GroupSize + 40)
	h.release()
	// Two that were held, two groups, and the halves that isolate the row.
	if n := h.count.Load(); n < 4 || n > 4+2*10 {
		t.Errorf("%d statements", n)
	}
	if !h.heard.has("node " + string(forged)) {
		t.Error("nobody heard of the forged row")
	}
}

// TestReadsTakeTwoStatements: without a bad row, all that waits is one statement.
func TestReadsTakeTwoStatements(t *testing.T) {
	h, snaps := holdReads(t, 3, 2)
	for i := range store.GroupSize {
		h.wg.Go(func() {
			if got, err := h.s.NodeByAK(t.Context(), snaps[i%3].Node.AKName); err != nil || got.Node.ID != snaps[i%3].Node.ID {
				t.Errorf("%v, %v", got.Node.ID, err)
			}
		})
	}
	h.queued(store.GroupSize)
	h.release()
	if n := h.count.Load(); n != 3 {
		t.Errorf("%d statements, want the two that were held and one for all others", n)
	}
}

// TestReadsFailTogether: without an answer of the database, all of a group are
// told so.
func TestReadsFailTogether(t *testing.T) {
	h, snaps := holdReads(t, 3, 2)
	for i := range 30 {
		h.wg.Go(func() {
			_, err := h.s.NodeByAK(t.Context(), snaps[i%3].Node.AKName)
			wantCode(t, err, reason.StoreUnavailable)
		})
	}
	h.queued(30)
	h.db.Exec(t, `ALTER TABLE node RENAME TO away`)
	h.want = reason.StoreUnavailable
	h.release()
	if n := h.count.Load(); n != 3 {
		t.Errorf("%d statements", n)
	}
}

// TestReadOfNoText: an id that the database cannot even take fails its own
// caller alone.
func TestReadOfNoText(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				_, err := w.s.NodeByID(t.Context(), "a\x00b")
				wantCode(t, err, reason.StoreUnavailable)
			}
		})
		wg.Go(func() {
			for range 20 {
				if got, err := w.s.NodeByID(t.Context(), snap.Node.ID); err != nil || !got.Found {
					t.Errorf("another caller's id: %t, %v", got.Found, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestReadEndsWithItsContext: who gives up is answered at once, and leaves
// nothing behind in the queue.
func TestReadEndsWithItsContext(t *testing.T) {
	h, snaps := holdReads(t, 1, 2)
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() {
		_, err := h.s.NodeByAK(ctx, snaps[0].Node.AKName)
		answer <- err
	}()
	h.queued(1)
	cancel()
	wantCode(t, <-answer, reason.StoreUnavailable)
	h.queued(0)
	h.release()
	if n := h.count.Load(); n != 2 {
		t.Errorf("%d statements: one was begun for nobody", n)
	}
	_, err := h.s.NodeByAK(ctx, snaps[0].Node.AKName)
	wantCode(t, err, reason.StoreUnavailable)
}

// TestReadsThatWaitAreBounded: a database that hangs costs bounded memory.
func TestReadsThatWaitAreBounded(t *testing.T) {
	const places = store.MaxReaders*store.GroupSize + store.ReadQueue
	h, snaps := holdReads(t, 1, 1000)
	var refused atomic.Int64
	for range places + 100 {
		h.wg.Go(func() {
			_, err := h.s.NodeByAK(t.Context(), snaps[0].Node.AKName)
			if reason.Of(err) == reason.RequestOverloaded {
				refused.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	for n := 0; refused.Load() < 100; n++ {
		if n > 1000 {
			t.Fatalf("%d were refused", refused.Load())
		}
		time.Sleep(2 * time.Millisecond)
	}
	h.release()
}

// TestStuckReadHoldsUpNobody: two statements that hang are two, and not all.
func TestStuckReadHoldsUpNobody(t *testing.T) {
	h, snaps := holdReads(t, 1, 2)
	first := make(chan error, 1)
	go func() {
		_, err := h.s.NodeByAK(t.Context(), snaps[0].Node.AKName)
		first <- err
	}()
	h.queued(1)
	time.Sleep(store.StuckAfter + 20*time.Millisecond)
	if _, err := h.s.NodeByAK(t.Context(), snaps[0].Node.AKName); err != nil {
		t.Error(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	if n := h.count.Load(); n != 3 {
		t.Errorf("%d statements", n)
	}
	h.release()
}

// TestReadSeesWhatWasCommitted: a read is of after its call, however many share
// its statement.
func TestReadSeesWhatWasCommitted(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	var version atomic.Int64
	version.Store(snap.State.Version)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				least := version.Load()
				read := func() (ledger.Snapshot, error) { return w.s.NodeByAK(t.Context(), snap.Node.AKName) }
				if i%2 == 0 {
					read = func() (ledger.Snapshot, error) { return w.s.NodeByID(t.Context(), snap.Node.ID) }
				}
				if got, err := read(); err != nil || got.State.Version < least {
					t.Errorf("version %d after %d was committed (%v)", got.State.Version, least, err)
					return
				}
			}
		})
	}
	for range 100 {
		c := attestation(t, snap, ledger.VerdictAllow)
		p := w.append(c)
		snap.State = *c.State
		snap.State.Version = p.Version
		version.Store(p.Version)
	}
	close(done)
	wg.Wait()
}

// TestReadsLookUpEachKey: a plan that was made for an empty table and kept looks
// nodes up in their indices, and still does when there are many.
func TestReadsLookUpEachKey(t *testing.T) {
	db := storetest.New(t)
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, db.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`PREPARE by_id (text[]) AS ` + store.NodesByID)
	exec(`PREPARE by_ak (bytea[]) AS ` + store.NodesByAK)
	check := func(when string) {
		t.Helper()
		for call, index := range map[string]string{`by_id(ARRAY['a', 'b'])`: "node_pkey", `by_ak(ARRAY['\x01', '\x02'::bytea])`: "node_ak"} {
			for range 8 { // past the fifth, Postgres keeps a plan
				exec(`EXECUTE ` + call)
			}
			rows, err := conn.Query(ctx, `EXPLAIN EXECUTE `+call)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			plan := strings.Join(lines, "\n")
			if strings.Contains(plan, "Seq Scan") || !strings.Contains(plan, "Index Scan using "+index) || !strings.Contains(plan, "using node_state_pkey") {
				t.Errorf("%s, %s:\n%s", when, call, plan)
			}
			// A plan made anew for every call would cost more than it saves.
			var generic, custom int
			if err := conn.QueryRow(ctx, `SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = $1`, call[:5]).Scan(&generic, &custom); err != nil || generic == 0 || custom > 5 {
				t.Errorf("%s, %s: planned anew %d times, %d times not (%v)", when, call, custom, generic, err)
			}
		}
	}
	check("empty")
	exec(`INSERT INTO node SELECT 'node' || i, 'ek', sha256(('r' || i)::bytea), 'ek', 'ak', sha256(('a' || i)::bytea), 'STM', 'ST33', '', false, 'inventory',
			gen_random_uuid(), '', '{}', 'active', true, now(), sha256('x') FROM generate_series(1, 20000) i`)
	exec(`INSERT INTO node_state (node_id, version, last, confirmed, rebaseline, has_clock, clock, reset_count, restart_count, firmware,
			pcrs, event_log, secure_boot, seen, zone, tier, verdict, reason, policy_version, attested_at, fresh_until, expires_at, last_attempt_at,
			last_ok_at, repeats, mac)
		SELECT 'node' || i, 1, NULL, NULL, false, false, 0, 0, 0, 0, NULL, NULL, '', NULL, '', 0, '', '', 0,
			NULL, NULL, NULL, NULL, NULL, 0, sha256('x') FROM generate_series(1, 20000) i`)
	check("grown")
	exec(`ANALYZE node`)
	exec(`ANALYZE node_state`)
	check("analyzed")
}

// BenchmarkNodeByAK reads nodes as renewals do, one after the other a caller.
func BenchmarkNodeByAK(b *testing.B) {
	w := newWorld(b)
	snaps := make([]ledger.Snapshot, 256)
	var wg sync.WaitGroup
	for i := range snaps {
		wg.Go(func() { snaps[i] = w.enrol(i) })
	}
	wg.Wait()
	for _, callers := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			b.ReportAllocs()
			var next atomic.Int64
			var wg sync.WaitGroup
			for i := range callers {
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						got, err := w.s.NodeByAK(b.Context(), snaps[i].Node.AKName)
						if err != nil || got.Node.ID != snaps[i].Node.ID {
							b.Errorf("%v, %v", got.Node.ID, err)
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
