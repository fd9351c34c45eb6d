package broker_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func (a *answers) Detections(_ context.Context, q ledger.DriftQuery) ([]ledger.Detection, ledger.AsOf, error) {
	a.asked = q
	return a.detections, asOf, a.err
}

func (a *answers) DetectionSummary(_ context.Context, zone string, since, until time.Time) ([]ledger.DetectionSummary, ledger.AsOf, error) {
	a.asked = []any{zone, since, until}
	return []ledger.DetectionSummary{{Kind: "pcr.4", Events: 3, P50: time.Second, P99: 2 * time.Second, Max: 3 * time.Second}}, asOf, a.err
}

func (a *answers) Rates(_ context.Context, q ledger.RateQuery) ([]ledger.Rate, ledger.AsOf, error) {
	a.asked = q
	return a.rates, asOf, a.err
}

func (a *answers) CrossCheck(_ context.Context, since, until time.Time) ([]ledger.CrossCheck, ledger.AsOf, error) {
	a.asked = []any{since, until}
	return a.cross, asOf, a.err
}

func (a *answers) Coverage(_ context.Context, q ledger.CoverageQuery) (ledger.Coverage, ledger.AsOf, error) {
	a.asked = q
	return ledger.Coverage{Machines: 9, Fresh: 8, Missing: []ledger.CoverageRow{{Machine: "m"}}, After: "next"}, asOf, a.err
}

func (a *answers) Baseline(_ context.Context, q ledger.BaselineQuery) ([]ledger.Deviation, ledger.AsOf, error) {
	a.asked = q
	return a.deviations, asOf, a.err
}

// fleetReadings are those of the whole fleet.
func fleetReadings(r *rig) map[string]func(context.Context) error {
	b := r.b
	return map[string]func(context.Context) error{
		"drift.detection": func(ctx context.Context) error { return second(b.Detections(ctx, auditor, api.DetectionQuery{})) },
		"drift.summary":   func(ctx context.Context) error { return second(b.DetectionSummary(ctx, auditor, api.SummaryQuery{})) },
		"drift.baseline": func(ctx context.Context) error {
			return second(b.Baseline(ctx, auditor, api.BaselineQuery{By: api.BaselineModel}))
		},
		"history.rates":      func(ctx context.Context) error { return second(b.Rates(ctx, auditor, api.RateQuery{})) },
		"history.crosscheck": func(ctx context.Context) error { return second(b.CrossCheck(ctx, auditor, api.CrossCheckQuery{})) },
		"inventory.coverage": func(ctx context.Context) error { return second(b.Coverage(ctx, auditor, api.CoverageQuery{})) },
	}
}

