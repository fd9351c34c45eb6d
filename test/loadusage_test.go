package test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// usage is what processes have used so far.
type usage struct {
	broker, postgres, client time.Duration // CPU
	commits                  int64         // group commits of the broker's writer
	wal                      int64         // bytes
	mallocs                  int64         // objects that the broker allocated; 0 where it does not say
}

// tick is the unit of CPU times in /proc: USER_HZ, 100 on every Linux that Go
// runs on.
const tick = 10 * time.Millisecond

// cpuOf returns the CPU time of a process, and that of the children it has
// waited for.
func cpuOf(pid int) (own, waited time.Duration, parent int) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, 0
	}
	// The name stands in brackets and may hold anything.
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	at := func(i int) time.Duration {
		n, _ := strconv.ParseInt(f[i], 10, 64)
		return time.Duration(n) * tick
	}
	parent, _ = strconv.Atoi(f[1])
	return at(11) + at(12), at(13) + at(14), parent
}

// cpuOfTree adds up a process and its children, living and dead.
func cpuOfTree(t testing.TB, root int) time.Duration {
	t.Helper()
	own, waited, _ := cpuOf(root)
	total := own + waited
	dirs, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		if cpu, _, parent := cpuOf(pid); parent == root {
			total += cpu
		}
	}
	return total
}

// memoryOf reads a line of /proc/PID/status in MB: VmRSS now, VmHWM at most.
func memoryOf(t testing.TB, pid int, line string) float64 {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), line+":"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			must(t, err)
			return kb / 1024
		}
	}
	t.Fatalf("no %s of process %d", line, pid)
	return 0
}

func (p *replica) usage(t testing.TB) usage {
	t.Helper()
	var u usage
	u.broker, _, _ = cpuOf(p.cmd.Process.Pid)
	u.client, _, _ = cpuOf(os.Getpid())
	u.postgres = cpuOfTree(t, p.cluster.rig.pg.PID())
	// Both are exact at once; the server's statistics arrive up to a second late.
	err := p.cluster.super.QueryRow(context.Background(),
		`SELECT (SELECT coalesce(sum(seq), 0) FROM log_writer)::bigint, (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&u.commits, &u.wal)
	must(t, err)
	u.mallocs = int64(p.metric(t, "go_memstats_mallocs_total"))
	return u
}

// metric reads a metric without labels, 0 where the broker has none of that
// name.
func (p *replica) metric(t testing.TB, name string) float64 {
	t.Helper()
	c := p.adminClient()
	defer c.CloseIdleConnections()
	rsp, err := c.Get("http://admin/metrics")
	must(t, err)
	defer rsp.Body.Close()
	for s := bufio.NewScanner(rsp.Body); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			must(t, err)
			return n
		}
	}
	return 0
}
