package agent_test

import (
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/zonebroker/zonebroker/broker/agent"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func (b *broker) last() api.AttestRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.attests[len(b.attests)-1]
}

func TestEnrolThenRenew(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	first := h.attest(t)
	if first.Purpose != api.PurposeEnrol || first.Zone != "lab" || first.TrustDomain != trustDomain {
		t.Errorf("first: %+v", first)
	}
	if req := b.last(); len(req.TPM2.EventLog) == 0 || len(req.TPM2.EKPublic) == 0 || req.Prev != "" || req.Checkpoint != "" {
		t.Error("first contact lacks log or EK, or names what it cannot have")
	}
	b.mu.Lock()
	b.withCert = nil
	b.mu.Unlock()
	second := h.attest(t)
	if second.Purpose != api.PurposeRenew || second.Node != first.Node || second.AttestationID == first.AttestationID {
		t.Errorf("second: %+v", second)
	}
	req := b.last()
	if len(req.TPM2.EventLog) != 0 || len(req.TPM2.EKPublic) != 0 {
		t.Error("log and EK are sent again on the same boot")
	}
	if req.Prev != first.AttestationID || req.Checkpoint != first.Log.Checkpoint {
		t.Errorf("prev %q, checkpoint %q", req.Prev, req.Checkpoint)
	}
	for i, shown := range b.withCert {
		if !shown {
			t.Errorf("request %d goes without the SVID", i)
		}
	}
}

func TestRSAKeys(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.cfg.EK, h.cfg.AK = tpm2collect.RSA, tpm2collect.RSA
	b.admitted[h.endorsement(t)] = true
	h.attest(t)
	h.cfg.EK, h.cfg.AK = tpm2collect.Auto, "" // the state remembers
	if r := h.attest(t); r.Purpose != api.PurposeRenew {
		t.Errorf("purpose %s", r.Purpose)
	}
}

func TestJoinToken(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	delete(b.admitted, h.ek)
	var said strings.Builder
	h.cfg.Progress = func(line string) { said.WriteString(line) }
	_, err := agent.Attest(t.Context(), h.cfg)
	if reason.Of(err) != reason.NodeNotAdmitted {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(said.String(), hexOf(h.ek[:])) {
		t.Error("the operator is not told which EK to admit")
	}
	h.cfg.JoinToken = "join-me"
	h.attest(t)
}

func TestStateLost(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	first := h.attest(t)
	if err := os.RemoveAll(h.cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	again := h.attest(t)
	if again.Purpose != api.PurposeEnrol || again.Node != first.Node || b.last().Prev != "" {
		t.Errorf("got %+v", again)
	}
}

func TestRebootSendsTheLogAgain(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.attest(t)
	h.boot(t, build.Machine{KernelVersion: "6.1.0-99-amd64"})
	before := len(b.attests)
	if r := h.attest(t); r.Purpose != api.PurposeRenew || len(b.last().TPM2.EventLog) == 0 || len(b.attests) != before+1 {
		t.Errorf("%s with %d bytes of log in %d tries", r.Purpose, len(b.last().TPM2.EventLog), len(b.attests)-before)
	}
}

func TestBrokerAsksForTheLog(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.attest(t)
	for _, n := range b.nodes {
		n.baseline.Log = nil // its kept log is gone
	}
	before := len(b.attests)
	h.attest(t)
	if len(b.attests) != before+2 || len(b.last().TPM2.EventLog) == 0 {
		t.Errorf("%d more requests", len(b.attests)-before)
	}
}

func TestNoLogAtAll(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	if err := os.Remove(h.cfg.EventLog); err != nil {
		t.Fatal(err)
	}
	_, err := agent.Attest(t.Context(), h.cfg)
	if reason.Of(err) != reason.EventLogMissing {
		t.Errorf("got %v", err)
	}
	if len(b.attests) != 1 {
		t.Errorf("%d requests; the same refusal must not be asked for again", len(b.attests))
	}
}

func TestBrokerForgotTheNode(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.attest(t)
	clear(b.nodes)
	if r := h.attest(t); r.Purpose != api.PurposeEnrol {
		t.Errorf("purpose %s", r.Purpose)
	}
}

// TestTPMCleared: the AK keeps its Name, its counters go back; the node comes
// back only after an operator approved it.
func TestTPMCleared(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	first := h.attest(t)
	raw, err := linuxudstpm.Open(h.tpm.Socket())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (gotpm.Clear{AuthHandle: gotpm.AuthHandle{Handle: gotpm.TPMRHLockout, Auth: gotpm.PasswordAuth(nil)}}).Execute(raw); err != nil {
		t.Fatal(err)
	}
	before := len(b.attests)
	_, err = agent.Attest(t.Context(), h.cfg)
	if reason.Of(err) != reason.TPM2RolledBack {
		t.Fatalf("got %v", err)
	}
	if tried := b.attests[before:]; len(tried) != 2 || len(tried[0].TPM2.EKPublic) != 0 || len(tried[1].TPM2.EKPublic) == 0 {
		t.Errorf("%d tries; want a renewal, then an enrolment", len(tried))
	}
	for _, n := range b.nodes {
		n.baseline = nil // approved
	}
	if r := h.attest(t); r.Node != first.Node || b.last().Prev != first.AttestationID {
		t.Errorf("came back as %+v", r)
	}
}

// TestAnotherTPM: the board was changed. What was received belongs to another
// node; naming it would look like a clone.
func TestAnotherTPM(t *testing.T) {
	b := newBroker(t)
	h, other := newHost(t, b), newHost(t, b)
	first := h.attest(t)
	other.cfg.StateDir = h.cfg.StateDir
	r := other.attest(t)
	if r.Purpose != api.PurposeEnrol || r.Node == first.Node || b.last().Prev != "" {
		t.Errorf("got %+v with prev %q", r, b.last().Prev)
	}
}

func TestAnotherAK(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	first := h.attest(t)
	h.cfg.AK = tpm2collect.RSA
	r := h.attest(t)
	if r.Purpose != api.PurposeEnrol || r.Node != first.Node || b.last().Prev != first.AttestationID {
		t.Errorf("got %+v", r)
	}
}

// TestOffForLongerThanTheSVID: the AK is enough.
func TestOffForLongerThanTheSVID(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	first := h.attest(t)
	later := func() time.Time { return time.Now().Add(48 * time.Hour) }
	b.now, h.cfg.Now = later, later
	b.rotateCA()
	h.cfg.Progress = func(line string) {
		if strings.Contains(line, "not taken") {
			t.Error("an expired SVID was shown")
		}
	}
	r := h.attest(t)
	if r.Purpose != api.PurposeRenew || r.Node != first.Node {
		t.Errorf("got %+v", r)
	}
}

// TestSVIDNoLongerTaken: its CA was taken out of the bundle, so the handshake
// fails; the agent goes on without it.
func TestSVIDNoLongerTaken(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.attest(t)
	b.rotateCA()
	if r := h.attest(t); r.Purpose != api.PurposeRenew {
		t.Errorf("got %+v", r)
	}
	if r := h.attest(t); r.Purpose != api.PurposeRenew || !b.withCert[len(b.withCert)-1] {
		t.Error("the new SVID does not earn the fast lane")
	}
}

func TestSpentChallenges(t *testing.T) {
	spent := func(b *broker, fresh bool) error {
		r := &api.Refusal{Reasons: []*reason.Error{reason.New(reason.ChallengeSpent, "used")}}
		if fresh {
			c, err := b.giveChallenge(b.challenges[len(b.challenges)-1])
			if err != nil {
				return err
			}
			r.Challenge = &c
		}
		return r
	}
	for name, fresh := range map[string]bool{"with_a_fresh_one": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			h := newHost(t, b)
			b.refuseAttest = func(n int) error {
				if n < 2 {
					return spent(b, fresh)
				}
				return nil
			}
			h.attest(t)
			if len(b.attests) != 3 {
				t.Errorf("%d tries", len(b.attests))
			}
		})
	}
	t.Run("forever", func(t *testing.T) {
		b := newBroker(t)
		h := newHost(t, b)
		b.refuseAttest = func(int) error { return spent(b, true) }
		_, err := agent.Attest(t.Context(), h.cfg)
		if reason.Of(err) != reason.ChallengeSpent || len(b.attests) > 4 {
			t.Errorf("%v after %d tries", err, len(b.attests))
		}
	})
}

