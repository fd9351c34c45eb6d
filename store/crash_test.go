package store_test

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
)

// TestT59_WritersKilledUnderLoad: four broker processes work on the same nodes of
// one log; at each failpoint one of them is killed there and replaced, in the end
// all at once.
func TestT59_WritersKilledUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.enrolled(12)
	a := newAcks("0", "1", "2")
	var readers sync.WaitGroup
	var steady []*child
	for i := range 3 {
		c := startChild(t, w.db, "load", "", "")
		steady = append(steady, c)
		readers.Go(func() { c.collect(t, strconv.Itoa(i), a) })
	}
	for _, step := range steps() {
		victim := startChild(t, w.db, "load", step, "")
		readers.Go(func() { victim.collect(t, "victim", a) })
		ended := make(chan error, 1)
		go func() { _, err := victim.cmd.Process.Wait(); ended <- err }()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatalf("the writer does not come by %s", step)
		}
		a.progress(t, 5)
	}
	for _, c := range steady {
		if err := c.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
	readers.Wait()
	w.append(event(t))
	w.checkWhole(a)
}

// collect notes what a child says until it ends.
func (c *child) collect(t *testing.T, name string, a *acks) {
	for line := c.next(); line != ""; line = c.next() {
		words := strings.Fields(line)
		if words[0] != "ack" || len(words) != 5 {
			t.Errorf("child %s says %q", name, line)
			continue
		}
		index, err := strconv.ParseInt(words[2], 10, 64)
		svids, err2 := strconv.Atoi(words[3])
		id, err3 := uuid.Parse(words[1])
		if err := errors.Join(err, err2, err3); err != nil {
			t.Errorf("child %s says %q: %v", name, line, err)
			continue
		}
		a.add(t, name, id, ack{log: words[4], index: index, svids: svids})
	}
}

// failing is four brokers under load on a Postgres of their own, and the faults
// that a test brings upon them.
type failing struct {
	*world
	own   *storetest.Own
	acks  *acks
	line  *line // the way of the last writer
	armed atomic.Pointer[string]
	fired chan error
}

// step kills Postgres where the armed failpoint is passed first.
func (f *failing) step(name string) {
	if armed := f.armed.Load(); armed != nil && *armed == name && f.armed.CompareAndSwap(armed, nil) {
		f.fired <- f.own.Kill()
	}
}

// TestFaultsUnderLoad: four brokers write to one log while Postgres is killed at
// each point of their commits, shut down, refuses statements and commits, ends
// their sessions, and their connections are reset. They go on by themselves each
// time, and in the end nothing acknowledged is lost and nothing stands twice.
func TestFaultsUnderLoad(t *testing.T) {
	t.Parallel()
	own := storetest.NewOwn(t)
	f := &failing{own: own, fired: make(chan error, 1), acks: newAcks("0", "1", "2", "3")}
	f.world = &world{t: t, db: &own.Database, s: own.Open(t, nil)}
	nodes := f.enrolled(12)
	f.injectable()
	f.line = newTCPLine(t, own.WriterDSN)
	var failures atomic.Int64
	var stops []func()
	for i := range 4 {
		stops = append(stops, f.startLoad(strconv.Itoa(i), nodes, f.acks, &failures, func(c *store.Config) {
			c.Step = f.step
			if i == 3 {
				c.DSN = f.line.dsn
			}
		}))
	}
	f.acks.progress(t, 20)
	for _, step := range append(steps(), "store.read") {
		f.killAt(step)
	}
	f.stopFast()
	f.endSessions()
	f.resets()
	f.refusals()
	for _, stop := range stops {
		stop()
	}
	t.Logf("%d requests were refused meanwhile", failures.Load())
	f.checkWhole(f.acks)
}

// recovers waits for every writer to be acknowledged again.
func (f *failing) recovers(fault string, began time.Time) {
	f.t.Helper()
	f.acks.progress(f.t, 5)
	f.t.Logf("%s: all four went on after %s", fault, time.Since(began).Round(time.Millisecond))
}

