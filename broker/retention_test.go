package broker_test

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// memKeeper stands for the owner's hand: it notes what it is told, in order.
type memKeeper struct {
	leaves map[string][]ledger.Leaf
	plans  map[string]ledger.LeafPlan // by table
	told   []string
	drops  error
	scope  ledger.ErasurePlan
	store  *memStore
	busy   bool // another replica is at it
}

func (k *memKeeper) Alone(ctx context.Context, fn func(context.Context) error) error {
	if k.busy {
		return reason.New(reason.RequestOverloaded, "another replica")
	}
	return fn(ctx)
}

func (k *memKeeper) MakeGroups(_ context.Context, n int, _ time.Time) error {
	k.told = append(k.told, "groups "+strings.Repeat("i", n))
	return nil
}

func (k *memKeeper) Leaves(_ context.Context, class string, _ time.Time) ([]ledger.Leaf, error) {
	return k.leaves[class], nil
}

func (k *memKeeper) Plan(_ context.Context, leaf ledger.Leaf, _ ledger.GroupAt) (ledger.LeafPlan, error) {
	p := k.plans[leaf.Table]
	p.Leaf = leaf
	return p, nil
}

func (k *memKeeper) Drop(_ context.Context, plan ledger.LeafPlan) error {
	published := slices.ContainsFunc(k.store.records, func(r ledger.Stored) bool {
		return r.Type == ledger.TypeDropped && strings.Contains(string(r.Body), plan.Table)
	})
	k.told = append(k.told, "drop "+plan.Table+map[bool]string{true: "", false: " unpublished"}[published || plan.Missing.Rows == 0])
	return k.drops
}

func (k *memKeeper) ForgetHours(_ context.Context, before time.Time) error {
	k.told = append(k.told, "hours "+before.Format(time.DateOnly))
	return nil
}

func (k *memKeeper) ErasurePlan(context.Context, ledger.NodeID) (ledger.ErasurePlan, error) {
	return k.scope, nil
}

func (k *memKeeper) Erase(_ context.Context, node ledger.NodeID) (ledger.Erased, error) {
	k.told = append(k.told, "erase "+string(node))
	return ledger.Erased{Records: 3}, nil
}

const retentionText = `apiVersion: zonebroker/v1
kind: Retention
default: {decisions: forever, evidence: 30d, svids: 60d}
groups:
  - {name: short, zones: [pay], decisions: 14d, evidence: 7d, svids: 14d}
`

// leafPlan is a plan with rows of some groups.
func leafPlan(t *testing.T, class, table string, week time.Time, keeps ...int16) ledger.LeafPlan {
	t.Helper()
	m := ledger.Missing{LogID: "main", Class: class, Leaf: table, Week: week, Keeps: keeps}
	if err := m.SetSpans([]ledger.Span{{First: 3, Last: 9}}); err != nil {
		t.Fatal(err)
	}
	return ledger.LeafPlan{Keeps: keeps, Rows: 7, Missing: m}
}

var admin = broker.Caller{Operator: "uid:0", Role: broker.RoleAdmin}

