package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestOnceDeniedIsRemembered: an agent that starts after a denied attest --once
// does not serve what was earned before it.
func TestOnceDeniedIsRemembered(t *testing.T) {
	b, h, c, r := fleetOfOne(t)
	r.end()
	b.with(func() { b.refuseAttest = func(int) error { return reason.New(reason.StoreUnavailable, "away") } })
	if _, err := agent.Attest(t.Context(), h.cfg); err == nil || strings.Contains(h.state(t), `"denied"`) {
		t.Errorf("%v; an outage is remembered as a denial", err)
	}
	b.with(func() { b.refuseAttest = func(int) error { return reason.New(reason.PolicyPCRMismatch, "PCR 9") } })
	if _, err := agent.Attest(t.Context(), h.cfg); reason.Of(err) != reason.PolicyPCRMismatch {
		t.Fatalf("got %v", err)
	}
	b.leave()
	r = h.startAt(t, c)
	if s := r.Status(); s.Phase != agent.PhaseDenied || r.Workloads() != nil {
		t.Errorf("%+v", s)
	}
}

// TestDenialIsKeptAsSoonAsTheDiskTakesIt: a full disk does not make a restart
// bring back what was withdrawn.
func TestDenialIsKeptAsSoonAsTheDiskTakesIt(t *testing.T) {
	b, h, c, r := fleetOfOne(t)
	file := filepath.Join(h.cfg.StateDir, "state.json")
	move := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	move(os.Rename(file, file+".kept")) // with the zone
	move(os.Mkdir(file, 0o700))         // nothing can be renamed to it, whoever this test runs as
	b.with(func() { b.refuseAttest = func(int) error { return reason.New(reason.PolicyPCRMismatch, "PCR 9") } })
	c.forward(151 * time.Second)
	r.phase(agent.PhaseDenied)
	b.leave() // no other denial comes
	c.forward(time.Minute)
	move(os.Remove(file))
	move(os.Rename(file+".kept", file))
	c.forward(2 * time.Minute)
	if !strings.Contains(h.state(t), `"denied": "policy.pcr_mismatch"`) {
		t.Error("the denial is not on the disk")
	}
	r.end()
	r = h.startAt(t, c)
	if s := r.Status(); s.Phase != agent.PhaseDenied || r.Workloads() != nil {
		t.Errorf("after a restart: %+v", s)
	}
}

// TestLaterRefusalWithdraws: what the broker says of this host counts wherever it
// says it; the clock stands, so no attestation is due.
func TestLaterRefusalWithdraws(t *testing.T) {
	for _, code := range []reason.Code{reason.NodeDisabled, reason.NodeForkSuspected} {
		for route, ask := range map[string]func(*running) error{
			"svid": func(r *running) error { _, err := r.X509SVID(t.Context(), "checkout"); return err },
			"jwt":  func(r *running) error { _, err := r.JWTSVID(t.Context(), "checkout", "api"); return err },
		} {
			t.Run(string(code)+"_"+route, func(t *testing.T) {
				b, h, c, r := fleetOfOne(t)
				b.with(func() { b.refuseLater = func(any) error { return reason.New(code, "no") } })
				if err := ask(r); reason.Of(err) != code {
					t.Fatalf("got %v", err)
				}
				r.phase(agent.PhaseDenied)
				if r.Workloads() != nil || reason.Of(ask(r)) != code || b.accepted() != 1 {
					t.Errorf("rules %v, %d attestations", r.Workloads(), b.accepted())
				}
				if !strings.Contains(h.state(t), `"denied": "`+string(code)+`"`) {
					t.Error("a restart brings it back")
				}
				c.wait("no attempt by back-off", func() bool { return c.timers[agent.SleepLoop].at.Before(c.now.Add(2 * time.Second)) })
				b.with(func() { b.refuseLater = nil })
				c.forward(2 * time.Second)
				r.phase(agent.PhaseAttested)
				serial(t, r)
			})
		}
	}
}

// TestLateRefusalIsOfTheZoneBefore: the broker decided again meanwhile.
func TestLateRefusalIsOfTheZoneBefore(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	hold := make(chan struct{})
	b.slowAnswer.Store(&hold)
	before := r.Status().AttestationID
	var group sync.WaitGroup
	group.Go(func() { c.forward(151 * time.Second) })
	r.until("the attestation is accepted", func() bool { return b.accepted() == 2 })
	var last string
	b.with(func() {
		for _, n := range b.nodes {
			last, n.last = n.last, before
		}
		b.refuseLater = func(any) error { return reason.New(reason.NodeDisabled, "disabled") }
	})
	if _, err := r.X509SVID(t.Context(), "checkout"); reason.Of(err) != reason.NodeDisabled {
		t.Errorf("got %v", err)
	}
	b.with(func() {
		for _, n := range b.nodes {
			n.last = last
		}
		b.refuseLater = nil
	})
	close(hold)
	group.Wait()
	c.forward(10 * time.Second)
	if b.accepted() != 2 || r.Workloads() == nil {
		t.Errorf("%d attestations, %+v", b.accepted(), r.Status())
	}
	serial(t, r)
}
