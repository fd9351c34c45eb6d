package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// answers is a broker.Questions that notes what it was asked and gives what the
// test wants: what the answers are made of is tested on a real database.
type answers struct {
	asked any
	err   error

	members    []ledger.Member
	nodeAt     ledger.NodeAt
	intervals  []ledger.Interval
	unseen     []ledger.Unseen
	population []ledger.Population
	issued     []ledger.Issued
	detections []ledger.Detection
	rates      []ledger.Rate
	cross      []ledger.CrossCheck
	deviations []ledger.Deviation
}

var _ broker.Questions = (*answers)(nil)

var asOf = ledger.AsOf{LogID: "main", Size: 41, RecordedAt: time.Unix(1_790_000_000, 0).UTC(), Replica: true}

func (a *answers) Members(_ context.Context, q ledger.MembersQuery) ([]ledger.Member, ledger.AsOf, error) {
	a.asked = q
	return a.members, asOf, a.err
}

func (a *answers) NodeAt(_ context.Context, node ledger.NodeID, at time.Time) (ledger.NodeAt, ledger.AsOf, error) {
	a.asked = ledger.NodeAt{Node: node, At: at}
	return a.nodeAt, asOf, a.err
}

func (a *answers) Intervals(_ context.Context, node ledger.NodeID, since, until time.Time, limit int) ([]ledger.Interval, ledger.AsOf, error) {
	a.asked = []any{node, since, until, limit}
	return a.intervals, asOf, a.err
}

func (a *answers) Unseen(_ context.Context, q ledger.UnseenQuery) ([]ledger.Unseen, ledger.AsOf, error) {
	a.asked = q
	return a.unseen, asOf, a.err
}

func (a *answers) Population(_ context.Context, q ledger.PopulationQuery) ([]ledger.Population, ledger.AsOf, error) {
	a.asked = q
	return a.population, asOf, a.err
}

func (a *answers) Issued(_ context.Context, q ledger.IssuedQuery) ([]ledger.Issued, ledger.AsOf, error) {
	a.asked = q
	return a.issued, asOf, a.err
}

// asking is a rig whose broker has a reader of the history.
func asking(t *testing.T) (*rig, *answers) {
	t.Helper()
	r := newRig(t)
	a := &answers{}
	r.cfg.Questions = func(context.Context) (broker.Questions, error) { return a, nil }
	r.b = r.over(r.store)
	return r, a
}

// reading is the newest record, which has to be one.
func (r *rig) reading(t *testing.T) ledger.Reading {
	t.Helper()
	last := r.store.records[len(r.store.records)-1]
	var got ledger.Reading
	if err := json.Unmarshal(last.Body, &got); err != nil || last.Type != ledger.TypeHistoryRead || got.ID != last.ID {
		t.Fatalf("%s %s: %v", last.Type, last.Body, err)
	}
	return got
}

var auditor = broker.Caller{Operator: "operator:audit", Role: broker.RoleAuditor}

const someSerial = "4a0b0c0d0e0f00010203040506070809"

