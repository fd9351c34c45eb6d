package agent_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// moves makes the broker put the host into another zone from the next attestation
// on.
func (b *broker) moves() {
	named := func(id string) string { return strings.Replace(id, "/zone/lab/", "/zone/vault/", 1) }
	b.with(func() {
		b.spoil = func(a *api.AttestResponse) {
			a.Zone, a.SPIFFEID = "vault", named(a.SPIFFEID)
			a.Chain = []api.Bytes{b.same(a.Chain[0], a.SPIFFEID, func(z *zoneOf) { z.Name = "vault" }).Raw}
		}
		b.spoilLater = func(a *api.SVIDResponse, _ *api.JWTResponse) {
			a.SPIFFEID = named(a.SPIFFEID)
			a.Chain = []api.Bytes{b.same(a.Chain[0], a.SPIFFEID, func(*zoneOf) {}).Raw}
		}
	})
}

// TestAnotherZone: what was earned in the zone before is served to nobody any
// more, whether or not the broker gives something in its place.
func TestAnotherZone(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	x509For(t, r, "checkout")
	if _, err := r.JWTSVID(t.Context(), "checkout", "api"); err != nil {
		t.Fatal(err)
	}
	b.moves()
	b.with(func() { b.refuseLater = func(any) error { return reason.New(reason.StoreUnavailable, "away") } })
	c.forward(151 * time.Second)
	if z := r.Status().Zone; z != "vault" || len(r.Workloads()) != 1 {
		t.Fatalf("in zone %s with %v", z, r.Workloads())
	}
	if id, err := r.X509SVID(t.Context(), "checkout"); err == nil {
		t.Errorf("serves %s", id.SPIFFEID)
	}
	if token, err := r.JWTSVID(t.Context(), "checkout", "api"); err == nil {
		t.Errorf("serves a token of %s", token.SPIFFEID)
	}
	b.with(func() { b.refuseLater = nil })
	c.forward(time.Minute)
	if id := x509For(t, r, "checkout"); !strings.Contains(id.SPIFFEID, "/zone/vault/") {
		t.Errorf("serves %s", id.SPIFFEID)
	}
}

// TestAnotherZoneDuringAFetch: an answer from before is late.
func TestAnotherZoneDuringAFetch(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	hold := make(chan struct{})
	b.slowLater.Store(&hold)
	var group sync.WaitGroup
	group.Go(func() {
		if id, err := r.X509SVID(t.Context(), "checkout"); err == nil {
			t.Errorf("got %s", id.SPIFFEID)
		}
	})
	r.until("the broker signs", func() bool { return b.askedLater() == 1 })
	b.moves()
	c.forward(151 * time.Second)
	close(hold)
	group.Wait()
	c.forward(time.Minute)
	if id := x509For(t, r, "checkout"); !strings.Contains(id.SPIFFEID, "/zone/vault/") {
		t.Errorf("serves %s", id.SPIFFEID)
	}
}

// TestDeniedWhileATokenIsRenewed: the kept one is for outages, not for hosts that
// were refused meanwhile.
func TestDeniedWhileATokenIsRenewed(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	c.mu.Lock()
	c.random = 0 // renews early
	c.mu.Unlock()
	c.forward(150 * time.Second)
	if _, err := r.JWTSVID(t.Context(), "checkout", "api"); err != nil {
		t.Fatal(err)
	}
	c.forward(154 * time.Second)
	hold, asked := make(chan struct{}), b.askedLater()
	b.slowLater.Store(&hold)
	var group sync.WaitGroup
	group.Go(func() {
		if token, err := r.JWTSVID(t.Context(), "checkout", "api"); err == nil {
			t.Errorf("a refused host serves a token until %s at %s", token.ExpiresAt, c.Now())
		}
	})
	r.until("the token is renewed", func() bool { return b.askedLater() == asked+1 })
	b.with(func() { b.refuseAttest = func(int) error { return reason.New(reason.NodeDisabled, "disabled") } })
	c.forward(116 * time.Second)
	r.phase(agent.PhaseDenied)
	close(hold)
	group.Wait()
}

// TestNothingToRefresh: a host without a zone does not look each second for what
// it could fetch.
func TestNothingToRefresh(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	b.with(func() { b.refuseAttest = func(int) error { return reason.New(reason.NodeDisabled, "disabled") } })
	c.forward(10 * time.Minute)
	r.phase(agent.PhaseDenied)
	woken := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.asked[agent.SleepRefresh]
	}
	before := woken()
	c.forward(10 * time.Minute)
	if n := woken() - before; n > 60 { // about one for each attestation that was refused
		t.Errorf("woken %d times in ten minutes", n)
	}
}

// TestProgressMayAsk: whoever is told of an end may ask the agent about it.
func TestProgressMayAsk(t *testing.T) {
	b, c := newBroker(t), newClock(t)
	b.now = c.Now
	h := newHost(t, b)
	h.cfg.Spread = -1
	var r *running
	told := make(chan agent.Status, 1)
	h.cfg.Progress = func(line string) {
		if strings.Contains(line, "has expired") {
			told <- r.Status()
		}
	}
	r = h.startAt(t, c)
	c.forward(time.Second)
	b.leave()
	c.forward(61 * time.Minute)
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Error("nobody was told")
	}
}
