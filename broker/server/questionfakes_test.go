package server_test

import (
	"context"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
)

const serial = "4a0b0c0d0e0f00010203040506070809"

var asOf = api.AsOf{Log: "main", Size: 7, RecordedAt: time.Unix(1790000000, 0).UTC()}

// asks notes what a question was.
func (d *desk) asks(c server.Caller, q any) error {
	err := d.took(c)
	d.question = q
	return err
}

func anInterval() api.Interval {
	return api.Interval{Node: nodeID, Zone: "z", Measured: ekHash, First: recordID, Last: recordID}
}

func (d *desk) Members(_ context.Context, c server.Caller, q api.MembersQuery) (api.MemberPage, error) {
	return api.MemberPage{Members: []api.Member{{Node: nodeID, Measured: ekHash, First: recordID, Last: recordID}}, AsOf: asOf}, d.asks(c, q)
}

func (d *desk) NodeAt(_ context.Context, c server.Caller, q api.NodeAtQuery) (api.NodeAt, error) {
	i := anInterval()
	return api.NodeAt{Node: q.Node, Interval: &i, Record: &api.Entry{ID: recordID}, AsOf: asOf}, d.asks(c, q)
}

func (d *desk) Intervals(_ context.Context, c server.Caller, q api.IntervalsQuery) (api.IntervalPage, error) {
	return api.IntervalPage{Node: q.Node, Intervals: []api.Interval{anInterval()}, AsOf: asOf}, d.asks(c, q)
}

func (d *desk) Unseen(_ context.Context, c server.Caller, q api.UnseenQuery) (api.UnseenPage, error) {
	return api.UnseenPage{Nodes: []api.Unseen{{Node: nodeID}}, AsOf: asOf}, d.asks(c, q)
}

func (d *desk) Population(_ context.Context, c server.Caller, q api.PopulationQuery) (api.PopulationPage, error) {
	return api.PopulationPage{Values: []api.Population{{Value: ekHash, Nodes: 1, Some: []string{nodeID}}}, AsOf: asOf}, d.asks(c, q)
}

func (d *desk) SVIDs(_ context.Context, c server.Caller, q api.SVIDQuery) (api.SVIDPage, error) {
	return api.SVIDPage{SVIDs: []api.SVID{{Serial: serial, Profile: "x509", Key: "tpm", Record: recordID, Attestation: recordID}}, AsOf: asOf}, d.asks(c, q)
}

func (d *desk) FindSVID(_ context.Context, c server.Caller, serial string) (api.SVIDTrail, error) {
	return api.SVIDTrail{
		SVID: api.SVID{Serial: serial, Profile: "x509", Key: "tpm", Record: recordID, Attestation: recordID}, Decision: &api.Entry{ID: recordID},
		Evidence: []api.EvidencePart{{Kind: "tpm2.quote", SHA256: ekHash}}, AsOf: asOf,
	}, d.asks(c, serial)
}

func (d *desk) Detections(_ context.Context, c server.Caller, q api.DetectionQuery) (api.DetectionPage, error) {
	return api.DetectionPage{Detections: []api.Detection{{ID: recordID, Kind: "pcr.4", TookMS: 7}}, AsOf: asOf}, d.asks(c, q)
}

func (d *desk) DetectionSummary(_ context.Context, c server.Caller, q api.SummaryQuery) (api.DetectionSummary, error) {
	return api.DetectionSummary{Kinds: []api.KindDetection{{Kind: "pcr.4", Events: 1}}, AsOf: asOf}, d.asks(c, q)
}

func (d *desk) Baseline(_ context.Context, c server.Caller, q api.BaselineQuery) (api.BaselinePage, error) {
	return api.BaselinePage{By: q.By, Deviations: []api.Deviation{{
		Node: nodeID, Facts: []api.FactDifference{{Name: "pcr.4", Expected: []string{ekHash}}},
	}}, AsOf: asOf}, d.asks(c, q)
}

func (d *desk) Rates(_ context.Context, c server.Caller, q api.RateQuery) (api.RateList, error) {
	return api.RateList{Rates: []api.Rate{{Zone: "z", Accepted: 1, Success: 1000, Reasons: map[string]int64{"x": 1}}}, AsOf: asOf}, d.asks(c, q)
}

func (d *desk) CrossCheck(_ context.Context, c server.Caller, q api.CrossCheckQuery) (api.CrossCheck, error) {
	return api.CrossCheck{Differences: []api.CountDifference{{Zone: "z"}}, AsOf: asOf}, d.asks(c, q)
}

func (d *desk) ImportInventory(_ context.Context, c server.Caller, req api.InventoryRequest) (api.Inventory, error) {
	return api.Inventory{ID: recordID, SHA256: ekHash}, d.asks(c, req)
}

func (d *desk) Coverage(_ context.Context, c server.Caller, q api.CoverageQuery) (api.Coverage, error) {
	return api.Coverage{Missing: []api.CoverageRow{{Machine: "m"}}, Unknown: []api.CoverageRow{}, AsOf: asOf}, d.asks(c, q)
}