func TestBusyBroker(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	b.refuseAttest = func(n int) error {
		if n == 0 {
			return reason.New(reason.RequestOverloaded, "full")
		}
		return nil
	}
	h.attest(t)
	b.refuseAttest = func(int) error { return reason.New(reason.StoreUnavailable, "the database does not answer") }
	before := len(b.attests)
	_, err := agent.Attest(t.Context(), h.cfg)
	if reason.Of(err) != reason.StoreUnavailable || len(b.attests) != before+1 {
		t.Errorf("%v after %d tries", err, len(b.attests)-before)
	}
}

// TestBusyForLong: who attests once does not come before the time that the broker
// named; there is somebody to tell.
func TestBusyForLong(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	b.retryAfter.Store(6)
	b.refuseAttest = func(int) error { return reason.New(reason.RequestRateLimited, "too many") }
	_, err := agent.Attest(t.Context(), h.cfg)
	refused, ok := errors.AsType[*client.RefusedError](err)
	if !ok || refused.RetryAfter != 6*time.Second || len(b.attests) != 1 {
		t.Errorf("%v after %d tries", err, len(b.attests))
	}
}

// TestDenialsEndTheRun: a verdict is not argued with.
func TestDenialsEndTheRun(t *testing.T) {
	for _, code := range []reason.Code{reason.PolicyPCRMismatch, reason.NodeDisabled, reason.NodeForkSuspected, reason.NodeAdmissionPending, reason.TPM2AKActivationFailed, reason.LedgerFork} {
		t.Run(string(code), func(t *testing.T) {
			b := newBroker(t)
			h := newHost(t, b)
			b.refuseAttest = func(int) error { return reason.New(code, "no") }
			_, err := agent.Attest(t.Context(), h.cfg)
			if reason.Of(err) != code || len(b.attests) != 1 {
				t.Errorf("%v after %d tries", err, len(b.attests))
			}
		})
	}
}

func isFault(err error, kind agent.FaultKind) bool {
	f, ok := errors.AsType[*agent.Fault](err)
	return ok && f.Kind == kind
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }
