package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
)

func (p *pipeline) Retention(context.Context) (api.Retention, error) {
	return api.Retention{Groups: []api.RetentionGroup{{Zones: []string{}}}, Dropped: []api.DroppedWeek{{Class: "svids", Keeps: []int{0}, Record: recordID}}}, nil
}

func (p *pipeline) PartitionsAhead() int64 { return 3 }

func (d *desk) ApplyRetention(_ context.Context, c server.Caller, r api.RetentionRequest) (api.Retention, error) {
	return api.Retention{Version: 1, Document: r.Document, Groups: []api.RetentionGroup{}, Dropped: []api.DroppedWeek{}}, d.took(c, r.Document)
}

func (d *desk) Sweep(_ context.Context, c server.Caller, r api.SweepRequest) (api.SweepReport, error) {
	l := api.SweptLeaf{Class: "svids", Leaf: "svid_p20260105_k0", Keeps: []int{0}, Outcome: api.SweepDue}
	return api.SweepReport{Retention: 1, Leaves: []api.SweptLeaf{l}}, d.took(c, map[bool]string{true: "dry"}[r.DryRun])
}

func aHold() api.Hold { return api.Hold{ID: recordID, Zone: "payments", Reason: "case 12"} }

func (d *desk) PlaceHold(_ context.Context, c server.Caller, r api.HoldRequest) (api.Hold, error) {
	since := ""
	if r.Since != nil {
		since = r.Since.UTC().Format(time.RFC3339)
	}
	return aHold(), d.took(c, r.Node, r.Zone, since, r.Reason)
}

func (d *desk) ReleaseHold(_ context.Context, c server.Caller, id string, r api.RevokeRequest) (api.Hold, error) {
	return aHold(), d.took(c, id, r.Note)
}

func (d *desk) Holds(_ context.Context, c server.Caller, released bool) ([]api.Hold, error) {
	return []api.Hold{aHold()}, d.took(c, map[bool]string{true: "released"}[released])
}

func (d *desk) Erase(_ context.Context, c server.Caller, node string, r api.EraseRequest) (api.ErasureProof, error) {
	return api.ErasureProof{
		Node: node, Record: api.ProvedRecord{ID: recordID, Body: []byte("{}")}, Consistency: []api.Bytes{},
		Entries: []api.ProvedEntry{{Entry: make(api.Bytes, 57), Proof: []api.Bytes{}}},
	}, d.took(c, node, r.Reason)
}

// TestRetentionRoutes: what the broker is told, and what does not reach it.
func TestRetentionRoutes(t *testing.T) {
	h := start(t, nil)
	for _, tc := range []struct {
		method, path, body string
		status             int
		args               string
	}{
		{"POST", "/v1/retention", `{"document":"kind: Retention"}`, 200, "kind: Retention"},
		{"POST", "/v1/retention", `{}`, 400, ""},
		{"POST", "/v1/retention/sweep", `{"dry_run":true}`, 200, "dry"},
		{"POST", "/v1/retention/sweep", `{"dry":true}`, 400, ""},
		{"GET", "/v1/holds?released=true", "", 200, "released"},
		{"GET", "/v1/holds?released=yes", "", 400, ""},
		{"POST", "/v1/holds", `{"zone":"payments","since":"2026-01-01T00:00:00Z","reason":"case 12"}`, 201, "|payments|2026-01-01T00:00:00Z|case 12"},
		{"POST", "/v1/holds", `{"reason":"case 12"}`, 400, ""},
		{"POST", "/v1/holds", `{"zone":"payments"}`, 400, ""},
		{"POST", "/v1/holds", `{"zone":"payments","since":"2026-01-01T00:00:00Z","until":"2026-01-01T00:00:00Z","reason":"x"}`, 400, ""},
		{"POST", "/v1/holds", `{"node":"x","reason":"x"}`, 400, ""},
		{"POST", "/v1/holds/" + recordID + "/release", `{"note":"over"}`, 200, recordID + "|over"},
		{"POST", "/v1/holds/x/release", `{}`, 404, ""},
		{"POST", "/v1/nodes/" + nodeID + "/erase", `{"reason":"request 7"}`, 200, nodeID + "|request 7"},
		{"POST", "/v1/nodes/" + nodeID + "/erase", `{}`, 400, ""},
		{"POST", "/v1/nodes/x/erase", `{"reason":"request 7"}`, 404, ""},
	} {
		h.desk.took(server.Caller{})
		got := h.do(h.operator(), tc.method, tc.path, tc.body)
		if got.StatusCode != tc.status || strings.Join(h.desk.args, "|") != tc.args {
			t.Errorf("%s %s %s: %d, told %q\n%s", tc.method, tc.path, tc.body, got.StatusCode, h.desk.args, got.text)
		}
	}
	c, _ := h.role(broker.RoleOperator)
	for _, path := range []string{"/v1/retention", "/v1/nodes/" + nodeID + "/erase"} {
		if got := h.do(c, "POST", path, `{}`); got.StatusCode == 200 {
			t.Errorf("an operator's certificate may ask for %s", path)
		}
	}
}
