package server_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestQuestionsPassTheirFilters, all of them: one that is dropped on the way is an
// answer to another question.
func TestQuestionsPassTheirFilters(t *testing.T) {
	h := start(t, nil)
	c, _ := h.role("auditor")
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	const text = "2026-11-20T12:00:00Z"
	for path, want := range map[string]any{
		"/v1/members?zone=z&at=" + text + "&grace=true&cursor=" + nodeID + "&limit=7": api.MembersQuery{Zone: "z", At: at, Grace: true, Cursor: nodeID, Limit: 7},
		"/v1/members?grace=false":                                             api.MembersQuery{Limit: 50},
		"/v1/nodes/" + nodeID + "/as-of?at=" + text:                           api.NodeAtQuery{Node: nodeID, At: at},
		"/v1/nodes/" + nodeID + "/intervals?since=" + text + "&until=" + text: api.IntervalsQuery{Node: nodeID, Since: at, Until: at, Limit: 50},
		"/v1/unseen?since=" + text + "&zone=z&silent=true&cursor=" + nodeID:   api.UnseenQuery{Since: at, Zone: "z", Silent: true, Cursor: nodeID, Limit: 50},
		"/v1/population?fact=boot.kernel&value=a%20b&zone=z&at=" + text:       api.PopulationQuery{Fact: "boot.kernel", Value: "a b", Zone: "z", At: at, Limit: 50},
		"/v1/svids?node=" + nodeID + "&zone=z&fact=pcr.4&value=aa&policy=3&evidence=" + ekHash + "&denied_now=true&since=" + text + "&until=" + text + "&cursor=aa&limit=1": api.SVIDQuery{
			Node: nodeID, Zone: "z", Fact: "pcr.4", Value: "aa", Policy: 3, Evidence: ekHash, DeniedNow: true, Since: at, Until: at, Cursor: "aa", Limit: 1,
		},
		"/v1/svids/" + serial: serial,
		"/v1/drift/detections?node=" + nodeID + "&kind=pcr.4&zone=z&since=" + text + "&until=" + text + "&cursor=aa": api.DetectionQuery{
			Node: nodeID, Kind: "pcr.4", Zone: "z", Since: at, Until: at, Cursor: "aa", Limit: 50,
		},
		"/v1/drift/summary?zone=z&since=" + text + "&until=" + text:             api.SummaryQuery{Zone: "z", Since: at, Until: at},
		"/v1/drift/baseline?by=reference&name=My%20Set&zone=z&cursor=" + nodeID: api.BaselineQuery{By: "reference", Name: "My Set", Zone: "z", Cursor: nodeID, Limit: 50},
		"/v1/rates?zone=z&since=" + text + "&until=" + text:                     api.RateQuery{Zone: "z", Since: at, Until: at},
		"/v1/crosscheck?since=" + text + "&until=" + text:                       api.CrossCheckQuery{Since: at, Until: at},
		"/v1/inventory/coverage?site=Berlin%202&fresh=" + text + "&cursor=aa":   api.CoverageQuery{Site: "Berlin 2", Fresh: at, Cursor: "aa", Limit: 50},
	} {
		if got := h.do(c, "GET", path, ""); got.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, got.StatusCode, got.text)
		}
		if diff := cmp.Diff(want, h.desk.question); diff != "" {
			t.Errorf("%s (-want +asked):\n%s", path, diff)
		}
	}
	for path, want := range map[string]reason.Code{
		"/v1/members?grace=yes":                 reason.RequestMalformed,
		"/v1/members?at=24h":                    reason.RequestMalformed,
		"/v1/members?node=" + nodeID:            reason.RequestMalformed,
		"/v1/unseen":                            reason.RequestMalformed,
		"/v1/population":                        reason.RequestMalformed,
		"/v1/population?fact=PCR4":              reason.RequestMalformed,
		"/v1/svids?evidence=ab":                 reason.RequestMalformed,
		"/v1/svids?cursor=%00":                  reason.RequestMalformed,
		"/v1/svids/4A":                          reason.RequestNotFound,
		"/v1/drift/baseline":                    reason.RequestMalformed,
		"/v1/crosscheck?zone=z":                 reason.RequestMalformed,
		"/v1/inventory/coverage?site=%0a":       reason.RequestMalformed,
		"/v1/nodes/" + ekHash + "/as-of":        reason.RequestNotFound,
		"/v1/nodes/" + nodeID + "/intervals?x=": reason.RequestMalformed,
	} {
		if got := h.do(c, "GET", path, ""); got.problem.Code != string(want) {
			t.Errorf("%s: %d %q, want %s", path, got.StatusCode, got.problem.Code, want)
		}
	}
}

// TestInventoryIsForOperators: the list is an operator's to replace, an auditor's
// to compare with.
func TestInventoryIsForOperators(t *testing.T) {
	h := start(t, nil)
	list := `{"csv":"machine,model,site,ek_sha256\nm,,,\n","note":"x"}`
	auditor, _ := h.role("auditor")
	if got := h.do(auditor, "POST", "/v1/inventory", list); got.problem.Code != "auth.forbidden" {
		t.Errorf("an auditor: %d %q", got.StatusCode, got.problem.Code)
	}
	operator, _ := h.role("operator")
	if got := h.do(operator, "POST", "/v1/inventory", list); got.StatusCode != 200 || h.desk.question.(api.InventoryRequest).Note != "x" {
		t.Errorf("an operator: %d %s", got.StatusCode, got.text)
	}
	for _, bad := range []string{`{"csv":"a,b\n"}`, `{"csv":"","colour":"red"}`, `{}`} {
		if got := h.do(operator, "POST", "/v1/inventory", bad); got.problem.Code != "request.malformed" {
			t.Errorf("%s: %d %q", bad, got.StatusCode, got.problem.Code)
		}
	}
}
