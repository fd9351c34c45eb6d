package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

// shortZone has a max_age of seconds, so that what takes minutes elsewhere can
// be watched.
const shortZone = `apiVersion: zonebroker/v1
kind: Zone
name: lab
tier: 1
selectors: {any: [{group: rack-7}]}
admit: [inventory, join_token, operator]
requires: {class: A, format: [tpm2]}
evidence: {max_age: 4s}
issue: {x509_ttl: 1h, grace: 10m, audiences: [api.example.org]}
workloads:
  - {name: checkout, uid: %d}
`

// fastNodes lets a node renew as often as such a zone wants.
const fastNodes = `limits:
  node: {per_second: 50, burst: 100}
  nodes: {per_second: 4000, burst: 8000}
  per_address: {per_second: 1000, burst: 1000}
  strangers: {per_second: 1000, burst: 1000}
  connections_per_address: 1000
  queue: 1000
  enrolments: 100
  node_attestations: 6000
`

// daemon is a zoneagent that runs.
type daemon struct {
	t    testing.TB
	h    *host
	cmd  *exec.Cmd
	done chan struct{}
}

// runAgent starts zoneagent run.
func (h *host) runAgent(server, pin string) *daemon {
	h.t.Helper()
	d := &daemon{t: h.t, h: h, done: make(chan struct{})}
	log, err := os.OpenFile(filepath.Join(h.dir, "agent.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(h.t, err)
	d.cmd = exec.Command(filepath.Join(h.rig.bin, "zoneagent"), "run", "--server", server, "--pin", pin,
		"--tpm", "swtpm:"+h.tpm.Socket(), "--ek", "p256", "--state", h.state, "--event-log", h.log,
		"--workload-api", d.socket())
	d.cmd.Stderr = log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the parent-death signal follows the thread
		defer close(d.done)
		defer log.Close()
		err := d.cmd.Start()
		started <- err
		if err == nil {
			_ = d.cmd.Wait()
		}
	}()
	must(h.t, <-started)
	h.t.Cleanup(d.kill)
	return d
}

func (d *daemon) kill() { _ = d.cmd.Process.Kill(); <-d.done }

func (d *daemon) logText() string {
	raw, _ := os.ReadFile(filepath.Join(d.h.dir, "agent.log"))
	return string(raw)
}

func (d *daemon) status() (agent.Status, agent.Health) {
	s, health, err := agent.ReadStatus(d.h.state, time.Now())
	if err != nil {
		return agent.Status{}, agent.Health{}
	}
	return s, health
}

// until waits until the agent says what is wanted; it must not end meanwhile.
func (d *daemon) until(what string, ok func(agent.Status, agent.Health) bool) agent.Status {
	d.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		s, health := d.status()
		if ok(s, health) {
			return s
		}
		select {
		case <-d.done:
			d.t.Fatalf("the agent ended before: %s\n%s", what, d.logText())
		default:
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("not within a minute: %s\n%+v\n%s", what, s, d.logText())
		}
	}
}

// identity is what a workload of this user gets through the socket. A token has
// no grace, so there is none while the evidence is stale.
func (d *daemon) identity() *x509svid.SVID {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 30*time.Second)
	defer cancel()
	c, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+d.socket()))
	must(d.t, err)
	defer c.Close()
	for {
		svid, err := c.FetchX509SVID(ctx)
		var token *jwtsvid.SVID
		if err == nil && !d.stale() {
			token, err = c.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "api.example.org"})
		}
		switch {
		case err == nil && token != nil && token.ID != svid.ID:
			d.t.Fatalf("token of %s for %s", token.ID, svid.ID)
		case err == nil:
			return svid
		case ctx.Err() != nil:
			d.t.Fatalf("%v\n%s", err, d.logText())
		}
	}
}

func (d *daemon) stale() bool { _, h := d.status(); return !h.Attested }

func (d *daemon) socket() string { return filepath.Join(d.h.dir, "run", "w.sock") }

func isAttested(_ agent.Status, h agent.Health) bool { return h.Attested }

// TestAgentRuns is the life of one agent: it enrols, renews, outlives its broker
// and its own death, and is the same node all the time.
func TestAgentRuns(t *testing.T) {
	c := newCluster(t, fmt.Sprintf(shortZone, os.Getuid()))
	c.append(t, "zonebroker.yaml", fastNodes)
	p := c.start(t)
	g := newGate(t, p)
	h := newHost(t, c.rig)
	h.admit(p)
	d := h.runAgent(g.url, p.pin)
	first := d.until("attested", isAttested)
	renewed := func(than agent.Status) func(agent.Status, agent.Health) bool {
		return func(s agent.Status, h agent.Health) bool { return h.Attested && s.AttestationID != than.AttestationID }
	}
	second := d.until("renewed", renewed(first))
	third := d.until("renewed again", renewed(second))
	if n := g.connections(); n > 3 {
		t.Errorf("%d connections for three attestations", n)
	}

	served := d.identity()

	// The broker is away for longer than the evidence is fresh.
	g.shut()
	p.kill()
	stale := d.until("stale", func(s agent.Status, h agent.Health) bool {
		return s.Phase == agent.PhaseStale && h.Ready && !h.Attested && s.Failures > 1
	})
	if stale.Zone != "lab" || stale.LastAttempt.Code != agent.CodeUnreachable {
		t.Errorf("%+v", stale)
	}
	if outage := d.identity(); outage.ID != served.ID {
		t.Errorf("%s, then %s", served.ID, outage.ID)
	}
	p.launch(t)
	g.let(p)
	back := d.until("renewed after the outage", renewed(third))

	// kill -9 of the agent, and it goes on as the same node.
	d.kill()
	if _, health := d.status(); health.Live {
		t.Error("a dead agent is live")
	}
	d = h.runAgent(g.url, p.pin)
	again := d.until("served after a restart", func(s agent.Status, h agent.Health) bool {
		return h.Ready && s.PID == d.cmd.Process.Pid
	})
	if other := d.identity(); other.ID != served.ID || string(other.Certificates[0].Raw) == string(served.Certificates[0].Raw) {
		t.Error("another identity, or a key that was kept on a disk")
	}
	last := d.until("renewed after a restart", renewed(again))
	for _, s := range []agent.Status{second, third, stale, back, again, last} {
		if s.Node != first.Node || s.SPIFFEID != first.SPIFFEID {
			t.Errorf("another node: %+v", s)
		}
	}

	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the agent does not end")
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d\n%s", code, d.logText())
	}
	wantOneNode(t, p, first.Node)
}

var ofState = regexp.MustCompile(`node\.(state_lost|fork_suspected|ak_changed)`)

// wantOneNode: no restart and no outage looked like another machine, or like a
// lost or copied state.
func wantOneNode(t *testing.T, p *replica, node string) {
	t.Helper()
	var nodes []api.Node
	p.ctl(t, &nodes, "node", "list")
	if len(nodes) != 1 || nodes[0].ID != node {
		t.Errorf("%+v", nodes)
	}
	drift := 0
	for _, r := range p.cluster.records(t, ledger.Query{Type: ledger.TypeAttestation}) {
		drift += len(ofState.FindAll(r.Body, -1))
	}
	if drift > 0 {
		t.Errorf("%d events of a state that was lost or copied", drift)
	}
}
