package broker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestNodesAndHistoryArePaged(t *testing.T) {
	r := newRig(t)
	var ids []string
	for range 3 {
		ids = append(ids, r.enrolled().node)
	}
	slices.Sort(ids)
	page, next, err := r.b.Nodes(t.Context(), operator, "", 2)
	r.must(err)
	rest, end, err := r.b.Nodes(t.Context(), operator, next, 2)
	r.must(err)
	if len(page) != 2 || len(rest) != 1 || page[0].ID != ids[0] || rest[0].ID != ids[2] || next != ids[1] || end != "" {
		t.Errorf("pages %v, %v; cursors %q, %q", page, rest, next, end)
	}
	if all, _, err := r.b.Nodes(t.Context(), operator, "", 0); err != nil || len(all) != 3 {
		t.Errorf("%d nodes by default, %v", len(all), err)
	}
	first, err := r.b.History(t.Context(), operator, api.HistoryQuery{Type: ledger.TypeAttestation, Limit: 2})
	r.must(err)
	second, err := r.b.History(t.Context(), operator, api.HistoryQuery{Type: ledger.TypeAttestation, Limit: 2, Cursor: first.NextCursor})
	r.must(err)
	if len(first.Entries) != 2 || len(second.Entries) != 1 || second.NextCursor != "" || first.Entries[0].Index <= first.Entries[1].Index || first.Entries[1].Index <= second.Entries[0].Index {
		t.Errorf("pages %+v, %+v", first, second)
	}
	if e := first.Entries[0]; e.Verdict != "allow" || e.Zone != "lab" || e.Body != nil || e.RecordedAt.IsZero() || e.Node == "" {
		t.Errorf("entry %+v", e)
	}
	whole, err := r.b.Entry(t.Context(), operator, first.Entries[0].ID)
	if err != nil || len(whole.Body) == 0 || whole.ID != first.Entries[0].ID {
		t.Errorf("entry %+v, %v", whole, err)
	}
	for limit, want := range map[int]int{-1: 50, 0: 50, 7: 7, 500: 500, 501: 500} {
		if got := broker.PageSize(limit); got != want {
			t.Errorf("page of %d is %d", limit, got)
		}
	}
	none, err := r.b.History(t.Context(), operator, api.HistoryQuery{Node: "nobody"})
	if err != nil || none.Entries == nil {
		t.Errorf("no entries are %v, %v", none.Entries, err)
	}
}

// TestEntryTellsDrift before and after.
func TestEntryTellsDrift(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.tpm.Firmware = 5
	h.renew()
	e, err := r.b.Entry(t.Context(), operator, h.prev)
	want := []api.DriftChange{{Kind: "firmware", Before: "2312897626142815798", After: "5"}}
	if err != nil || !cmp.Equal(e.Drift, want) {
		t.Errorf("drift %+v, %v", e.Drift, err)
	}
}

func TestNodeOnTheWire(t *testing.T) {
	r := newRig(t)
	h := r.newHost()
	r.admit(h, "m", "g")
	out := h.enrol()
	n, err := r.b.Node(t.Context(), operator, h.node)
	r.must(err)
	want := api.Node{
		ID: h.node, Status: "active", Standing: "fresh", Zone: "lab", Tier: 1, Verdict: "allow",
		RootKind: "ek", RootHash: hexOf(h.tpm.EK.RootHash(t)), AKName: n.AKName, Manufacturer: "STM", TPMKind: "discrete", TPMModel: "ST33", AdmittedBy: "inventory", Machine: "m",
		Groups: []string{"g"}, Version: 1, Last: out.AttestationID, PolicyVersion: 1, CreatedAt: r.now(), AttestedAt: out.AttestedAt,
		FreshUntil: out.FreshUntil, ExpiresAt: leaf(t, out.Chain).NotAfter, LastAttemptAt: r.now(),
	}
	if diff := cmp.Diff(want, n); diff != "" || len(n.AKName) != 68 {
		t.Errorf("node (-want +got):\n%s", diff)
	}
}

