package store_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// later is an SVID that is issued after the last attestation of snap.
func (w *world) later(snap ledger.Snapshot) ledger.Record {
	w.t.Helper()
	id, now := recordID(w.t), time.Now()
	i := ledger.Issuance{
		Type: ledger.TypeIssuance, ID: id, Node: snap.Node.ID, Workload: "web", Zone: "payments", Attestation: snap.State.Last.String(),
		AttestedAt: snap.State.AttestedAt.UnixMilli(), FreshUntil: snap.State.FreshUntil.UnixMilli(), Policy: ledger.PolicyRef{Version: 1, Hash: "sha256:00"},
		SVIDs: []ledger.IssuedSVID{{
			Profile: ledger.ProfileJWT, Serial: id.String(), SPIFFEID: "spiffe://example.org/workload/web", Audience: "db",
			NotBefore: now.Unix(), NotAfter: now.Add(5 * time.Minute).Unix(), TBSSHA256: "cc", CAKeyID: "dd", Key: "software",
		}},
		At: now.UnixMilli(),
	}
	rec, err := i.Record(salt())
	if err != nil {
		w.t.Fatal(err)
	}
	w.append(ledger.Commit{Record: rec, SVIDs: i.SVIDs, Guard: &ledger.Guard{Node: snap.Node.ID, Version: snap.State.Version}})
	return rec
}

// issuedWorld is two nodes with SVIDs: a was attested twice and has a later one,
// then it was refused; b has one of its enrolment.
type issuedWorld struct {
	*world
	r       *store.Reader
	a, b    ledger.Snapshot
	records []uuid.UUID // of SVIDs, oldest first: a, b, a, a's later one
	since   time.Time
}

func newIssued(t *testing.T) *issuedWorld {
	w := newWorld(t)
	i := &issuedWorld{world: w, r: w.reader(), since: time.Now().Add(-time.Hour)}
	i.a, i.b = w.enrol(1), w.enrol(2)
	c := attestation(t, i.a, ledger.VerdictAllow)
	i.records = []uuid.UUID{i.a.State.Last, i.b.State.Last, c.Record.ID}
	c.State.Version = w.append(c).Version
	i.a.State = *c.State
	i.records = append(i.records, w.later(i.a).ID)
	w.append(attestation(t, i.a, ledger.VerdictDeny))
	w.withoutSpans()
	return i
}

func (i *issuedWorld) ask(q ledger.IssuedQuery) []ledger.Issued {
	i.t.Helper()
	if q.Since.IsZero() && q.Serial == "" {
		q.Since = i.since
	}
	rows, asOf, err := i.r.Issued(i.t.Context(), q)
	if err != nil || asOf.Size == 0 {
		i.t.Fatalf("%+v, %v", asOf, err)
	}
	return rows
}

// numbers of the records in i.records.
func (i *issuedWorld) numbers(rows []ledger.Issued) []int {
	var out []int
	for _, r := range rows {
		out = append(out, slices.Index(i.records, r.Record))
	}
	return out
}

