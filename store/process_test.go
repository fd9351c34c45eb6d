package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// The child is a broker process: this binary, started again. Its environment
// says what it does.
const (
	childRole = "ZONEBROKER_STORE_CHILD" // "freeze", "kill" or "load"
	childDSN  = "ZONEBROKER_STORE_DSN"
	childStep = "ZONEBROKER_STORE_STEP" // where it stops or dies
	childNode = "ZONEBROKER_STORE_NODE" // the node that a frozen child attests
	killAfter = 5                       // how often the step is passed before the child dies
)

func childMain() int {
	ctx := context.Background()
	var passed atomic.Int64
	role := os.Getenv(childRole)
	cfg := store.Config{DSN: os.Getenv(childDSN), RowKey: [32]byte{1, 2, 3}, LogID: "main", Writer: "child"}
	cfg.Step = func(name string) {
		if name != os.Getenv(childStep) {
			return
		}
		switch n := passed.Add(1); {
		case role == "freeze" && n == 1:
			fmt.Println("stopping")
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			// Another thread may take the signal: this one must not run on.
			time.Sleep(100 * time.Millisecond)
		case role != "freeze" && n == killAfter:
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	s, err := store.Open(ctx, cfg)
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	go func() { _ = s.Run(ctx) }()
	switch role {
	case "freeze":
		return childFreeze(ctx, s)
	case "load":
		return childLoad(ctx, s, cfg.LogID)
	}
	return childAppend(ctx, s)
}

// childFreeze records one attestation, or one event where no node is named.
func childFreeze(ctx context.Context, s *store.Store) int {
	t := &childTB{}
	c := event(t)
	if id := os.Getenv(childNode); id != "" {
		snap, err := s.NodeByID(ctx, ledger.NodeID(id))
		if err != nil {
			fmt.Println("error", err)
			return 1
		}
		c = attestation(t, snap, ledger.VerdictAllow)
	}
	_, err := s.Append(ctx, c)
	fmt.Println("result", c.Record.ID, reason.Of(err))
	return 0
}

// childAppend records until it is killed, and says what was acknowledged.
func childAppend(ctx context.Context, s *store.Store) int {
	t := &childTB{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				c := event(t)
				p, err := s.Append(ctx, c)
				if err != nil {
					fmt.Println("error", err)
					return
				}
				fmt.Println("ack", c.Record.ID, p.Index)
			}
		})
	}
	wg.Wait()
	return 0
}

// childTB lets the fixtures run outside of a test.
type childTB struct{ testing.TB }

func (*childTB) Helper() {}
func (*childTB) Fatal(args ...any) {
	fmt.Println(args...)
	os.Exit(1)
}

type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startChild(t *testing.T, db *storetest.Database, role, step string, node ledger.NodeID) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childRole+"="+role, childDSN+"="+db.WriterDSN, childStep+"="+step, childNode+"="+string(node))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &child{cmd: cmd, lines: bufio.NewScanner(out)}
}

// next returns the next line, "" at the end.
func (c *child) next() string {
	if c.lines.Scan() {
		return c.lines.Text()
	}
	return ""
}

// TestFrozenWriter: a broker that is stopped anywhere in its commit holds up
// others for less than 4 s, and when it wakes, nothing of it counts twice.
func TestFrozenWriter(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"store.begin", "store.cas", "store.head", "store.copy", "store.precommit"} {
		for _, what := range []string{"event", "same_node"} {
			t.Run(step+"/"+what, func(t *testing.T) {
				t.Parallel()
				testFrozen(t, step, what == "same_node")
			})
		}
	}
}

func testFrozen(t *testing.T, step string, sameNode bool) {
	w := newWorld(t)
	snap := w.enrol(1)
	node := ledger.NodeID("")
	if sameNode {
		node = snap.Node.ID
	}
	c := startChild(t, w.db, "freeze", step, node)
	if line := c.next(); line != "stopping" {
		t.Fatalf("child says %q", line)
	}
	waitStopped(t, c.cmd.Process.Pid)
	began := time.Now()
	p := w.append(attestation(t, snap, ledger.VerdictAllow))
	waited := time.Since(began)
	t.Logf("another writer went on after %s", waited.Round(time.Millisecond))
	if waited > 4*time.Second {
		t.Errorf("another writer waited %s", waited)
	}
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	line := c.next()
	words := strings.Fields(line + " ok")
	if words[0] != "result" || len(words) < 3 {
		t.Fatalf("child says %q", line)
	}
	id, code := uuid.MustParse(words[1]), words[2]
	want, rows := "ok", 1
	if sameNode {
		want, rows = string(reason.ChallengeSpent), 0
	}
	if code != want {
		t.Errorf("the woken writer got %q, want %q", code, want)
	}
	if got := countRecord(t, w.db, id); got != rows {
		t.Errorf("the woken writer's record stands %d times, want %d", got, rows)
	}
	if p.Index != 2 {
		t.Errorf("index = %d", p.Index)
	}
	w.verify("")
}

// waitStopped waits until the kernel shows the process as stopped.
func waitStopped(t *testing.T, pid int) {
	t.Helper()
	for range 500 {
		raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err == nil && strings.Contains(string(raw), ") T ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the child does not stop")
}

func countRecord(t *testing.T, db *storetest.Database, id uuid.UUID) int {
	t.Helper()
	return query[int](t, db, `SELECT count(*) FROM attestation WHERE record_id = $1`, id)
}

func query[T any](t testing.TB, db *storetest.Database, sql string, args ...any) T {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, db.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var out T
	if err := conn.QueryRow(ctx, sql, args...).Scan(&out); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// TestT59_KilledWriter: kill -9 at each point of the commit leaves indices
// without a gap, and everything that was acknowledged exactly once.
func TestT59_KilledWriter(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"store.begin", "store.cas", "store.head", "store.copy", "store.precommit", "store.postcommit"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := startChild(t, w.db, "kill", step, "")
			acked := make(map[uuid.UUID]int64)
			for line := c.next(); line != ""; line = c.next() {
				words := strings.Fields(line)
				if words[0] != "ack" {
					t.Fatalf("child says %q", line)
				}
				idx, err := strconv.ParseInt(words[2], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				acked[uuid.MustParse(words[1])] = idx
			}
			if err := c.cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("child was not killed: %v", err)
			}
			began := time.Now()
			p := w.append(event(t))
			t.Logf("%d acknowledged before the kill; another writer went on after %s", len(acked), time.Since(began).Round(time.Millisecond))
			for id, idx := range acked {
				if got := query[int64](t, w.db, `SELECT sum(log_idx) * count(*) FROM attestation WHERE record_id = $1`, id); got != idx {
					t.Errorf("acknowledged record %s does not stand exactly once at index %d", id, idx)
				}
			}
			if n := query[int64](t, w.db, `SELECT count(*) - (max(log_idx) + 1) FROM attestation`); n != 0 {
				t.Errorf("indices have gaps or doubles: %d", n)
			}
			if v := w.verify(""); v.Size != p.Size {
				t.Errorf("size = %d, want %d", v.Size, p.Size)
			}
		})
	}
}

// gated holds the first batch at its begin until the gate opens.
func gated(gate chan struct{}) func(*store.Config) {
	var once sync.Once
	return func(c *store.Config) {
		c.Step = func(name string) {
			if name == "store.begin" {
				once.Do(func() { <-gate })
			}
		}
	}
}
