package main

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
)

func (desk) Detections(_ context.Context, _ server.Caller, q api.DetectionQuery) (api.DetectionPage, error) {
	return api.DetectionPage{Since: testTime, AsOf: testAsOf, Detections: []api.Detection{{
		ID: testRecord, RecordedAt: testTime, Node: testNode, Zone: q.Zone, Kind: "pcr.4", LastGood: testTime.Add(-90 * time.Second), TookMS: 90_000,
	}}}, nil
}

func (desk) DetectionSummary(_ context.Context, _ server.Caller, q api.SummaryQuery) (api.DetectionSummary, error) {
	return api.DetectionSummary{Since: q.Since, Until: testTime, AsOf: testAsOf, Kinds: []api.KindDetection{{Kind: "pcr.4", Events: 3, P50MS: 1000, P99MS: 2000, MaxMS: 3000}}}, nil
}

func (desk) Baseline(_ context.Context, _ server.Caller, q api.BaselineQuery) (api.BaselinePage, error) {
	return api.BaselinePage{By: q.By, AsOf: testAsOf, Deviations: []api.Deviation{{
		Node: testNode, Machine: "m", Zone: q.Zone, Cohort: "ST33", Nodes: 40, LastOKAt: testTime,
		Facts: []api.FactDifference{{Name: "pcr.4", Expected: []string{testHash}, Seen: testHash}, {Name: "secure_boot", Expected: []string{"on"}}},
	}}}, nil
}

func (desk) Rates(_ context.Context, _ server.Caller, q api.RateQuery) (api.RateList, error) {
	return api.RateList{Since: testTime, Until: testTime, AsOf: testAsOf, Rates: []api.Rate{{
		Hour: testTime, Zone: q.Zone, Accepted: 997, Denied: 3, Success: 997, Reasons: map[string]int64{"policy.no_zone": 2, "policy.grace": 1},
	}}}, nil
}

// CrossCheck finds a difference where a time is given.
func (desk) CrossCheck(_ context.Context, _ server.Caller, q api.CrossCheckQuery) (api.CrossCheck, error) {
	out := api.CrossCheck{OK: q.Since.IsZero(), Since: testTime, Until: testTime, AsOf: testAsOf, Differences: []api.CountDifference{}}
	if !out.OK {
		out.Differences = append(out.Differences, api.CountDifference{Hour: testTime, Zone: "payments", Verdict: "allow", Counted: 7, Rows: 6})
	}
	return out, nil
}

func (desk) ImportInventory(_ context.Context, c server.Caller, req api.InventoryRequest) (api.Inventory, error) {
	list, err := req.Machines()
	return api.Inventory{ID: testRecord, By: c.Operator, Machines: int64(len(list)), SHA256: api.InventoryDigest(list), CreatedAt: testTime}, err
}

// Coverage has two pages.
func (desk) Coverage(_ context.Context, _ server.Caller, q api.CoverageQuery) (api.Coverage, error) {
	p := api.Coverage{Since: testTime, Machines: 10, Fresh: 8, AsOf: testAsOf, Missing: []api.CoverageRow{}, Unknown: []api.CoverageRow{}}
	if q.Cursor == "" {
		p.Missing = append(p.Missing, api.CoverageRow{Machine: "m1", Model: "=R650", Site: q.Site})
		p.NextCursor = "next"
	} else {
		p.Unknown = append(p.Unknown, api.CoverageRow{Node: testNode, LastOKAt: testTime})
		p.Machines = 10
	}
	return p, nil
}

// TestInventoryOfJSON: the same list, in whichever form it comes.
func TestInventoryOfJSON(t *testing.T) {
	got, err := inventoryOfJSON(`[{"machine":"b","site":"a, b"},{"machine":"a","model":"m","ek_sha256":"` + testHash + `"}]`)
	want := api.InventoryHeader + "\nb,,\"a, b\",\na,m,," + testHash + "\n"
	if err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	for i, text := range []string{`[{"machine":"a","colour":"red"}]`, `[] []`, `{}`, `[`} {
		if _, err := inventoryOfJSON(text); err == nil {
			t.Error(strconv.Itoa(i), "is taken")
		}
	}
}
