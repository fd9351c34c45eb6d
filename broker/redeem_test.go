package broker_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestAttestStrangers: evidence whose author is unknown is counted and writes
// nothing; they get the code without details.
func TestAttestStrangers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *rig, h *host, req *api.AttestRequest)
		want   reason.Code
	}{
		{"token that does not open", func(_ *rig, _ *host, req *api.AttestRequest) { req.Token = req.Token[1:] }, reason.ChallengeInvalid},
		{"tpm-25 token sealed by another cluster", func(r *rig, h *host, req *api.AttestRequest) {
			cfg := r.cfg
			cfg.ClusterKey, cfg.Issuer = [32]byte{2}, r.iss
			other, err := broker.New(cfg)
			r.must(err)
			token, err := r.b.Reseal(req.Token, r.now(), ledger.NodeID(h.node), 1)
			r.must(err)
			if _, err := other.Reseal(token, r.now(), "", 0); reason.Of(err) != reason.ChallengeInvalid {
				r.t.Errorf("another cluster opens the token: %v", err)
			}
			req.Token = sealElsewhere(r, other, h)
		}, reason.ChallengeInvalid},
		{"T5 expired token", func(r *rig, _ *host, _ *api.AttestRequest) { r.wait(time.Minute) }, reason.ChallengeExpired},
		{"T3 quote over another nonce", func(r *rig, h *host, req *api.AttestRequest) {
			ch, err := h.askRenew()
			r.must(err)
			req.Token = ch.Token
		}, reason.TPM2QuoteNonceMismatch},
		{"T48 evidence of another node", func(r *rig, h *host, req *api.AttestRequest) {
			ch, err := h.askRenew()
			r.must(err)
			other := r.enrolled()
			*req = other.answer(ch)
		}, reason.ChallengeWrongNode},
		{"signature altered", func(_ *rig, _ *host, req *api.AttestRequest) {
			req.TPM2.Signature = bytes.Clone(req.TPM2.Signature)
			req.TPM2.Signature[20] ^= 1
		}, reason.TPM2SignatureInvalid},
		{"no evidence at all", func(_ *rig, _ *host, req *api.AttestRequest) { req.TPM2 = nil }, reason.RequestMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			h := r.enrolled()
			ch, err := h.askRenew()
			r.must(err)
			req := h.answer(ch)
			tt.change(r, h, &req)
			before, state := r.records(), h.state()
			out, err := h.attest(req)
			wantCode(t, out, err, tt.want)
			refusal := refusalOf(t, err)
			if !refusal.Stranger || refusal.Challenge != nil {
				t.Errorf("a stranger is answered like a node: %+v", refusal)
			}
			if r.records() != before || h.state().Version != state.Version {
				t.Error("a stranger wrote to the history")
			}
			r.flush()
			if n := r.store.count(tt.want, ""); n != 1 {
				t.Errorf("counted %d times", n)
			}
			for k := range r.store.refusals {
				if !k.Hour.Equal(evidencetest.Noon) {
					t.Errorf("counted in the hour %s", k.Hour)
				}
			}
		})
	}
}

// sealElsewhere is a token that another cluster sealed for this node.
func sealElsewhere(r *rig, other *broker.Broker, h *host) string {
	r.t.Helper()
	set := loadSet(r.t, zoneLab)
	_, err := other.ActivatePolicy(r.t.Context(), set, "uid:0")
	r.must(err)
	ch, err := other.Challenge(r.t.Context(), broker.Caller{}, api.ChallengeRequest{Format: "tpm2", Purpose: "renew", AKName: h.tpm.AK.Name()})
	r.must(err)
	return ch.Token
}

func refusalOf(t testing.TB, err error) *api.Refusal {
	t.Helper()
	refusal, ok := err.(*api.Refusal)
	if !ok {
		t.Fatalf("%T is no refusal: %v", err, err)
	}
	return refusal
}

// TestT4_SpentTokenBringsAFreshChallenge: one nonce, one acceptance; whoever is
// late gets the next challenge with the 409.
func TestInvariant5_T4_OneNonceOneAcceptance(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.minute()
	ch, err := h.askRenew()
	r.must(err)
	req := h.answer(ch)
	first, err := h.attest(req)
	r.must(err)
	h.prev = first.AttestationID

	before := r.records()
	out, err := h.attest(req)
	wantCode(t, out, err, reason.ChallengeSpent)
	fresh := refusalOf(t, err).Challenge
	if fresh == nil || fresh.Purpose != "renew" || bytes.Equal(fresh.Nonce, ch.Nonce) || r.records() != before {
		t.Fatalf("spent token answered with %+v", fresh)
	}
	r.flush()
	if n := r.store.count(reason.ChallengeSpent, ""); n != 1 {
		t.Errorf("counted %d times", n)
	}
	if _, err := h.attest(h.answer(*fresh)); err != nil {
		t.Errorf("the fresh challenge does not work: %v", err)
	}
}

// TestSpentTokenWithoutRandomness: the refusal stands, and no half of a
// challenge goes with it.
func TestSpentTokenWithoutRandomness(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	ch, err := h.askRenew()
	r.must(err)
	req := h.answer(ch)
	if _, err := h.attest(req); err != nil {
		t.Fatal(err)
	}
	r.random.fail(true)
	out, err := h.attest(req)
	wantCode(t, out, err, reason.ChallengeSpent)
	if refusalOf(t, err).Challenge != nil {
		t.Error("a challenge without a nonce")
	}
}

