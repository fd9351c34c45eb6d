package broker_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestErasedNodeIsNotRecorded: a denial would bring back what the erasure took
// away. The proof is of our own log's record, though another log has a newer one.
func TestErasedNodeIsNotRecorded(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	k := &memKeeper{store: r.store, scope: ledger.ErasurePlan{Missing: ledger.Missing{LogID: "main"}}}
	r.must(k.scope.Missing.SetSpans([]ledger.Span{{First: 1, Last: 1}}))
	r.b.SetKeeper(k)
	k.busy = true
	if _, err := r.b.Erase(t.Context(), admin, h.node, api.EraseRequest{Reason: "request 7"}); reason.Of(err) != reason.RequestOverloaded {
		t.Errorf("erased while another replica sweeps: %v", err)
	}
	k.busy = false
	own := int64(r.records()) + 1 // behind the node's disabling
	for range 2 {
		out, err := r.b.Erase(t.Context(), admin, h.node, api.EraseRequest{Reason: "request 7"})
		if err != nil || out.Record.Index != own {
			t.Fatalf("proof of record %d, want %d: %v", out.Record.Index, own, err)
		}
		k.scope = ledger.ErasurePlan{}
		other := r.store.records[len(r.store.records)-1]
		other.LogID, other.Index = "other", other.Index+1
		r.store.records = append(r.store.records, other)
	}
	before := r.records()
	for range 2 {
		answer, err := h.tryEnrol()
		wantCode(t, answer, err, reason.NodeDisabled)
		h.minute()
	}
	if n := r.records(); n != before {
		t.Errorf("%d records of an erased node", n-before)
	}
}
