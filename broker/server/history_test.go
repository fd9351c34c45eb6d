package server_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestHistoryQueriesArrive whole: a filter that got lost on the way would show
// an auditor more than was asked for, or less.
func TestHistoryQueriesArrive(t *testing.T) {
	h := start(t, nil)
	c := h.operator()
	since, until := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	const times = "since=2026-11-01T00:00:00Z&until=2026-12-01T00:00:00Z"

	h.do(c, "GET", "/v1/drift?node="+nodeID+"&kind=pcr.4&zone=z&cursor=Ab_-9&limit=500&"+times, "")
	if diff := cmp.Diff(api.DriftQuery{Node: nodeID, Kind: "pcr.4", Zone: "z", Since: since, Until: until, Cursor: "Ab_-9", Limit: 500}, h.desk.drift); diff != "" {
		t.Errorf("drift: %s", diff)
	}
	h.do(c, "GET", "/v1/nodes/"+nodeID+"/timeline?cursor=A7&limit=3&"+times, "")
	if diff := cmp.Diff(api.TimelineQuery{Node: nodeID, Since: since, Until: until, Cursor: "A7", Limit: 3}, h.desk.life); diff != "" {
		t.Errorf("timeline: %s", diff)
	}
	h.do(c, "GET", "/v1/history?reason=policy.pcr_mismatch", "")
	if q := h.desk.query; q.Reason != "policy.pcr_mismatch" || q.Limit != 50 {
		t.Errorf("history got %+v", q)
	}
	if got := h.do(c, "GET", "/v1/history/"+recordID+"/explanation", ""); got.StatusCode != 200 || h.desk.args[0] != recordID {
		t.Errorf("explanation: %d, %v", got.StatusCode, h.desk.args)
	}
	if got := h.do(c, "GET", "/v1/history/"+recordID+"/evidence", ""); got.StatusCode != 200 || h.desk.args[0] != recordID {
		t.Errorf("evidence: %d, %v", got.StatusCode, h.desk.args)
	}
	for path, want := range map[string]reason.Code{
		"/v1/history/" + nodeID + "/evidence":                reason.RequestNotFound,
		"/v1/drift?cursor=7.2":                               reason.RequestMalformed,
		"/v1/drift?cursor=7%20":                              reason.RequestMalformed,
		"/v1/drift?kind=PCR":                                 reason.RequestMalformed,
		"/v1/drift?reason=x":                                 reason.RequestMalformed,
		"/v1/drift?since=yesterday":                          reason.RequestMalformed,
		"/v1/drift?limit=501":                                reason.RequestMalformed,
		"/v1/nodes/" + nodeID + "/timeline?node=" + nodeID:   reason.RequestMalformed,
		"/v1/nodes/" + nodeID + "/timeline?cursor=%3D1":      reason.RequestMalformed,
		"/v1/nodes/x/timeline":                               reason.RequestNotFound,
		"/v1/history/" + nodeID + "/explanation":             reason.RequestNotFound,
		"/v1/history/" + recordID + "/explanation?verbose=1": "",
	} {
		if got := h.do(c, "GET", path, ""); got.problem.Code != string(want) {
			t.Errorf("%s: %q, want %q", path, got.problem.Code, want)
		}
	}
}
