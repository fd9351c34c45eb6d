package broker_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// lineageOf is a node after three accepted attestations, the first two of them
// confirmed.
func lineageOf(t *testing.T) (r *rig, h *host, ids [3]string) {
	t.Helper()
	r = newRig(t)
	h = r.admitted()
	ids = [3]string{h.enrol().AttestationID, h.renew().AttestationID, h.renew().AttestationID}
	return r, h, ids
}

// TestLineage is what the request's prev says about who received what: a copy
// of a machine cannot know the newest id for long.
func TestLineage(t *testing.T) {
	for _, tt := range []struct {
		name      string
		prev      func(ids [3]string) string
		event     reason.Code
		want      reason.Code
		confirmed int // index into the ids, -1 for none
		void      int
	}{
		{"the last one", func(ids [3]string) string { return ids[2] }, "", "", 2, -1},
		{"the last confirmed one: its answer was lost", func(ids [3]string) string { return ids[1] }, reason.NodeAnswerLost, "", 1, 2},
		{"none: state lost", func([3]string) string { return "" }, reason.NodeStateLost, "", -1, -1},
		{"an older one: a clone", func(ids [3]string) string { return ids[0] }, "", reason.NodeForkSuspected, -1, -1},
		{"never given", func([3]string) string { return uuid.NewString() }, "", reason.NodeForkSuspected, -1, -1},
		{"the nil id, which is nobody's", func([3]string) string { return uuid.Nil.String() }, "", reason.NodeForkSuspected, -1, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, h, ids := lineageOf(t)
			id := func(i int) string {
				if i < 0 {
					return ""
				}
				return ids[i]
			}
			h.prev = tt.prev(ids)
			out, err := h.tryRenew()
			wantCode(t, out, err, tt.want)
			body, st := r.lastAttestation(h.node), h.state()
			if body.Prev != h.prev || body.Void != id(tt.void) {
				t.Errorf("recorded prev %q, void %q, want void %q", body.Prev, body.Void, id(tt.void))
			}
			if tt.event != "" && !slices.Contains(body.Events, string(tt.event)) || tt.event == "" && len(body.Events) > 0 {
				t.Errorf("events %v, want %q", body.Events, tt.event)
			}
			if tt.want == "" {
				if !slices.Equal(out.Events, body.Events) {
					t.Errorf("the host is told %v, the history %v", out.Events, body.Events)
				}
				if st.Last.String() != out.AttestationID || idString(st.Confirmed) != id(tt.confirmed) {
					t.Errorf("last %s, confirmed %s; want confirmed %q", st.Last, st.Confirmed, id(tt.confirmed))
				}
				return
			}
			if h.row().Status != ledger.StatusForkSuspected || body.NodeStatus != "fork_suspected" || st.Last.String() != ids[2] {
				t.Errorf("after a fork the node is %s with last %s", h.row().Status, st.Last)
			}
		})
	}
}

