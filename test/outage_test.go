package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

// outageZone: what is 5 minutes and ten of outage elsewhere is 12 seconds and 24
// here. The grace is long enough that nothing ends.
const outageZone = `apiVersion: zonebroker/v1
kind: Zone
name: lab
tier: 1
selectors: {any: [{group: rack-7}]}
admit: [inventory, join_token, operator]
requires: {class: A, format: [tpm2]}
evidence: {max_age: 12s}
issue: {x509_ttl: 1h, grace: 10m}
workloads:
  - {name: checkout, uid: 1001}
`

const (
	outageMaxAge = 12 * time.Second
	outageAgents = 100
)

// fleet is many agents in this process, each with a software TPM of its own.
type fleet struct {
	t      testing.TB
	agents []*agent.Agent
	cancel context.CancelFunc
	ended  chan error // of agents that ended before they were told to
}

// newFleet starts TPMs and agents; the CPU of the machine is the bound.
func newFleet(t testing.TB, g *gate, p *replica, n int) *fleet {
	t.Helper()
	began := time.Now()
	hosts := make([]*host, n)
	slots := make(chan struct{}, 4)
	var group sync.WaitGroup
	for i := range hosts {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			h := newHost(t, p.cluster.rig)
			h.admit(p)
			hosts[i] = h
		})
	}
	group.Wait()
	memory := 0
	for _, h := range hosts {
		if h == nil {
			t.Fatal("a host did not start")
		}
		memory += resident(t, h.tpm.PID())
	}
	t.Logf("%d software TPMs started in %s, %d MB together", n, time.Since(began).Round(time.Second), memory>>10)
	f := &fleet{t: t, ended: make(chan error, n)}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	var running sync.WaitGroup
	for _, h := range hosts {
		cfg := h.config(p)
		cfg.Server, cfg.EK = g.url, tpm2collect.P256
		a, err := agent.New(cfg)
		must(t, err)
		f.agents = append(f.agents, a)
		running.Go(func() {
			if err := a.Run(ctx); ctx.Err() == nil {
				f.ended <- fmt.Errorf("an agent ended by itself: %w", err)
			}
		})
	}
	t.Cleanup(func() { cancel(); running.Wait() })
	return f
}

// resident reads the resident memory of a process, in KiB.
func resident(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	must(t, err)
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(string(m[1]))
	must(t, err)
	return n
}

// alive fails as soon as one agent has ended.
func (f *fleet) alive() {
	f.t.Helper()
	select {
	case err := <-f.ended:
		f.t.Fatal(err)
	default:
	}
}

// until waits until every agent is as wanted, and says how many were.
func (f *fleet) until(what string, limit time.Duration, ok func(*agent.Agent) bool) {
	f.t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		f.alive()
		n := 0
		for _, a := range f.agents {
			if ok(a) {
				n++
			}
		}
		if n == len(f.agents) {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: %d of %d agents after %s", what, n, len(f.agents), limit)
		}
	}
}

func fresh(a *agent.Agent) bool {
	s := a.Status()
	return s.Phase == agent.PhaseAttested && time.Now().Before(s.FreshUntil)
}

func freshIdentity(a *agent.Agent) bool {
	id, err := a.X509SVID(context.Background(), "checkout")
	return err == nil && time.Now().Before(id.FreshUntil)
}

// attempts sums the requests that a replica has answered, by outcome, from its
// metrics.
func (p *replica) attempts(t testing.TB) (ok, refused int) {
	t.Helper()
	text := p.metricsText(t)
	for _, m := range regexp.MustCompile(`(?m)^zonebroker_http_requests_total\{code="([^"]*)",route="/v1/(?:challenge|attest|svid)"\} (\d+)`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[2])
		must(t, err)
		if m[1] == "ok" {
			ok += n
		} else {
			refused += n
		}
	}
	return ok, refused
}

// TestBrokerAwayForTenMinutes: a hundred agents, each with its TPM, lose their
// broker for twice max_age. Nothing ends, everything valid is served, and all
// come back without a storm: the bound is on what they send, not on how fast
// this machine is.
func TestBrokerAwayForTenMinutes(t *testing.T) {
	if testing.Short() {
		t.Skip("a hundred software TPMs take a minute")
	}
	c := newCluster(t, outageZone)
	c.append(t, "zonebroker.yaml", fastNodes)
	p := c.start(t)
	g := newGate(t, p)
	f := newFleet(t, g, p, outageAgents)
	f.until("attested at the start", 2*time.Minute, fresh)
	f.identities()
	nodes := map[string]bool{}
	for _, a := range f.agents {
		nodes[a.Status().Node] = true
	}
	if len(nodes) != len(f.agents) {
		t.Errorf("%d nodes of %d agents", len(nodes), len(f.agents))
	}

	t.Run("killed", func(sub *testing.T) {
		f.t = sub
		g.shut()
		p.kill()
		f.outage()
		p.launch(t) // for the rest of the test
		g.let(p)
		f.recover(p, 0, 0)
	})
	t.Run("frozen", func(t *testing.T) {
		f.t = t
		ok, refused := p.attempts(t)
		must(t, p.cmd.Process.Signal(syscall.SIGSTOP))
		f.outage()
		must(t, p.cmd.Process.Signal(syscall.SIGCONT))
		f.recover(p, ok, refused)
	})
	for _, a := range f.agents {
		if !nodes[a.Status().Node] {
			t.Errorf("a new node: %+v", a.Status())
		}
	}
}

