package store_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/deploy/hostdeps/hostdepstest"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
)

// pooler is a real pgbouncer before a test's Postgres.
type pooler struct{ dir, dsn string }

// startPooler runs a pgbouncer with at most that many sessions for each role.
// More goes into its configuration.
func startPooler(t *testing.T, dsn, mode string, sessions int, more ...string) *pooler {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	server := q.Get("host")
	dir, err := os.MkdirTemp("", "zbpool") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(server)
	if err != nil {
		t.Fatal(err)
	}
	// Whoever may enter the folder of Postgres's socket; pgbouncer refuses root.
	owner := info.Sys().(*syscall.Stat_t)
	users := filepath.Join(dir, "users")
	config := fmt.Sprintf(`[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = %s
auth_type = trust
auth_file = %s
pool_mode = %s
default_pool_size = %d
max_client_conn = 200
logfile = %s
%s
`, server, q.Get("port"), dir, users, mode, sessions, filepath.Join(dir, "log"), strings.Join(more, "\n"))
	ini := filepath.Join(dir, "ini")
	for path, text := range map[string]string{users: "\"zb_writer\" \"\"\n\"zb_reader\" \"\"\n\"member\" \"\"\n", ini: config} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(hostdepstest.Program(t, hostdeps.PgBouncer, "pgbouncer"), "-q", ini)
	if os.Geteuid() == 0 {
		for _, path := range []string{dir, users, ini} {
			if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
				t.Fatal(err)
			}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	for range 500 {
		if _, err := os.Stat(filepath.Join(dir, ".s.PGSQL.6432")); err == nil {
			return &pooler{dir: dir, dsn: through(t, dsn, dir)}
		}
		time.Sleep(10 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	t.Fatalf("pgbouncer does not start: %s", log)
	return nil
}

// through leads a connection string to the pooler.
func through(t *testing.T, dsn, dir string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("host", dir)
	q.Set("port", "6432")
	u.RawQuery = q.Encode()
	return u.String()
}

// TestPooler: three brokers with 24 callers share three sessions of a pooler in
// transaction mode, and nothing fails.
func TestPooler(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nodes := w.enrolled(12)
	const sessions = 3
	p := startPooler(t, w.db.WriterDSN, "transaction", sessions)
	pooled := func(c *store.Config) { c.DSN, c.Pooler = p.dsn, true }
	a := newAcks("0", "1", "2")
	var failures atomic.Int64
	var stops []func()
	for i := range 3 { // of loadCallers each
		stops = append(stops, w.startLoad(strconv.Itoa(i), nodes, a, &failures, pooled))
	}
	through := &world{t: t, db: w.db, s: w.db.Open(t, pooled)}
	var wg sync.WaitGroup
	var read atomic.Int64
	stop := make(chan struct{})
	for range 24 - 3*loadCallers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for name, err := range through.readAll(nodes[0]) {
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
				}
				read.Add(1)
			}
		})
	}
	a.progress(t, 40)
	for _, stop := range stops {
		stop()
	}
	close(stop)
	wg.Wait()
	if n := failures.Load(); n != 0 {
		t.Errorf("%d requests were refused", n)
	}
	if read.Load() == 0 {
		t.Error("nothing was read")
	}
	signer, key := logKeys()
	anchor := &memoryAnchor{}
	if _, err := through.s.SignCheckpoint(t.Context(), signer, anchor); err != nil {
		t.Error(err)
	}
	v, err := through.s.VerifyHistory(t.Context(), anchor.text, key, nil)
	if err != nil || len(v.Problems) != 0 {
		t.Errorf("verify through the pooler: %v, %v", v.Problems, err)
	}
	w.checkWhole(a)
}

// readAll reads in every way that a broker does.
func (w *world) readAll(node ledger.NodeID) map[string]error {
	out := make(map[string]error)
	for name, call := range everyMethod(w.t.Context(), w.t, w.s) {
		switch name {
		case "Append", "second_Append", "Append_of_a_state":
		case "SignCheckpoint", "VerifyHistory": // whole logs; once is enough
		default:
			out[name] = call()
		}
	}
	_, out["node"] = w.s.NodeByID(w.t.Context(), node)
	return out
}

