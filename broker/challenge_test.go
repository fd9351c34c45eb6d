package broker_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestEnrolmentRefusedCheaply: from cheap to dear. A bad key costs no read, a
// stranger no credential.
func TestEnrolmentRefusedCheaply(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *rig, h *host)
		want   reason.Code
	}{
		{"EK that is none", func(_ *rig, h *host) { h.tpm.EK = &evidencetest.EK{Public: []byte{0}} }, reason.TPM2EKEncoding},
		{"AK that is none", func(_ *rig, h *host) { h.tpm.AK = &evidencetest.Key{Public: []byte{0}} }, reason.TPM2AKEncoding},
		{"a key that is no AK", func(r *rig, h *host) { h.tpm.AK = evidencetest.NewSVIDKey(r.t) }, reason.TPM2AKNotRestricted},
		{"the store is away for the admission", func(r *rig, h *host) {
			*h = *r.newHost()
			r.store.failing("AdmissionByEK", reason.New(reason.StoreUnavailable, "away"))
		}, reason.StoreUnavailable},
		{"the store is away for the token", func(r *rig, h *host) {
			*h = *r.newHost()
			h.join = "x"
			r.store.failing("JoinTokenByHash", reason.New(reason.StoreUnavailable, "away"))
		}, reason.StoreUnavailable},
		{"the store is away for the node", func(r *rig, _ *host) {
			r.store.failing("NodeByID", reason.New(reason.StoreUnavailable, "away"))
		}, reason.StoreUnavailable},
		{"no random bytes", func(r *rig, _ *host) { r.random.fail(true) }, reason.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			h := r.admitted()
			reads := r.store.reads["AdmissionByEK"] + r.store.reads["NodeByID"]
			tt.change(r, h)
			ch, err := h.askEnrol()
			if reason.Of(err) != tt.want || ch.Token != "" || ch.Credential != nil {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if strings.Contains(string(tt.want), "tpm2.") && r.store.reads["AdmissionByEK"]+r.store.reads["NodeByID"] != reads {
				t.Error("a malformed key cost a read")
			}
		})
	}
	t.Run("a machine in memory costs no read of its admission", func(t *testing.T) {
		r := newRig(t)
		h := r.admitted()
		if _, err := h.askEnrol(); err != nil || r.store.reads["AdmissionByEK"] != 0 {
			t.Errorf("%d reads, %v", r.store.reads["AdmissionByEK"], err)
		}
	})
	t.Run("one admitted a moment ago by another replica is found by a read", func(t *testing.T) {
		r := newRig(t)
		h := r.newHost()
		other, _ := r.newReplica("b")
		r.must(other.Start(t.Context()))
		ek := h.tpm.EK.RootHash(t)
		_, err := other.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{hexOf(ek)}})
		r.must(err)
		h.enrol()
	})
}

// TestChallengeUnknownFormat: only formats that there is a verifier for.
func TestChallengeUnknownFormat(t *testing.T) {
	r := newRig(t)
	_, err := r.b.Challenge(t.Context(), broker.Caller{}, api.ChallengeRequest{Format: "sgx", Purpose: "renew", AKName: []byte{1}})
	if reason.Of(err) != reason.RequestUnknownFormat || !refusalOf(t, err).Stranger {
		t.Errorf("%v", err)
	}
	r.flush()
	if r.store.count(reason.RequestUnknownFormat, "") != 1 {
		t.Error("not counted")
	}
}

func TestChallengeRenewal(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	seen := map[string]bool{}
	for range 50 {
		ch, err := h.askRenew()
		r.must(err)
		if ch.Purpose != "renew" || len(ch.Nonce) != 32 || ch.Credential != nil || !ch.ExpiresAt.Equal(r.now().Add(time.Minute)) || ch.Select != "ff0000" {
			t.Fatalf("challenge %+v", ch)
		}
		if seen[string(ch.Nonce)] || seen[ch.Token] {
			t.Fatal("a nonce or token came twice")
		}
		seen[string(ch.Nonce)], seen[ch.Token] = true, true
	}
	r.store.failing("NodeByAK", reason.New(reason.StoreUnavailable, "away"))
	_, err := h.askRenew()
	if _, refused := errors.AsType[*api.Refusal](err); reason.Of(err) != reason.StoreUnavailable || refused {
		t.Errorf("a fault of ours is told as a refusal: %v", err)
	}
	r.store.failing("NodeByAK", nil)
	r.random.fail(true)
	if _, err := h.askRenew(); err == nil {
		t.Error("a challenge without random bytes")
	}
}