func (f *failing) killAt(step string) {
	f.t.Helper()
	began := time.Now()
	f.armed.Store(&step)
	select {
	case err := <-f.fired:
		if err != nil {
			f.t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		f.t.Fatalf("nobody comes by %s", step)
	}
	f.own.AfterKill()
	f.own.Start(f.t)
	f.recovers("kill -9 of Postgres at "+step, began)
}

func (f *failing) stopFast() {
	f.t.Helper()
	began := time.Now()
	f.own.Shutdown(f.t)
	f.own.Start(f.t)
	f.recovers("fast shutdown", began)
}

// endSessions ends every session of the brokers, again and again.
func (f *failing) endSessions() {
	f.t.Helper()
	began := time.Now()
	const end = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'zb_writer' AND datname = current_database()`
	ended := 0
	for range 20 {
		ended += query[int](f.t, f.db, end)
		time.Sleep(20 * time.Millisecond)
	}
	if ended < 20 {
		f.t.Errorf("only %d sessions were ended", ended)
	}
	f.recovers("pg_terminate_backend of "+strconv.Itoa(ended)+" sessions", began)
}

// resets cuts the connections of one writer by TCP resets.
func (f *failing) resets() {
	f.t.Helper()
	began := time.Now()
	for range 10 {
		f.line.cut()
		f.line.down.Store(false)
		time.Sleep(30 * time.Millisecond)
	}
	f.recovers("TCP resets", began)
}

// injectable prepares every statement that writes, and the commit itself, to be
// refused. The triggers are there before the load: to make one takes locks.
func (f *failing) injectable() {
	f.t.Helper()
	f.inject("", "")
	// A sequence counts on when its transaction does not.
	f.db.Exec(f.t, `CREATE SEQUENCE injections`, `GRANT USAGE ON SEQUENCE injections TO zb_writer`,
		`CREATE TRIGGER injected BEFORE INSERT ON attestation FOR EACH ROW EXECUTE FUNCTION inject()`,
		`CREATE TRIGGER injected BEFORE UPDATE ON node_state FOR EACH ROW EXECUTE FUNCTION inject()`,
		`CREATE TRIGGER injected BEFORE INSERT OR UPDATE ON log_writer FOR EACH ROW EXECUTE FUNCTION inject()`,
		`CREATE CONSTRAINT TRIGGER injected AFTER UPDATE ON log_head DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION inject()`)
}

// inject has the server refuse every tenth row of a table; on log_head that is at
// the commit.
func (f *failing) inject(table, code string) {
	f.t.Helper()
	body := ""
	if table != "" {
		body = `IF TG_TABLE_NAME LIKE '` + table + `%' AND nextval('injections') % 10 = 0 THEN RAISE EXCEPTION 'injected' USING ERRCODE = '` + code + `'; END IF;`
	}
	f.db.Exec(f.t, `CREATE OR REPLACE FUNCTION inject() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN `+body+` RETURN NEW; END $$`)
}

// refusals are errors of the server that say to try again.
func (f *failing) refusals() {
	f.t.Helper()
	for _, code := range []string{"40001", "40P01", "08006", "57P01"} {
		for _, table := range []string{"attestation", "node_state", "log_writer", "log_head"} {
			began := time.Now()
			f.inject(table, code)
			f.recovers(code+" on "+table, began)
		}
	}
	f.inject("", "")
	if n := query[int64](f.t, f.db, `SELECT last_value FROM injections`); n < 160 {
		f.t.Errorf("only %d rows came by", n)
	}
}

// newTCPLine is a line whose broken connections end by a TCP reset, as those of a
// peer that is gone.
func newTCPLine(t *testing.T, dsn string) *line {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	host, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l := &line{}
	go l.accept(ln, filepath.Join(q.Get("host"), ".s.PGSQL."+q.Get("port")))
	q.Set("host", host)
	q.Set("port", port)
	u.RawQuery = q.Encode()
	l.dsn = u.String()
	return l
}
