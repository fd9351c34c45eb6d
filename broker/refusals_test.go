package broker_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestRepeatsAreCounted: the first refusals of a kind are records, the rest a
// count: nobody fills a history that cannot be deleted.
func TestRepeatsAreCounted(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	good := h.tpm.EventLog
	h.tpm.EventLog = good[:100]
	const more = 4
	for i := range broker.MaxFullRepeats + more {
		out, err := h.tryRenew()
		wantCode(t, out, err, reason.EventLogTruncated)
		if refusalOf(t, err).Stranger {
			t.Error("a node is told like a stranger")
		}
		full := min(i+1, broker.MaxFullRepeats)
		if n := len(r.attestations(h.node)); n != 1+full || h.state().Repeats != int64(full) {
			t.Fatalf("after refusal %d: %d records, %d repeats", i+1, n, h.state().Repeats)
		}
	}
	r.flush()
	if n := r.store.count(reason.EventLogTruncated, h.node); n != more {
		t.Errorf("%d repeats rolled up, want %d", n, more)
	}
	t.Run("another kind is a record again", func(t *testing.T) {
		h.tpm.EventLog = nil
		h.tpm.PCRs[4] = [32]byte{9}
		out, err := h.tryRenew()
		wantCode(t, out, err, reason.EventLogMissing)
		if h.state().Repeats != 1 || h.state().Reason != string(reason.EventLogMissing) {
			t.Errorf("repeats %d of %s", h.state().Repeats, h.state().Reason)
		}
	})
	t.Run("kinds that take turns are bounded as well", func(t *testing.T) {
		begun := len(r.attestations(h.node))
		for i := range 20 {
			if h.tpm.EventLog = nil; i%2 == 0 {
				h.tpm.EventLog = good[:100]
			}
			if _, err := h.tryRenew(); err == nil {
				t.Fatal("accepted")
			}
		}
		if n := len(r.attestations(h.node)) - begun; n >= broker.MaxFullRepeats {
			t.Errorf("%d more records of two known kinds", n)
		}
	})
	t.Run("an acceptance ends the series", func(t *testing.T) {
		h.tpm.EventLog = good
		h.tpm.PCRs = r.enrolled().tpm.PCRs
		h.renew()
		if st := h.state(); st.Repeats != 0 || st.Reason != "" || st.Verdict != ledger.VerdictAllow {
			t.Errorf("state %+v", st)
		}
	})
	t.Run("the next hour is told in full again", func(t *testing.T) {
		h.tpm.EventLog = good[:100]
		r.wait(time.Hour)
		n := len(r.attestations(h.node))
		out, err := h.tryRenew()
		wantCode(t, out, err, reason.EventLogTruncated)
		if len(r.attestations(h.node)) != n+1 {
			t.Error("not recorded")
		}
	})
}