// readings ask everything once, as an auditor does.
func readings(r *rig, node, record string) map[string]func(context.Context) error {
	b := r.b
	out := map[string]func(context.Context) error{
		"history.list": func(ctx context.Context) error { return second(b.History(ctx, auditor, api.HistoryQuery{})) },
		"history.show": func(ctx context.Context) error { return second(b.Entry(ctx, auditor, record)) },
		"history.evidence": func(ctx context.Context) error {
			return second(b.ExportEvidence(ctx, auditor, record))
		},
		"history.verify": func(ctx context.Context) error { return second(b.VerifyHistory(ctx, auditor)) },
		"drift.list":     func(ctx context.Context) error { return second(b.Drift(ctx, auditor, api.DriftQuery{})) },
		"node.timeline": func(ctx context.Context) error {
			return second(b.Timeline(ctx, auditor, api.TimelineQuery{Node: node}))
		},
		"reference.learn": func(ctx context.Context) error { return second(b.Reference(ctx, auditor, node, record)) },
		"history.members": func(ctx context.Context) error { return second(b.Members(ctx, auditor, api.MembersQuery{})) },
		"node.as-of":      func(ctx context.Context) error { return second(b.NodeAt(ctx, auditor, api.NodeAtQuery{Node: node})) },
		"node.intervals": func(ctx context.Context) error {
			return second(b.Intervals(ctx, auditor, api.IntervalsQuery{Node: node}))
		},
		"node.unseen": func(ctx context.Context) error {
			return second(b.Unseen(ctx, auditor, api.UnseenQuery{Since: r.now().Add(-time.Hour)}))
		},
		"history.population": func(ctx context.Context) error {
			return second(b.Population(ctx, auditor, api.PopulationQuery{Fact: "pcr.4"}))
		},
		"svid.list": func(ctx context.Context) error { return second(b.SVIDs(ctx, auditor, api.SVIDQuery{})) },
		"svid.show": func(ctx context.Context) error { return second(b.FindSVID(ctx, auditor, someSerial)) },
	}
	maps.Copy(out, fleetReadings(r))
	return out
}