// TestEnrolmentIsBounded: the credential is the dear part, and strangers can ask
// for it.
func TestEnrolmentIsBounded(t *testing.T) {
	t.Run("by rate", func(t *testing.T) {
		r := newRig(t)
		h := r.admitted()
		for range broker.EnrolmentRate {
			if _, err := h.askEnrol(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.askEnrol(); reason.Of(err) != reason.RequestOverloaded {
			t.Errorf("one more within the second: %v", err)
		}
		r.wait(time.Second / broker.EnrolmentRate)
		if _, err := h.askEnrol(); err != nil {
			t.Errorf("a moment later: %v", err)
		}
	})
	t.Run("by slots, for at most a second", func(t *testing.T) {
		r := newRig(t)
		h := r.admitted()
		ch, err := h.askEnrol()
		r.must(err)
		known := r.enrolled()
		free := r.b.FillEnrolSlots()
		begun := time.Now()
		if _, err := h.askEnrol(); reason.Of(err) != reason.RequestOverloaded {
			t.Errorf("%v", err)
		}
		if took := time.Since(begun); took < 900*time.Millisecond || took > 10*time.Second {
			t.Errorf("waited %s", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := &api.Enrol{EKPublic: h.tpm.EK.Public, AKPublic: h.tpm.AK.Public}
		if _, err := r.b.Challenge(ctx, broker.Caller{}, api.ChallengeRequest{Format: "tpm2", Enrol: e}); err == nil {
			t.Error("a client that left got a credential")
		}
		// Judging a new machine's certificates waits for a slot as well; a node does
		// not.
		out, err := h.attest(h.answer(ch))
		wantCode(t, out, err, reason.RequestOverloaded)
		known.renew()
		free()
		// Every slot comes back, also after refusals.
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := h.askEnrol(); err != nil {
					t.Errorf("after the slots were free: %v", err)
				}
			})
		}
		all.Wait()
		if _, err := h.attest(h.answer(ch)); err != nil {
			t.Error(err)
		}
		r.b.FillEnrolSlots()()
	})
}

// TestPendingQueueIsBounded: what strangers can fill has a bound, and a machine
// that asks again takes no second place.
func TestPendingQueueIsBounded(t *testing.T) {
	r := newRig(t)
	h := r.newHost()
	ask := func() reason.Code {
		_, err := h.askEnrol()
		return reason.Of(err)
	}
	first := r.now()
	if got := ask(); got != reason.NodeAdmissionPending {
		t.Fatalf("code %q", got)
	}
	r.wait(time.Second)
	ask()
	known := h.tpm.EK
	for range broker.PendingCap - 1 {
		h.tpm.EK = evidencetest.NewEK(t)
		if got := ask(); got != reason.NodeAdmissionPending {
			t.Fatalf("code %q", got)
		}
	}
	h.tpm.EK = evidencetest.NewEK(t)
	if got := ask(); got != reason.NodeNotAdmitted {
		t.Errorf("past the bound: %q", got)
	}
	h.tpm.EK = known
	if got := ask(); got != reason.NodeAdmissionPending {
		t.Errorf("a machine that waits already: %q", got)
	}
	r.must(r.b.FlushPending(t.Context()))
	p := r.store.pending[known.RootHash(t)]
	if len(r.store.pending) != broker.PendingCap || !p.FirstSeen.Equal(first) || !p.LastSeen.Equal(r.now()) || !bytes.Equal(p.EKPublic, known.Public) {
		t.Errorf("%d written, first seen %s", len(r.store.pending), p.FirstSeen)
	}
	reads := r.store.reads["AddPending"]
	r.must(r.b.FlushPending(t.Context()))
	if r.store.reads["AddPending"] != reads {
		t.Error("an empty queue was written")
	}
}