// identities asks every agent for the identity of its workload.
func (f *fleet) identities() {
	f.t.Helper()
	for _, a := range f.agents {
		id, err := a.X509SVID(f.t.Context(), "checkout")
		must(f.t, err)
		if id.SPIFFEID != "spiffe://"+trustDomain+"/zone/lab/workload/checkout" || !time.Now().Before(id.ExpiresAt) {
			f.t.Errorf("%s until %s", id.SPIFFEID, id.ExpiresAt)
		}
	}
}

// outage is the time without the broker.
func (f *fleet) outage() {
	f.t.Helper()
	for end := time.Now().Add(2 * outageMaxAge); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		f.alive()
		for _, a := range f.agents {
			if s := a.Status(); s.Zone != "lab" || a.Workloads() == nil || a.TrustBundle() == nil {
				f.t.Fatalf("not served any more: %+v", s)
			}
		}
	}
	f.identities()
	stale := 0
	for _, a := range f.agents {
		if s := a.Status(); !time.Now().Before(s.FreshUntil) {
			stale++
		}
	}
	if stale != len(f.agents) {
		f.t.Errorf("%d of %d agents were renewed without a broker", len(f.agents)-stale, len(f.agents))
	}
}

// recover counts what it takes until all are attested again, and the identities
// of their workloads are of that attestation. Each host needs three requests; as
// many again are for those that the start of the broker, or a request that it had
// frozen with, made try again.
func (f *fleet) recover(p *replica, okBefore, refusedBefore int) {
	f.t.Helper()
	peak, within := f.densest()
	f.t.Logf("of %d agents at most %d chose the same %s", len(f.agents), peak, within)
	if peak > len(f.agents)/2 {
		f.t.Errorf("%d of %d agents come within %s", peak, len(f.agents), within)
	}
	began := time.Now()
	f.until("attested again", time.Minute, fresh)
	f.until("fresh identities", time.Minute, freshIdentity)
	took := time.Since(began)
	ok, refused := p.attempts(f.t)
	ok, refused = ok-okBefore, refused-refusedBefore
	f.t.Logf("all attested again after %s: %d requests answered, %d refused", took.Round(100*time.Millisecond), ok, refused)
	f.t.Logf("most attestations recorded in one second: %d", mostInASecond(f.t, p, began))
	// Renewals that were due meanwhile are no part of a storm.
	turns := 1 + int(took/(outageMaxAge*45/100))
	if bound := len(f.agents) * 3 * (turns + 1); ok+refused > bound {
		f.t.Errorf("%d requests for %d agents in %s, at most %d", ok+refused, len(f.agents), took, bound)
	}
	if refused > len(f.agents)/2 {
		f.t.Errorf("%d requests were refused", refused)
	}
}

// densest is how many agents have chosen the same tenth of their longest pause.
// It is what they chose, so a slow machine does not change it.
func (f *fleet) densest() (int, time.Duration) {
	pause := max(time.Second, outageMaxAge/10)
	var at []time.Time
	for _, a := range f.agents {
		at = append(at, a.Status().NextAttempt)
	}
	slices.SortFunc(at, time.Time.Compare)
	peak := 0
	for i := range at {
		n := 1
		for j := i + 1; j < len(at) && at[j].Sub(at[i]) < pause/10; j++ {
			n++
		}
		peak = max(peak, n)
	}
	return peak, pause / 10
}

func mostInASecond(t testing.TB, p *replica, since time.Time) int {
	t.Helper()
	var n int
	must(t, p.cluster.super.QueryRow(t.Context(),
		`SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM attestation WHERE type = 'attestation' AND recorded_at >= $1 GROUP BY date_trunc('second', recorded_at)) s`,
		since).Scan(&n))
	return n
}

// metricsText reads what a scrape would get, over the admin socket.
func (p *replica) metricsText(t testing.TB) string {
	t.Helper()
	socket := filepath.Join(p.dir, "run", "admin.sock")
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	rsp, err := c.Get("http://admin/metrics")
	must(t, err)
	defer rsp.Body.Close()
	text, err := io.ReadAll(rsp.Body)
	must(t, err)
	return string(text)
}
