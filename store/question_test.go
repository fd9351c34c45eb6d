package store_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func (w *world) reader() *store.Reader {
	w.t.Helper()
	r, err := store.OpenReader(context.Background(), store.ReaderConfig{DSN: w.db.ReaderDSN, LogID: "main"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(r.Close)
	return r
}

// noon is the time around which the spans of these tests lie: of yesterday, so
// that its partition stands.
func noon() time.Time { return time.Now().UTC().Truncate(24 * time.Hour).Add(-12 * time.Hour) }

// measured is the digest of a measurement of one fact, which is stored.
func (w *world) measured(facts string) [32]byte {
	w.t.Helper()
	var d [32]byte
	copy(d[:], query[[]byte](w.t, w.db, fmt.Sprintf(`SELECT sha256('%s')`, facts)))
	w.db.Exec(w.t, fmt.Sprintf(`INSERT INTO measurement_set (digest, facts) VALUES ('\x%x', '%s') ON CONFLICT DO NOTHING`, d, facts),
		fmt.Sprintf(`INSERT INTO measurement_fact SELECT key, value, '\x%x' FROM jsonb_each_text('%s') ON CONFLICT DO NOTHING`, d, facts))
	return d
}

// span is an interval of a node in a zone from noon on, in minutes.
func span(node ledger.NodeID, zone string, measured [32]byte, from, until int) ledger.Interval {
	at := func(m int) time.Time { return noon().Add(time.Duration(m) * time.Minute) }
	return ledger.Interval{
		Node: node, Zone: zone, Measured: measured, PolicyVersion: 7, From: at(from), Until: at(until), Expires: at(until + 60),
		First: uuid.New(), Last: uuid.New(), Renewals: 3, Ended: ledger.EndedChanged,
	}
}

// closed writes spans that ended, as the writer does.
func (w *world) closed(spans ...ledger.Interval) {
	w.t.Helper()
	for i, s := range spans {
		if err := store.EnsurePartitions(context.Background(), w.db.OwnerDSN, s.Until); err != nil {
			w.t.Fatal(err)
		}
		w.db.Exec(w.t, fmt.Sprintf(`INSERT INTO measurement_interval (recorded_at, log_id, log_idx, node_id, zone, measured, policy_version,
			valid_from, valid_until, expires_at, first_record, last_record, renewals, ended)
			VALUES ('%s', 'main', %d, '%s', '%s', '\x%x', %d, '%s', '%s', '%s', '%s', '%s', %d, '%s')`,
			stamp(s.Until), i, s.Node, s.Zone, s.Measured, s.PolicyVersion, stamp(s.From), stamp(s.Until), stamp(s.Expires),
			s.First, s.Last, s.Renewals, s.Ended))
	}
}

// withoutSpans takes away what the attestations of the test earned.
func (w *world) withoutSpans() {
	w.t.Helper()
	w.db.Exec(w.t, freely+`DELETE FROM measurement_interval`, freely+`UPDATE node_state SET span_zone = NULL, span_measured = NULL, span_last = NULL`)
}

// opened makes the span the open one of its node.
func (w *world) opened(s ledger.Interval) {
	w.t.Helper()
	w.db.Exec(w.t, freely+fmt.Sprintf(`UPDATE node_state SET span_zone = '%s', span_measured = '\x%x', span_policy = %d, span_from = '%s',
		span_first = '%s', span_until = '%s', span_expires = '%s', span_last = last, span_renewals = %d WHERE node_id = '%s'`,
		s.Zone, s.Measured, s.PolicyVersion, stamp(s.From), s.First, stamp(s.Until), stamp(s.Expires), s.Renewals, s.Node))
}

func stamp(t time.Time) string { return t.Format(time.RFC3339Nano) }

func minutes(m int) time.Time { return noon().Add(time.Duration(m) * time.Minute) }

// nodes enrols nodes and returns their ids in order.
func (w *world) nodes(n int) []ledger.NodeID {
	w.t.Helper()
	var out []ledger.NodeID
	for i := range n {
		out = append(out, w.enrol(i).Node.ID)
	}
	slices.Sort(out)
	return out
}

// TestMembers: who was in a zone at a time is told by the spans that ended, and by
// the open ones that still stand.
func TestMembers(t *testing.T) {
	w := newWorld(t)
	r := w.reader()
	n := w.nodes(6)
	set := w.measured(`{"pcr.4":"aa"}`)
	w.closed(
		span(n[0], "payments", set, -60, 10), // until, not at, minute 10
		span(n[0], "lab", set, 10, 20),
		span(n[1], "payments", set, -10, 5),
		span(n[2], "payments", set, -9*24*60, -9*24*60+30), // long past
	)
	w.opened(span(n[3], "payments", set, -30, 45))
	w.opened(span(n[4], "payments", set, -30, 45))
	w.db.Exec(t, freely+`UPDATE node_state SET span_last = gen_random_uuid() WHERE node_id = '`+string(n[4])+`'`) // overtaken by an older program
	w.opened(span(n[5], "payments", set, -30, 45))
	w.db.Exec(t, freely+`UPDATE node_state SET verdict = 'deny' WHERE node_id = '`+string(n[5])+`'`)

	at := func(q ledger.MembersQuery) (out []ledger.NodeID) {
		t.Helper()
		rows, asOf, err := r.Members(t.Context(), q)
		if err != nil || asOf.LogID != "main" || asOf.Size != 12 || asOf.RecordedAt.IsZero() || asOf.Replica {
			t.Fatalf("%+v, %v", asOf, err)
		}
		for _, m := range rows {
			out = append(out, m.Node)
		}
		return out
	}
	for name, tc := range map[string]struct {
		q    ledger.MembersQuery
		want []ledger.NodeID
	}{
		"begin":           {ledger.MembersQuery{Zone: "payments", At: minutes(-60)}, n[:1]},
		"before":          {ledger.MembersQuery{Zone: "payments", At: minutes(-60).Add(-time.Microsecond)}, nil},
		"all":             {ledger.MembersQuery{Zone: "payments", At: minutes(0)}, []ledger.NodeID{n[0], n[1], n[3]}},
		"ended":           {ledger.MembersQuery{Zone: "payments", At: minutes(5)}, []ledger.NodeID{n[0], n[3]}},
		"moved":           {ledger.MembersQuery{Zone: "payments", At: minutes(10)}, []ledger.NodeID{n[3]}},
		"lab":             {ledger.MembersQuery{Zone: "lab", At: minutes(10)}, n[:1]},
		"stale":           {ledger.MembersQuery{Zone: "payments", At: minutes(45)}, nil},
		"grace":           {ledger.MembersQuery{Zone: "payments", At: minutes(45), Grace: true}, []ledger.NodeID{n[0], n[1], n[3]}},
		"any_zone":        {ledger.MembersQuery{At: minutes(10)}, []ledger.NodeID{n[0], n[3]}},
		"any_zone_grace":  {ledger.MembersQuery{At: minutes(15), Grace: true}, []ledger.NodeID{n[0], n[1], n[3]}},
		"page":            {ledger.MembersQuery{Zone: "payments", At: minutes(0), Limit: 2}, n[:2]},
		"next_page":       {ledger.MembersQuery{Zone: "payments", At: minutes(0), Limit: 2, After: n[1]}, []ledger.NodeID{n[3]}},
		"no_such_zone":    {ledger.MembersQuery{Zone: "x'; DROP TABLE node", At: minutes(0)}, nil},
		"week_before":     {ledger.MembersQuery{Zone: "payments", At: minutes(-9*24*60 + 5)}, n[2:3]},
		"far_in_the_past": {ledger.MembersQuery{Zone: "payments", At: noon().AddDate(-1, 0, 0)}, nil},
	} {
		if diff := cmp.Diff(tc.want, at(tc.q)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	want := span(n[0], "payments", set, -60, 10)
	got, _, err := r.Members(t.Context(), ledger.MembersQuery{Zone: "payments", At: minutes(0), Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	want.First, want.Last = got[0].First, got[0].Last
	if diff := cmp.Diff(ledger.Member{Interval: want, Machine: query[string](t, w.db, `SELECT machine FROM node WHERE node_id = '`+string(n[0])+`'`)}, got[0]); diff != "" || want.First == uuid.Nil {
		t.Error(diff)
	}
}

// TestNodeAt: what a node was, before it attested, while it was in a zone, and
// when it was refused.
func TestNodeAt(t *testing.T) {
	w := newWorld(t)
	r := w.reader()
	snap := w.enrol(1)
	first := query[time.Time](t, w.db, `SELECT recorded_at FROM attestation WHERE type = 'attestation'`)
	denied := w.append(attestation(t, snap, ledger.VerdictDeny))
	w.withoutSpans()
	n := snap.Node.ID
	ask := func(at time.Time) ledger.NodeAt {
		t.Helper()
		out, asOf, err := r.NodeAt(t.Context(), n, at)
		if err != nil || asOf.Size != 3 {
			t.Fatal(asOf, err)
		}
		return out
	}
	if got := ask(first.Add(-time.Microsecond)); got.Record != nil || got.Denied || got.Interval != nil || got.ValidSVID {
		t.Errorf("before the first: %+v", got)
	}
	if got := ask(first); got.Record == nil || got.Record.Index != 1 || got.Denied || got.Record.Body == nil {
		t.Errorf("after the first: %+v", got)
	}
	if got := ask(denied.RecordedAt); got.Record == nil || got.Record.Index != denied.Index || !got.Denied {
		t.Errorf("after the denial: %+v", got)
	}
	set := w.measured(`{"pcr.4":"aa"}`)
	w.closed(span(n, "payments", set, -10, 5), span(n, "lab", set, 5, 20))
	if got := ask(minutes(5)); got.Interval == nil || got.Interval.Zone != "lab" || !got.ValidSVID {
		t.Errorf("in a zone: %+v", got)
	}
	if got := ask(minutes(30)); got.Interval != nil || !got.ValidSVID {
		t.Errorf("with an SVID only: %+v", got)
	}
	if got := ask(minutes(80)); got.Interval != nil || got.ValidSVID {
		t.Errorf("long after: %+v", got)
	}
	spans, _, err := r.Intervals(t.Context(), n, minutes(0), minutes(10), 0)
	if err != nil || len(spans) != 2 || spans[0].Zone != "lab" || spans[1].Zone != "payments" {
		t.Errorf("%+v, %v", spans, err)
	}
	if spans, _, err = r.Intervals(t.Context(), n, minutes(5), minutes(10), 1); err != nil || len(spans) != 1 || spans[0].Zone != "lab" {
		t.Errorf("%+v, %v", spans, err)
	}
}

func TestPopulation(t *testing.T) {
	w := newWorld(t)
	r := w.reader()
	n := w.nodes(5)
	a, b, c := w.measured(`{"pcr.4":"aa","boot.kernel":"6.1"}`), w.measured(`{"pcr.4":"bb","boot.kernel":"6.1"}`), w.measured(`{"pcr.4":"aa"}`)
	w.closed(span(n[0], "payments", a, -60, 60), span(n[1], "payments", b, -60, 60), span(n[1], "payments", a, -180, -60))
	w.opened(span(n[2], "lab", a, -60, 60))
	w.opened(span(n[3], "payments", c, -60, 60))
	for name, tc := range map[string]struct {
		q    ledger.PopulationQuery
		want []ledger.Population
	}{
		"values":  {ledger.PopulationQuery{Fact: "pcr.4"}, []ledger.Population{{Value: "aa", Nodes: 3, Some: []ledger.NodeID{n[0], n[2], n[3]}}, {Value: "bb", Nodes: 1, Some: n[1:2]}}},
		"value":   {ledger.PopulationQuery{Fact: "pcr.4", Value: "bb"}, []ledger.Population{{Value: "bb", Nodes: 1, Some: n[1:2]}}},
		"zone":    {ledger.PopulationQuery{Fact: "pcr.4", Zone: "lab"}, []ledger.Population{{Value: "aa", Nodes: 1, Some: n[2:3]}}},
		"boot":    {ledger.PopulationQuery{Fact: "boot.kernel"}, []ledger.Population{{Value: "6.1", Nodes: 3, Some: n[:3]}}},
		"limit":   {ledger.PopulationQuery{Fact: "pcr.4", Limit: 1}, []ledger.Population{{Value: "aa", Nodes: 3, Some: []ledger.NodeID{n[0], n[2], n[3]}}}},
		"earlier": {ledger.PopulationQuery{Fact: "pcr.4", At: minutes(-90)}, []ledger.Population{{Value: "aa", Nodes: 1, Some: n[1:2]}}},
		"unknown": {ledger.PopulationQuery{Fact: "pcr.9", Value: "'"}, nil},
	} {
		if tc.q.At.IsZero() {
			tc.q.At = minutes(0)
		}
		got, _, err := r.Population(t.Context(), tc.q)
		if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

// TestUnseen: a node that is refused again and again is unseen, but not silent.
func TestUnseen(t *testing.T) {
	w := newWorld(t)
	r := w.reader()
	n := w.nodes(5)
	change := func(node ledger.NodeID, set string) {
		w.db.Exec(t, freely+`UPDATE node_state SET `+set+` WHERE node_id = '`+string(node)+`'`)
	}
	change(n[0], `last_ok_at = now() - interval '2 days', last_attempt_at = now() - interval '2 days'`)
	change(n[1], `last_ok_at = now() - interval '2 days', last_attempt_at = now(), verdict = 'deny', reason = 'policy.pcr_mismatch', zone = 'lab'`)
	change(n[2], `last_ok_at = NULL, last_attempt_at = NULL`)
	change(n[3], `last_ok_at = now() - interval '2 days', last_attempt_at = now() - interval '1 day'`)
	w.db.Exec(t, freely+`UPDATE node SET status = 'disabled' WHERE node_id = '`+string(n[3])+`'`)
	since := time.Now().Add(-36 * time.Hour)
	ask := func(q ledger.UnseenQuery) (out []ledger.NodeID) {
		t.Helper()
		q.Since = since
		rows, _, err := r.Unseen(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range rows {
			out = append(out, u.Node)
			if (u.Reason != "") != (u.Node == n[1]) || u.LastOKAt.IsZero() != (u.Node == n[2]) || u.Machine == "" || u.Status != ledger.StatusActive {
				t.Errorf("%+v", u)
			}
		}
		return out
	}
	for name, tc := range map[string]struct {
		q    ledger.UnseenQuery
		want []ledger.NodeID
	}{
		"all": {ledger.UnseenQuery{}, n[:3]}, "silent": {ledger.UnseenQuery{Silent: true}, []ledger.NodeID{n[0], n[2]}},
		"zone": {ledger.UnseenQuery{Zone: "lab"}, n[1:2]}, "page": {ledger.UnseenQuery{Limit: 1}, n[:1]}, "next": {ledger.UnseenQuery{Limit: 2, After: n[0]}, n[1:3]},
	} {
		if diff := cmp.Diff(tc.want, ask(tc.q)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	w.db.Exec(t, `INSERT INTO refusal_hourly VALUES (date_trunc('hour', now() - interval '2 hours'), 'policy.pcr_mismatch', '`+string(n[0])+`', 12)`)
	if diff := cmp.Diff(n[2:3], ask(ledger.UnseenQuery{Silent: true})); diff != "" {
		t.Errorf("silent, though it is refused every hour: %s", diff)
	}
}

func TestDetections(t *testing.T) {
	w := newWorld(t)
	r := w.reader()
	snap := w.enrol(1)
	w.drifted(&snap, ledger.VerdictAllow, ledger.Drift{Kind: "pcr.4", Before: "a", After: "b"}, ledger.Drift{Kind: "zone", Before: "a", After: "b"})
	w.drifted(&snap, ledger.VerdictAllow, ledger.Drift{Kind: "pcr.4", Before: "b", After: "c"})
	w.db.Exec(t, freely+`UPDATE drift_event SET last_good = recorded_at - (log_idx * interval '1 minute')`)
	w.drifted(&snap, ledger.VerdictAllow, ledger.Drift{Kind: "pcr.4", Before: "c", After: "d"}) // nobody knows
	w.db.Exec(t, freely+`UPDATE drift_event SET last_good = NULL WHERE after_value = 'd'`)
	since, until := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	rows, _, err := r.Detections(t.Context(), ledger.DriftQuery{Since: since})
	if err != nil || len(rows) != 3 || rows[0].Took != 3*time.Minute || rows[1].Took != 2*time.Minute || rows[0].LastGood.Add(rows[0].Took) != rows[0].RecordedAt || rows[1].Kind != "pcr.4" {
		t.Fatalf("%+v, %v", rows, err)
	}
	next, _, err := r.Detections(t.Context(), ledger.DriftQuery{Kind: "pcr.4", Node: snap.Node.ID, Zone: "payments", Since: since, Until: until, Limit: 1, After: rows[0].Place})
	if err != nil || len(next) != 1 || cmp.Diff(rows[1], next[0]) != "" {
		t.Errorf("%+v, %v", next, err)
	}
	sum, _, err := r.DetectionSummary(t.Context(), "payments", since, until)
	want := []ledger.DetectionSummary{
		{Kind: "pcr.4", Events: 2, P50: 2 * time.Minute, P99: 3 * time.Minute, Max: 3 * time.Minute},
		{Kind: "zone", Events: 1, P50: 2 * time.Minute, P99: 2 * time.Minute, Max: 2 * time.Minute},
	}
	if diff := cmp.Diff(want, sum); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if sum, _, err = r.DetectionSummary(t.Context(), "lab", since, until); len(sum) != 0 || err != nil {
		t.Errorf("%+v, %v", sum, err)
	}
	_, _, err = r.DetectionSummary(t.Context(), "", since, since.AddDate(0, 0, 32))
	wantCode(t, err, reason.RequestMalformed)
}

// TestRatesAndCrossCheck: counts by hour, and the hours in which they are not
// those of the rows.
func TestRatesAndCrossCheck(t *testing.T) {
	w := newWorld(t)
	r := w.reader()
	snap := w.enrol(1)
	for range 2 {
		c := attestation(t, snap, ledger.VerdictDeny)
		c.State.Version = w.append(c).Version
		snap.State = *c.State
	}
	hour := time.Now().UTC().Truncate(time.Hour)
	// As the writers of two replicas count; an hour that nobody recorded besides.
	w.db.Exec(t, freely+`DELETE FROM attest_hourly`, fmt.Sprintf(`INSERT INTO attest_hourly VALUES
		('%[1]s', 'payments', 'allow', '', 'a', 1), ('%[1]s', 'payments', 'deny', 'policy.pcr_mismatch', 'a', 1), ('%[1]s', 'payments', 'deny', 'policy.pcr_mismatch', 'b', 1),
		('%[2]s', 'lab', 'allow', '', 'a', 4)`, stamp(hour), stamp(hour.Add(-2*time.Hour))))
	q := ledger.RateQuery{Since: hour.Add(-3 * time.Hour), Until: time.Now().Add(time.Minute)}
	rates, _, err := r.Rates(t.Context(), q)
	want := []ledger.Rate{
		{Hour: hour.Add(-2 * time.Hour), Zone: "lab", Accepted: 4, Reasons: map[string]int64{}},
		{Hour: hour, Zone: "payments", Accepted: 1, Denied: 2, Reasons: map[string]int64{"policy.pcr_mismatch": 2}},
	}
	if diff := cmp.Diff(want, rates); diff != "" || err != nil {
		t.Error(diff, err)
	}
	q.Zone = "payments"
	if rates, _, err = r.Rates(t.Context(), q); err != nil || len(rates) != 1 {
		t.Errorf("%+v, %v", rates, err)
	}
	found, _, err := r.CrossCheck(t.Context(), hour.Add(-3*time.Hour), time.Now().Add(time.Minute))
	if diff := cmp.Diff([]ledger.CrossCheck{{Hour: hour.Add(-2 * time.Hour), Zone: "lab", Verdict: "allow", Counted: 4}}, found); diff != "" || err != nil {
		t.Error(diff, err)
	}
	w.db.Exec(t, freely+`UPDATE attest_hourly SET n = 5 WHERE writer = 'b'`)
	if found, _, err = r.CrossCheck(t.Context(), hour, time.Now().Add(time.Minute)); err != nil || len(found) != 1 || found[0].Counted != 6 || found[0].Rows != 2 {
		t.Errorf("%+v, %v", found, err)
	}
	_, _, err = r.CrossCheck(t.Context(), hour, hour)
	wantCode(t, err, reason.RequestMalformed)
	_, _, err = r.CrossCheck(t.Context(), hour.AddDate(0, 0, -8), hour)
	wantCode(t, err, reason.RequestMalformed)
	_, _, err = r.Rates(t.Context(), ledger.RateQuery{Until: hour})
	wantCode(t, err, reason.RequestMalformed)
}

func TestCoverage(t *testing.T) {
	w := newWorld(t)
	r := w.reader()
	n := w.nodes(5)
	root := query[[]byte](t, w.db, `SELECT root_hash FROM node WHERE machine = 'machine-2'`)
	import1 := uuid.New()
	for _, row := range []string{"'machine-0', 'm1', 'berlin', NULL", "'machine-1', 'm1', 'oslo', NULL", `'label-of-2', 'm2', 'oslo', '\x` + hex.EncodeToString(root) + `'`, "'never', 'm2', 'oslo', NULL"} {
		w.db.Exec(t, `INSERT INTO inventory (machine, model, site, ek_hash, import) VALUES (`+row+`, '`+import1.String()+`')`)
	}
	w.db.Exec(t, freely+`UPDATE node_state SET last_ok_at = now() - interval '2 days' WHERE node_id = (SELECT node_id FROM node WHERE machine = 'machine-1')`)
	fresh := time.Now().Add(-time.Hour)
	all, _, err := r.Coverage(t.Context(), ledger.CoverageQuery{Fresh: fresh})
	if err != nil || all.Machines != 4 || all.Fresh != 2 || len(all.Missing) != 2 || len(all.Unknown) != 2 || all.After != "" {
		t.Fatalf("%+v, %v", all, err)
	}
	if m := all.Missing; m[0].Machine != "machine-1" || m[0].Node == "" || m[0].LastOKAt.IsZero() || m[1].Machine != "never" || m[1].Node != "" || m[1].Model != "m2" || m[1].Site != "oslo" {
		t.Errorf("missing: %+v", m)
	}
	if u := all.Unknown; !slices.Contains(n, u[0].Node) || u[0].Node >= u[1].Node || u[0].Machine == "" {
		t.Errorf("unknown: %+v", u)
	}
	var paged ledger.Coverage
	for q := (ledger.CoverageQuery{Fresh: fresh, Limit: 1}); ; {
		page, _, err := r.Coverage(t.Context(), q)
		if err != nil || page.Machines != 4 {
			t.Fatal(page, err)
		}
		paged.Missing, paged.Unknown = append(paged.Missing, page.Missing...), append(paged.Unknown, page.Unknown...)
		if q.After = page.After; q.After == "" {
			break
		}
	}
	if diff := cmp.Diff([][]ledger.CoverageRow{all.Missing, all.Unknown}, [][]ledger.CoverageRow{paged.Missing, paged.Unknown}); diff != "" {
		t.Errorf("page by page: %s", diff)
	}
	oslo, _, err := r.Coverage(t.Context(), ledger.CoverageQuery{Site: "oslo", Fresh: fresh})
	if err != nil || oslo.Machines != 3 || oslo.Fresh != 1 || len(oslo.Missing) != 2 || len(oslo.Unknown) != 0 || oslo.After != "" {
		t.Errorf("%+v, %v", oslo, err)
	}
	_, _, err = r.Coverage(t.Context(), ledger.CoverageQuery{After: "x"})
	wantCode(t, err, reason.RequestMalformed)
}