func TestSweepDropsWhatMayGo(t *testing.T) {
	r := newRig(t)
	k := &memKeeper{store: r.store, leaves: map[string][]ledger.Leaf{}, plans: map[string]ledger.LeafPlan{}}
	r.b.SetKeeper(k)
	if out, err := r.b.Sweep(t.Context(), admin, api.SweepRequest{}); err != nil || len(out.Leaves) != 0 || out.Retention != 0 {
		t.Errorf("without a document: %+v, %v", out, err)
	}
	if _, err := r.b.ApplyRetention(t.Context(), admin, api.RetentionRequest{Document: retentionText}); err != nil {
		t.Fatal(err)
	}
	if got := r.b.GroupOf("pay"); got != 1 {
		t.Errorf("zone pay has keep %d", got)
	}
	if got := r.b.GroupOf("web"); got != 0 {
		t.Errorf("zone web has keep %d", got)
	}
	now := r.now().UTC()
	add := func(class, table string, age int, keep int16, keeps ...int16) {
		// Up to six days older, as weeks begin on Mondays.
		week := ledger.Week(now.AddDate(0, 0, -7-age))
		k.leaves[class] = append(k.leaves[class], ledger.Leaf{Class: class, Table: table, Week: week, Keep: keep})
		k.plans[table] = leafPlan(t, class, table, week, keeps...)
	}
	add(ledger.ClassEvidence, "old", 31, -1, 0, 1)
	add(ledger.ClassEvidence, "mixed", 10, -1, 0, 1) // group 0 is not past
	add(ledger.ClassEvidence, "short", 8, 1, 1)
	add(ledger.ClassEvidence, "held", 40, -1, 0)
	add(ledger.ClassEvidence, "other", 40, -1, 0)
	add(ledger.ClassEvidence, "empty", 40, -1, 0)
	add(ledger.ClassSVIDs, "young", 7, 1, 1)
	add(ledger.ClassDecisions, "forever", 4000, -1, 0)
	add(ledger.ClassDecisions, "decisions", 15, 1, 1)
	p := k.plans["held"]
	p.Holds = []ledger.Hold{{Reason: "case 12"}}
	k.plans["held"] = p
	p = k.plans["other"]
	p.Other = "log2"
	k.plans["other"] = p
	k.plans["empty"] = ledger.LeafPlan{Keeps: []int16{0}}
	add(ledger.ClassEvidence, "bare", 40, -1) // no table has rows in it
	k.plans["bare"] = ledger.LeafPlan{}
	outcomes := func(dry bool) string {
		out, err := r.b.Sweep(t.Context(), admin, api.SweepRequest{DryRun: dry})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, l := range out.Leaves {
			all = append(all, l.Leaf+" "+l.Outcome)
		}
		return strings.Join(all, ", ")
	}
	before := len(r.store.records)
	if got := outcomes(true); got != "old due, short due, held held, other due, decisions due" || len(r.store.records) != before {
		t.Errorf("a dry run: %s", got)
	}
	k.told = nil
	if got := outcomes(false); got != "old dropped, short dropped, held held, other waiting, decisions dropped" {
		t.Errorf("a sweep: %s", got)
	}
	// The default keeps decisions for ever, so that hourly counts stay.
	if got := strings.Join(k.told, ", "); got != "drop old, drop short, drop bare, drop decisions" {
		t.Errorf("the keeper was told: %s", got)
	}
	page, err := r.b.Retention(t.Context())
	if err != nil || len(page.Dropped) != 4 || page.MinIndex != (api.MinIndex{Decisions: 10, Evidence: 10}) || page.Version != 1 || len(page.Groups) != 2 {
		t.Errorf("published: %+v, %v", page, err)
	}
	// Who judges a record again is told why that cannot be.
	id, err := ledger.NewRecordID(k.plans["old"].Missing.Week.Add(time.Hour), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.b.EvidenceGone(ledger.Attestation{ID: id}); reason.Of(err) != reason.RequestNotFound || !strings.Contains(err.Error(), "retention version 1") {
		t.Errorf("judged again: %v", err)
	}
	if id, err = ledger.NewRecordID(now, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if err := r.b.EvidenceGone(ledger.Attestation{ID: id}); !strings.Contains(err.Error(), "history verify") {
		t.Errorf("evidence that nobody dropped: %v", err)
	}
	k.drops = reason.New(reason.RequestOverloaded, "in use")
	if got := outcomes(false); !strings.HasPrefix(got, "old busy") {
		t.Errorf("rows in use: %s", got)
	}
}

// TestSweepRefuses: periods end by the clock that is behind, and not at
// all where the two differ as no replica's may; nor while another replica sweeps.
func TestSweepRefuses(t *testing.T) {
	r := newRig(t)
	k := &memKeeper{store: r.store, leaves: map[string][]ledger.Leaf{}, plans: map[string]ledger.LeafPlan{}}
	r.b.SetKeeper(k)
	if _, err := r.b.ApplyRetention(t.Context(), admin, api.RetentionRequest{Document: retentionText}); err != nil {
		t.Fatal(err)
	}
	// The week's thirtieth day ends in a second.
	week := ledger.Week(r.now().UTC())
	r.wait(week.AddDate(0, 0, 7+30).Add(time.Second).Sub(r.now()))
	k.leaves[ledger.ClassEvidence] = []ledger.Leaf{{Class: ledger.ClassEvidence, Table: "old", Week: week, Keep: -1}}
	k.plans["old"] = leafPlan(t, ledger.ClassEvidence, "old", week, 0)
	for _, tc := range []struct {
		skew time.Duration
		busy bool
		want reason.Code
		n    int
	}{
		{0, true, reason.RequestOverloaded, 0},
		{-365 * 24 * time.Hour, false, reason.IssuerUnavailable, 0},
		{365 * 24 * time.Hour, false, reason.IssuerUnavailable, 0},
		{-1500 * time.Millisecond, false, "", 0},
		{1500 * time.Millisecond, false, "", 1},
	} {
		r.store.skew, k.busy = tc.skew, tc.busy
		out, err := r.b.Sweep(t.Context(), admin, api.SweepRequest{DryRun: true})
		if reason.Of(err) != tc.want || len(out.Leaves) != tc.n {
			t.Errorf("database ahead by %s, another at it %v: %d leaves, %v", tc.skew, tc.busy, len(out.Leaves), err)
		}
	}
}

// TestGroupsThatRowsMayHave: by the documents up to then, with an hour for
// replicas to see the first.
func TestGroupsThatRowsMayHave(t *testing.T) {
	r := newRig(t)
	r.b.SetKeeper(&memKeeper{store: r.store})
	start := r.now()
	apply := func(zone string) {
		text := strings.ReplaceAll(retentionText, "[pay]", "["+zone+"]")
		if _, err := r.b.ApplyRetention(t.Context(), admin, api.RetentionRequest{Document: text}); err != nil {
			t.Fatal(err)
		}
	}
	apply("pay")
	r.wait(10 * time.Hour)
	apply("web")
	group, err := r.b.GroupsEver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		zone  string
		after time.Duration
		keep  int16
		want  bool
	}{
		{"pay", -time.Hour, 0, true},
		{"pay", -time.Hour, 1, false},
		{"pay", 30 * time.Minute, 0, true},
		{"pay", 30 * time.Minute, 1, true},
		{"pay", 2 * time.Hour, 0, false},
		{"pay", 2 * time.Hour, 1, true},
		{"pay", 2 * time.Hour, 2, false},
		{"pay", 11 * time.Hour, 0, true},
		{"web", 2 * time.Hour, 1, false},
		{"web", 2 * time.Hour, 0, true},
		{"web", 11 * time.Hour, 1, true},
		{"", 11 * time.Hour, 1, false},
	} {
		if got := group(tc.zone, start.Add(tc.after), tc.keep); got != tc.want {
			t.Errorf("zone %q, %s after the first document, group %d: %v", tc.zone, tc.after, tc.keep, got)
		}
	}
}

func TestRetentionGroupsKeepTheirNumber(t *testing.T) {
	r := newRig(t)
	k := &memKeeper{store: r.store}
	r.b.SetKeeper(k)
	apply := func(names ...string) error {
		text := "apiVersion: zonebroker/v1\nkind: Retention\ndefault: {decisions: forever, evidence: forever, svids: forever}\ngroups:\n"
		for _, n := range names {
			text += "  - {name: " + n + ", zones: [z" + n + "], decisions: 9d, evidence: 9d, svids: 9d}\n"
		}
		_, err := r.b.ApplyRetention(t.Context(), admin, api.RetentionRequest{Document: text})
		return err
	}
	for _, names := range [][]string{{"a", "b"}, {"a", "b"}, {"b", "c"}, {"d", "e", "f", "g", "h"}} {
		if err := apply(names...); err != nil {
			t.Fatal(err)
		}
	}
	if r.b.GroupOf("zh") != 8 || r.b.GroupOf("za") != 0 {
		t.Errorf("zh has keep %d, za %d", r.b.GroupOf("zh"), r.b.GroupOf("za"))
	}
	if err := apply("b", "i"); reason.Of(err) != reason.PolicyInvalid || !strings.Contains(err.Error(), "use a name again") {
		t.Errorf("a ninth group: %v", err)
	}
	if err := apply("b"); err != nil || r.b.GroupOf("zb") != 2 {
		t.Errorf("zb has keep %d, %v", r.b.GroupOf("zb"), err)
	}
	// The document in force is not recorded twice.
	if got := strings.Join(k.told, ", "); got != "groups ii, groups iii, groups iiiiiiii, groups iiiiiiii" {
		t.Errorf("the keeper was told: %s", got)
	}
	if _, err := r.b.ApplyRetention(t.Context(), admin, api.RetentionRequest{Document: "kind: Zone"}); reason.Of(err) != reason.PolicyInvalid {
		t.Errorf("a document with problems: %v", err)
	}
}

func TestHeldNodeIsNotErased(t *testing.T) {
	r := newRig(t)
	r.b.SetKeeper(&memKeeper{store: r.store, scope: ledger.ErasurePlan{Holds: []ledger.Hold{{Reason: "case 12"}}}})
	_, err := r.b.Erase(t.Context(), admin, strings.Repeat("a", 26), api.EraseRequest{Reason: "request 7"})
	if reason.Of(err) != reason.RetentionHeld || !strings.Contains(err.Error(), "case 12") {
		t.Errorf("erased under a hold: %v", err)
	}
}

func TestHoldsAreListedUntilReleased(t *testing.T) {
	r := newRig(t)
	h, err := r.b.PlaceHold(t.Context(), admin, api.HoldRequest{Zone: "pay", Reason: "case 12"})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := r.b.Holds(t.Context(), admin, false); err != nil || len(all) != 1 || all[0].ID != h.ID || all[0].By != "uid:0" {
		t.Errorf("in force: %+v, %v", all, err)
	}
	for _, want := range []reason.Code{"", reason.RequestNotFound} {
		if _, err := r.b.ReleaseHold(t.Context(), admin, h.ID, api.RevokeRequest{}); reason.Of(err) != want {
			t.Errorf("release: %v, want %q", err, want)
		}
	}
	if all, err := r.b.Holds(t.Context(), admin, false); err != nil || len(all) != 0 {
		t.Errorf("after release: %+v, %v", all, err)
	}
}

// TestAlarmBeforeTheRoomEnds: two weeks ahead are well, one is not.
func TestAlarmBeforeTheRoomEnds(t *testing.T) {
	r := newRig(t)
	for weeks, want := range map[int]bool{0: false, 1: false, 2: true, 3: true} {
		r.store.weeksAhead = weeks
		if err := r.b.PollRetention(t.Context()); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(r.b.Health(t.Context()).Checks, func(c api.HealthCheck) bool { return c.Name == "partitions" })
		if c := r.b.Health(t.Context()).Checks[i]; c.OK != want || r.b.PartitionsAhead() != int64(weeks) {
			t.Errorf("%d weeks ahead: %+v", weeks, c)
		}
	}
}
