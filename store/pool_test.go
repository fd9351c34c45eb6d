package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// nodeLock keeps reads of nodes waiting in the database.
type nodeLock struct {
	t    *testing.T
	conn *pgx.Conn
}

func newNodeLock(t *testing.T, db *storetest.Database) *nodeLock {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &nodeLock{t: t, conn: conn}
}

func (l *nodeLock) exec(sql string) {
	l.t.Helper()
	if _, err := l.conn.Exec(l.t.Context(), sql); err != nil {
		l.t.Fatal(err)
	}
}

func (l *nodeLock) hold() { l.exec(`BEGIN; LOCK TABLE node`) }
func (l *nodeLock) free() { l.exec(`ROLLBACK`) }

// waits until so many reads hang on the lock.
func (l *nodeLock) waits(want int) {
	l.t.Helper()
	const query = `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'node'::regclass`
	for range 1000 {
		var n int
		if err := l.conn.QueryRow(l.t.Context(), query).Scan(&n); err != nil {
			l.t.Fatal(err)
		}
		if n == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	l.t.Fatalf("%d reads never hung", want)
}

// occupy makes s open all of its connections, and hangs a read on each until the
// lock is free and wait has returned.
func (l *nodeLock) occupy(s *store.Store) (wait func()) {
	l.t.Helper()
	l.hold()
	var wg sync.WaitGroup
	for range store.PoolSize {
		wg.Go(func() {
			if _, err := s.Nodes(l.t.Context(), "", 1); err != nil {
				l.t.Error(err)
			}
		})
	}
	l.waits(store.PoolSize)
	return wg.Wait
}

// kill ends all connections of brokers, and returns once they are dead. Waiting
// for each would take so long that the pool asks before it uses them.
func (l *nodeLock) kill() {
	l.t.Helper()
	const kill = `SELECT array_agg(pid) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'zonebroker'`
	var pids []int32
	if err := l.conn.QueryRow(l.t.Context(), kill).Scan(&pids); err != nil {
		l.t.Fatal(err)
	}
	for range 1000 {
		var n int
		if err := l.conn.QueryRow(l.t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)`, pids).Scan(&n); err != nil {
			l.t.Fatal(err)
		}
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	l.t.Fatal("the backends stay")
}

// TestGivenUpReadsKeepTheirConnections: strangers who cancel requests cost no
// connections.
func TestGivenUpReadsKeepTheirConnections(t *testing.T) {
	w := newWorld(t)
	snap, lock := w.enrol(1), newNodeLock(t, w.db)
	for name, read := range map[string]func(context.Context) error{
		"alone": func(ctx context.Context) error {
			_, err := w.s.NodeByAK(ctx, snap.Node.AKName)
			return err
		},
		"list": func(ctx context.Context) error {
			_, err := w.s.Nodes(ctx, "", 1)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := read(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := w.s.NewConnections()
			for range 10 {
				ctx, cancel := context.WithCancel(t.Context())
				lock.hold()
				answer := make(chan error, 1)
				go func() { answer <- read(ctx) }()
				lock.waits(1)
				cancel()
				time.Sleep(10 * time.Millisecond)
				lock.free()
				if err := <-answer; err != nil {
					t.Errorf("what had begun was not finished: %v", err)
				}
			}
			if after := w.s.NewConnections(); after != before {
				t.Errorf("%d connections were made", after-before)
			}
		})
	}
}

// TestWaitForAConnectionEnds: with the caller, and not only with the database.
func TestWaitForAConnectionEnds(t *testing.T) {
	w := newWorld(t)
	lock := newNodeLock(t, w.db)
	wait := lock.occupy(w.s)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := w.s.ClockSkew(ctx)
	wantCode(t, err, reason.StoreUnavailable)
	if d := time.Since(began); d > time.Second {
		t.Errorf("answered after %s", d)
	}
	lock.free()
	wait()
}

// TestReadsEndInTime: on connections that hang, waiting for one, and asking again.
func TestReadsEndInTime(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	l, lock := newLine(t, db.WriterDSN), newNodeLock(t, db)
	s := db.Open(t, func(c *store.Config) { c.DSN = l.dsn })
	wait := lock.occupy(s)
	lock.free()
	wait()
	l.hole.Store(true)
	var wg sync.WaitGroup
	began := time.Now()
	const inTime = 6500 * time.Millisecond
	read := func(fn func() error) {
		wg.Go(func() {
			wantCode(t, fn(), reason.StoreUnavailable)
			if d := time.Since(began); d > inTime {
				t.Errorf("answered after %s", d)
			}
		})
	}
	byAK := func() error { _, err := s.NodeByAK(t.Context(), []byte("x")); return err }
	for range 3 {
		read(byAK)
	}
	time.Sleep(store.StuckAfter + 20*time.Millisecond)
	read(byAK)
	for range store.PoolSize {
		read(func() error { _, err := s.ClockSkew(t.Context()); return err })
	}
	wg.Wait()
	for n := 1; n > 0; _, n = s.ReadsByAK() {
		if d := time.Since(began); d > inTime {
			t.Fatalf("somebody still reads after %s, for nobody", d)
		}
		time.Sleep(time.Millisecond)
	}
	l.hole.Store(false)
	l.cut()
	l.down.Store(false)
}

// TestReadsOutliveTheirConnections: reads of nodes are asked again where all
// connections of the pool have died.
func TestReadsOutliveTheirConnections(t *testing.T) {
	w := newWorld(t)
	snaps := []ledger.Snapshot{w.enrol(0), w.enrol(1), w.enrol(2)}
	lock := newNodeLock(t, w.db)
	wait := lock.occupy(w.s)
	lock.free()
	wait()
	lock.kill()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			want := snaps[i%len(snaps)].Node
			read := func() (ledger.Snapshot, error) { return w.s.NodeByAK(t.Context(), want.AKName) }
			if i%2 == 0 {
				read = func() (ledger.Snapshot, error) { return w.s.NodeByID(t.Context(), want.ID) }
			}
			if got, err := read(); err != nil || got.Node.ID != want.ID {
				t.Errorf("%v, %v", got.Node.ID, err)
			}
		})
	}
	wg.Wait()
}

// TestRestedConnectionsAreAsked: what reads are not asked twice for needs an
// answer of a connection that was idle before it is used.
func TestRestedConnectionsAreAsked(t *testing.T) {
	w := newWorld(t)
	lock := newNodeLock(t, w.db)
	wait := lock.occupy(w.s)
	lock.free()
	wait()
	lock.kill()
	time.Sleep(1100 * time.Millisecond)
	if _, err := w.s.ClockSkew(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestHangingReadsLeaveConnections: reads of nodes that hang do not take all of
// the pool, by id and by AK together.
func TestHangingReadsLeaveConnections(t *testing.T) {
	if 2*store.MaxReaders >= store.PoolSize {
		t.Errorf("%d statements of each reader are all connections", store.MaxReaders)
	}
	h, snaps := holdReads(t, 1, 1000)
	for range 2 * (store.MaxReaders + 1) {
		h.wg.Go(func() {
			if _, err := h.s.NodeByAK(t.Context(), snaps[0].Node.AKName); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(store.StuckAfter + 20*time.Millisecond)
	}
	if _, running := h.s.ReadsByAK(); running != store.MaxReaders {
		t.Errorf("%d statements are under way", running)
	}
	h.release()
}
