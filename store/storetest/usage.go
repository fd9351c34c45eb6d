package storetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Usage is what the Postgres of a test binary used up since its start.
type Usage struct {
	CPU time.Duration // of all its processes, to the nanosecond while they live
	WAL int64         // bytes
}

// Usage reads what this Postgres used up so far; two of them bracket a
// measurement. Of processes that ended the kernel knows hundredths of a second.
func (d *Database) Usage(t testing.TB) Usage {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	var u Usage
	pids, err := childrenOf(s.pg.PID())
	if err != nil {
		t.Fatal(err)
	}
	if u.CPU, err = waitedFor(s.pg.PID()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range append(pids, s.pg.PID()) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		if err != nil {
			continue // gone meanwhile
		}
		ran, _, _ := strings.Cut(string(raw), " ")
		ns, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			t.Fatalf("schedstat of %d: %v", pid, err)
		}
		u.CPU += time.Duration(ns)
	}
	conn, err := pgx.Connect(t.Context(), d.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if err := conn.QueryRow(t.Context(), `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint`).Scan(&u.WAL); err != nil {
		t.Fatal(err)
	}
	return u
}

// waitedFor is the CPU time of the children that a process has seen the end of
// (proc(5), stat, fields 16 and 17, in ticks of 10 ms on every Linux of Go).
func waitedFor(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return 0, fmt.Errorf("stat of %d has %d fields", pid, len(fields))
	}
	user, err := strconv.ParseInt(fields[13], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[14], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

// Since returns what was used up after an earlier reading.
func (u Usage) Since(earlier Usage) Usage {
	return Usage{CPU: u.CPU - earlier.CPU, WAL: u.WAL - earlier.WAL}
}

// DataDir is where this Postgres writes: what is measured of a disk there is
// what its commits meet.
func (d *Database) DataDir(t testing.TB) string {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(s.dir, "pg", "data")
}