// TestT54_RefusalsThatChangeTheNodeAreRecorded: however often a host changes
// between good and bad, a refusal ends what the acceptance before it allowed,
// and a suspected fork stops the node.
func TestT54_RefusalsThatChangeTheNodeAreRecorded(t *testing.T) {
	r, h, c := newLater(t)
	good := h.tpm.EventLog
	for round := range broker.MaxFullRepeats + 2 {
		h.tpm.EventLog = good[:100]
		out, err := h.tryRenew()
		wantCode(t, out, err, reason.EventLogTruncated)
		if st := h.state(); st.Verdict != ledger.VerdictDeny {
			t.Fatalf("round %d: the node stands as %s", round, st.Verdict)
		}
		if _, err := r.svid(c, "web"); reason.Of(err) != reason.PolicyEvidenceAge {
			t.Fatalf("round %d: after the refusal an SVID is answered with %v", round, err)
		}
		kept := h.prev
		h.tpm.EventLog, h.prev = good, uuid.NewString()
		out, err = h.tryRenew()
		wantCode(t, out, err, reason.NodeForkSuspected)
		if got := h.row().Status; got != ledger.StatusForkSuspected {
			t.Fatalf("round %d: the node is %s", round, got)
		}
		r.must(second(r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{})))
		h.prev = kept
		c = h.callerOf(h.renew())
		if _, err := r.svid(c, "web"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDenialMovesNoBaseline: the last accepted boot stays the one to compare
// with, and the drift is told.
func TestDenialMovesNoBaseline(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	before := h.state()
	h.tpm.Extend(4, [32]byte{1})
	h.tpm.Firmware++
	out, err := h.tryRenew()
	wantCode(t, out, err, reason.EventLogReplayMismatch)
	want := before
	want.Version, want.LastAttemptAt, want.Repeats = 2, r.now(), 1
	want.Verdict, want.Reason = ledger.VerdictDeny, string(reason.EventLogReplayMismatch)
	got := h.state()
	if seen := got.Measured(); seen.PCRs["4"] != hexOf(h.tpm.PCRs[4]) || seen.Firmware != strconv.FormatUint(h.tpm.Firmware, 10) || seen.SecureBoot != "on" {
		t.Errorf("the attempt showed %+v", seen)
	}
	want.Seen = got.Seen
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	var kinds []string
	for _, d := range r.store.commits[len(r.store.commits)-1].Drift {
		kinds = append(kinds, d.Kind)
	}
	if diff := cmp.Diff([]string{"pcr.4", "firmware", "verdict", "reason"}, kinds); diff != "" {
		t.Errorf("drift (-want +got):\n%s", diff)
	}
	body := r.lastAttestation(h.node)
	if len(body.Reasons) != 1 || body.Reasons[0].Detail == "" || !slices.Equal(body.Events, []string{string(reason.TPM2FirmwareChanged)}) {
		t.Errorf("record: reasons %v, events %v", body.Reasons, body.Events)
	}
}

// TestRateOfOneNode: whatever the outcome, a node cannot have more recorded.
func TestRateOfOneNode(t *testing.T) {
	r := newRig(t)
	h, other := r.enrolled(), r.enrolled()
	try := func(h *host) error {
		ch, err := h.askRenew()
		r.must(err)
		out, err := h.attest(h.answer(ch))
		if err == nil {
			h.prev = out.AttestationID
		}
		return err
	}
	for i := range 9 {
		if err := try(h); err != nil {
			t.Fatalf("attempt %d: %v", i+2, err)
		}
	}
	n := r.records()
	if err := try(h); reason.Of(err) != reason.RequestRateLimited || r.records() != n {
		t.Errorf("the eleventh in a minute: %v", err)
	}
	if err := try(other); err != nil {
		t.Errorf("another node: %v", err)
	}
	h.minute()
	if err := try(h); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

// TestNodeRatesAreBounded: past the bound all begin anew, and not before.
func TestNodeRatesAreBounded(t *testing.T) {
	r := newRig(t)
	for i := range broker.MaxNodeRates {
		if !r.b.AllowNode(ledger.NodeID(fmt.Sprint(i)), r.now()) || r.b.NodeRates() != i+1 {
			t.Fatalf("node %d, %d buckets", i, r.b.NodeRates())
		}
	}
	if !r.b.AllowNode("one more", r.now()) || r.b.NodeRates() != 1 {
		t.Errorf("%d buckets past the bound", r.b.NodeRates())
	}
}

// TestRefusalCounter: counts survive an outage of the database, and have a
// bound.
func TestRefusalCounter(t *testing.T) {
	r := newRig(t)
	hour := r.now().Truncate(time.Hour)
	r.b.CountRefusal(hour, "x.y", "")
	r.store.failing("CountRefusals", reason.New(reason.StoreUnavailable, "away"))
	if err := r.b.FlushRefusals(t.Context()); err == nil {
		t.Error("the outage is not told")
	}
	r.b.CountRefusal(hour, "x.y", "")
	if err := r.b.FlushRefusals(t.Context()); err == nil {
		t.Error("the outage is not told")
	}
	// More came while the counts could not be written: both are kept.
	blocked := &countingStore{memStore: r.store, during: func(b *broker.Broker) { b.CountRefusal(hour, "x.y", "") }}
	b := r.over(blocked)
	blocked.b = b
	b.CountRefusal(hour, "x.y", "")
	if err := b.FlushRefusals(t.Context()); err == nil {
		t.Error("the outage is not told")
	}
	r.store.failing("CountRefusals", nil)
	r.flush()
	blocked.during = func(*broker.Broker) {}
	r.must(b.FlushRefusals(t.Context()))
	if n := r.store.count("x.y", ""); n != 4 {
		t.Errorf("%d of 4 were written", n)
	}
	calls := r.store.reads["CountRefusals"]
	r.flush()
	if r.store.reads["CountRefusals"] != calls {
		t.Error("nothing was written anew")
	}
	for i := range broker.MaxRefusalKeys + 10 {
		r.b.CountRefusal(hour, "x.y", ledger.NodeID(fmt.Sprint(i)))
	}
	r.b.CountRefusal(hour, "x.y", "0")
	if n := r.b.RefusalKeys(); n != broker.MaxRefusalKeys {
		t.Errorf("%d kinds are kept", n)
	}
	r.flush()
	if r.store.count("x.y", "0") != 2 {
		t.Error("a kind that is counted already stopped counting at the bound")
	}
}

// TestFullRefusalsAreBounded in kinds too: an hour's memory of them is.
func TestFullRefusalsAreBounded(t *testing.T) {
	r := newRig(t)
	hour := r.now().Truncate(time.Hour)
	for i := range broker.MaxRefusalKeys {
		if !r.b.RecordsInFull(hour, "x.y", ledger.NodeID(fmt.Sprint(i))) {
			t.Fatalf("kind %d is only counted", i)
		}
	}
	if r.b.RecordsInFull(hour, "x.y", "one more") {
		t.Error("there is no bound")
	}
	if !r.b.RecordsInFull(hour.Add(time.Hour), "x.y", "one more") {
		t.Error("the next hour does not begin anew")
	}
}

// countingStore lets more refusals come while the counts are being written.
type countingStore struct {
	*memStore
	b      *broker.Broker
	during func(*broker.Broker)
}

func (s *countingStore) CountRefusals(ctx context.Context, counts []ledger.RefusalCount) error {
	s.during(s.b)
	return s.memStore.CountRefusals(ctx, counts)
}
