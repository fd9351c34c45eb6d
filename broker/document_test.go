package broker_test

import (
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// zoneGuests takes hosts that can prove nothing but a join token.
const zoneGuests = `apiVersion: zonebroker/v1
kind: Zone
name: guests
tier: 0
selectors: {any: [{format: jointoken}]}
admit: [join_token]
requires: {class: C, format: [jointoken]}
`

func emptyItem(_, _ [32]byte, _ time.Time) verifier.Item { return verifier.Item{} }

func (r *rig) guest() *docHost {
	r.t.Helper()
	h := r.newDocHost(verifier.FormatJoinToken, map[string]collect{verifier.FormatJoinToken: emptyItem})
	h.join = r.token(time.Hour)
	return h
}

// TestJoinTokenHost: a host with nothing but a token and a key enrols once, renews
// with the key, and is judged again from the history with the same outcome.
func TestJoinTokenHost(t *testing.T) {
	r := newRig(t, zoneGuests)
	h := r.guest()
	first := h.enrol()
	if first.Zone != "guests" || first.Tier != 0 {
		t.Fatalf("earned %+v", first)
	}
	again := h.renew()
	if again.Node != first.Node {
		t.Errorf("renewed as %s, enrolled as %s", again.Node, first.Node)
	}
	body := r.lastAttestation(first.Node)
	if body.RootKind != document.MachineKey || body.Format != verifier.FormatJoinToken || body.AdmittedBy != ledger.AdmitJoinToken {
		t.Errorf("recorded %+v", body)
	}
	j, err := r.b.JudgeAgain(t.Context(), body)
	r.must(err)
	if !j.Same || j.Refusal != nil {
		t.Errorf("judged again: same %v, %v", j.Same, j.Refusal)
	}
	other := r.guest()
	other.join = h.join
	if _, err := other.askEnrol(); reason.Of(err) != reason.NodeNotAdmitted {
		t.Errorf("the token a second time: %v", err)
	}
}

// TestDocumentTokenIsGoodOnce: one nonce, one acceptance, where the node comes out
// only after judging.
func TestDocumentTokenIsGoodOnce(t *testing.T) {
	r := newRig(t, zoneGuests)
	h := r.guest()
	ch, err := h.askEnrol()
	r.must(err)
	req := h.answer(ch)
	if _, err := r.b.Attest(t.Context(), broker.Caller{}, req); err != nil {
		t.Fatal(err)
	}
	_, err = r.b.Attest(t.Context(), broker.Caller{}, req)
	refusal, ok := errors.AsType[*api.Refusal](err)
	if !ok || reason.Of(err) != reason.ChallengeSpent || refusal.Challenge == nil || refusal.Challenge.Purpose != api.PurposeRenew {
		t.Errorf("the token again: %v", err)
	}
	if n := len(r.attestations(string(r.nodeOf(h)))); n != 1 {
		t.Errorf("%d records", n)
	}
}

func (r *rig) nodeOf(h *docHost) ledger.NodeID {
	m := document.Machine{Kind: document.MachineKey, Name: hex.EncodeToString(verifier.AgentKeyName(h.public()))}
	return ledger.DeriveNodeID(testDomain, m.Kind, m.Hash())
}

// TestAgentKeyIsProved: the name of a key is no secret, so that a challenge for it
// must be worth nothing to who does not hold it.
func TestAgentKeyIsProved(t *testing.T) {
	r := newRig(t, zoneGuests)
	h := r.guest()
	h.enrol()
	before := r.records()
	h.forge = true
	if _, err := h.tryRenew(); reason.Of(err) != reason.AgentSignature {
		t.Errorf("another key's signature: %v", err)
	}
	thief := r.newDocHost(h.format, h.collect)
	h.forge = false
	r.wait(time.Minute)
	ch, err := h.askRenew()
	r.must(err)
	if _, err := thief.attest(ch, nil); reason.Of(err) != reason.ChallengeWrongNode {
		t.Errorf("another key: %v", err)
	}
	if r.records() != before {
		t.Error("strangers made records")
	}
}

func TestDocumentChallengesAreStrict(t *testing.T) {
	r := newRig(t, zoneGuests)
	h := r.guest()
	tpm := r.newHost()
	for name, c := range map[string]struct {
		req  api.ChallengeRequest
		want reason.Code
	}{
		"agent for an EK format": {api.ChallengeRequest{Format: "tpm2", Purpose: "enrol", Agent: &api.AgentEnrol{Public: h.public()}}, reason.RequestMalformed},
		"EK for a document":      {api.ChallengeRequest{Format: "jointoken", Purpose: "enrol", Enrol: &api.Enrol{EKPublic: tpm.tpm.EK.Public, AKPublic: tpm.tpm.AK.Public}}, reason.RequestMalformed},
		"AK where none quotes":   {api.ChallengeRequest{Format: "jointoken", Purpose: "enrol", Agent: &api.AgentEnrol{AKPublic: tpm.tpm.AK.Public, JoinToken: h.join}}, reason.RequestMalformed},
		"no token":               {api.ChallengeRequest{Format: "jointoken", Purpose: "enrol", Agent: &api.AgentEnrol{Public: h.public()}}, reason.NodeNotAdmitted},
		"no key":                 {api.ChallengeRequest{Format: "jointoken", Purpose: "enrol", Agent: &api.AgentEnrol{Public: []byte("key"), JoinToken: h.join}}, reason.RequestMalformed},
		"unknown format":         {api.ChallengeRequest{Format: "horoscope", Purpose: "enrol", Agent: &api.AgentEnrol{Public: h.public()}}, reason.RequestUnknownFormat},
		"a GPU names no node":    {api.ChallengeRequest{Format: "nvidia", Purpose: "enrol", Agent: &api.AgentEnrol{Public: h.public()}}, reason.RequestUnknownFormat},
	} {
		if _, err := r.b.Challenge(t.Context(), broker.Caller{}, c.req); reason.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	r.activate(zoneLab)
	if _, err := h.askEnrol(); reason.Of(err) != reason.PolicyNoZone {
		t.Errorf("a format that no zone takes: %v", err)
	}
}