// TestPoolerIsTold: what cannot work through a pooler says so at the start.
func TestPoolerIsTold(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	member := strings.Replace(db.WriterDSN, "//zb_writer@", "//member@", 1)
	db.Exec(t, `DO $$ BEGIN CREATE ROLE member LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`, `GRANT zb_writer TO member`)
	plain := startPooler(t, db.WriterDSN, "transaction", 3)
	lenient := startPooler(t, db.WriterDSN, "transaction", 3,
		"ignore_startup_parameters = search_path, statement_timeout, lock_timeout, idle_in_transaction_session_timeout")
	statements := startPooler(t, db.WriterDSN, "statement", 3)
	for name, c := range map[string]struct {
		dsn    string
		pooled bool
		want   string
	}{
		"not_told":          {plain.dsn, false, "database_pooler: true"},
		"not_told_lenient":  {lenient.dsn, false, "database_pooler: true"},
		"member_of_writer":  {through(t, member, plain.dir), true, "it must be zb_writer itself"},
		"statement_pooling": {statements.dsn, true, "pool_mode = transaction"},
		"told":              {plain.dsn, true, ""},
		"told_lenient":      {lenient.dsn, true, ""},
		"told_and_direct":   {db.WriterDSN, true, ""},
	} {
		cfg := db.Config()
		cfg.DSN, cfg.Pooler = c.dsn, c.pooled
		s, err := store.Open(t.Context(), cfg)
		if err == nil {
			s.Close()
		}
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestPoolerOfReadersIsTold, as that of brokers is: a reader that nobody told of a
// pooler would leave its role on sessions that others use.
func TestPoolerOfReadersIsTold(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	member := strings.Replace(db.ReaderDSN, "//zb_reader@", "//member@", 1)
	db.Exec(t, `DO $$ BEGIN CREATE ROLE member LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`, `GRANT zb_reader TO member`)
	plain := startPooler(t, db.ReaderDSN, "transaction", 3)
	lenient := startPooler(t, db.ReaderDSN, "transaction", 3,
		"ignore_startup_parameters = search_path, statement_timeout, lock_timeout, idle_in_transaction_session_timeout")
	statements := startPooler(t, db.ReaderDSN, "statement", 3)
	for name, c := range map[string]struct {
		dsn    string
		pooled bool
		want   string
	}{
		"not_told":           {plain.dsn, false, "database_reader_pooler: true"},
		"not_told_lenient":   {lenient.dsn, false, "database_reader_pooler: true"},
		"not_told_of_member": {through(t, member, lenient.dir), false, "database_reader_pooler: true"},
		"member_of_reader":   {through(t, member, plain.dir), true, "it must be zb_reader itself"},
		"writer":             {through(t, db.WriterDSN, plain.dir), true, "it must be zb_reader itself"},
		"statement_pooling":  {statements.dsn, true, "pool_mode = transaction"},
		"told":               {plain.dsn, true, ""},
		"told_lenient":       {lenient.dsn, true, ""},
		"told_and_direct":    {db.ReaderDSN, true, ""},
	} {
		r, err := store.OpenReader(t.Context(), store.ReaderConfig{DSN: c.dsn, LogID: "main", Pooler: c.pooled})
		if err == nil {
			r.Close()
		}
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestPoolerLosesItsServer: the pooler keeps a broker's connections while the
// sessions behind them end.
func TestPoolerLosesItsServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nodes := w.enrolled(4)
	p := startPooler(t, w.db.WriterDSN, "transaction", 3)
	a := newAcks("0", "1")
	var failures atomic.Int64
	var stops []func()
	for _, name := range []string{"0", "1"} {
		stops = append(stops, w.startLoad(name, nodes, a, &failures, func(c *store.Config) { c.DSN, c.Pooler = p.dsn, true }))
	}
	for range 5 {
		a.progress(t, 10)
		query[int](t, w.db, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'zb_writer'`)
	}
	a.progress(t, 10)
	for _, stop := range stops {
		stop()
	}
	t.Logf("%d requests were refused meanwhile", failures.Load())
	w.checkWhole(a)
}

// TestPoolerStalledWriter: a transaction that holds the log's lock behind the
// pooler and does nothing is ended by the writer that waits for it.
func TestPoolerStalledWriter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(event(t))
	p := startPooler(t, w.db.WriterDSN, "transaction", 3)
	s := w.db.Open(t, func(c *store.Config) { c.DSN, c.Pooler = p.dsn, true })
	if _, err := s.Append(t.Context(), event(t)); err != nil {
		t.Fatal(err)
	}
	cfg, err := pgx.ParseConfig(p.dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	stalled, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stalled.Close(t.Context()) }()
	if _, err := stalled.Exec(t.Context(), `BEGIN; SELECT size FROM log_head FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := s.Append(t.Context(), event(t)); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(began); waited > 4*time.Second {
		t.Errorf("it waited %s", waited)
	}
	w.verify("")
}
