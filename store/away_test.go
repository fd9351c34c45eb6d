package store_test

import (
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// line is a way to Postgres that can be cut, or swallow everything.
type line struct {
	dsn  string
	down atomic.Bool // connections are closed
	hole atomic.Bool // bytes get lost
	mu   sync.Mutex
	open []net.Conn
}

func newLine(t *testing.T, dsn string) *line {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	server := filepath.Join(q.Get("host"), ".s.PGSQL."+q.Get("port"))
	dir, err := os.MkdirTemp("", "zbline")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL."+q.Get("port")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ln.Close()
		_ = os.RemoveAll(dir)
	})
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	l := &line{dsn: u.String()}
	go l.accept(ln, server)
	return l
}

func (l *line) accept(ln net.Listener, server string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("unix", server)
		if err != nil || l.down.Load() {
			_ = c.Close()
			continue
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			// Closing it sends a reset.
			_ = tcp.SetLinger(0)
		}
		l.mu.Lock()
		l.open = append(l.open, c, s)
		l.mu.Unlock()
		go l.pump(c, s)
		go l.pump(s, c)
	}
}

func (l *line) pump(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if l.hole.Load() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (l *line) cut() {
	l.down.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		_ = c.Close()
	}
	l.open = nil
}

// everyMethod calls all that a broker calls.
func everyMethod(ctx context.Context, t testing.TB, s *store.Store) map[string]func() error {
	signer, key := logKeys()
	return map[string]func() error{
		"Append":           func() error { _, err := s.Append(ctx, event(t)); return err },
		"NodeByID":         func() error { _, err := s.NodeByID(ctx, "x"); return err },
		"NodeByAK":         func() error { _, err := s.NodeByAK(ctx, []byte("x")); return err },
		"NodesByAdmission": func() error { _, err := s.NodesByAdmission(ctx, uuid.New()); return err },
		"AdmissionByEK":    func() error { _, err := s.AdmissionByEK(ctx, [32]byte{}); return err },
		"AdmissionsSince":  func() error { _, _, err := s.AdmissionsSince(ctx, nil, 1); return err },
		"JoinTokenByHash":  func() error { _, err := s.JoinTokenByHash(ctx, [32]byte{}, time.Now()); return err },
		"AddPending": func() error {
			return s.AddPending(ctx, []ledger.Pending{{FirstSeen: time.Now(), LastSeen: time.Now()}})
		},
		"ListPending":    func() error { _, err := s.ListPending(ctx, 1); return err },
		"Keys":           func() error { _, err := s.Keys(ctx, []string{"x509-ca"}, time.Now()); return err },
		"ObjectByDigest": func() error { _, err := s.ObjectByDigest(ctx, "policy", [32]byte{}); return err },
		"Evidence":       func() error { _, err := s.Evidence(ctx, [32]byte{}, time.Now()); return err },
		"CountRefusals": func() error {
			return s.CountRefusals(ctx, []ledger.RefusalCount{{Hour: time.Now(), Code: "x", Count: 1}})
		},
		"Record":           func() error { _, err := s.Record(ctx, uuid.UUID{1}); return err },
		"Records":          func() error { _, err := s.Records(ctx, ledger.Query{}); return err },
		"Nodes":            func() error { _, err := s.Nodes(ctx, "", 1); return err },
		"CheckpointRoot":   func() error { _, _, err := s.CheckpointRoot(ctx, "main", 1); return err },
		"LatestCheckpoint": func() error { _, err := s.LatestCheckpoint(ctx); return err },
		"VerifyHistory":    func() error { _, err := s.VerifyHistory(ctx, "", key, nil); return err },
		"ClockSkew":        func() error { _, err := s.ClockSkew(ctx); return err },
		"SignCheckpoint":   func() error { _, err := s.SignCheckpoint(ctx, signer, &memoryAnchor{}); return err },
		"second_Append":    func() error { _, err := s.Append(ctx, event(t)); return err },
		"Append_of_a_state": func() error {
			n := testNode(1, 0, ledger.Admission{})
			c := attestation(t, ledger.Snapshot{Node: n}, "allow")
			c.Node = &n
			_, err := s.Append(ctx, c)
			return err
		},
	}
}

