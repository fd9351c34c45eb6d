package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/embedded"
)

// Own is a migrated database on a Postgres of its own, which a test may kill and
// start again. Its connection strings stay valid meanwhile.
type Own struct {
	Database
	dir string
	pg  *embedded.Server
}

// NewOwn starts a Postgres for one test; it ends with it.
func NewOwn(t testing.TB) *Own {
	t.Helper()
	dir, err := embedded.TempDir("zonebroker-own-")
	if err != nil {
		t.Fatal(err)
	}
	if err := removeAfterExit(dir); err != nil {
		t.Fatal(err)
	}
	o := &Own{dir: filepath.Join(dir, "pg")}
	o.Start(t)
	t.Cleanup(func() {
		if err := errors.Join(o.stop(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	const name = "own"
	if err := store.Migrate(t.Context(), o.pg.DSN(embedded.Superuser, name), nil); err != nil {
		t.Fatal(err)
	}
	o.Database = Database{
		Name: name, OwnerDSN: o.pg.DSN(embedded.Superuser, name),
		WriterDSN: o.pg.DSN(store.WriterRole, name), ReaderDSN: o.pg.DSN(store.ReaderRole, name),
	}
	return o
}

// Start starts the Postgres again after Kill or Shutdown, recovery included.
func (o *Own) Start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := embedded.Start(ctx, embedded.Config{Dir: o.dir})
	if err != nil {
		t.Fatal(err)
	}
	o.pg = pg
}

// Shutdown ends it as pg_ctl stop -m fast does: the postmaster gets SIGINT and
// ends every session with 57P01.
func (o *Own) Shutdown(t testing.TB) {
	t.Helper()
	if err := o.stop(); err != nil {
		t.Fatal(err)
	}
}

func (o *Own) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return o.pg.Stop(ctx)
}

// Kill ends the postmaster and every process of its at once by SIGKILL, as the
// kernel's out-of-memory killer or a machine that stops would. The postmaster is
// stopped first, or it would start others meanwhile. Whoever calls it from a
// failpoint gets nothing done any more by the time that it returns.
func (o *Own) Kill() error {
	parent := o.pg.PID()
	if parent == 0 {
		return errors.New("this Postgres does not run")
	}
	if err := syscall.Kill(parent, syscall.SIGSTOP); err != nil {
		return err
	}
	all, err := childrenOf(parent)
	for _, pid := range slices.Insert(all, 0, parent) {
		err = errors.Join(err, syscall.Kill(pid, syscall.SIGKILL))
	}
	return err
}

// AfterKill takes note of the end of a Postgres that Kill ended, so that Start
// may follow.
func (o *Own) AfterKill() { _ = o.stop() }

// childrenOf lists the processes whose parent is pid (proc(5), stat, field 4).
func childrenOf(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // gone meanwhile
		}
		// The name in brackets may hold anything.
		_, rest, _ := strings.Cut(string(raw), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, child)
	}
	return out, nil
}
