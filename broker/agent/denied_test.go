package agent_test

import (
	"strings"
	"testing"

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