// TestInvariant5_RaceIsLostInTheStore: the node moves on between snapshot and
// commit; the loser gets a fresh challenge and nothing else.
func TestInvariant5_RaceIsLostInTheStore(t *testing.T) {
	for _, enrol := range []bool{false, true} {
		r := newRig(t)
		h := r.admitted()
		ch, err := h.askEnrol()
		r.must(err)
		if !enrol {
			h.enrol()
			ch, err = h.askRenew()
			r.must(err)
		}
		req := h.answer(ch)
		once := true
		r.store.onAppend = func(c ledger.Commit) error {
			if once && c.State != nil {
				once = false
				if _, err := h.attest(req); err != nil {
					t.Errorf("the winner: %v", err)
				}
			}
			return nil
		}
		out, err := h.attest(req)
		wantCode(t, out, err, reason.ChallengeSpent)
		if refusalOf(t, err).Challenge == nil {
			t.Errorf("enrol=%t: no fresh challenge", enrol)
		}
		r.store.onAppend = func(ledger.Commit) error {
			r.store.failing("NodeByID", reason.New(reason.StoreUnavailable, "away"))
			return reason.New(reason.ChallengeSpent, "")
		}
		ch, err = h.askRenew()
		r.must(err)
		h.prev = string(r.lastAttestation(h.node).ID.String())
		out, err = h.attest(h.answer(ch))
		wantCode(t, out, err, reason.ChallengeSpent)
		if refusalOf(t, err).Challenge != nil {
			t.Error("a challenge for a node that could not be read")
		}
	}
}

// TestAttestNodeIsGone: a node that vanished has to enrol again; its token is
// not worth a new one.
func TestAttestNodeIsGone(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	ch, err := h.askRenew()
	r.must(err)
	req := h.answer(ch)
	snap := r.store.snapshot(h.node)
	delete(r.store.nodes, ledger.NodeID(h.node))
	out, err := h.attest(req)
	wantCode(t, out, err, reason.ChallengeSpent)
	if refusalOf(t, err).Challenge != nil {
		t.Error("a challenge for no node")
	}
	// Even a token for version 0 makes no node without an enrolment.
	token, err := r.b.Reseal(req.Token, r.now(), ledger.NodeID(h.node), 0)
	r.must(err)
	req.Token = token
	out, err = h.attest(req)
	wantCode(t, out, err, reason.NodeNotAdmitted)
	r.store.nodes[ledger.NodeID(h.node)] = snap
	r.store.failing("NodeByID", reason.New(reason.StoreRowForged, "forged"))
	out, err = h.attest(req)
	wantCode(t, out, err, reason.StoreRowForged)
}

// TestT51_PolicyChangesBetweenChallengeAndAttest: the policy in force decides,
// and a PCR that it needs and nobody asked for is a PCR that was not quoted.
func TestT51_PolicyChangesBetweenChallengeAndAttest(t *testing.T) {
	r := newRig(t)
	h := r.enrolled("rack-7")
	h.minute()
	ch, err := h.askRenew()
	r.must(err)
	measured := strings.Replace(zoneLab, "evidence:", "requires: {references: [boot]}\nevidence:", 1)
	reference := "apiVersion: zonebroker/v1\nkind: ReferenceSet\nname: boot\nbank: sha256\npcrs: {9: [" + hexOf(h.tpm.PCRs[9]) + "]}\n"
	r.activate(measured, reference)
	out, err := h.attest(h.answer(ch))
	wantCode(t, out, err, reason.PolicyPCRMismatch)
	if body := r.lastAttestation(h.node); body.Policy.Version != 2 || body.Select != "ff0000" {
		t.Errorf("recorded with policy %d and selection %s", body.Policy.Version, body.Select)
	}
	got := h.renew()
	if r.lastAttestation(h.node).Select != "ff0200" || got.Zone != "lab" {
		t.Error("the next challenge does not ask for what the policy needs")
	}
	t.Run("stricter zone refuses evidence that was fine when asked for", func(t *testing.T) {
		h.minute()
		ch, err := h.askRenew()
		r.must(err)
		r.activate(strings.Replace(zoneLab, "selectors: {any: [{format: tpm2}]}", "selectors: {any: [{group: rack-8}]}", 1))
		out, err := h.attest(h.answer(ch))
		wantCode(t, out, err, reason.PolicyNoZone)
	})
}

// TestInvariant8_NoPolicyMeansNo: nothing is judged before a policy is active.
func TestInvariant8_T50_NoPolicyMeansNo(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	ch, err := h.askRenew()
	r.must(err)
	req := h.answer(ch)
	other, _ := r.newReplica("b")
	r.must(other.Start(t.Context()))
	out, err := other.Attest(t.Context(), broker.Caller{}, req)
	wantCode(t, out, err, reason.PolicyMissing)
	if _, err := other.Challenge(t.Context(), broker.Caller{}, api.ChallengeRequest{Format: "tpm2", AKName: h.tpm.AK.Name()}); reason.Of(err) != reason.PolicyMissing {
		t.Errorf("challenge without a policy: %v", err)
	}
	if _, err := other.ActivatePolicy(t.Context(), nil, ""); reason.Of(err) != reason.PolicyMissing {
		t.Errorf("no set: %v", err)
	}
}

// TestInvariant9_AnyReplicaOpensTheToken: a replica that was not there when the
// challenge was made needs nothing but the cluster key and the store.
func TestInvariant9_AnyReplicaOpensTheToken(t *testing.T) {
	r := newRig(t)
	h := r.admitted()
	other := r.over(r.store)
	for i, ask := range []func() (api.Challenge, error){h.askEnrol, h.askRenew} {
		ch, err := ask()
		r.must(err)
		out, err := other.Attest(t.Context(), broker.Caller{}, h.answer(ch))
		r.must(err)
		h.prev = out.AttestationID
		if body := r.lastAttestation(h.node); body.Replica != "c" || len(r.attestations(h.node)) != i+1 {
			t.Errorf("recorded by %s", body.Replica)
		}
		h.minute()
	}
}
