package store_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/embedded"
	"github.com/zonebroker/zonebroker/store/storetest"
)

// TestReaderOnAStandby: questions may go to a streaming standby, which takes no
// writes. Its answers say that they come from there and how far it has got, and
// one that has fallen behind does not pass for the present.
func TestReaderOnAStandby(t *testing.T) {
	primary, folder := startCluster(t)
	owner := primary.DSN(embedded.Superuser, "zonebroker")
	ok(t, store.Migrate(t.Context(), owner, nil))
	ok(t, store.EnsurePartitions(t.Context(), owner, time.Now()))
	db := &storetest.Database{WriterDSN: primary.DSN(store.WriterRole, "zonebroker")}
	s := db.Open(t, nil)
	record(t, s)

	standby := startStandby(t, primary, folder)
	r, err := store.OpenReader(t.Context(), store.ReaderConfig{DSN: standby.DSN(store.ReaderRole, "zonebroker"), LogID: "main"})
	ok(t, err)
	t.Cleanup(r.Close)
	record(t, s)
	sizeIs(t, r, 2)

	admin := standby.DSN(embedded.Superuser, "zonebroker")
	execute(t, admin, `SELECT pg_wal_replay_pause()`)
	record(t, s)
	time.Sleep(100 * time.Millisecond)
	if got := freshness(t, r); got.Size != 2 || !got.Replica {
		t.Errorf("a standby that was held back answers as of %+v", got)
	}
	execute(t, admin, `SELECT pg_wal_replay_resume()`)
	sizeIs(t, r, 3)

	p, err := store.OpenReader(t.Context(), store.ReaderConfig{DSN: primary.DSN(store.ReaderRole, "zonebroker"), LogID: "main"})
	ok(t, err)
	t.Cleanup(p.Close)
	if got := freshness(t, p); got.Size != 3 || got.Replica {
		t.Errorf("the primary answers as of %+v", got)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func record(t *testing.T, s *store.Store) {
	t.Helper()
	_, err := s.Append(t.Context(), event(t))
	ok(t, err)
}

func freshness(t *testing.T, r *store.Reader) ledger.AsOf {
	t.Helper()
	_, as, err := r.Members(t.Context(), ledger.MembersQuery{At: time.Now(), Limit: 1})
	ok(t, err)
	return as
}

func sizeIs(t *testing.T, r *store.Reader, want int64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got := freshness(t, r)
		if got.Size == want && got.Replica && !got.RecordedAt.IsZero() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the standby answers as of %+v, want size %d", got, want)
		}
	}
}

// startCluster starts a Postgres of its own and returns its folder, too.
func startCluster(t *testing.T) (*embedded.Server, string) {
	t.Helper()
	dir, err := embedded.TempDir("zb-primary-")
	ok(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return startIn(t, dir), dir
}

func startIn(t *testing.T, dir string) *embedded.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := embedded.Start(ctx, embedded.Config{Dir: filepath.Join(dir, "pg")})
	ok(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = s.Stop(ctx)
	})
	return s
}

// startStandby copies the primary as an online backup does (Postgres
// documentation, "Making a Base Backup Using the Low Level API") and starts the
// copy, which follows.
func startStandby(t *testing.T, primary *embedded.Server, folder string) *embedded.Server {
	t.Helper()
	dir, err := embedded.TempDir("zb-standby-")
	ok(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ok(t, os.Mkdir(filepath.Join(dir, "pg"), 0o711))
	ok(t, os.Chmod(filepath.Join(dir, "pg"), 0o711)) // whatever the umask says
	from, to := filepath.Join(folder, "pg", "data"), filepath.Join(dir, "pg", "data")

	conn, err := pgx.Connect(t.Context(), primary.DSN(embedded.Superuser, "postgres"))
	ok(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), `SELECT pg_backup_start('standby', true)`)
	ok(t, err)
	copyCluster(t, from, to)
	var label string
	ok(t, conn.QueryRow(t.Context(), `SELECT labelfile FROM pg_backup_stop(false)`).Scan(&label))
	c, err := pgx.ParseConfig(primary.DSN(embedded.Superuser, "postgres"))
	ok(t, err)
	follow := fmt.Sprintf("primary_conninfo = 'host=%s port=%d user=%s'\n", c.Host, c.Port, c.User)
	for name, text := range map[string]string{"backup_label": label, "standby.signal": "", "postgresql.auto.conf": follow} {
		ok(t, os.WriteFile(filepath.Join(to, name), []byte(text), 0o600))
	}
	owned(t, from, to)
	return startIn(t, dir)
}

func copyCluster(t *testing.T, from, to string) {
	t.Helper()
	ok(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // files come and go while it runs
		}
		rel, relErr := filepath.Rel(from, path)
		if err := cmp.Or(err, relErr); err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.Mkdir(target, 0o700)
		}
		if !d.Type().IsRegular() || d.Name() == "postmaster.pid" || d.Name() == "postmaster.opts" {
			return nil
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return cmp.Or(err, os.WriteFile(target, raw, 0o600))
	}))
}

// owned gives the copy to the user whose cluster it is: Postgres demands it.
func owned(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	ok(t, err)
	st := info.Sys().(*syscall.Stat_t)
	ok(t, filepath.WalkDir(to, func(path string, _ fs.DirEntry, err error) error {
		return cmp.Or(err, os.Lchown(path, int(st.Uid), int(st.Gid)))
	}))
}

func execute(t *testing.T, dsn, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	ok(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), statement)
	ok(t, err)
}