func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(*line){
		"cut":       (*line).cut,
		"swallowed": func(l *line) { l.hole.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := storetest.New(t)
			l := newLine(t, db.WriterDSN)
			s := db.Open(t, func(c *store.Config) { c.DSN = l.dsn })
			for name, call := range everyMethod(t.Context(), t, s) {
				if err := call(); err != nil {
					t.Errorf("%s before: %v", name, err)
				}
			}
			breakIt(l)
			var wg sync.WaitGroup
			for name, call := range everyMethod(t.Context(), t, s) {
				wg.Go(func() {
					began := time.Now()
					wantCode(t, call(), reason.StoreUnavailable)
					d := time.Since(began)
					t.Logf("%s: %s", name, d.Round(time.Millisecond))
					if d > 16*time.Second {
						t.Errorf("%s: answered after %s", name, d)
					}
				})
			}
			wg.Wait()
			l.cut() // what is stuck would linger
			l.hole.Store(false)
			l.down.Store(false)
			if _, err := s.Append(t.Context(), event(t)); err != nil {
				t.Errorf("it does not go on once the database answers: %v", err)
			}
			if _, err := s.ClockSkew(t.Context()); err != nil {
				t.Errorf("readers do not go on: %v", err)
			}
		})
	}
	t.Run("at_open", func(t *testing.T) {
		began := time.Now()
		_, err := store.Open(t.Context(), store.Config{DSN: "postgres://zb_writer@/x?host=/nowhere", RowKey: [32]byte{1}, LogID: "a", Writer: "b"})
		wantCode(t, err, reason.StoreUnavailable)
		if d := time.Since(began); d > 4*time.Second {
			t.Errorf("after %s", d)
		}
	})
}

func TestQueuedItemIsTakenBack(t *testing.T) {
	db := storetest.New(t)
	gate := make(chan struct{})
	s := db.Open(t, gated(gate))
	first := make(chan error, 1)
	go func() {
		_, err := s.Append(t.Context(), event(t))
		first <- err
	}()
	time.Sleep(100 * time.Millisecond) // the writer holds the first batch now
	ctx, cancel := context.WithCancel(t.Context())
	dropped := event(t)
	second := make(chan error, 1)
	go func() {
		_, err := s.Append(ctx, dropped)
		second <- err
	}()
	time.Sleep(50 * time.Millisecond)
	cancel()
	wantCode(t, <-second, reason.StoreUnavailable)
	close(gate)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := s.Append(t.Context(), event(t)); err != nil {
		t.Error(err)
	}
	if n := countRecord(t, db, dropped.Record.ID); n != 0 {
		t.Error("an item that was taken back is recorded")
	}
}

func TestItemInABatchIsFinished(t *testing.T) {
	db := storetest.New(t)
	gate := make(chan struct{})
	s := db.Open(t, gated(gate))
	ctx, cancel := context.WithCancel(t.Context())
	c := event(t)
	done := make(chan error, 1)
	go func() {
		_, err := s.Append(ctx, c)
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	cancel()
	time.Sleep(50 * time.Millisecond)
	close(gate)
	if err := <-done; err != nil {
		t.Errorf("a committed item was refused: %v", err)
	}
	if n := countRecord(t, db, c.Record.ID); n != 1 {
		t.Errorf("it stands %d times", n)
	}
}

func TestFullQueueIsOverloaded(t *testing.T) {
	db := storetest.New(t)
	gate := make(chan struct{})
	s := db.Open(t, gated(gate))
	codes := make(chan reason.Code, 3000)
	var wg sync.WaitGroup
	for range 3000 {
		wg.Go(func() {
			_, err := s.Append(t.Context(), event(t))
			codes <- reason.Of(err)
		})
	}
	// Those that do not fit are answered at once.
	for range 3000 - 2048 - 512 {
		if code := <-codes; code != reason.RequestOverloaded {
			t.Fatalf("code = %q", code)
		}
	}
	close(gate)
	wg.Wait()
	close(codes)
	refused := 3000 - 2048 - 512
	for code := range codes {
		switch code {
		case "":
		case reason.RequestOverloaded:
			refused++
		default:
			t.Errorf("code = %q", code)
		}
	}
	t.Logf("%d of 3000 were refused", refused)
	if refused > 3000-2048 {
		t.Errorf("%d were refused; 2048 places were there", refused)
	}
}

func TestStoppedWriterRefuses(t *testing.T) {
	db := storetest.New(t)
	s, err := store.Open(t.Context(), db.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = s.Append(t.Context(), event(t))
	wantCode(t, err, reason.StoreUnavailable)
}

func TestAppendRefusesNonsense(t *testing.T) {
	w := newWorld(t)
	n := testNode(1, 0, ledger.Admission{})
	other := testNode(2, 0, ledger.Admission{})
	good := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
	for name, change := range map[string]func(*ledger.Commit){
		"no_record":         func(c *ledger.Commit) { c.Record = ledger.Record{} },
		"new_without_row":   func(c *ledger.Commit) { c.Node = nil },
		"negative_version":  func(c *ledger.Commit) { c.BasedOn = -1 },
		"two_nodes":         func(c *ledger.Commit) { c.Node = &other },
		"row_without_state": func(c *ledger.Commit) { c.State = nil },
	} {
		c := good
		c.Node = &n
		change(&c)
		_, err := w.s.Append(t.Context(), c)
		if reason.Of(err) != reason.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
}
