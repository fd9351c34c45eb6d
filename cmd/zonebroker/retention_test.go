package main

import (
	"context"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// What the desk says of retention: one week is due, one is held.

func theRetention() api.Retention {
	week := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	return api.Retention{
		Version: 2, Document: "kind: Retention\n", SHA256: testHash, By: "uid:0", CreatedAt: week,
		Groups: []api.RetentionGroup{
			{Zones: []string{}, Evidence: 90, SVIDs: 400},
			{Name: "cards", Keep: 1, Zones: []string{"payments"}, Decisions: 2555, Evidence: 400, SVIDs: 2555},
		},
		MinIndex: api.MinIndex{Evidence: 800},
		Dropped:  []api.DroppedWeek{{Record: testRecord, At: week, Class: "evidence", Week: week, Keeps: []int{0}, Retention: 2, Rows: 700, First: 100, Last: 799}},
	}
}

func (desk) Retention(context.Context) (api.Retention, error) { return theRetention(), nil }

func (desk) PartitionsAhead() int64 { return 3 }

func (desk) ApplyRetention(context.Context, server.Caller, api.RetentionRequest) (api.Retention, error) {
	return theRetention(), nil
}

func (desk) Sweep(_ context.Context, _ server.Caller, r api.SweepRequest) (api.SweepReport, error) {
	outcome := api.SweepDropped
	if r.DryRun {
		outcome = api.SweepDue
	}
	week := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	return api.SweepReport{Retention: 2, Leaves: []api.SweptLeaf{
		{Class: "evidence", Leaf: "evidence_part_p20260105_k0", Week: week, Keeps: []int{0}, Rows: 700, Outcome: outcome},
		{Class: "svids", Leaf: "svid_p20260105_k0", Week: week, Keeps: []int{0}, Rows: 900, Outcome: api.SweepHeld, Detail: "legal hold " + testRecord + ": case 12"},
	}}, nil
}

func theHold() api.Hold {
	return api.Hold{ID: testRecord, Zone: "payments", Reason: "case\x1b[31m 12", By: "uid:0", CreatedAt: time.Now().Add(-3 * time.Hour)}
}

func (desk) PlaceHold(_ context.Context, c server.Caller, r api.HoldRequest) (api.Hold, error) {
	return api.Hold{ID: testRecord, Node: r.Node, Zone: r.Zone, Reason: r.Reason, By: c.Operator, CreatedAt: time.Now()}, nil
}

func (desk) ReleaseHold(context.Context, server.Caller, string, api.RevokeRequest) (api.Hold, error) {
	h := theHold()
	h.Released = true
	return h, nil
}

func (desk) Holds(context.Context, server.Caller, bool) ([]api.Hold, error) {
	return []api.Hold{theHold()}, nil
}

func (d desk) Erase(_ context.Context, _ server.Caller, id string, _ api.EraseRequest) (api.ErasureProof, error) {
	if _, err := d.node(id); err != nil {
		return api.ErasureProof{}, err
	}
	return api.ErasureProof{}, reason.New(reason.RetentionHeld, "the legal hold "+testRecord+" touches the node: case 12")
}