// TestVerifyHistoryOnTheWire: the newest checkpoint is signed first, and a fork
// does not keep anybody from asking.
func TestVerifyHistoryOnTheWire(t *testing.T) {
	r := newRig(t)
	r.enrolled()
	v, err := r.b.VerifyHistory(t.Context(), operator)
	r.must(err)
	if !v.OK || v.Problems == nil || v.Size != int64(r.records()) || v.Records != v.Size || v.Checkpoint != r.store.latest || len(v.Logs) != 1 || v.Logs[0] != (api.LogSum{Log: logID, Size: v.Size, Root: v.Root}) || r.store.roots[v.Size] == [32]byte{} {
		t.Errorf("verification %+v", v)
	}
	bad := &badHistory{memStore: r.store}
	b := r.over(bad)
	for n, want := range map[int]int{1: 1, 100: 100, 101: 101, 250: 101} {
		bad.problems = slices.Repeat([]string{"p"}, n)
		v, err := b.VerifyHistory(t.Context(), operator)
		if err != nil || v.OK || len(v.Problems) != want {
			t.Errorf("%d problems: %d, ok %t, %v", n, len(v.Problems), v.OK, err)
		}
		if n == 250 && v.Problems[100] != "and 150 more" {
			t.Errorf("last line %q", v.Problems[100])
		}
	}
	r.anchor = reason.New(reason.StoreUnavailable, "away")
	if _, err := r.b.VerifyHistory(t.Context(), operator); reason.Of(err) != reason.StoreUnavailable {
		t.Errorf("%v", err)
	}
	r.anchor = reason.New(reason.LedgerFork, "rolled back")
	for range 2 {
		if v, err := r.b.VerifyHistory(t.Context(), operator); err != nil || v.Size == 0 {
			t.Errorf("after a fork: %v", err)
		}
	}
	r.cfg.Anchor = func() (string, error) { return "", errors.New("unreadable") }
	r.anchor = nil
	if _, err := r.over(r.store).VerifyHistory(t.Context(), operator); err == nil {
		t.Error("an anchor that cannot be read is as good as one")
	}
}

type badHistory struct {
	*memStore
	problems []string
}

func (s *badHistory) VerifyHistory(ctx context.Context, anchor string, key ledger.NoteVerifier, fn func(int64, int64)) (ledger.Verification, error) {
	v, err := s.memStore.VerifyHistory(ctx, anchor, key, fn)
	v.Problems = slices.Clone(s.problems)
	return v, err
}

// TestHealth names the part that fails and what to do.
func TestHealth(t *testing.T) {
	for failing, cause := range map[string]func(r *rig) *broker.Broker{
		"": func(r *rig) *broker.Broker { return r.b },
		"database": func(r *rig) *broker.Broker {
			r.store.failing("ClockSkew", reason.New(reason.StoreUnavailable, "away"))
			return r.b
		},
		"clock": func(r *rig) *broker.Broker {
			r.store.skew = time.Minute
			_ = r.b.CheckClock(t.Context())
			return r.b
		},
		"signer": func(r *rig) *broker.Broker { r.wait(24 * time.Hour); return r.b },
		"ledger": func(r *rig) *broker.Broker {
			r.anchor = reason.New(reason.LedgerFork, "")
			_ = r.b.SignNow(t.Context())
			return r.b
		},
		"policy": func(r *rig) *broker.Broker {
			b, _ := r.newReplica("b")
			r.must(b.Start(t.Context()))
			return b
		},
	} {
		t.Run("failing: "+failing, func(t *testing.T) {
			r := newRig(t)
			h := cause(r).Health(t.Context())
			var names []string
			for _, c := range h.Checks {
				names = append(names, c.Name)
				if c.OK == (c.Name == failing) || (c.Fix == "") != c.OK || c.Detail == "" {
					t.Errorf("check %+v", c)
				}
			}
			if !slices.Equal(names, []string{"database", "clock", "signer", "ledger", "policy", "partitions"}) || (h.Status == "ok") != (failing == "") {
				t.Errorf("%s: %v", h.Status, names)
			}
		})
	}
}

func TestCheckpointAnswer(t *testing.T) {
	r := newRig(t)
	b, _ := r.newReplica("b")
	if text, err := b.Checkpoint(t.Context()); err != nil || text != "" {
		t.Errorf("before the first: %q, %v", text, err)
	}
	r.must(r.b.SignNow(t.Context()))
	if text, err := r.b.Checkpoint(t.Context()); err != nil || text == "" || text != r.store.latest {
		t.Errorf("%q, %v", text, err)
	}
}
