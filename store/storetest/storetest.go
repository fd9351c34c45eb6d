// Package storetest gives each test a migrated database of its own on a private
// Postgres that the test binary starts once. Durability is on, as in
// production: what passes here passed with fsync.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/embedded"
)

// Database is a migrated database that no other test sees. It is dropped with
// the test.
type Database struct {
	Name      string
	OwnerDSN  string // may do everything: the superuser of the private server
	WriterDSN string // the broker's role
	ReaderDSN string
}

const template = "zonebroker_template"

// server is the one Postgres of this test binary.
type server struct {
	pg  *embedded.Server
	dir string
}

var (
	start   = sync.OnceValues(startServer)
	counter atomic.Int64
)

// New returns an isolated, migrated database. A host without Postgres fails the
// test, with what to install: a silent skip would hide that nothing is tested.
func New(t testing.TB) *Database {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatalf("these tests need Postgres 15 or later (Debian: apt-get install postgresql): %v", err)
	}
	name := fmt.Sprintf("test_%d", counter.Add(1))
	s.admin(t, "CREATE DATABASE "+name+" TEMPLATE "+template)
	t.Cleanup(func() { s.admin(t, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	return s.database(name)
}

// Empty returns a database without a schema.
func Empty(t testing.TB) *Database {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatalf("these tests need Postgres 15 or later (Debian: apt-get install postgresql): %v", err)
	}
	name := fmt.Sprintf("empty_%d", counter.Add(1))
	s.admin(t, "CREATE DATABASE "+name)
	t.Cleanup(func() { s.admin(t, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	return s.database(name)
}

func (s *server) database(name string) *Database {
	return &Database{
		Name:      name,
		OwnerDSN:  s.pg.DSN(embedded.Superuser, name),
		WriterDSN: s.pg.DSN(store.WriterRole, name),
		ReaderDSN: s.pg.DSN(store.ReaderRole, name),
	}
}

// Open opens a Store on the database and runs its writer until the test ends.
// Change may be nil; it sees LogID "main", Writer "test" and a fixed RowKey.
func (d *Database) Open(t testing.TB, change func(*store.Config)) *store.Store {
	t.Helper()
	cfg := d.Config()
	if change != nil {
		change(&cfg)
	}
	s, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("writer: %v", err)
		}
		s.Close()
	})
	return s
}

// Config is the configuration that Open starts from.
func (d *Database) Config() store.Config {
	return store.Config{DSN: d.WriterDSN, RowKey: [32]byte{1, 2, 3}, LogID: "main", Writer: "test"}
}

// Exec runs statements as the superuser, as an attacker who owns the database
// would.
func (d *Database) Exec(t testing.TB, statements ...string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, d.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func (s *server) admin(t testing.TB, statement string) {
	t.Helper()
	if err := execute(s.pg.DSN(embedded.Superuser, "postgres"), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func execute(dsn, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

func startServer() (*server, error) {
	dir, err := os.MkdirTemp("", "zonebroker-test-")
	if err != nil {
		return nil, err
	}
	// Started by root, Postgres runs as another user, who has to get in.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if err := removeAfterExit(dir); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	pg, err := embedded.Start(ctx, embedded.Config{Dir: filepath.Join(dir, "pg")})
	if err != nil {
		return nil, err
	}
	s := &server{pg: pg, dir: dir}
	if err := store.Migrate(ctx, pg.DSN(embedded.Superuser, template), nil); err != nil {
		return nil, fmt.Errorf("migrate template: %w", err)
	}
	return s, nil
}

// removeAfterExit leaves a shell behind that waits on a pipe until this process
// is gone, however it ends, and removes the folder. Postgres goes by itself when
// its parent dies.
func removeAfterExit(dir string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	const script = `cat >/dev/null; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.3; rm -rf "$0" && exit; done`
	cmd := exec.Command("/bin/sh", "-c", script, dir)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, r.Close(), w.Close())
	}
	// The pipe stays open for as long as this process lives; without a reference
	// the collector would close it.
	held.Lock()
	defer held.Unlock()
	held.pipes = append(held.pipes, w)
	return r.Close()
}

var held struct {
	sync.Mutex
	pipes []*os.File // guarded by Mutex
}
