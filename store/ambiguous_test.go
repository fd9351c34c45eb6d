package store_test

import (
	"bytes"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// commitProxy stands between a writer and Postgres, and breaks the connection
// around a COMMIT.
type commitProxy struct {
	server string // socket of Postgres
	mode   atomic.Pointer[string]
	broken atomic.Int64
	// between runs after a commit was broken and before the writer can reach
	// Postgres again; nil for nothing. It is set before the first commit.
	between func()
	gate    sync.Mutex // held meanwhile
}

// startProxy returns the DSN of w's database through a proxy.
func startProxy(t *testing.T, dsn string) (*commitProxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	p := &commitProxy{server: filepath.Join(q.Get("host"), ".s.PGSQL."+q.Get("port"))}
	// Socket paths are short; t.TempDir is not.
	dir, err := os.MkdirTemp("", "zbproxy")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL."+q.Get("port")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		_ = os.RemoveAll(dir)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	return p, u.String()
}

func (p *commitProxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	p.gate.Lock()
	server, err := net.Dial("unix", p.server)
	p.gate.Unlock()
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var deaf atomic.Bool
	answered := make(chan struct{}, 1)
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if deaf.Load() {
				answered <- struct{}{}
				return
			}
			if err != nil {
				_ = client.Close()
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if mode := p.mode.Load(); mode != nil && bytes.Contains(buf[:n], []byte("COMMIT\x00")) && p.mode.CompareAndSwap(mode, nil) {
			deaf.Store(true)
			p.broken.Add(1)
			if p.between != nil {
				p.gate.Lock()
				defer func() {
					// The connection that was broken must not hold the log's lock.
					_, _ = server.Close(), client.Close()
					p.between()
					p.gate.Unlock()
				}()
			}
			switch *mode {
			case "before": // the commit never arrives
			case "after": // it is done, and nobody hears of it
				_, _ = server.Write(buf[:n])
				<-answered
			case "late": // it arrives after the writer has given up
				_ = client.Close()
				time.Sleep(700 * time.Millisecond)
				_, _ = server.Write(buf[:n])
				<-answered
			}
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestAmbiguousCommit(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"before", "after", "late"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t)
			snap := w.enrol(1)
			p, dsn := startProxy(t, w.db.WriterDSN)
			s := w.db.Open(t, func(c *store.Config) { c.DSN, c.Writer = dsn, "behind-proxy" })
			if _, err := s.Append(t.Context(), event(t)); err != nil {
				t.Fatal(err)
			}
			p.mode.Store(&mode)
			c := attestation(t, snap, ledger.VerdictAllow)
			began := time.Now()
			pos, err := s.Append(t.Context(), c)
			if err != nil {
				t.Fatalf("an ambiguous commit was not resolved: %v", err)
			}
			t.Logf("resolved after %s", time.Since(began).Round(time.Millisecond))
			if p.broken.Load() != 1 {
				t.Fatal("the proxy broke no commit")
			}
			if pos.Version != 2 || pos.Index != 3 {
				t.Errorf("position = %+v", pos)
			}
			if n := countRecord(t, w.db, c.Record.ID); n != 1 {
				t.Errorf("the record stands %d times", n)
			}
			if _, err := s.Append(t.Context(), event(t)); err != nil {
				t.Errorf("the writer does not go on: %v", err)
			}
			w.verify("")
		})
	}
}

// TestAmbiguousCommitWithAnotherBetween: while a writer does not know whether its
// batch was committed, another one commits, so that the head of the log says
// nothing about the first any more.
func TestAmbiguousCommitWithAnotherBetween(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"before", "after", "late"} {
		for _, what := range []string{"event", "same_node"} {
			t.Run(mode+"/"+what, func(t *testing.T) { testBetween(t, mode, what == "same_node") })
		}
	}
}

func testBetween(t *testing.T, mode string, sameNode bool) {
	w := newWorld(t)
	snap := w.enrol(1)
	p, dsn := startProxy(t, w.db.WriterDSN)
	var other ledger.Position
	p.between = func() {
		c := event(t)
		if sameNode {
			// Whichever version the broken commit left.
			now, err := w.s.NodeByID(t.Context(), snap.Node.ID)
			if err != nil {
				t.Error(err)
			}
			c = attestation(t, now, ledger.VerdictAllow)
		}
		var err error
		if other, err = w.s.Append(t.Context(), c); err != nil {
			t.Errorf("the writer in between: %v", err)
		}
	}
	s := w.db.Open(t, func(c *store.Config) { c.DSN, c.Writer = dsn, "behind-proxy" })
	if _, err := s.Append(t.Context(), event(t)); err != nil {
		t.Fatal(err)
	}
	p.mode.Store(&mode)
	c := attestation(t, snap, ledger.VerdictAllow)
	pos, err := s.Append(t.Context(), c)
	// Indices: two of the enrolment, one event, then these two.
	first, second, rows := int64(3), int64(4), 1
	switch {
	case mode != "before":
		if err != nil || pos.Index != first || other.Index != second {
			t.Errorf("committed at %d and acknowledged at %d (%v), the other at %d", first, pos.Index, err, other.Index)
		}
	case sameNode:
		// It was never committed, and the node moved on meanwhile.
		wantCode(t, err, reason.ChallengeSpent)
		rows = 0
	default:
		if err != nil || pos.Index != second || other.Index != first {
			t.Errorf("acknowledged at %d (%v), the other at %d", pos.Index, err, other.Index)
		}
	}
	if p.broken.Load() != 1 {
		t.Error("the proxy broke no commit")
	}
	if n := countRecord(t, w.db, c.Record.ID); n != rows {
		t.Errorf("the record stands %d times, want %d", n, rows)
	}
	w.verify("")
}