func TestIssued(t *testing.T) {
	w := newIssued(t)
	until := query[time.Time](t, w.db, `SELECT recorded_at FROM attestation WHERE record_id = '`+w.records[2].String()+`'`)
	for name, tc := range map[string]struct {
		q    ledger.IssuedQuery
		want []int
	}{
		"all": {ledger.IssuedQuery{}, []int{3, 2, 1, 0}}, "node": {ledger.IssuedQuery{Node: w.a.Node.ID}, []int{3, 2, 0}},
		"zone": {ledger.IssuedQuery{Zone: "payments", Limit: 3}, []int{3, 2, 1}}, "other_zone": {ledger.IssuedQuery{Zone: "lab"}, nil},
		"since": {ledger.IssuedQuery{Since: until}, []int{3, 2}}, "until": {ledger.IssuedQuery{Until: until}, []int{1, 0}},
		"denied_now": {ledger.IssuedQuery{DeniedNow: true}, []int{3, 2, 0}}, "denied_zone": {ledger.IssuedQuery{DeniedNow: true, Zone: "lab"}, nil},
		"denied_other": {ledger.IssuedQuery{DeniedNow: true, Node: w.b.Node.ID}, nil},
	} {
		if diff := cmp.Diff(tc.want, w.numbers(w.ask(tc.q))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	var paged []ledger.Issued
	for q := (ledger.IssuedQuery{Limit: 1}); ; {
		page := w.ask(q)
		if len(page) == 0 {
			break
		}
		paged, q.After = append(paged, page...), page[0].Cursor
	}
	all := w.ask(ledger.IssuedQuery{})
	if diff := cmp.Diff(all, paged); diff != "" {
		t.Errorf("page by page: %s", diff)
	}
	if v := all[0]; v.SPIFFEID != "spiffe://example.org/workload/web" || v.TBSSHA256 != "cc" || v.CAKeyID != "dd" || v.Audience != "db" ||
		v.Attestation != w.records[2] || v.Node != w.a.Node.ID || v.Zone != "payments" || v.PolicyVersion != 1 || v.LogID != "main" {
		t.Errorf("%+v", v)
	}
	if v := all[1]; v.Attestation != v.Record || v.Profile != "x509" {
		t.Errorf("%+v", v)
	}
	// What expired is held by nobody any more; a node that is disabled may hold one.
	w.db.Exec(t, freely+`UPDATE node SET status = 'disabled' WHERE node_id = '`+string(w.b.Node.ID)+`'`)
	if diff := cmp.Diff([]int{3, 2, 1, 0}, w.numbers(w.ask(ledger.IssuedQuery{DeniedNow: true}))); diff != "" {
		t.Errorf("disabled: %s", diff)
	}
	for name, q := range map[string]ledger.IssuedQuery{"no_time": {}, "cursor": {Since: w.since, After: "?"}} {
		if _, _, err := w.r.Issued(t.Context(), q); reason.Of(err) != reason.RequestMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSVIDBySerial(t *testing.T) {
	w := newIssued(t)
	for i, id := range w.records {
		serial := hexOf(id[:])
		if i == 3 {
			serial = id.String()
		}
		rows := w.ask(ledger.IssuedQuery{Serial: serial, Limit: 1})
		if len(rows) != 1 || rows[0].Record != id || rows[0].SPIFFEID == "" || rows[0].Serial != serial {
			t.Errorf("serial %s: %+v", serial, rows)
		}
	}
	if rows := w.ask(ledger.IssuedQuery{Serial: "'"}); len(rows) != 0 {
		t.Errorf("%+v", rows)
	}
	// Retention may keep the SVID longer than its decision.
	w.db.Exec(t, freely+`DELETE FROM attestation WHERE record_id = '`+w.records[1].String()+`'`)
	rows := w.ask(ledger.IssuedQuery{Serial: hexOf(w.records[1][:])})
	if len(rows) != 1 || rows[0].Record != uuid.Nil || rows[0].Node != w.b.Node.ID || rows[0].NotAfter == 0 || rows[0].Profile != "x509" {
		t.Errorf("without its record: %+v", rows)
	}
	w.db.Exec(t, freely+`UPDATE svid SET serial = 'forged' WHERE serial = '`+hexOf(w.records[0][:])+`'`)
	_, _, err := w.r.Issued(t.Context(), ledger.IssuedQuery{Serial: "forged"})
	wantCode(t, err, reason.StoreRowForged)
}

// TestIssuedUnder: a measurement, a reference set, a policy version and a piece of
// evidence each lead to the SVIDs that rest on them, later ones included.
func TestIssuedUnder(t *testing.T) {
	w := newIssued(t)
	log := sha256.Sum256([]byte("log"))
	x := w.measured(`{"event_log":"` + hexOf(log[:]) + `","pcr.4":"aa"}`)
	y := w.measured(`{"event_log":"00","pcr.4":"bb"}`)
	now := time.Now()
	at := func(id uuid.UUID) time.Time {
		return query[time.Time](t, w.db, `SELECT recorded_at FROM attestation WHERE record_id = '`+id.String()+`'`)
	}
	base := ledger.Interval{Zone: "payments", Expires: now.Add(time.Hour), Ended: ledger.EndedChanged}
	first, second, other := base, base, base
	first.Node, first.Measured, first.PolicyVersion, first.First, first.Last = w.a.Node.ID, x, 1, w.records[0], w.records[0]
	first.From, first.Until = at(w.records[0]).Add(-time.Second), at(w.records[2]).Add(-time.Millisecond)
	second.Node, second.Measured, second.PolicyVersion, second.First, second.Last = w.a.Node.ID, y, 2, w.records[2], w.records[2]
	second.From, second.Until = first.Until, now.Add(time.Minute)
	other.Node, other.Measured, other.PolicyVersion, other.First, other.Last = w.b.Node.ID, x, 2, w.records[1], w.records[1]
	other.From, other.Until = at(w.records[1]).Add(-time.Second), now.Add(time.Minute)
	w.closed(first, second)
	w.opened(other)
	quote := sha256.Sum256(append([]byte("quote "), w.records[1][:]...))
	for name, tc := range map[string]struct {
		q    ledger.IssuedQuery
		want []int
	}{
		"fact":           {ledger.IssuedQuery{Fact: "pcr.4", Value: "aa"}, []int{1, 0}},
		"later":          {ledger.IssuedQuery{Fact: "pcr.4", Value: "bb"}, []int{3, 2}},
		"fact_and_node":  {ledger.IssuedQuery{Fact: "pcr.4", Value: "aa", Node: w.a.Node.ID}, []int{0}},
		"unknown_value":  {ledger.IssuedQuery{Fact: "pcr.4", Value: "cc"}, nil},
		"policy":         {ledger.IssuedQuery{PolicyVersion: 2}, []int{3, 2, 1}},
		"policy_page":    {ledger.IssuedQuery{PolicyVersion: 2, Limit: 1}, []int{3}},
		"both":           {ledger.IssuedQuery{PolicyVersion: 2, Fact: "pcr.4", Value: "aa"}, []int{1}},
		"reference":      {ledger.IssuedQuery{Reference: map[string]ledger.Wanted{"pcr.4": {"aa", "cc"}, "event_log": {hexOf(log[:])}}}, []int{1, 0}},
		"other_set":      {ledger.IssuedQuery{Reference: map[string]ledger.Wanted{"pcr.4": {"aa"}, "event_log": {"00"}}}, nil},
		"contradiction":  {ledger.IssuedQuery{Reference: map[string]ledger.Wanted{"pcr.4": {"aa"}}, Fact: "pcr.4", Value: "bb"}, nil},
		"event_log":      {ledger.IssuedQuery{Evidence: &log}, []int{1, 0}},
		"quote":          {ledger.IssuedQuery{Evidence: &quote}, []int{1}},
		"log_and_fact":   {ledger.IssuedQuery{Evidence: &log, Fact: "pcr.4", Value: "aa"}, []int{1, 0}},
		"nobodys_digest": {ledger.IssuedQuery{Evidence: &[32]byte{9}}, nil},
	} {
		if diff := cmp.Diff(tc.want, w.numbers(w.ask(tc.q))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	var paged []int
	for q := (ledger.IssuedQuery{PolicyVersion: 2, Limit: 1}); ; {
		page := w.ask(q)
		if len(page) == 0 {
			break
		}
		paged, q.After = append(paged, w.numbers(page)...), page[0].Cursor
	}
	if diff := cmp.Diff([]int{3, 2, 1}, paged); diff != "" {
		t.Errorf("page by page: %s", diff)
	}
}

// TestBaseline: who differs from a reference set, from the majority of its model
// or group, and who is refused for it.
func TestBaseline(t *testing.T) {
	w := newWorld(t)
	r := w.reader()
	n := w.nodes(7)
	a, b := w.measured(`{"firmware":"1","pcr.4":"aa"}`), w.measured(`{"firmware":"2","pcr.4":"bb"}`)
	for i, set := range [][32]byte{a, a, b, a, b, b} {
		w.opened(span(n[i], "payments", set, 0, 10))
	}
	model := func(i int, model, groups string) {
		w.db.Exec(t, freely+fmt.Sprintf(`UPDATE node SET tpm_model = '%s', groups = '%s' WHERE node_id = '%s'`, model, groups, n[i]))
	}
	for i := range 4 {
		model(i, "m1", "{g1,g2}")
	}
	for i := 4; i < 6; i++ {
		model(i, "m2", "{g2}")
	}
	// The last one is refused, and showed another PCR 4 than what was accepted.
	model(6, "m1", "{}")
	w.db.Exec(t, freely+`UPDATE node_state SET verdict = 'deny', seen = '{"event_log":"","firmware":"1","pcrs":{"4":"ee"},"secure_boot":""}' WHERE node_id = '`+string(n[6])+`'`)
	ask := func(q ledger.BaselineQuery) []ledger.Deviation {
		t.Helper()
		rows, _, err := r.Baseline(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	nodes := func(rows []ledger.Deviation) (out []ledger.NodeID) {
		for _, d := range rows {
			out = append(out, d.Node)
		}
		return out
	}
	want := map[string]ledger.Wanted{"pcr.4": {"aa", "xx"}}
	for name, tc := range map[string]struct {
		q    ledger.BaselineQuery
		want []ledger.NodeID
	}{
		"model":       {ledger.BaselineQuery{By: "model"}, []ledger.NodeID{n[2], n[6]}},
		"other_model": {ledger.BaselineQuery{By: "model", Name: "m2"}, nil},
		"group":       {ledger.BaselineQuery{By: "group"}, []ledger.NodeID{n[2]}},
		"no_majority": {ledger.BaselineQuery{By: "group", Name: "g2"}, nil},
		"reference":   {ledger.BaselineQuery{By: "reference", Name: "golden", Want: want}, []ledger.NodeID{n[2], n[4], n[5], n[6]}},
		"page":        {ledger.BaselineQuery{By: "reference", Want: want, Limit: 1, After: n[2]}, n[4:5]},
		"zone":        {ledger.BaselineQuery{By: "reference", Want: want, Zone: "lab"}, nil},
	} {
		if diff := cmp.Diff(tc.want, nodes(ask(tc.q))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	rows := ask(ledger.BaselineQuery{By: "model", Name: "m1"})
	if diff := cmp.Diff([]ledger.FactDifference{
		{Name: "firmware", Expected: []string{"1"}, Seen: "2"}, {Name: "pcr.4", Expected: []string{"aa"}, Seen: "bb"},
	}, rows[0].Facts); diff != "" || rows[0].Cohort != "m1" || rows[0].Nodes != 4 || rows[0].LastOKAt.IsZero() {
		t.Errorf("%+v %s", rows[0], diff)
	}
	if diff := cmp.Diff([]ledger.FactDifference{{Name: "pcr.4", Expected: []string{"aa"}, Seen: "ee"}}, rows[1].Facts); diff != "" {
		t.Errorf("refused: %s", diff)
	}
	for name, q := range map[string]ledger.BaselineQuery{"by": {By: "site"}, "nothing_wanted": {By: "reference"}, "wanted": {By: "model", Want: want}} {
		if _, _, err := r.Baseline(t.Context(), q); reason.Of(err) != reason.RequestMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A set that no broker wrote ends no question: who has it differs.
	w.db.Exec(t, `INSERT INTO measurement_set VALUES (sha256('x'), 'x')`,
		fmt.Sprintf(`UPDATE node_state SET span_measured = sha256('x') WHERE node_id = '%s'`, n[0]))
	if diff := cmp.Diff([]ledger.NodeID{n[0], n[2], n[4], n[5], n[6]}, nodes(ask(ledger.BaselineQuery{By: "reference", Want: want}))); diff != "" {
		t.Errorf("with a set of no facts: %s", diff)
	}
}

// TestQuestionsOfCommits: what commits of a broker leave behind answers the
// questions, from the first acceptance through a changed boot to a refusal.
func TestQuestionsOfCommits(t *testing.T) {
	w := newWorld(t)
	r := w.reader()
	snap := w.enrol(1)
	node, other := snap.Node.ID, w.enrol(2).Node.ID
	attest := func(verdict, pcr string) (uuid.UUID, time.Time) {
		t.Helper()
		at := time.Now().UTC().Truncate(time.Microsecond)
		c := attestation(t, snap, verdict)
		c.LastGood = snap.State.LastOKAt
		if verdict == ledger.VerdictAllow {
			m, err := ledger.NewMeasurement(map[string]string{"pcr.4": pcr, "secure_boot": "on"})
			if err != nil {
				t.Fatal(err)
			}
			c.Measurement = &m
			c.Interval, c.Closed = ledger.Earn(snap.Open, &snap.State, ledger.Earned{
				Node: node, Zone: "payments", Measured: m.Digest, PolicyVersion: 1, At: at, FreshUntil: at.Add(5 * time.Minute), Expires: at.Add(time.Hour), Record: c.Record.ID,
			})
		} else {
			c.Closed = ledger.Deny(snap.Open, &snap.State, at)
		}
		p := w.append(c)
		snap.State, snap.Open = *c.State, c.Interval
		snap.State.Version = p.Version
		return c.Record.ID, p.RecordedAt
	}
	first, at := attest(ledger.VerdictAllow, "aa")
	second, later := attest(ledger.VerdictAllow, "bb")
	members := func(at time.Time) []ledger.Member {
		t.Helper()
		rows, _, err := r.Members(t.Context(), ledger.MembersQuery{Zone: "payments", At: at})
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(rows, func(m ledger.Member) bool { return m.Node == other })
	}
	// Times of decisions lie a little before those of their records.
	if got := members(at); len(got) != 1 || got[0].Node != node || got[0].First != first || got[0].Ended != ledger.EndedChanged || got[0].Machine != "machine-1" {
		t.Errorf("after the first: %+v", got)
	}
	if got := members(time.Now().Add(time.Minute)); len(got) != 1 || got[0].First != second || got[0].Ended != "" {
		t.Errorf("after the second: %+v", got)
	}
	pop, _, err := r.Population(t.Context(), ledger.PopulationQuery{Fact: "pcr.4", Value: "bb", At: later})
	if diff := cmp.Diff([]ledger.Population{{Value: "bb", Nodes: 1, Some: []ledger.NodeID{node}}}, pop); diff != "" || err != nil {
		t.Errorf("population: %v %s", err, diff)
	}
	_, denied := attest(ledger.VerdictDeny, "")
	if got := members(time.Now().Add(time.Minute)); len(got) != 0 {
		t.Errorf("after the refusal: %+v", got)
	}
	spans, _, err := r.Intervals(t.Context(), node, at.Add(-time.Minute), denied.Add(time.Minute), 0)
	if err != nil || len(spans) != 2 || spans[0].Ended != ledger.EndedDenied || spans[1].Ended != ledger.EndedChanged || !spans[1].Until.Equal(spans[0].From) {
		t.Errorf("spans: %+v, %v", spans, err)
	}
	was, _, err := r.NodeAt(t.Context(), node, denied)
	if err != nil || !was.Denied || was.Interval != nil || !was.ValidSVID {
		t.Errorf("at the refusal: %+v, %v", was, err)
	}
	since, until := at.Add(-time.Minute), denied.Add(time.Minute)
	under, _, err := r.Issued(t.Context(), ledger.IssuedQuery{Fact: "pcr.4", Value: "aa", Since: since})
	if err != nil || len(under) != 1 || under[0].Record != first || under[0].SPIFFEID == "" || under[0].TBSSHA256 != "aa" {
		t.Errorf("under a PCR value: %+v, %v", under, err)
	}
	held, _, err := r.Issued(t.Context(), ledger.IssuedQuery{DeniedNow: true, Since: since})
	if err != nil || len(held) != 3 || slices.ContainsFunc(held, func(i ledger.Issued) bool { return i.Node == other }) {
		t.Errorf("held by the refused: %d, %v", len(held), err)
	}
	drift, _, err := r.Detections(t.Context(), ledger.DriftQuery{Kind: ledger.DriftVerdict, Since: since})
	if err != nil || len(drift) != 1 || drift[0].Took <= 0 || drift[0].Took > time.Minute || drift[0].After != ledger.VerdictDeny {
		t.Errorf("detections: %+v, %v", drift, err)
	}
	rates, _, err := r.Rates(t.Context(), ledger.RateQuery{Zone: "payments", Since: since, Until: until})
	var accepted, refused int64
	for _, rate := range rates {
		accepted, refused = accepted+rate.Accepted, refused+rate.Denied
	}
	if err != nil || accepted != 4 || refused != 1 {
		t.Errorf("rates: %+v, %v", rates, err)
	}
	if differ, _, err := r.CrossCheck(t.Context(), since, until); err != nil || len(differ) != 0 {
		t.Errorf("cross-check: %+v, %v", differ, err)
	}
}
