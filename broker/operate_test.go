package broker_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// grantOf is the body of the newest record.
func (r *rig) grantOf(t testing.TB) ledger.Grant {
	t.Helper()
	last := r.store.records[len(r.store.records)-1]
	var g ledger.Grant
	if err := json.Unmarshal(last.Body, &g); err != nil || g.ID != last.ID {
		t.Fatalf("%s: %v", last.Body, err)
	}
	return g
}

// TestGrantsAreRecords: who granted what to whom stands in the log, with the
// hash of the row.
func TestGrantsAreRecords(t *testing.T) {
	r := newRig(t)
	h := r.newHost()
	at := r.now().UnixMilli()
	check := func(kind, subject, note string, row interface{ Canonical() ([]byte, error) }) {
		t.Helper()
		hash, err := ledger.RowHash(row)
		r.must(err)
		g := r.grantOf(t)
		want := ledger.Grant{Type: kind, ID: g.ID, By: "uid:0", Subject: subject, RowHash: hash, Note: note, At: at}
		if diff := cmp.Diff(want, g); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
	}
	adm := r.admit(h, "m1", "g1", "g2")
	row := r.store.admissions[0].Admission
	check(ledger.TypeAdmission, adm.ID, "", row)
	ek := h.tpm.EK.RootHash(t)
	want := api.Admission{ID: row.ID.String(), Kind: "inventory", Machine: "m1", Groups: []string{"g1", "g2"}, EKHashes: []string{hexOf(ek)}, By: "uid:0", CreatedAt: r.now()}
	if diff := cmp.Diff(want, adm); diff != "" || row.By != "uid:0" || row.EKHashes[0] != ek || !row.CreatedAt.Equal(r.now()) {
		t.Errorf("admission %+v (-want +got):\n%s", row, diff)
	}

	jt, err := r.b.CreateToken(t.Context(), operator, api.TokenRequest{Machine: "m2", Groups: []string{"g"}})
	r.must(err)
	if len(jt.Secret) != 43 || !jt.ExpiresAt.Equal(r.now().Add(time.Hour)) {
		t.Errorf("token %+v", jt)
	}
	for id, row := range r.store.tokens {
		check(ledger.TypeTokenCreated, id.String(), "", *row)
		if id.String() != jt.ID || row.By != "uid:0" || row.Machine != "m2" || !row.CreatedAt.Equal(r.now()) {
			t.Errorf("row %+v", row)
		}
	}

	h.enrol()
	if _, err := r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{Note: "stolen"}); err != nil {
		t.Fatal(err)
	}
	check(ledger.TypeNodeDisabled, h.node, "stolen", h.row())
	if _, err := r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{Note: "found"}); err != nil {
		t.Fatal(err)
	}
	check(ledger.TypeNodeApproved, h.node, "found", h.row())
	out, err := r.b.Approve(t.Context(), operator, hexOf([32]byte{1}), api.ApproveRequest{Note: "by phone", Machine: "m3", Groups: []string{"g3"}})
	r.must(err)
	check(ledger.TypeAdmission, out.Admission.ID, "by phone", r.store.admissions[1].Admission)
	if a := r.store.admissions[1]; a.Kind != ledger.AdmitOperator || a.Machine != "m3" || !slices.Equal(a.Groups, []string{"g3"}) {
		t.Errorf("approval %+v", a)
	}
}

