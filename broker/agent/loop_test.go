package agent_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var _ workloadapi.Source = (*agent.Agent)(nil)

// running is an agent whose loop runs.
type running struct {
	*agent.Agent
	t    testing.TB
	stop context.CancelFunc
	done chan error
	once sync.Once
}

func (h *host) start(t testing.TB) *running {
	t.Helper()
	a, err := agent.New(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return runAgent(t, a)
}

func runAgent(t testing.TB, a *agent.Agent) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Agent: a, t: t, stop: stop, done: make(chan error, 1)}
	go func() { r.done <- a.Run(ctx) }()
	t.Cleanup(r.end)
	return r
}

// end stops the loop; it must not have ended before.
func (r *running) end() {
	r.once.Do(func() {
		select {
		case err := <-r.done:
			r.t.Errorf("the loop ended by itself: %v", err)
			return
		default:
		}
		r.stop()
		select {
		case err := <-r.done:
			if err != nil {
				r.t.Errorf("the loop ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			r.t.Error("the loop does not end")
		}
	})
}

// until waits until the agent is as wanted.
func (r *running) until(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			r.t.Fatalf("not within 20 s: %s; status %+v", what, r.Status())
		}
	}
}

func (r *running) phase(p agent.Phase) {
	r.t.Helper()
	r.until(string(p), func() bool { return r.Status().Phase == p })
}

func TestRunEnrolsAndServes(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.cfg.Spread = -1
	r := h.start(t)
	r.phase(agent.PhaseAttested)
	if r.Workloads() == nil || r.TrustBundle() == nil || r.TrustDomain().Name() != trustDomain {
		t.Errorf("rules %v, bundle %v", r.Workloads(), r.TrustBundle())
	}
	s := r.Status()
	if half := s.NextAttempt.Sub(s.LastAttempt.At); half < 134*time.Second || half > 166*time.Second {
		t.Errorf("renews after %s of a max_age of 5 minutes", half)
	}
}

// TestHurryIsSpread: hosts that attest sooner than planned for the same reason do
// not come together, however often they are told.
func TestHurryIsSpread(t *testing.T) {
	for random, want := range map[float64]time.Duration{0: 30 * time.Second, 0.5: 45 * time.Second, almost: 60 * time.Second} {
		b, _, c, r := fleetOfOne(t)
		b.with(func() { b.refuseLater = func(any) error { return reason.New(reason.AuthInvalid, "no") } })
		began := r.Status().LastAttempt.At
		c.mu.Lock()
		c.random = random
		asked := c.asked[agent.SleepLoop]
		c.mu.Unlock()
		_, _ = r.X509SVID(t.Context(), "checkout")
		c.wait("the loop does not wake", func() bool { return c.asked[agent.SleepLoop] > asked })
		c.mu.Lock()
		c.random = 0 // of whoever is told again
		c.mu.Unlock()
		for b.accepted() == 1 && c.Now().Before(began.Add(90*time.Second)) {
			_, _ = r.JWTSVID(t.Context(), "checkout", "api")
			c.forward(time.Second)
		}
		if d := c.Now().Sub(began); d < want-rounding || d > want+2*time.Second {
			t.Errorf("random %v: attested again after %s, want %s", random, d, want)
		}
	}
}
