package broker_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestInvariant1_NothingIsSignedBeforeTheRecord: the issuer reads its clock once
// in Prepare and once in Sign, so the second reading shows when it signs: after
// Append returned, and never where Append failed.
func TestInvariant1_NothingIsSignedBeforeTheRecord(t *testing.T) {
	before := []string{"broker.redeem", "broker.verify", "broker.decide", "broker.prepare", "issuer", "broker.record", "append"}
	renewal := func(r *rig, h *host) (out api.AttestResponse, trace []string, err error) {
		h.minute()
		ch, askErr := h.askRenew()
		r.must(askErr)
		req := h.answer(ch)
		trace = r.traced(func() { out, err = h.attest(req) })
		return out, trace, err
	}
	t.Run("recorded", func(t *testing.T) {
		r := newRig(t)
		h := r.enrolled()
		var committed ledger.Commit
		r.store.onAppend = func(c ledger.Commit) error {
			r.note("append")
			committed = c
			return nil
		}
		out, trace, err := renewal(r, h)
		r.must(err)
		if diff := cmp.Diff(append(slices.Clone(before), "broker.sign", "issuer", "broker.answer"), trace); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		cert := leaf(t, out.Chain)
		tbs, svid := sha256.Sum256(cert.RawTBSCertificate), committed.SVIDs[0]
		if len(committed.SVIDs) != 1 || svid.TBSSHA256 != hex.EncodeToString(tbs[:]) || svid.Serial != cert.SerialNumber.Text(16) ||
			svid.NotAfter != cert.NotAfter.Unix() || svid.SPIFFEID != out.SPIFFEID {
			t.Errorf("signed something else than what was recorded: %+v", svid)
		}
		if body := r.lastAttestation(h.node); !cmp.Equal(body.SVIDs, committed.SVIDs) {
			t.Error("row and body name different SVIDs")
		}
	})
	for name, failure := range map[string]error{
		"database away":     reason.New(reason.StoreUnavailable, "away"),
		"queue full":        reason.New(reason.RequestOverloaded, "full"),
		"log forked":        reason.New(reason.LedgerFork, "fork"),
		"challenge spent":   reason.New(reason.ChallengeSpent, "spent"),
		"identity conflict": reason.New(reason.NodeIdentityConflict, "conflict"),
		"no code at all":    fmt.Errorf("slip"),
		"full after a wait": reason.Wrap(reason.RequestOverloaded, "full", context.DeadlineExceeded),
		"waited too long":   fmt.Errorf("append: %w", context.DeadlineExceeded),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			h := r.enrolled()
			r.store.onAppend = func(ledger.Commit) error {
				r.note("append")
				return failure
			}
			state := h.state()
			out, trace, err := renewal(r, h)
			want := reason.Of(failure)
			if name == "waited too long" {
				want = reason.StoreUnavailable
			}
			wantCode(t, out, err, want)
			if diff := cmp.Diff(before, trace); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
			if !cmp.Equal(h.state(), state) {
				t.Error("the node moved on without a record")
			}
		})
	}
	t.Run("a refusal that cannot be recorded is an error too", func(t *testing.T) {
		r := newRig(t)
		h := r.enrolled()
		h.prev = "0197b3c2-0000-7000-8000-000000000001"
		r.store.onAppend = func(ledger.Commit) error { return reason.New(reason.StoreUnavailable, "away") }
		out, err := h.tryRenew()
		wantCode(t, out, err, reason.StoreUnavailable)
	})
	t.Run("a refusal is never signed for", func(t *testing.T) {
		r := newRig(t)
		h := r.enrolled()
		h.prev = "0197b3c2-0000-7000-8000-000000000001"
		out, trace, err := renewal(r, h)
		wantCode(t, out, err, reason.NodeForkSuspected)
		if slices.Contains(trace, "issuer") || slices.Contains(trace, "broker.sign") {
			t.Errorf("the issuer was asked: %v", trace)
		}
	})
}

// TestRecordOutlivesTheClient: what is on its way into the log is finished
// whether or not somebody still listens, and not for ever.
func TestRecordOutlivesTheClient(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	ch, err := h.askRenew()
	r.must(err)
	req := h.answer(ch)
	ctx, cancel := context.WithCancel(t.Context())
	r.store.onAppend = func(ledger.Commit) error {
		cancel()
		return nil
	}
	out, err := r.b.Attest(ctx, broker.Caller{}, req)
	if err != nil || len(out.Chain) == 0 {
		t.Errorf("the client left and the record was given up: %v", err)
	}
	if h.state().Version != 2 {
		t.Error("not recorded")
	}
}

func TestRecordingHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		h := r.enrolled()
		ch, err := h.askRenew()
		r.must(err)
		req := h.answer(ch)
		r.b = r.over(&stuckStore{memStore: r.store})
		begun := time.Now()
		out, err := h.attest(req)
		wantCode(t, out, err, reason.StoreUnavailable)
		if took := time.Since(begun); took != broker.RecordTimeout {
			t.Errorf("gave up after %s", took)
		}
	})
}

// stuckStore never answers an append.
type stuckStore struct{ *memStore }

func (s *stuckStore) Append(ctx context.Context, c ledger.Commit) (ledger.Position, error) {
	if c.Record.Type != ledger.TypeAttestation {
		return s.memStore.Append(ctx, c)
	}
	<-ctx.Done()
	return ledger.Position{}, fmt.Errorf("append: %w", ctx.Err())
}

// over makes a started broker over another store.
func (r *rig) over(s broker.Store) *broker.Broker {
	r.t.Helper()
	old := r.cfg.Store
	r.cfg.Store = s
	b, _ := r.newReplica("c")
	r.cfg.Store = old
	r.must(b.Start(r.t.Context()))
	_, err := b.ActivatePolicy(r.t.Context(), loadSet(r.t, zoneLab), "uid:0")
	r.must(err)
	return b
}

// TestSignFailsAfterTheRecord: an auditor counts the SVID as existing, the host
// asks again.
func TestSignFailsAfterTheRecord(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	r.store.onAppend = func(ledger.Commit) error {
		r.wait(25 * time.Hour) // the CA ends meanwhile
		return nil
	}
	out, err := h.tryRenew()
	wantCode(t, out, err, reason.IssuerUnavailable)
	if h.state().Version != 2 || r.lastAttestation(h.node).Verdict != ledger.VerdictAllow {
		t.Error("the record is missing")
	}
}
