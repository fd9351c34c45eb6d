package agent_test

import (
	"slices"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// fleetOfOne is a host with a zone, one workload and a clock.
func fleetOfOne(t *testing.T) (*broker, *host, *clock, *running) {
	t.Helper()
	b, c := newBroker(t), newClock(t)
	b.now, b.workloads = c.Now, []api.Workload{{Name: "checkout"}}
	h := newHost(t, b)
	h.cfg.Spread = -1
	r := h.startAt(t, c)
	c.forward(time.Second)
	r.phase(agent.PhaseAttested)
	return b, h, c, r
}

func serial(t *testing.T, r *running) string {
	t.Helper()
	id, err := r.X509SVID(t.Context(), "checkout")
	if err != nil {
		t.Fatal(err)
	}
	return id.Chain[0].SerialNumber.String()
}

// TestRenewsForAnHour: half of five minutes, again and again, over one kept
// connection, as one node, each naming the one before.
func TestRenewsForAnHour(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	node := r.Status().Node
	c.forward(10 * time.Minute) // the first renewals show the SVID and know the bundle
	before := 0
	b.with(func() { before = b.conns })
	c.forward(time.Hour)
	// 150 s each with a random value of one half: 25 in 3 660 s, and the first.
	if n := b.accepted(); n < 28 || n > 30 {
		t.Errorf("%d attestations in 70 minutes", n)
	}
	b.with(func() {
		for i, req := range b.attests {
			if (i == 0) != (req.Prev == "") {
				t.Errorf("attestation %d names %q as the one before", i, req.Prev)
			}
			if i > 0 && len(req.TPM2.EKPublic) > 0 {
				t.Errorf("attestation %d is an enrolment", i)
			}
		}
		if shown := b.withCert[len(b.withCert)-40:]; slices.Contains(shown, false) {
			t.Error("a renewal does not show the SVID")
		}
		if len(b.nodes) != 1 || b.conns > before+1 {
			t.Errorf("%d nodes, %d new connections in an hour", len(b.nodes), b.conns-before)
		}
	})
	if s := r.Status(); s.Node != node || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// TestBrokerAwayForTenMinutes is the contract of the loop: what is valid is
// served, the age is told, nothing ends, and the host comes back by itself.
func TestBrokerAwayForTenMinutes(t *testing.T) {
	for name, away := range map[string]func(*broker){
		"unreachable": (*broker).leave,
		"the database does not answer": func(b *broker) {
			b.with(func() {
				b.refuseAttest = func(int) error { return reason.New(reason.StoreUnavailable, "no database") }
				b.refuseLater = func(any) error { return reason.New(reason.StoreUnavailable, "no database") }
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, _, c, r := fleetOfOne(t)
			served := serial(t, r)
			away(b)
			c.forward(4 * time.Minute)
			if s := r.Status(); s.Phase != agent.PhaseAttested || s.Failures == 0 {
				t.Errorf("after 4 minutes: %+v", s)
			}
			tried := 0
			b.with(func() { tried = b.conns + len(b.attests) })
			c.forward(6 * time.Minute)
			if s := r.Status(); s.Phase != agent.PhaseStale || s.Zone != "lab" {
				t.Errorf("after 10 minutes: %+v", s)
			}
			if r.Workloads() == nil || serial(t, r) != served {
				t.Error("what is valid is not served")
			}
			// Up to 30 s, with a random value of one half: 15 s each.
			b.with(func() {
				if n := b.conns + len(b.attests) - tried; n < 20 || n > 110 {
					t.Errorf("%d tries in 6 minutes", n)
				}
			})
			b.comeBack()
			b.with(func() { b.refuseAttest, b.refuseLater = nil, nil })
			c.forward(30 * time.Second)
			r.phase(agent.PhaseAttested)
			r.until("another identity", func() bool { return serial(t, r) != served })
		})
	}
}

// TestOutageToTheEnd: past the end nothing is served, and still nothing exits.
func TestOutageToTheEnd(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	serial(t, r)
	b.leave()
	c.forward(58 * time.Minute)
	if r.Status().Phase != agent.PhaseStale {
		t.Errorf("%+v", r.Status())
	}
	changed := r.Changed()
	c.forward(4 * time.Minute)
	if s := r.Status(); s.Phase != agent.PhaseNone || s.Zone != "" || r.Workloads() != nil {
		t.Errorf("%+v, rules %v", s, r.Workloads())
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the end")
	}
	if _, err := r.X509SVID(t.Context(), "checkout"); err == nil || reason.Lookup(reason.Of(err)).Class == reason.Deny {
		t.Errorf("got %v", err)
	}
	b.comeBack()
	c.forward(time.Minute)
	r.phase(agent.PhaseAttested)
	serial(t, r)
}

func TestDenialWithdraws(t *testing.T) {
	b, h, c, r := fleetOfOne(t)
	withdrawn := serial(t, r)
	if _, err := r.JWTSVID(t.Context(), "checkout", "api"); err != nil {
		t.Fatal(err)
	}
	b.with(func() { b.refuseAttest = func(int) error { return reason.New(reason.PolicyPCRMismatch, "PCR 9") } })
	changed := r.Changed()
	c.forward(3 * time.Minute)
	refused := func(r *running) {
		t.Helper()
		if s := r.Status(); s.Phase != agent.PhaseDenied || s.Zone != "" || r.Workloads() != nil {
			t.Errorf("%+v, rules %v", s, r.Workloads())
		}
		if _, err := r.X509SVID(t.Context(), "checkout"); reason.Of(err) != reason.PolicyPCRMismatch {
			t.Errorf("got %v", err)
		}
		if _, err := r.JWTSVID(t.Context(), "checkout", "api"); reason.Of(err) != reason.PolicyPCRMismatch {
			t.Errorf("got %v", err)
		}
	}
	refused(r)
	b.with(func() { b.refuseAttest = nil })
	c.forward(time.Minute)
	r.phase(agent.PhaseAttested)
	if serial(t, r) == withdrawn {
		t.Error("what was withdrawn is served again")
	}
	b.with(func() { b.refuseAttest = func(int) error { return reason.New(reason.PolicyPCRMismatch, "PCR 9") } })
	c.forward(3 * time.Minute)
	refused(r)
	if a := r.Status().LastAttempt; a.Code != string(reason.PolicyPCRMismatch) || a.Remedy == "" || a.RequestID == "" {
		t.Errorf("%+v", a)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	// A restart does not bring back what was withdrawn, nor does an outage.
	r.end()
	b.leave()
	r = h.startAt(t, c)
	c.forward(5 * time.Minute)
	if s := r.Status(); s.Phase != agent.PhaseDenied || r.Workloads() != nil {
		t.Errorf("after a restart: %+v", s)
	}
	b.comeBack()
	b.with(func() { b.refuseAttest = nil })
	c.forward(time.Minute)
	r.phase(agent.PhaseAttested)
	serial(t, r)
}

// TestDeniedHostIsPatient: up to a minute between two tries, so that a fleet that
// a policy denies does not fill the history.
func TestDeniedHostIsPatient(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	b.with(func() { b.refuseAttest = func(int) error { return reason.New(reason.NodeDisabled, "disabled") } })
	c.forward(10 * time.Minute)
	before := b.accepted()
	c.forward(time.Hour)
	if n := b.accepted() - before; n < 100 || n > 130 { // 30 s each with a random value of one half
		t.Errorf("%d tries in an hour", n)
	}
	// Its SVID has ended meanwhile, and so has the use of the connection that shows
	// it: the AK is who it is.
	b.with(func() { b.refuseAttest = nil })
	c.forward(2 * time.Minute)
	r.phase(agent.PhaseAttested)
}

func TestRetryAfterIsAWindow(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	b.retryAfter.Store(40)
	b.with(func() {
		b.refuseAttest = func(int) error { return reason.New(reason.RequestRateLimited, "too many") }
	})
	c.forward(151 * time.Second)
	before := b.accepted()
	if s := r.Status(); s.Failures != 1 {
		t.Fatalf("%+v", s)
	}
	c.forward(39 * time.Second)
	if n := b.accepted() - before; n != 0 {
		t.Errorf("%d tries within Retry-After", n)
	}
	c.forward(21 * time.Second)
	if n := b.accepted() - before; n != 1 {
		t.Errorf("%d tries in the window behind it", n)
	}
}

// TestStrangerWithdrawsNothing: who can divert a connection makes an outage, nothing more.
func TestStrangerWithdrawsNothing(t *testing.T) {
	_, h, c, r := fleetOfOne(t)
	serial(t, r)
	r.end()
	stranger := newBroker(t)
	stranger.now = c.Now
	stranger.refuseAttest = func(int) error { return reason.New(reason.NodeDisabled, "disabled") }
	h.cfg.Server = stranger.url // the trust is the first one's
	r = h.startAt(t, c)
	c.forward(4 * time.Minute)
	if s := r.Status(); s.Phase != agent.PhaseAttested || s.LastAttempt.Code != agent.CodeUntrusted || stranger.accepted() != 0 {
		t.Errorf("%+v; the stranger got %d requests", s, stranger.accepted())
	}
}

// TestRestartWithinValidity: no new attestation, the same node with the same
// key, its renewal when it is due, and workloads served at once.
func TestRestartWithinValidity(t *testing.T) {
	b, h, c, r := fleetOfOne(t)
	before, due := r.Status(), r.Status().NextAttempt
	var first, second []byte
	b.with(func() { first = b.attests[0].SPKI })
	r.end()
	c.jump(time.Minute)
	r = h.startAt(t, c)
	if r.Status().Phase != agent.PhaseAttested || r.Status().AttestationID != before.AttestationID {
		t.Fatalf("%+v", r.Status())
	}
	serial(t, r)
	if n := b.accepted(); n != 1 {
		t.Errorf("%d attestations", n)
	}
	c.forward(due.Sub(c.Now()) - time.Second)
	if n := b.accepted(); n != 1 {
		t.Error("renewed before its time")
	}
	c.forward(2 * time.Second)
	if n := b.accepted(); n != 2 {
		t.Errorf("%d attestations at the time of the renewal", n)
	}
	b.with(func() { second = b.attests[len(b.attests)-1].SPKI })
	if string(first) != string(second) || r.Status().Node != before.Node {
		t.Error("another key, or another node")
	}
}

// TestRestartDuringAnOutage: rules and bundle stand; a key of a workload does
// not, because it was in memory only.
func TestRestartDuringAnOutage(t *testing.T) {
	b, h, c, r := fleetOfOne(t)
	serial(t, r)
	r.end()
	b.leave()
	r = h.startAt(t, c)
	c.forward(10 * time.Minute)
	if r.Workloads() == nil || r.TrustBundle() == nil || r.Status().Phase != agent.PhaseStale {
		t.Errorf("%+v", r.Status())
	}
	if _, err := r.X509SVID(t.Context(), "checkout"); err == nil || reason.Lookup(reason.Of(err)).Class == reason.Deny {
		t.Errorf("got %v", err)
	}
	b.comeBack()
	c.forward(time.Minute)
	r.phase(agent.PhaseAttested)
	serial(t, r)
}

// TestSuspendedHost: the timers stood still while the wall clock went on.
func TestSuspendedHost(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	c.jump(20 * time.Minute)
	c.forward(agent.Slice)
	if b.accepted() != 2 {
		t.Errorf("%d attestations a minute after waking up", b.accepted())
	}
	r.phase(agent.PhaseAttested)
}

// TestClockAheadOfTheBroker: its times are in the past for this host; it must not
// renew without a pause.
func TestClockAheadOfTheBroker(t *testing.T) {
	b, c := newBroker(t), newClock(t)
	h := newHost(t, b)
	b.now = func() time.Time { return c.Now().Add(-4 * time.Minute) } // past half of max_age
	h.cfg.Spread = -1
	h.startAt(t, c)
	c.forward(10 * time.Minute)
	if n := b.accepted(); n < 4 || n > 5 {
		t.Errorf("%d attestations in ten minutes", n)
	}
}

// TestTPMComesBack: its process was started again, so connection and keys are
// gone.
func TestTPMComesBack(t *testing.T) {
	b, h, c, r := fleetOfOne(t)
	h.restartTPM(t)
	c.forward(150 * time.Second)
	c.forward(30 * time.Second)
	if s := r.Status(); b.accepted() < 2 || s.Failures != 0 || s.Phase != agent.PhaseAttested {
		t.Errorf("%d attestations, %+v", b.accepted(), s)
	}
	serial(t, r)
}

// TestTPMIsLate: at boot its driver may come after the agent. What the disk holds
// counts from then on, whether the broker answers or not.
func TestTPMIsLate(t *testing.T) {
	b, h, c, r := fleetOfOne(t)
	r.end()
	h.tpm.Kill()
	b.leave()
	r = h.startAt(t, c)
	c.forward(10 * time.Second)
	if s := r.Status(); s.Phase != agent.PhaseNone || s.LastAttempt.Code != string(agent.FaultTPM) || r.Workloads() != nil {
		t.Errorf("%+v", s)
	}
	h.restartTPM(t)
	c.forward(time.Minute)
	r.phase(agent.PhaseAttested)
	if r.Workloads() == nil {
		t.Error("what is still valid is not served")
	}
	r.end() // before its TPM
}