func TestFleetAnswersOnTheWire(t *testing.T) {
	r, a := asking(t)
	now := r.now().UTC()
	a.rates = []ledger.Rate{{Hour: now, Zone: "lab", Accepted: 2, Denied: 1, Reasons: map[string]int64{"x": 1}}, {Hour: now}}
	rates, err := r.b.Rates(t.Context(), auditor, api.RateQuery{Zone: "lab"})
	r.must(err)
	want := []api.Rate{
		{Hour: now, Zone: "lab", Accepted: 2, Denied: 1, Success: 666, Reasons: map[string]int64{"x": 1}},
		{Hour: now, Reasons: map[string]int64{}},
	}
	if diff := cmp.Diff(want, rates.Rates); diff != "" || !rates.Since.Equal(now.Add(-24*time.Hour)) {
		t.Errorf("rates since %s (-want +got):\n%s", rates.Since, diff)
	}
	// A month to the day is a month, whatever the clocks differ.
	if _, err := r.b.Rates(t.Context(), auditor, api.RateQuery{Since: now.Add(-31 * 24 * time.Hour)}); err != nil {
		t.Errorf("31 days: %v", err)
	}
	if q := a.asked.(ledger.RateQuery); q.Until.Sub(q.Since) != 31*24*time.Hour {
		t.Errorf("asked for %s", q.Until.Sub(q.Since))
	}
	sum, err := r.b.DetectionSummary(t.Context(), auditor, api.SummaryQuery{})
	if err != nil || sum.Kinds[0] != (api.KindDetection{Kind: "pcr.4", Events: 3, P50MS: 1000, P99MS: 2000, MaxMS: 3000}) {
		t.Errorf("%+v, %v", sum, err)
	}
	if c, err := r.b.CrossCheck(t.Context(), auditor, api.CrossCheckQuery{}); err != nil || !c.OK || c.Differences == nil {
		t.Errorf("%+v, %v", c, err)
	}
	a.cross = []ledger.CrossCheck{{Hour: now, Counted: 2, Rows: 1}}
	if c, err := r.b.CrossCheck(t.Context(), auditor, api.CrossCheckQuery{}); err != nil || c.OK || c.Differences[0].Counted != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	cover, err := r.b.Coverage(t.Context(), auditor, api.CoverageQuery{Site: "berlin"})
	if err != nil || cover.Fresh != 8 || cover.Missing[0].Machine != "m" || cover.Unknown == nil || cover.NextCursor != "next" || !cover.Since.Equal(now.Add(-time.Hour)) {
		t.Errorf("%+v, %v", cover, err)
	}
	place := ledger.Place{RecordedAt: now, Index: 3, LogID: "main", Ord: 1}
	a.detections = []ledger.Detection{{DriftRow: ledger.DriftRow{Place: place}, LastGood: now, Took: time.Minute}}
	found, err := r.b.Detections(t.Context(), auditor, api.DetectionQuery{Limit: 1})
	if err != nil || found.NextCursor != place.String() || found.Detections[0].TookMS != 60_000 {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := r.b.Detections(t.Context(), auditor, api.DetectionQuery{Cursor: found.NextCursor}); err != nil || a.asked.(ledger.DriftQuery).After != place {
		t.Errorf("from %+v, %v", a.asked, err)
	}
}

// TestBaselineOfAReferenceSet: the values are those of the policy in force.
func TestBaselineOfAReferenceSet(t *testing.T) {
	r, a := asking(t)
	value := strings.Repeat("4a", 32)
	set := "apiVersion: zonebroker/v1\nkind: ReferenceSet\nname: golden\nbank: sha256\npcrs:\n  4: [\"" + value + "\"]\n"
	events := "apiVersion: zonebroker/v1\nkind: ReferenceSet\nname: byevents\nbank: sha256\nevents:\n  4: [\"" + value + "\"]\n"
	r.activate(strings.Replace(zoneLab, "evidence:", "requires: {references: [golden, byevents]}\nevidence:", 1), set, events)
	a.deviations = []ledger.Deviation{{Node: "n1", Cohort: "golden", Facts: []ledger.FactDifference{{Name: "pcr.4"}}}}
	page, err := r.b.Baseline(t.Context(), auditor, api.BaselineQuery{By: api.BaselineReference, Name: "golden", Limit: 1})
	if err != nil || page.NextCursor != "n1" || page.Deviations[0].Facts[0].Expected == nil {
		t.Errorf("%+v, %v", page, err)
	}
	if diff := cmp.Diff(map[string]ledger.Wanted{"pcr.4": {value}}, a.asked.(ledger.BaselineQuery).Want); diff != "" {
		t.Errorf("(-want +asked):\n%s", diff)
	}
	for name, want := range map[string]reason.Code{"silver": reason.RequestNotFound, "byevents": reason.RequestMalformed} {
		if _, err := r.b.Baseline(t.Context(), auditor, api.BaselineQuery{By: api.BaselineReference, Name: name}); reason.Of(err) != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// TestImportInventory: the list goes in whole, with a record that names it by
// its digest, whatever order its lines came in.
func TestImportInventory(t *testing.T) {
	r, _ := asking(t)
	ek := strings.Repeat("4a", 32)
	got, err := r.b.ImportInventory(t.Context(), operator, api.InventoryRequest{CSV: api.InventoryHeader + "\nb,R650,\"berlin, 2\"," + ek + "\na,,,\n", Note: "CMDB"})
	r.must(err)
	g, cm := r.grantOf(t), r.store.commits[len(r.store.commits)-1]
	if g.Type != ledger.TypeInventoryImport || g.By != operator.Operator || g.Subject != got.SHA256 || g.Machines != 2 || g.Note != "CMDB" || got.ID != g.ID.String() || got.Machines != 2 {
		t.Errorf("answer %+v, recorded %+v", got, g)
	}
	list := cm.Inventory.Machines
	if len(list) != 2 || list[0].Machine != "a" || list[0].EKHash != nil || list[1].Site != "berlin, 2" || hexOf(*list[1].EKHash) != ek {
		t.Errorf("list %+v", list)
	}
	again, err := r.b.ImportInventory(t.Context(), operator, api.InventoryRequest{CSV: api.InventoryHeader + "\r\na,,,\r\nb,R650,\"berlin, 2\"," + ek + "\r\n"})
	if err != nil || again.SHA256 != got.SHA256 {
		t.Errorf("in another order %+v, %v", again, err)
	}
	before := r.records()
	for name, csv := range map[string]string{
		"nothing": "", "no header": "a,,,\n", "a machine twice": api.InventoryHeader + "\na,,,\na,,,\n", "no label": api.InventoryHeader + "\n =1,,,\n",
		"control characters": api.InventoryHeader + "\na,\"m\n\",,\n", "half a digest": api.InventoryHeader + "\na,,,4a\n", "a column more": api.InventoryHeader + "\na,,,,\n",
	} {
		if _, err := r.b.ImportInventory(t.Context(), operator, api.InventoryRequest{CSV: csv}); reason.Of(err) != reason.RequestMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.records() != before {
		t.Error("a list that is none was recorded")
	}
}