func idString(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

// TestLineageBeforeAnyConfirmation: nobody confirmed anything yet, so the nil id
// confirms nothing.
func TestLineageBeforeAnyConfirmation(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.prev = uuid.Nil.String()
	out, err := h.tryRenew()
	wantCode(t, out, err, reason.NodeForkSuspected)
}

// TestLineageOfClonesThatTakeTurns: each of two copies goes on with what it got;
// the second one to come is caught, and both are told.
func TestLineageOfClonesThatTakeTurns(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	clone := *h
	h.renew()
	h.renew()
	out, err := clone.tryRenew()
	wantCode(t, out, err, reason.NodeForkSuspected)
	out, err = h.tryRenew()
	wantCode(t, out, err, reason.NodeForkSuspected)
	if n := len(r.lastAttestation(h.node).Reasons); n != 1 {
		t.Errorf("a node that waits for an operator learns %d reasons about its evidence", n)
	}
}

// TestLineageAfterApproval: an operator's word takes the next clock and prev as
// they come, once.
func TestLineageAfterApproval(t *testing.T) {
	r, h, ids := lineageOf(t)
	h.prev = ids[0]
	if out, err := h.tryRenew(); reason.Of(err) != reason.NodeForkSuspected {
		t.Fatalf("%v %v", out, err)
	}
	ch, err := h.askRenew()
	r.must(err)
	before := h.answer(ch)
	if _, err := r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{Note: "one was switched off"}); err != nil {
		t.Fatal(err)
	}
	if !h.state().Rebaseline || h.row().Status != ledger.StatusActive {
		t.Fatalf("after the approval: %+v, %s", h.state(), h.row().Status)
	}
	out, err := h.attest(before)
	wantCode(t, out, err, reason.ChallengeSpent)

	h.tpm.Clock = tpm2.Clock{Millis: 7, Safe: true} // TPM2_Clear
	h.prev = ids[0]
	got := h.renew()
	body := r.lastAttestation(h.node)
	if len(got.Events) > 0 || body.Baseline != nil || h.state().Rebaseline {
		t.Errorf("events %v, baseline %v, rebaseline %t", got.Events, body.Baseline, h.state().Rebaseline)
	}
	h.renew()
	h.prev = ids[0]
	out, err = h.tryRenew()
	wantCode(t, out, err, reason.NodeForkSuspected)
}

// TestLineageOfADeniedRequest: what a denial says of prev counts too. The answer
// that the host never saw stays lost, and a denial confirms nothing new.
func TestLineageOfADeniedRequest(t *testing.T) {
	r, h, ids := lineageOf(t)
	good := h.tpm.EventLog
	h.tpm.EventLog = good[:100]
	h.prev = ids[1]
	out, err := h.tryRenew()
	wantCode(t, out, err, reason.EventLogTruncated)
	if body := r.lastAttestation(h.node); body.Void != ids[2] || !slices.Contains(body.Events, string(reason.NodeAnswerLost)) {
		t.Errorf("recorded void %q, events %v", body.Void, body.Events)
	}
	if h.state().Last.String() != ids[1] {
		t.Errorf("last is %s; the answer that nobody got is void for good", h.state().Last)
	}
	h.tpm.EventLog = good
	t.Run("the void one is nobody's any more", func(t *testing.T) {
		h.prev = ids[2]
		out, err := h.tryRenew()
		wantCode(t, out, err, reason.NodeForkSuspected)
	})
}

// TestStatuses: only an active node can earn anything, and one that is not
// learns nothing about its evidence.
func TestStatuses(t *testing.T) {
	for status, want := range map[ledger.Status]reason.Code{
		ledger.StatusDisabled:      reason.NodeDisabled,
		ledger.StatusPending:       reason.NodeAdmissionPending,
		ledger.StatusForkSuspected: reason.NodeForkSuspected,
		"unheard of":               reason.NodeDisabled,
	} {
		t.Run(string(status), func(t *testing.T) {
			r := newRig(t)
			h := r.enrolled()
			r.store.change(h.node, func(s *ledger.Snapshot) { s.Node.Status = status })
			h.tpm.EventLog = nil
			h.tpm.PCRs[4] = [32]byte{9}
			out, err := h.tryRenew()
			wantCode(t, out, err, want)
			refusal := refusalOf(t, err)
			if len(refusal.Reasons) != 1 || refusal.Stranger {
				t.Errorf("reasons %v, stranger %t", refusal.Reasons, refusal.Stranger)
			}
			body := r.lastAttestation(h.node)
			if body.Verdict != ledger.VerdictDeny || len(body.SVIDs) > 0 || body.FreshUntil != 0 || body.Reasons[0].Code != string(want) || body.Zone != "" {
				t.Errorf("recorded: %+v", body)
			}
			if h.row().Status != status {
				t.Errorf("a denial made the node %s", h.row().Status)
			}
		})
	}
}
