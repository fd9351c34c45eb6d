package broker_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// readsOf counts the readings of nodes meanwhile.
func (r *rig) readsOf(fn func()) int {
	r.t.Helper()
	count := func() int {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		return r.store.reads["NodeByID"] + r.store.reads["NodeByAK"]
	}
	before := count()
	fn()
	return count() - before
}

func (r *rig) wantReads(want int, what string, fn func()) {
	r.t.Helper()
	if n := r.readsOf(fn); n != want {
		r.t.Errorf("%s: the node was read %d times, want %d", what, n, want)
	}
}

// TestNodeIsReadOnce: what the challenge read serves the attestation.
func TestNodeIsReadOnce(t *testing.T) {
	r := newRig(t)
	h := r.admitted()
	r.wantReads(1, "first contact", func() { h.enrol() })
	r.wantReads(1, "renewal", func() { h.renew() })
	h.minute()
	r.wantReads(1, "enrolling again", func() { h.enrol() })
	if n := r.b.KeptNodes(); n != 0 {
		t.Errorf("%d snapshots are kept of no challenge", n)
	}
	r.wantReads(2, "refusal", func() {
		h.minute()
		h.prev = uuid.NewString()
		out, err := h.tryRenew()
		wantCode(t, out, err, reason.NodeForkSuspected)
	})
}

// TestFreshChallengeOfASpentTokenIsOne: its snapshot is that of the answer.
func TestFreshChallengeOfASpentTokenIsOne(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.minute()
	ch, err := h.askRenew()
	r.must(err)
	r.store.change(h.node, func(*ledger.Snapshot) {})
	_, err = h.attest(h.answer(ch))
	fresh := refusalOf(t, err).Challenge
	r.wantReads(0, "the fresh challenge", func() {
		_, err := h.attest(h.answer(*fresh))
		r.must(err)
	})
}

// TestT4_ReplayIsReadBeforeItIsVerified: a snapshot serves once, so that a token
// sent again is spent before anybody looks at its signature.
func TestT4_ReplayIsReadBeforeItIsVerified(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.minute()
	ch, err := h.askRenew()
	r.must(err)
	req := h.answer(ch)
	_, err = h.attest(req)
	r.must(err)
	for range 3 {
		r.wantReads(1, "replay", func() {
			steps := r.traced(func() {
				out, err := h.attest(req)
				wantCode(t, out, err, reason.ChallengeSpent)
			})
			if slices.Contains(steps, "broker.verify") {
				t.Error("a replayed token bought a verification")
			}
		})
	}
}

// TestManyOfOneToken: one of many at once is accepted, whichever of them has the
// snapshot.
func TestManyOfOneToken(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.minute()
	ch, err := h.askRenew()
	r.must(err)
	req := h.answer(ch)
	var wg sync.WaitGroup
	codes := make(chan reason.Code, 10)
	for range cap(codes) {
		wg.Go(func() {
			_, err := h.attest(req)
			codes <- reason.Of(err)
		})
	}
	wg.Wait()
	close(codes)
	accepted := 0
	for code := range codes {
		switch code {
		case "":
			accepted++
		case reason.ChallengeSpent:
		default:
			t.Errorf("code %q", code)
		}
	}
	if n := len(r.attestations(h.node)); accepted != 1 || n != 2 {
		t.Errorf("%d were accepted, %d are recorded", accepted, n)
	}
}

// TestChangedNodeEarnsNothing: whatever becomes of a node between challenge and
// attestation, at whichever replica, the snapshot from before earns no SVID and
// writes nothing, neither at a renewal nor at an enrolment.
func TestChangedNodeEarnsNothing(t *testing.T) {
	changes := map[string]func(r *rig, h *host) error{
		"disabled": func(r *rig, h *host) error {
			_, err := r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{})
			return err
		},
		"disabled by another replica": func(r *rig, h *host) error {
			_, err := r.over(r.store).Disable(t.Context(), operator, h.node, api.DisableRequest{})
			return err
		},
		"approved": func(r *rig, h *host) error {
			_, err := r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{})
			return err
		},
		"other groups": func(r *rig, h *host) error {
			r.admit(h, "", "rack-8")
			_, err := h.tryEnrol()
			return err
		},
		"attested elsewhere": func(r *rig, h *host) error {
			other := r.over(r.store)
			ch, err := other.Challenge(t.Context(), broker.Caller{}, api.ChallengeRequest{Format: "tpm2", Purpose: "renew", AKName: h.tpm.AK.Name()})
			if err == nil {
				_, err = other.Attest(t.Context(), broker.Caller{}, h.answer(ch))
			}
			return err
		},
		"fork suspected": func(r *rig, h *host) error {
			prev := h.prev
			h.prev = uuid.NewString()
			defer func() { h.prev = prev }()
			ch, err := r.over(r.store).Challenge(t.Context(), broker.Caller{}, api.ChallengeRequest{Format: "tpm2", Purpose: "renew", AKName: h.tpm.AK.Name()})
			r.must(err)
			if _, err = r.b.Attest(t.Context(), broker.Caller{}, h.answer(ch)); reason.Of(err) == reason.NodeForkSuspected {
				err = nil
			}
			return err
		},
		"anything": func(r *rig, h *host) error { r.store.change(h.node, func(*ledger.Snapshot) {}); return nil },
	}
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		for purpose, ask := range map[string]func(*host) (api.Challenge, error){"renew": (*host).askRenew, "enrol": (*host).askEnrol} {
			t.Run(name+"/"+purpose, func(t *testing.T) {
				r := newRig(t)
				h := r.enrolled()
				h.minute()
				ch, err := ask(h)
				r.must(err)
				req := h.answer(ch)
				h.tpm.Wait(time.Second)
				before := r.store.snapshot(h.node)
				r.must(changes[name](r, h))
				// That of the first challenge, whatever was asked for since.
				r.b.Keep(ledger.NodeID(h.node), before, r.now(), r.now().Add(time.Minute))
				records, state := r.records(), h.state()
				var out api.AttestResponse
				steps := r.traced(func() { out, err = h.attest(req) })
				wantCode(t, out, err, reason.ChallengeSpent)
				if !slices.Contains(steps, "broker.record") || slices.Contains(steps, "broker.sign") {
					t.Errorf("steps %v", steps)
				}
				if r.records() != records || h.state().Version != state.Version {
					t.Error("something was written")
				}
				if refusalOf(t, err).Challenge == nil {
					t.Error("no fresh challenge")
				}
			})
		}
	}
}

