package agent_test

import (
	"os"
	"path/filepath"
	"strings"
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
