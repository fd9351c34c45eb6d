package client_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
)

// TestQuestions: each question goes to its route, with its filters by the names
// of the route and nothing that was not asked for.
func TestQuestions(t *testing.T) {
	var asked string
	c := talk(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.RequestURI()
		answer(w, http.StatusOK, "application/json", `{"next_cursor":"next","as_of":{"log":"main","size":7}}`)
	}, nil)
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.FixedZone("", 3600))
	for want, ask := range map[string]func(context.Context, *client.Client) (any, error){
		"/v1/history?cursor=a_b-c&limit=7&reason=policy.grace&since=2026-11-20T11%3A00%3A00Z&verdict=deny&zone=z": func(ctx context.Context, c *client.Client) (any, error) {
			return c.History(ctx, api.HistoryQuery{Zone: "z", Verdict: "deny", Reason: "policy.grace", Since: at, Cursor: "a_b-c", Limit: 7})
		},
		"/v1/history/x":             func(ctx context.Context, c *client.Client) (any, error) { return c.Entry(ctx, "x") },
		"/v1/history/x/explanation": func(ctx context.Context, c *client.Client) (any, error) { return c.Explain(ctx, "x") },
		"/v1/drift?kind=pcr.4": func(ctx context.Context, c *client.Client) (any, error) {
			return c.Drift(ctx, api.DriftQuery{Kind: "pcr.4"})
		},
		"/v1/nodes/n/timeline?limit=1": func(ctx context.Context, c *client.Client) (any, error) {
			return c.Timeline(ctx, api.TimelineQuery{Node: "n", Limit: 1})
		},
		"/v1/members?grace=true&zone=z": func(ctx context.Context, c *client.Client) (any, error) {
			return c.Members(ctx, api.MembersQuery{Zone: "z", Grace: true})
		},
		"/v1/nodes/n/as-of": func(ctx context.Context, c *client.Client) (any, error) {
			return c.NodeAt(ctx, api.NodeAtQuery{Node: "n"})
		},
		"/v1/nodes/n/intervals": func(ctx context.Context, c *client.Client) (any, error) {
			return c.Intervals(ctx, api.IntervalsQuery{Node: "n"})
		},
		"/v1/unseen?silent=true": func(ctx context.Context, c *client.Client) (any, error) {
			return c.Unseen(ctx, api.UnseenQuery{Silent: true})
		},
		"/v1/population?fact=pcr.4": func(ctx context.Context, c *client.Client) (any, error) {
			return c.Population(ctx, api.PopulationQuery{Fact: "pcr.4"})
		},
		"/v1/svids?denied_now=true&policy=3": func(ctx context.Context, c *client.Client) (any, error) {
			return c.SVIDs(ctx, api.SVIDQuery{DeniedNow: true, Policy: 3})
		},
		"/v1/svids/4a": func(ctx context.Context, c *client.Client) (any, error) { return c.FindSVID(ctx, "4a") },
		"/v1/drift/detections?node=n": func(ctx context.Context, c *client.Client) (any, error) {
			return c.Detections(ctx, api.DetectionQuery{Node: "n"})
		},
		"/v1/drift/summary?zone=z": func(ctx context.Context, c *client.Client) (any, error) {
			return c.DetectionSummary(ctx, api.SummaryQuery{Zone: "z"})
		},
		"/v1/drift/baseline?by=model&name=A+%26+B": func(ctx context.Context, c *client.Client) (any, error) {
			return c.Baseline(ctx, api.BaselineQuery{By: api.BaselineModel, Name: "A & B"})
		},
		"/v1/rates?zone=z": func(ctx context.Context, c *client.Client) (any, error) {
			return c.Rates(ctx, api.RateQuery{Zone: "z"})
		},
		"/v1/crosscheck": func(ctx context.Context, c *client.Client) (any, error) {
			return c.CrossCheck(ctx, api.CrossCheckQuery{})
		},
		"/v1/inventory/coverage?site=berlin": func(ctx context.Context, c *client.Client) (any, error) {
			return c.Coverage(ctx, api.CoverageQuery{Site: "berlin"})
		},
	} {
		if _, err := ask(t.Context(), c); err != nil || asked != "GET "+want {
			t.Errorf("asked %q, want %q, %v", asked, want, err)
		}
	}
	page, err := c.Members(t.Context(), api.MembersQuery{})
	if err != nil || page.NextCursor != "next" || page.AsOf.Size != 7 {
		t.Errorf("%+v, %v", page, err)
	}
	// What a name has in it leads to no other route.
	if _, err := c.Entry(t.Context(), "../nodes?limit=1"); err != nil || asked != "GET /v1/history/..%252Fnodes%253Flimit=1" {
		t.Errorf("asked %q, %v", asked, err)
	}
}