func TestOperatorsRequestsAreChecked(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	hash := hexOf([32]byte{7})
	many := func(n int, s string) []string { return slices.Repeat([]string{s}, n) }
	before := r.records()
	for name, tt := range map[string]struct {
		do   func() error
		want reason.Code
	}{
		"no EK": {func() error { return second(r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{})) }, reason.RequestMalformed},
		"too many EKs": {func() error {
			return second(r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: many(17, hash)}))
		}, reason.RequestTooLarge},
		"EK hash too short": {func() error {
			return second(r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{hash[2:]}}))
		}, reason.RequestMalformed},
		"EK hash is no hex": {func() error {
			return second(r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{"x" + hash[1:]}}))
		}, reason.RequestMalformed},
		"machine label": {func() error {
			return second(r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{hash}, Machine: "a b"}))
		}, reason.RequestMalformed},
		"group label": {func() error {
			return second(r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{hash}, Groups: []string{"ok", ""}}))
		}, reason.RequestMalformed},
		"too many groups": {func() error {
			return second(r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{hash}, Groups: many(33, "g")}))
		}, reason.RequestTooLarge},
		"token label": {func() error {
			return second(r.b.CreateToken(t.Context(), operator, api.TokenRequest{Machine: "\x1b[2J"}))
		}, reason.RequestMalformed},
		"token without end": {func() error {
			return second(r.b.CreateToken(t.Context(), operator, api.TokenRequest{TTL: 7*24*3600 + 1}))
		}, reason.RequestMalformed},
		"token from the past": {func() error { return second(r.b.CreateToken(t.Context(), operator, api.TokenRequest{TTL: -1})) }, reason.RequestMalformed},
		"approve a hash":      {func() error { return second(r.b.Approve(t.Context(), operator, "x"+hash[1:], api.ApproveRequest{})) }, reason.RequestMalformed},
		"approve with label": {func() error {
			return second(r.b.Approve(t.Context(), operator, hash, api.ApproveRequest{Machine: "/"}))
		}, reason.RequestMalformed},
		"relabel a node": {func() error {
			return second(r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{Machine: "m"}))
		}, reason.RequestMalformed},
		"regroup a node": {func() error {
			return second(r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{Groups: []string{"g"}}))
		}, reason.RequestMalformed},
		"approve nobody": {func() error { return second(r.b.Approve(t.Context(), operator, "nobody", api.ApproveRequest{})) }, reason.RequestNotFound},
		"disable nobody": {func() error { return second(r.b.Disable(t.Context(), operator, "nobody", api.DisableRequest{})) }, reason.RequestNotFound},
		"long note": {func() error {
			return second(r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{Note: strings.Repeat("n", 501)}))
		}, reason.RequestTooLarge},
		"show nobody":      {func() error { return second(r.b.Node(t.Context(), operator, "nobody")) }, reason.RequestNotFound},
		"entry without id": {func() error { return second(r.b.Entry(t.Context(), operator, "7")) }, reason.RequestMalformed},
	} {
		if err := tt.do(); reason.Of(err) != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if r.records() != before {
		t.Error("a malformed request was recorded")
	}
	var sixteen []string
	for i := range 16 {
		sixteen = append(sixteen, hexOf([32]byte{8, byte(i)}))
	}
	if _, err := r.b.CreateToken(t.Context(), operator, api.TokenRequest{TTL: 7 * 24 * 3600}); err != nil {
		t.Errorf("a week: %v", err)
	}
	if _, err := r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: sixteen, Groups: many(32, "g")}); err != nil {
		t.Errorf("at the bounds: %v", err)
	}
	if _, err := r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{Note: strings.Repeat("n", 500)}); err != nil {
		t.Errorf("a note at its bound: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestOperatorsRequestsNeedTheStore: what could not be recorded did not happen.
func TestOperatorsRequestsNeedTheStore(t *testing.T) {
	away := reason.New(reason.StoreUnavailable, "away")
	for name, tt := range map[string]struct {
		method string
		do     func(r *rig, h *host) error
	}{
		"admit": {"Append", func(r *rig, h *host) error {
			return second(r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{hexOf([32]byte{1})}}))
		}},
		"read it back": {"AdmissionsSince", func(r *rig, h *host) error {
			return second(r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{hexOf([32]byte{1})}}))
		}},
		"token": {"Append", func(r *rig, h *host) error { return second(r.b.CreateToken(t.Context(), operator, api.TokenRequest{})) }},
		"approve": {"Append", func(r *rig, h *host) error {
			return second(r.b.Approve(t.Context(), operator, hexOf([32]byte{1}), api.ApproveRequest{}))
		}},
		"revoke": {"Append", func(r *rig, h *host) error {
			return second(r.b.RevokeAdmission(t.Context(), operator, hexOf([32]byte{1}), api.RevokeRequest{}))
		}},
		"read the admission": {"AdmissionByEK", func(r *rig, h *host) error {
			return second(r.b.RevokeAdmission(t.Context(), operator, hexOf([32]byte{1}), api.RevokeRequest{}))
		}},
		"disable": {"Append", func(r *rig, h *host) error {
			return second(r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{}))
		}},
		"read the node": {"NodeByID", func(r *rig, h *host) error {
			return second(r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{}))
		}},
		"node":         {"NodeByID", func(r *rig, h *host) error { return second(r.b.Node(t.Context(), operator, h.node)) }},
		"list pending": {"ListPending", func(r *rig, h *host) error { return second(r.b.Pending(t.Context(), operator)) }},
		"write pending": {"AddPending", func(r *rig, _ *host) error {
			_, _ = r.newHost().askEnrol()
			return second(r.b.Pending(t.Context(), operator))
		}},
		"history": {"Records", func(r *rig, h *host) error { return second(r.b.History(t.Context(), operator, api.HistoryQuery{})) }},
		"entry":   {"Record", func(r *rig, h *host) error { return second(r.b.Entry(t.Context(), operator, h.prev)) }},
		"verify":  {"VerifyHistory", func(r *rig, h *host) error { return second(r.b.VerifyHistory(t.Context(), operator)) }},
		"nodes": {"Nodes", func(r *rig, h *host) error {
			_, _, err := r.b.Nodes(t.Context(), operator, "", 0)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			h := r.enrolled()
			state := h.state()
			r.store.failing(tt.method, away)
			if err := tt.do(r, h); reason.Of(err) != reason.StoreUnavailable {
				t.Errorf("%v", err)
			}
			if !cmp.Equal(h.state(), state) {
				t.Error("the node changed")
			}
		})
	}
	t.Run("no random bytes", func(t *testing.T) {
		r := newRig(t)
		h := r.enrolled()
		r.random.fail(true)
		for name, err := range map[string]error{
			"admit":   second(r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{hexOf([32]byte{1})}})),
			"token":   second(r.b.CreateToken(t.Context(), operator, api.TokenRequest{})),
			"disable": second(r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{})),
		} {
			if err == nil {
				t.Errorf("%s without randomness", name)
			}
		}
	})
}

// TestChangingANodeRaces: an operator's word does not overwrite a decision that
// was made meanwhile, and does not try for ever.
func TestChangingANodeRaces(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	races := 0
	r.store.onAppend = func(c ledger.Commit) error {
		if c.Record.Type == ledger.TypeNodeDisabled && races > 0 {
			races--
			r.store.change(h.node, func(s *ledger.Snapshot) { s.State.Zone = "moved" })
		}
		return nil
	}
	races = 4
	out, err := r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{})
	if err != nil || out.Status != "disabled" || h.state().Zone != "moved" || out.Version != h.state().Version || h.row().Status != ledger.StatusDisabled {
		t.Errorf("after four races: %v, %+v", err, out)
	}
	races = 5
	if _, err := r.b.Disable(t.Context(), operator, h.node, api.DisableRequest{}); reason.Of(err) != reason.RequestOverloaded {
		t.Errorf("after five: %v", err)
	}
	t.Run("its next request is refused", func(t *testing.T) {
		out, err := h.tryRenew()
		wantCode(t, out, err, reason.NodeDisabled)
	})
}