// TestStaleRefusalIsNotSaid: a refusal for a reason that is over since the
// challenge is challenge.spent and counts as nothing else, also where it would
// have been no record, so that no commit would have found out; what the next
// challenge brings is the truth.
func TestStaleRefusalIsNotSaid(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	_, err := r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{})
	r.must(err)
	for range broker.MaxFullRepeats + 2 {
		out, err := h.tryRenew()
		wantCode(t, out, err, reason.NodeDisabled)
	}
	h.minute()
	ch, err := h.askRenew()
	r.must(err)
	req := h.answer(ch)
	_, err = r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{})
	r.must(err)
	r.flush()
	records, counted := r.records(), r.store.count(reason.NodeDisabled, h.node)
	if counted == 0 {
		t.Fatal("all refusals are records")
	}
	out, err := h.attest(req)
	wantCode(t, out, err, reason.ChallengeSpent)
	r.flush()
	if r.records() != records || r.store.count(reason.NodeDisabled, h.node) != counted {
		t.Error("a refusal from before was counted or recorded")
	}
	if _, err := h.attest(h.answer(*refusalOf(t, err).Challenge)); err != nil {
		t.Errorf("an approved node: %v", err)
	}
	t.Run("that cannot be compared", func(t *testing.T) {
		h := r.enrolled()
		_, err := r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{})
		r.must(err)
		ch, err := h.askRenew()
		r.must(err)
		r.store.failing("NodeByID", reason.New(reason.StoreUnavailable, "away"))
		records := r.records()
		out, err := h.attest(h.answer(ch))
		wantCode(t, out, err, reason.StoreUnavailable)
		if r.records() != records {
			t.Error("a refusal was recorded")
		}
	})
}

// TestRefusalOfADisabledNode: a node that is disabled after its challenge hears of
// it with the next one.
func TestRefusalOfADisabledNode(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.minute()
	ch, err := h.askRenew()
	r.must(err)
	req := h.answer(ch)
	_, err = r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{})
	r.must(err)
	out, err := h.attest(req)
	wantCode(t, out, err, reason.ChallengeSpent)
	out, err = h.attest(h.answer(*refusalOf(t, err).Challenge))
	wantCode(t, out, err, reason.NodeDisabled)
}

// TestKeptNodesAreBounded: in number, in size and in time; the oldest goes first.
func TestKeptNodesAreBounded(t *testing.T) {
	r := newRig(t)
	now := r.now()
	later := now.Add(time.Minute)
	id := func(i int) ledger.NodeID { return ledger.NodeID(fmt.Sprint("node ", i)) }
	snap := func(version int64) ledger.Snapshot {
		return ledger.Snapshot{Found: true, State: ledger.NodeState{Version: version}}
	}
	for i := range broker.MaxKeptNodes + 10 {
		r.b.Keep(id(i), snap(1), now, later)
	}
	if n := r.b.KeptNodes(); n != broker.MaxKeptNodes {
		t.Errorf("%d are kept", n)
	}
	for i, want := range map[int]bool{0: false, 9: false, 10: true, broker.MaxKeptNodes + 9: true} {
		if _, ok := r.b.TakeKept(id(i), 1, now); ok != want {
			t.Errorf("number %d kept: %t", i, ok)
		}
	}
	if _, ok := r.b.TakeKept(id(10), 1, now); ok {
		t.Error("one was taken twice")
	}
	if _, ok := r.b.TakeKept(id(11), 2, now); ok {
		t.Error("one of another version was taken")
	}
	if _, ok := r.b.TakeKept(id(11), 1, later); ok {
		t.Error("one was taken at its end")
	}
	// The next challenge sweeps what has ended.
	r.b.Keep(id(1), snap(1), later, later.Add(time.Minute))
	if n := r.b.KeptNodes(); n != 1 {
		t.Errorf("%d are kept past their end", n)
	}
	r.b.Keep(id(1), snap(2), later, later.Add(time.Minute))
	if got, ok := r.b.TakeKept(id(1), 2, later); !ok || got.State.Version != 2 || r.b.KeptNodes() != 0 {
		t.Error("a later challenge does not take the place of an older one")
	}
	r.b.Keep(id(1), snap(1), later, now)
	if n := r.b.KeptNodes(); n != 0 {
		t.Errorf("%d are kept that ended before", n)
	}
	large := snap(1)
	large.Node.EKPublic = make([]byte, broker.MaxKeptBytes)
	r.b.Keep(id(1), large, later, later.Add(time.Minute))
	if n := r.b.KeptNodes(); n != 1 {
		t.Errorf("%d of the largest are kept", n)
	}
	large.Node.Groups = []string{""}
	r.b.Keep(id(2), large, later, later.Add(time.Minute))
	if n := r.b.KeptNodes(); n != 1 {
		t.Error("one that is too large was kept")
	}
}
