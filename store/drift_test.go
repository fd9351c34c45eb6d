package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// drifted appends a record of snap with these changes and returns its position.
func (w *world) drifted(snap *ledger.Snapshot, verdict string, changes ...ledger.Drift) (ledger.Position, uuid.UUID) {
	w.t.Helper()
	c := attestation(w.t, *snap, verdict)
	c.Drift = changes
	c.Record = changedBody(w.t, c.Record, func(a *ledger.Attestation) { a.Drift = changes })
	p := w.append(c)
	c.State.Version = p.Version
	snap.State = *c.State
	return p, c.Record.ID
}

// TestDriftPagesAndFilters: newest record first, within a record as written, over
// pages that end inside a record.
func TestDriftPagesAndFilters(t *testing.T) {
	w := newWorld(t)
	a, b := w.enrol(1), w.enrol(2)
	change := func(kind string, n int) ledger.Drift {
		return ledger.Drift{Kind: kind, Before: fmt.Sprint(n), After: fmt.Sprint(n + 1)}
	}
	first, firstID := w.drifted(&a, ledger.VerdictAllow, change("pcr.4", 1), change("pcr.8", 2), change("zone", 3))
	w.drifted(&b, ledger.VerdictDeny, change("pcr.4", 4), change("verdict", 5))
	last, _ := w.drifted(&a, ledger.VerdictAllow, change("pcr.4", 6))
	befores := func(rows []ledger.DriftRow) (out []string) {
		for _, r := range rows {
			out = append(out, r.Before)
		}
		return out
	}
	list := func(q ledger.DriftQuery) []ledger.DriftRow {
		t.Helper()
		rows, err := w.s.Drift(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	for name, tc := range map[string]struct {
		q    ledger.DriftQuery
		want []string
	}{
		"all":          {ledger.DriftQuery{}, []string{"6", "4", "5", "1", "2", "3"}},
		"page":         {ledger.DriftQuery{Limit: 2}, []string{"6", "4"}},
		"node":         {ledger.DriftQuery{Node: a.Node.ID}, []string{"6", "1", "2", "3"}},
		"kind":         {ledger.DriftQuery{Kind: "pcr.4"}, []string{"6", "4", "1"}},
		"zone":         {ledger.DriftQuery{Zone: "payments"}, []string{"6", "4", "5", "1", "2", "3"}},
		"other_zone":   {ledger.DriftQuery{Zone: "vault'; DROP TABLE node"}, nil},
		"since":        {ledger.DriftQuery{Since: last.RecordedAt}, []string{"6"}},
		"until":        {ledger.DriftQuery{Until: last.RecordedAt, Limit: 1}, []string{"4"}},
		"together":     {ledger.DriftQuery{Node: a.Node.ID, Kind: "pcr.4", Zone: "payments", Until: last.RecordedAt, Since: first.RecordedAt}, []string{"1"}},
		"no_such_kind": {ledger.DriftQuery{Kind: "pcr"}, nil},
	} {
		if diff := cmp.Diff(tc.want, befores(list(tc.q))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	var got []string
	for q := (ledger.DriftQuery{Limit: 2}); ; {
		page := list(q)
		got = append(got, befores(page)...)
		if len(page) < q.Limit {
			break
		}
		q.After = page[len(page)-1].Place
	}
	if diff := cmp.Diff([]string{"6", "4", "5", "1", "2", "3"}, got); diff != "" {
		t.Errorf("page by page: %s", diff)
	}
	want := ledger.DriftRow{
		Place:  ledger.Place{RecordedAt: first.RecordedAt.UTC(), Index: first.Index, LogID: "main", Ord: 1},
		Record: firstID, Node: a.Node.ID, Zone: "payments", Drift: change("pcr.8", 2),
	}
	if diff := cmp.Diff(want, list(ledger.DriftQuery{Kind: "pcr.8"})[0]); diff != "" {
		t.Error(diff)
	}
	w.verify("")
}

// TestDriftOfADenialWithoutZone counts for the zone that the node had.
func TestDriftOfADenialWithoutZone(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	c := attestation(t, snap, ledger.VerdictDeny)
	var zone string
	c.Record = changedBody(t, c.Record, func(a *ledger.Attestation) {
		a.Zone, a.NodeZone = "", "payments"
		zone = a.DriftZone()
	})
	c.DriftZone = zone
	w.append(c)
	rows, err := w.s.Drift(t.Context(), ledger.DriftQuery{Zone: "payments"})
	if err != nil || len(rows) != 2 || rows[0].Kind != "verdict" || rows[1].Kind != "reason" {
		t.Errorf("%+v, %v", rows, err)
	}
	w.verify("")
}

// TestStateKeepsWhatWasSeen: what a refused attempt showed stands in the state,
// inside its HMAC, and goes with the next acceptance.
func TestStateKeepsWhatWasSeen(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	read := func() ledger.NodeState {
		t.Helper()
		got, err := w.s.NodeByID(t.Context(), snap.Node.ID)
		if err != nil || !got.Found {
			t.Fatal(err)
		}
		return got.State
	}
	c := attestation(t, snap, ledger.VerdictDeny)
	c.State.SecureBoot = "on"
	seen := c.State.Measured()
	seen.SecureBoot = "off"
	if err := c.State.See(seen); err != nil {
		t.Fatal(err)
	}
	w.append(c)
	got := read()
	if got.SecureBoot != "on" || got.Measured().SecureBoot != "off" || string(got.Seen) != string(c.State.Seen) {
		t.Errorf("the state is %+v", got)
	}
	for _, column := range []string{`seen = '{}'`, `seen = NULL`, `secure_boot = 'off'`} {
		w.db.Exec(t, `CREATE TABLE kept AS TABLE node_state`, freely+`UPDATE node_state SET `+column)
		if s, err := w.s.NodeByID(t.Context(), snap.Node.ID); err == nil {
			t.Errorf("%s is believed: %+v", column, s.State)
		}
		w.db.Exec(t, freely+`DELETE FROM node_state`, freely+`INSERT INTO node_state TABLE kept`, `DROP TABLE kept`)
	}
	snap.State = got
	allowed := attestation(t, snap, ledger.VerdictAllow)
	allowed.State.Seen = nil
	w.append(allowed)
	if got = read(); got.Seen != nil || got.SecureBoot != "on" {
		t.Errorf("after an acceptance: %+v", got)
	}
}

// TestRecordsByReason finds the denials of a code, and no others.
func TestRecordsByReason(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	w.drifted(&snap, ledger.VerdictDeny)
	c := attestation(t, snap, ledger.VerdictDeny)
	c.Record = changedBody(t, c.Record, func(a *ledger.Attestation) { a.Reasons[0].Code = "policy.secure_boot" })
	p := w.append(c)
	rows, err := w.s.Records(t.Context(), ledger.Query{Reason: "policy.secure_boot"})
	if err != nil || len(rows) != 1 || rows[0].Index != p.Index {
		t.Errorf("%+v, %v", rows, err)
	}
	if rows, err = w.s.Records(t.Context(), ledger.Query{Reason: "policy.secure_boot", Verdict: ledger.VerdictAllow}); err != nil || len(rows) != 0 {
		t.Errorf("allowed for a reason: %+v, %v", rows, err)
	}
}

// TestTimesBoundRecordsExactly, also where a quarter of an hour around the time
// has no record at all.
func TestTimesBoundRecordsExactly(t *testing.T) {
	w := newWorld(t)
	for i := range 4 {
		w.append(event(t))
		w.db.Exec(t, freely+fmt.Sprintf(`UPDATE attestation SET recorded_at = recorded_at - interval '%d minutes' WHERE log_idx = %d`, 90-30*i, i))
	}
	rows, err := w.s.Records(t.Context(), ledger.Query{})
	if err != nil || len(rows) != 4 {
		t.Fatal(len(rows), err)
	}
	for i, r := range rows { // newest first
		for _, off := range []time.Duration{0, time.Microsecond, time.Minute, 20 * time.Minute} {
			since, err := w.s.Records(t.Context(), ledger.Query{Since: r.RecordedAt.Add(-off)})
			if err != nil || len(since) != i+1 {
				t.Errorf("%s before record %d: %d records since, %v", off, r.Index, len(since), err)
			}
			until, err := w.s.Records(t.Context(), ledger.Query{Until: r.RecordedAt.Add(off)})
			want := 4 - i
			if off == 0 {
				want--
			}
			if err != nil || len(until) != want {
				t.Errorf("%s after record %d: %d records until, %v, want %d", off, r.Index, len(until), err, want)
			}
		}
	}
}

// TestStateKeepsTheMeasurementList: how far it was attested stands inside the
// HMAC, because whoever could move it on could hide what was measured before.
func TestStateKeepsTheMeasurementList(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	c := attestation(t, snap, ledger.VerdictAllow)
	c.State.IMA = []byte(`{"entries":"7"}`)
	w.append(c)
	got, err := w.s.NodeByID(t.Context(), snap.Node.ID)
	if err != nil || string(got.State.IMA) != `{"entries":"7"}` {
		t.Fatalf("%s, %v", got.State.IMA, err)
	}
	for _, column := range []string{`ima = '{"entries":"8"}'`, `ima = NULL`, `ima = ''`} {
		w.db.Exec(t, `CREATE TABLE kept AS TABLE node_state`, freely+`UPDATE node_state SET `+column)
		if s, err := w.s.NodeByID(t.Context(), snap.Node.ID); err == nil {
			t.Errorf("%s is believed: %s", column, s.State.IMA)
		}
		w.db.Exec(t, freely+`DELETE FROM node_state`, freely+`INSERT INTO node_state TABLE kept`, `DROP TABLE kept`)
	}
	snap = got
	c = attestation(t, snap, ledger.VerdictAllow)
	c.State.IMA = nil
	w.append(c)
	if got, err = w.s.NodeByID(t.Context(), snap.Node.ID); err != nil || got.State.IMA != nil {
		t.Errorf("%s, %v", got.State.IMA, err)
	}
}
