package store_test

import (
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestRecordsPagesAndFilters(t *testing.T) {
	w := newWorld(t)
	a, b := w.enrol(1), w.enrol(2)
	denied := attestation(t, a, ledger.VerdictDeny)
	last := w.append(denied)
	indexes := func(q ledger.Query) []int64 {
		t.Helper()
		rows, err := w.s.Records(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		var out []int64
		for _, r := range rows {
			out = append(out, r.Index)
		}
		return out
	}
	place := func(index int64) ledger.Place {
		t.Helper()
		rows, err := w.s.Records(t.Context(), ledger.Query{})
		if err != nil {
			t.Fatal(err)
		}
		return rows[len(rows)-1-int(index)].Place()
	}
	for name, tc := range map[string]struct {
		q    ledger.Query
		want []int64
	}{
		"all":        {ledger.Query{}, []int64{4, 3, 2, 1, 0}},
		"page":       {ledger.Query{Limit: 2}, []int64{4, 3}},
		"next_page":  {ledger.Query{Limit: 2, After: place(3)}, []int64{2, 1}},
		"node":       {ledger.Query{Node: a.Node.ID}, []int64{4, 1}},
		"other_node": {ledger.Query{Node: b.Node.ID}, []int64{3}},
		"denied":     {ledger.Query{Verdict: ledger.VerdictDeny}, []int64{4}},
		"allowed":    {ledger.Query{Verdict: ledger.VerdictAllow}, []int64{3, 1}},
		"type":       {ledger.Query{Type: ledger.TypeAdmission}, []int64{2, 0}},
		"zone":       {ledger.Query{Zone: "payments"}, []int64{4, 3, 1}},
		"other_zone": {ledger.Query{Zone: "vault'; DROP TABLE node"}, nil},
		"since":      {ledger.Query{Since: last.RecordedAt}, []int64{4}},
		"until":      {ledger.Query{Until: last.RecordedAt}, []int64{3, 2, 1, 0}},
		"both":       {ledger.Query{Node: a.Node.ID, Verdict: ledger.VerdictAllow, Zone: "payments", Type: ledger.TypeAttestation, After: place(4)}, []int64{1}},
	} {
		if diff := cmp.Diff(tc.want, indexes(tc.q)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	rows, err := w.s.Records(t.Context(), ledger.Query{Limit: 1})
	if err != nil || cmp.Diff(denied.Drift, rows[0].Drift) != "" {
		t.Errorf("drift of a page: %+v, %v", rows, err)
	}
	if none, err := w.s.Record(t.Context(), uuid.New()); none != nil || err != nil {
		t.Errorf("a record that does not exist: %+v, %v", none, err)
	}
	// An id with another time in it is found all the same.
	c := event(t)
	old, err := ledger.NewRecordID(time.Now().AddDate(-1, 0, 0), zeros{})
	if err != nil {
		t.Fatal(err)
	}
	g := ledger.Grant{Type: "test.event", ID: old}
	if c.Record, err = g.Record(salt()); err != nil {
		t.Fatal(err)
	}
	w.append(c)
	if r, err := w.s.Record(t.Context(), old); r == nil || err != nil {
		t.Errorf("record %s is not found: %v", old, err)
	}
}

// TestListsSpanLogs: records and drift of two logs in one database come in one
// order, page by page, those of one time too, and any record is found by its id.
func TestListsSpanLogs(t *testing.T) {
	w := newWorld(t)
	other := &world{t: t, db: w.db, s: w.db.Open(t, func(c *store.Config) { c.LogID, c.Writer = "a-second", "other" })}
	logs := []*world{w, other}
	for i := range 3 {
		for _, log := range logs {
			snap := log.enrol(i + 10*slices.Index(logs, log))
			log.drifted(&snap, ledger.VerdictAllow, ledger.Drift{Kind: "pcr.4", Before: "a", After: "b"}, ledger.Drift{Kind: "pcr.7", Before: "a", After: "b"})
		}
	}
	// As two logs that commit in the same µs, at the same index.
	w.db.Exec(t, freely+`UPDATE attestation SET recorded_at = date_trunc('hour', recorded_at) WHERE log_idx > 2`,
		freely+`UPDATE drift_event SET recorded_at = date_trunc('hour', recorded_at) WHERE log_idx > 2`)
	all, err := w.s.Records(t.Context(), ledger.Query{})
	if err != nil || len(all) != 18 {
		t.Fatal(len(all), err)
	}
	for i, r := range all {
		if p, q := r.Place(), all[max(i, 1)-1].Place(); i > 0 && (p.RecordedAt.After(q.RecordedAt) || p == q) {
			t.Errorf("%+v stands behind %+v", p, q)
		}
		if got, err := w.s.Record(t.Context(), r.ID); err != nil || got == nil || cmp.Diff(r, *got) != "" {
			t.Errorf("record %s of log %s: %+v, %v", r.ID, r.LogID, got, err)
		}
	}
	var paged []ledger.Stored
	for q := (ledger.Query{Limit: 2}); ; {
		page, err := other.s.Records(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if paged = append(paged, page...); len(page) < 2 {
			break
		}
		q.After = page[1].Place()
	}
	if diff := cmp.Diff(all, paged); diff != "" {
		t.Errorf("page by page: %s", diff)
	}
	var drift []ledger.DriftRow
	for q := (ledger.DriftQuery{Limit: 1}); ; {
		page, err := other.s.Drift(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if drift = append(drift, page...); len(page) == 0 {
			break
		}
		q.After = page[0].Place
	}
	want, err := w.s.Drift(t.Context(), ledger.DriftQuery{})
	if diff := cmp.Diff(want, drift); diff != "" || err != nil || len(want) != 12 {
		t.Errorf("drift page by page: %s, %v", diff, err)
	}
}

// TestReadingIsListedWhenAskedFor: who asks often must not hide what was decided.
func TestReadingIsListedWhenAskedFor(t *testing.T) {
	w := newWorld(t)
	w.append(event(t))
	for range 3 {
		c := event(t)
		g := ledger.Reading{Type: ledger.TypeHistoryRead, ID: c.Record.ID, By: "uid:0", Role: "admin", What: "members", Filter: map[string]string{"zone": "z"}}
		var err error
		if c.Record, err = g.Record(salt()); err != nil {
			t.Fatal(err)
		}
		w.append(c)
	}
	for kind, want := range map[string]int{"": 1, ledger.TypeHistoryRead: 3} {
		if rows, err := w.s.Records(t.Context(), ledger.Query{Type: kind}); err != nil || len(rows) != want {
			t.Errorf("of type %q: %d, %v", kind, len(rows), err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestNodesPage(t *testing.T) {
	w := newWorld(t)
	var want []ledger.NodeID
	for i := range 5 {
		want = append(want, w.enrol(i).Node.ID)
	}
	slices.Sort(want)
	w.db.Exec(t, `UPDATE node SET machine = 'forged' WHERE node_id = '`+string(want[1])+`'`)
	want = slices.Delete(want, 1, 2)
	var got []ledger.NodeID
	for cursor := ledger.NodeID(""); ; {
		page, err := w.s.Nodes(t.Context(), cursor, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page {
			got = append(got, s.Node.ID)
			cursor = s.Node.ID
		}
		if len(page) < 2 {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	snap, err := w.s.NodeByID(t.Context(), want[0])
	if err != nil {
		t.Fatal(err)
	}
	ids, err := w.s.NodesByAdmission(t.Context(), snap.Node.Admission)
	if err != nil || len(ids) == 0 || ids[0] != want[0] {
		t.Errorf("nodes of an admission: %v, %v", ids, err)
	}
	if ids, err = w.s.NodesByAdmission(t.Context(), uuid.New()); err != nil || ids != nil {
		t.Errorf("nodes of no admission: %v, %v", ids, err)
	}
}

func TestPendingListIsBounded(t *testing.T) {
	w := newWorld(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	many := make([]ledger.Pending, 1500)
	for i := range many {
		many[i] = ledger.Pending{EKHash: [32]byte{byte(i), byte(i >> 8), 1}, EKPublic: []byte{1}, FirstSeen: now.Add(time.Duration(i) * time.Millisecond), LastSeen: now}
	}
	for _, part := range [][]ledger.Pending{many[:700], many[700:], many[:10]} {
		if err := w.s.AddPending(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.s.ListPending(t.Context(), 5000)
	if err != nil || len(got) != 1000 {
		t.Fatalf("%d are waiting, %v", len(got), err)
	}
	if diff := cmp.Diff(many[:1000], got); diff != "" {
		t.Errorf("not the oldest first: %s", diff)
	}
	seen := many[3]
	seen.LastSeen = now.Add(time.Hour)
	if err := w.s.AddPending(t.Context(), []ledger.Pending{seen}); err != nil {
		t.Fatal(err)
	}
	if got, err = w.s.ListPending(t.Context(), 4); err != nil || !got[3].LastSeen.Equal(seen.LastSeen) {
		t.Errorf("seen again: %+v, %v", got, err)
	}
	c := event(t)
	c.EndPending = &many[0].EKHash
	w.append(c)
	if got, err = w.s.ListPending(t.Context(), 1); err != nil || got[0].EKHash == many[0].EKHash {
		t.Errorf("an ended one is still waiting: %v", err)
	}
	w.db.Exec(t, `UPDATE pending SET last_seen = now() - interval '25 hours'`)
	if err := w.s.AddPending(t.Context(), many[1400:1401]); err != nil {
		t.Fatal(err)
	}
	if got, err = w.s.ListPending(t.Context(), 9); err != nil || len(got) != 1 {
		t.Errorf("machines that stopped asking keep their place: %d, %v", len(got), err)
	}
}

func TestRefusalsAddUp(t *testing.T) {
	w := newWorld(t)
	hour := time.Date(2026, 11, 20, 10, 59, 0, 0, time.UTC)
	for range 3 {
		err := w.s.CountRefusals(t.Context(), []ledger.RefusalCount{
			{Hour: hour, Code: "a", Count: 2}, {Hour: hour, Code: "a", Node: "n", Count: 1}, {Hour: hour, Code: "b", Count: 0},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := query[int](t, w.db, `SELECT n FROM refusal_hourly WHERE code = 'a' AND node_id = '' AND hour = '2026-11-20 10:00+00'`); n != 6 {
		t.Errorf("strangers = %d", n)
	}
	if n := query[int](t, w.db, `SELECT sum(n) FROM refusal_hourly`); n != 9 {
		t.Errorf("all = %d", n)
	}
}

func TestEvidenceByContent(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	log := make([]byte, 64<<10)
	var d [32]byte
	for i := range 3 {
		c := attestation(t, snap, ledger.VerdictAllow)
		d = sha256.Sum256(log)
		c.Evidence = append(c.Evidence, ledger.EvidencePart{Kind: ledger.PartEventLog, Digest: d, Bytes: log})
		if i == 2 {
			c.Evidence[1].Bytes = nil
		}
		p := w.append(c)
		c.State.Version = p.Version
		snap.State = *c.State
	}
	got, err := w.s.Evidence(t.Context(), d, time.Now())
	if err != nil || !slices.Equal(got, log) {
		t.Errorf("evidence of %d bytes, %v", len(got), err)
	}
	if n := query[int](t, w.db, `SELECT count(*) FROM evidence_content WHERE size = 65536`); n != 1 {
		t.Errorf("a shared log is stored %d times", n)
	}
	if none, err := w.s.Evidence(t.Context(), [32]byte{1}, time.Now()); none != nil || err != nil {
		t.Errorf("unknown evidence: %v, %v", none, err)
	}
	w.db.Exec(t, freely+`UPDATE evidence_content SET packed = '\x0078' WHERE size = 65536`)
	_, err = w.s.Evidence(t.Context(), d, time.Now())
	wantCode(t, err, reason.StoreRowForged)
}