// TestReadingIsRecorded: who asked, as what, and what for, once a request and
// before the answer; and nobody gets an answer that was not recorded.
func TestReadingIsRecorded(t *testing.T) {
	r, a := asking(t)
	h := r.enrolled()
	a.issued = []ledger.Issued{{IssuedSVID: ledger.IssuedSVID{Serial: someSerial}, Record: uuid.MustParse(h.prev)}}
	for what, ask := range readings(r, h.node, h.prev) {
		t.Run(what, func(t *testing.T) {
			before := r.records()
			if err := ask(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := r.records() - before; got != 1 {
				t.Errorf("%d records of one reading", got)
			}
			if got := r.reading(t); got.What != what || got.By != "operator:audit" || got.Role != "auditor" || got.At != r.now().UnixMilli() {
				t.Errorf("recorded %+v", got)
			}
			away := reason.New(reason.StoreUnavailable, "away")
			r.store.failing("Append", away)
			if err := ask(t.Context()); !errors.Is(err, away) {
				t.Errorf("it answers what it cannot record: %v", err)
			}
			r.store.failing("Append", nil)
			if _, err := r.b.History(t.Context(), broker.Caller{}, api.HistoryQuery{}); err == nil {
				t.Error("nobody reads")
			}
		})
	}
	t.Run("no list shows readings unless they are asked for", func(t *testing.T) {
		page, err := r.b.History(t.Context(), auditor, api.HistoryQuery{Limit: 500})
		r.must(err)
		for _, e := range page.Entries {
			if e.Type == ledger.TypeHistoryRead {
				t.Fatalf("a reading among what happened: %+v", e)
			}
		}
		page, err = r.b.History(t.Context(), auditor, api.HistoryQuery{Type: ledger.TypeHistoryRead, Limit: 1})
		if err != nil || len(page.Entries) != 1 || page.Entries[0].Node != "" {
			t.Errorf("readings: %+v, %v", page, err)
		}
	})
}

// TestReadingOfAForkedLog: nothing can be recorded any more, so nothing is
// answered but whether the log is whole.
func TestReadingOfAForkedLog(t *testing.T) {
	r, a := asking(t)
	h := r.enrolled()
	a.issued = []ledger.Issued{{Record: uuid.MustParse(h.prev)}}
	r.anchor = reason.New(reason.LedgerFork, "rolled back")
	_ = r.b.SignNow(t.Context())
	for what, ask := range readings(r, h.node, h.prev) {
		want := reason.LedgerFork
		if what == "history.verify" {
			want = ""
		}
		if err := ask(t.Context()); reason.Of(err) != want {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
}

// TestReadingNamesItsFilters as the route names them.
func TestReadingNamesItsFilters(t *testing.T) {
	r, _ := asking(t)
	h := r.enrolled()
	at := r.now().Add(-time.Minute)
	text := at.UTC().Format(time.RFC3339Nano)
	day := r.now().UTC().Add(-24 * time.Hour).Format(time.RFC3339Nano)
	for name, tt := range map[string]struct {
		ask  func() error
		want map[string]string
	}{
		"members": {func() error {
			return second(r.b.Members(t.Context(), auditor, api.MembersQuery{Zone: "lab", At: at, Grace: true, Cursor: h.node, Limit: 7}))
		}, map[string]string{"zone": "lab", "at": text, "grace": "true", "cursor": h.node, "limit": "7"}},
		"as of a node": {
			func() error { return second(r.b.NodeAt(t.Context(), auditor, api.NodeAtQuery{Node: h.node, At: at})) },
			map[string]string{"node": h.node, "at": text},
		},
		"history, with the bound that it took": {func() error {
			return second(r.b.History(t.Context(), auditor, api.HistoryQuery{Verdict: "deny", Limit: 9}))
		}, map[string]string{"verdict": "deny", "since": day, "limit": "9"}},
		"SVIDs": {func() error {
			return second(r.b.SVIDs(t.Context(), auditor, api.SVIDQuery{Fact: "pcr.4", Value: "aa", Policy: 3, DeniedNow: true, Since: at}))
		}, map[string]string{"fact": "pcr.4", "value": "aa", "policy": "3", "denied_now": "true", "since": text}},
	} {
		r.must(tt.ask())
		if diff := cmp.Diff(tt.want, r.reading(t).Filter); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestQuestionsAreChecked before they are recorded.
func TestQuestionsAreChecked(t *testing.T) {
	r, a := asking(t)
	h := r.enrolled()
	ahead, now := r.now().Add(time.Hour), r.now()
	before := r.records()
	for name, ask := range map[string]func() error{
		"members of tomorrow": func() error { return second(r.b.Members(t.Context(), auditor, api.MembersQuery{At: ahead})) },
		"a node of tomorrow": func() error {
			return second(r.b.NodeAt(t.Context(), auditor, api.NodeAtQuery{Node: h.node, At: ahead}))
		},
		"unseen since never":   func() error { return second(r.b.Unseen(t.Context(), auditor, api.UnseenQuery{})) },
		"unseen from tomorrow": func() error { return second(r.b.Unseen(t.Context(), auditor, api.UnseenQuery{Since: ahead})) },
		"population of nothing": func() error {
			return second(r.b.Population(t.Context(), auditor, api.PopulationQuery{Fact: "pcr.24"}))
		},
		"population of tomorrow": func() error {
			return second(r.b.Population(t.Context(), auditor, api.PopulationQuery{Fact: "boot.kernel", At: ahead}))
		},
		"a fact without a value": func() error { return second(r.b.SVIDs(t.Context(), auditor, api.SVIDQuery{Fact: "pcr.4"})) },
		"a value of no fact":     func() error { return second(r.b.SVIDs(t.Context(), auditor, api.SVIDQuery{Value: "aa"})) },
		"an unknown fact":        func() error { return second(r.b.SVIDs(t.Context(), auditor, api.SVIDQuery{Fact: "x", Value: "a"})) },
		"half a digest":          func() error { return second(r.b.SVIDs(t.Context(), auditor, api.SVIDQuery{Evidence: "ab"})) },
		"an empty window": func() error {
			return second(r.b.SVIDs(t.Context(), auditor, api.SVIDQuery{Since: now, Until: now}))
		},
		"rates of two months": func() error {
			return second(r.b.Rates(t.Context(), auditor, api.RateQuery{Since: now.Add(-32 * 24 * time.Hour)}))
		},
		"counts of two weeks": func() error {
			return second(r.b.CrossCheck(t.Context(), auditor, api.CrossCheckQuery{Since: now.Add(-8 * 24 * time.Hour)}))
		},
		"a baseline of nothing": func() error { return second(r.b.Baseline(t.Context(), auditor, api.BaselineQuery{By: "moon"})) },
		"covered tomorrow":      func() error { return second(r.b.Coverage(t.Context(), auditor, api.CoverageQuery{Fresh: ahead})) },
		"a cursor of nobody": func() error {
			return second(r.b.Detections(t.Context(), auditor, api.DetectionQuery{Cursor: "x"}))
		},
		"history of tomorrow": func() error { return second(r.b.History(t.Context(), auditor, api.HistoryQuery{Since: ahead})) },
		"a window backwards": func() error {
			return second(r.b.Timeline(t.Context(), auditor, api.TimelineQuery{Node: h.node, Since: now, Until: now.Add(-time.Hour)}))
		},
	} {
		if err := ask(); reason.Of(err) != reason.RequestMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.records() != before || a.asked != nil {
		t.Error("a malformed question was recorded or asked")
	}
	for name, ask := range map[string]func() error{
		"as of": func() error { return second(r.b.NodeAt(t.Context(), auditor, api.NodeAtQuery{Node: "nobody"})) },
		"spans": func() error { return second(r.b.Intervals(t.Context(), auditor, api.IntervalsQuery{Node: "nobody"})) },
		"cause": func() error { return second(r.b.Explain(t.Context(), auditor, h.prev)) }, // no denial
		"SVID":  func() error { return second(r.b.FindSVID(t.Context(), auditor, someSerial)) },
		"entry": func() error { return second(r.b.Entry(t.Context(), auditor, "0197b3c2-0000-7000-8000-000000000001")) },
	} {
		before := r.records()
		if err := ask(); reason.Of(err) != reason.RequestNotFound || r.records() != before+1 {
			t.Errorf("%s of nobody: %v, %d records", name, err, r.records()-before)
		}
	}
	r.cfg.Questions = nil
	none := r.over(r.store)
	if _, err := none.Members(t.Context(), auditor, api.MembersQuery{}); reason.Of(err) != reason.StoreUnavailable {
		t.Errorf("without a reader: %v", err)
	}
	r.cfg.Questions = func(context.Context) (broker.Questions, error) { return nil, errors.New("away") }
	none = r.over(r.store)
	before = r.records()
	if _, err := none.Members(t.Context(), auditor, api.MembersQuery{}); reason.Of(err) != reason.StoreUnavailable || r.records() != before {
		t.Errorf("without its reader: %v, %d records", err, r.records()-before)
	}
}

// TestAnswersOnTheWire: pages are bounded, say where they go on, and how fresh
// they are.
func TestAnswersOnTheWire(t *testing.T) {
	r, a := asking(t)
	h := r.enrolled()
	now := r.now().UTC()
	span := ledger.Interval{Node: "n1", Zone: "lab", Measured: [32]byte{1}, PolicyVersion: 3, From: now, Until: now, Expires: now, First: uuid.MustParse(h.prev), Renewals: 2}
	fresh := api.AsOf{Log: "main", Size: 41, RecordedAt: asOf.RecordedAt, Replica: true}
	a.members = []ledger.Member{{Interval: span, Machine: "m"}, {Interval: ledger.Interval{Node: "n2"}}}
	page, err := r.b.Members(t.Context(), auditor, api.MembersQuery{Limit: 2})
	r.must(err)
	want := api.Member{
		Node: "n1", Machine: "m", Zone: "lab", From: now, Until: now, ExpiresAt: now, PolicyVersion: 3,
		Measured: hexOf([32]byte{1}), First: h.prev, Renewals: 2,
	}
	if diff := cmp.Diff(want, page.Members[0]); diff != "" || page.NextCursor != "n2" || page.AsOf != fresh || !page.At.Equal(now) {
		t.Errorf("%+v (-want +got):\n%s", page, diff)
	}
	if q := a.asked.(ledger.MembersQuery); q.Limit != 2 || !q.At.Equal(now) {
		t.Errorf("asked %+v", q)
	}
	if page, err = r.b.Members(t.Context(), auditor, api.MembersQuery{Limit: 9999}); err != nil || page.NextCursor != "" || a.asked.(ledger.MembersQuery).Limit != 500 {
		t.Errorf("the last page: %+v, %v, asked %+v", page, err, a.asked)
	}
	a.nodeAt = ledger.NodeAt{Interval: &span, Record: &ledger.Stored{Record: ledger.Record{ID: uuid.MustParse(h.prev)}}, ValidSVID: true}
	at, err := r.b.NodeAt(t.Context(), auditor, api.NodeAtQuery{Node: h.node})
	if err != nil || at.Zone != "lab" || at.Record.ID != h.prev || !at.ValidSVID || at.Interval.Renewals != 2 || at.AsOf != fresh {
		t.Errorf("%+v, %v", at, err)
	}
	a.unseen = []ledger.Unseen{{Node: "n7", Status: ledger.StatusActive, Reason: "x"}}
	unseen, err := r.b.Unseen(t.Context(), auditor, api.UnseenQuery{Since: now, Silent: true, Limit: 1})
	if err != nil || unseen.NextCursor != "n7" || unseen.Nodes[0].Status != "active" || !a.asked.(ledger.UnseenQuery).Silent {
		t.Errorf("%+v, %v", unseen, err)
	}
	a.population = []ledger.Population{{Value: "aa", Nodes: 2, Some: []ledger.NodeID{"n1"}}, {Value: "bb", Nodes: 1}}
	many, err := r.b.Population(t.Context(), auditor, api.PopulationQuery{Fact: "pcr.4"})
	if err != nil || len(many.Values) != 2 || many.Values[0].Some[0] != "n1" || many.Values[1].Some == nil {
		t.Errorf("%+v, %v", many, err)
	}
	a.intervals = []ledger.Interval{span}
	spans, err := r.b.Intervals(t.Context(), auditor, api.IntervalsQuery{Node: h.node})
	if err != nil || len(spans.Intervals) != 1 || !spans.Since.Equal(now.Add(-7*24*time.Hour)) {
		t.Errorf("%+v, %v", spans, err)
	}
}

// TestFromSerialToEvidence: of a node's SVID the record is the decision; of a
// later one it names it; and where retention took the decision the row still says
// who had it.
func TestFromSerialToEvidence(t *testing.T) {
	r, a := asking(t)
	h := r.enrolled()
	var body ledger.Attestation
	rec := r.store.records[len(r.store.records)-1]
	r.must(json.Unmarshal(rec.Body, &body))
	s := body.SVIDs[0]
	bare := ledger.IssuedSVID{Serial: s.Serial, Profile: s.Profile, NotBefore: s.NotBefore, NotAfter: s.NotAfter, Key: s.Key}
	a.issued = []ledger.Issued{{IssuedSVID: bare, Node: rec.Node, Record: rec.ID, Attestation: rec.ID, Zone: "lab"}}
	got, err := r.b.FindSVID(t.Context(), auditor, s.Serial)
	r.must(err)
	if got.SVID.SPIFFEID != s.SPIFFEID || got.SVID.Serial != s.Serial || got.Decision.ID != h.prev || len(got.Evidence) != len(body.Evidence) || got.Evidence[0].SHA256 != body.Evidence[0].SHA256 {
		t.Errorf("%+v", got)
	}
	if q := a.asked.(ledger.IssuedQuery); q.Serial != s.Serial || !q.Since.IsZero() {
		t.Errorf("asked %+v", q)
	}
	gone := uuid.MustParse("0197b3c2-0000-7000-8000-000000000001")
	a.issued[0].Attestation = gone
	if got, err = r.b.FindSVID(t.Context(), auditor, s.Serial); err != nil || got.Decision != nil || got.SVID.SPIFFEID != s.SPIFFEID || got.Evidence == nil {
		t.Errorf("after its decision was dropped: %+v, %v", got, err)
	}
	a.issued[0].Record = gone
	if got, err = r.b.FindSVID(t.Context(), auditor, s.Serial); err != nil || got.SVID.SPIFFEID != "" || got.SVID.Node != h.node {
		t.Errorf("after both were: %+v, %v", got, err)
	}
}
