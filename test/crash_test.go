package test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
)

// steps are the failpoints between every two steps of the pipeline, in order.
var steps = []string{
	"broker.redeem", "broker.verify", "broker.decide", "broker.prepare", "broker.record",
	"store.begin", "store.cas", "store.head", "store.copy", "store.precommit", "store.postcommit",
	"broker.sign", "broker.answer",
}

// TestT59_KilledBetweenEveryTwoSteps is invariant 1: no SVID leaves before its
// record is committed, wherever the broker dies.
func TestT59_KilledBetweenEveryTwoSteps(t *testing.T) {
	c := newCluster(t)
	survivor := c.start(t)
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			h := newHost(t, c.rig)
			h.admit(survivor)
			prev := h.mustAttest(survivor)
			before := len(c.attestations(t))
			// Steps of the store are passed by the records of the start too; the
			// failpoint counts from the first challenge on.
			victim := c.start(t, "ZONEBROKER_FAILPOINT=kill:"+step, "ZONEBROKER_FAILPOINT_ARM=broker.redeem")
			short := h.config(victim)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			res, err := agent.Attest(ctx, short)
			if err == nil {
				t.Fatalf("the broker was to die at %s and answered %s", step, res.AttestationID)
			}
			select {
			case <-victim.done:
			case <-time.After(5 * time.Second):
				t.Fatalf("the broker did not die at %s: %v\n%s", step, err, victim.logText())
			}
			rows := c.attestations(t)
			if n := len(rows) - before; n > 1 {
				t.Errorf("one attempt left %d records", n)
			}
			// The host goes on with another replica, whatever was lost on the way.
			next := h.mustAttest(survivor)
			if next.Node != prev.Node {
				t.Errorf("node %s, was %s", next.Node, prev.Node)
			}
			c.wantWhole(t, survivor)
		})
	}
}

// attestations returns the bodies of all attestation records, oldest first.
func (c *cluster) attestations(t testing.TB) []ledger.Attestation {
	t.Helper()
	records := c.records(t, ledger.Query{Type: ledger.TypeAttestation})
	out := make([]ledger.Attestation, len(records))
	for i, r := range slices.Backward(records) {
		must(t, json.Unmarshal(r.Body, &out[len(records)-1-i]))
	}
	return out
}

// records returns the newest records that q asks for, at most 500, as they stand
// in the database: no reading of them is recorded.
func (c *cluster) records(t testing.TB, q ledger.Query) []ledger.Stored {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DSN: c.writer, LogID: "main", Writer: "test", RowKey: [32]byte{1}})
	must(t, err)
	defer s.Close()
	records, err := s.Records(t.Context(), q)
	must(t, err)
	return records
}

func (c *cluster) wantWhole(t testing.TB, p *replica) {
	t.Helper()
	var v api.Verification
	p.ctl(t, &v, "history", "verify")
	if !v.OK {
		t.Errorf("the history is not whole: %v", v.Problems)
	}
}

// TestFrozenBroker: a replica that stops in the middle of a commit holds locks;
// another goes on within four seconds.
func TestFrozenBroker(t *testing.T) {
	for _, step := range []string{"store.cas", "store.head", "store.copy", "store.precommit"} {
		t.Run(step, func(t *testing.T) {
			c := newCluster(t)
			live := c.start(t)
			h, other := newHost(t, c.rig), newHost(t, c.rig)
			h.admit(live)
			other.admit(live)
			h.mustAttest(live)
			other.mustAttest(live)
			frozen := c.start(t, "ZONEBROKER_FAILPOINT=stop:"+step, "ZONEBROKER_FAILPOINT_ARM=broker.redeem")
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			_, err := agent.Attest(ctx, h.config(frozen))
			if err == nil {
				t.Fatal("the broker was to freeze and answered")
			}
			began := time.Now()
			other.mustAttest(live)
			if d := time.Since(began); d > 4*time.Second {
				t.Errorf("another replica went on after %s, want within 4 s", d)
			}
			must(t, frozen.cmd.Process.Signal(syscall.SIGCONT))
			h.mustAttest(live)
			c.wantWhole(t, live)
		})
	}
}

// TestDatabaseAway: no hang, no SVID, a Retry-After, and all goes on afterwards.
func TestDatabaseAway(t *testing.T) {
	c := newCluster(t)
	p := c.startEmbedded(t)
	h, other := newHost(t, c.rig), newHost(t, c.rig)
	h.admit(p)
	other.admit(p)
	h.mustAttest(p)
	pid := p.postgresPID(t)
	signalTree(t, pid, syscall.SIGSTOP)
	began := time.Now()
	_, err := h.attest(p)
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("refused after %s: a hang", d)
	}
	e := refusal(err)
	if e == nil || e.Status != 503 || e.RetryAfter == 0 {
		t.Errorf("with the database away: %v (%+v), want 503 with Retry-After", err, e)
	}
	signalTree(t, pid, syscall.SIGCONT)
	h.mustAttest(p)

	// Killed, it is started again by the broker.
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, 20*time.Second, "the broker is healthy again after its Postgres was killed", func() bool {
		_, _, code := c.rig.try(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "health")
		return code == 0
	})
	other.mustAttest(p)
	c.wantWhole(t, p)
}

// signalTree signals a process and its children.
func signalTree(t testing.TB, pid int, sig syscall.Signal) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	must(t, syscall.Kill(pid, sig))
	for _, name := range stats {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // ended meanwhile
		}
		// pid (name) state ppid …; the name may hold anything but ends at the last ')'.
		rest := string(raw[bytes.LastIndexByte(raw, ')')+1:])
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			must(t, err)
			_ = syscall.Kill(child, sig)
		}
	}
}

// TestKilledWithItsPostgres: kill -9 of the broker takes its Postgres with it,
// and the next start recovers.
func TestKilledWithItsPostgres(t *testing.T) {
	c := newCluster(t)
	p := c.startEmbedded(t)
	h := newHost(t, c.rig)
	h.admit(p)
	first := h.mustAttest(p)
	p.kill()
	p.launchEmbedded(t)
	if again := h.mustAttest(p); again.Node != first.Node {
		t.Errorf("node %s, was %s", again.Node, first.Node)
	}
	c.wantWhole(t, p)
	_, stderr, code := c.rig.try(t, nil, "zonebroker", "serve", "--dir", p.dir, "--listen", "127.0.0.1:0", "--replica", "second")
	if code == 0 || !strings.Contains(stderr, "one folder, one broker") {
		t.Errorf("a second owner of the folder: exit %d, %s", code, stderr)
	}
}
