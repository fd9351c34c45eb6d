package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/zonebroker/zonebroker/broker/api"
)

// maxPage bounds an answer to a question, in bytes: 500 rows are far below.
const maxPage = 16 << 20

// The questions to the history. Config.ClientCertificate must show a role
// certificate (auditor or operator); without one the answer is
// reason.AuthRequired. Each question is recorded by the broker before it is
// answered. Lists are pages: go on with NextCursor until it is "". Filters are
// those of the routes and of the commands; bounds of time that are zero are the
// broker's, and stand in the answer.

// ask fills out from a route, by the tags of a query.
func ask[T any](ctx context.Context, c *Client, path string, query any) (T, error) {
	var out T
	var values url.Values
	if query != nil {
		values = api.Values(query)
	}
	err := c.sendQuery(ctx, http.MethodGet, path, values, nil, maxPage, &out)
	return out, err
}

// History returns a page of records, newest first.
func (c *Client) History(ctx context.Context, q api.HistoryQuery) (api.HistoryPage, error) {
	return ask[api.HistoryPage](ctx, c, "/v1/history", q)
}

// Entry returns one record with its body.
func (c *Client) Entry(ctx context.Context, id string) (api.Entry, error) {
	return ask[api.Entry](ctx, c, "/v1/history/"+url.PathEscape(id), nil)
}

// Explain says why a recorded attestation was denied.
func (c *Client) Explain(ctx context.Context, id string) (api.Explanation, error) {
	return ask[api.Explanation](ctx, c, "/v1/history/"+url.PathEscape(id)+"/explanation", nil)
}

// Drift returns a page of changes, newest first.
func (c *Client) Drift(ctx context.Context, q api.DriftQuery) (api.DriftPage, error) {
	return ask[api.DriftPage](ctx, c, "/v1/drift", q)
}

// Timeline returns a page of the life of q.Node.
func (c *Client) Timeline(ctx context.Context, q api.TimelineQuery) (api.TimelinePage, error) {
	return ask[api.TimelinePage](ctx, c, "/v1/nodes/"+url.PathEscape(q.Node)+"/timeline", q)
}

// Members returns a page of who had earned a zone at a time.
func (c *Client) Members(ctx context.Context, q api.MembersQuery) (api.MemberPage, error) {
	return ask[api.MemberPage](ctx, c, "/v1/members", q)
}

// NodeAt returns what q.Node was at a time.
func (c *Client) NodeAt(ctx context.Context, q api.NodeAtQuery) (api.NodeAt, error) {
	return ask[api.NodeAt](ctx, c, "/v1/nodes/"+url.PathEscape(q.Node)+"/as-of", q)
}

// Intervals returns the newest spans of q.Node.
func (c *Client) Intervals(ctx context.Context, q api.IntervalsQuery) (api.IntervalPage, error) {
	return ask[api.IntervalPage](ctx, c, "/v1/nodes/"+url.PathEscape(q.Node)+"/intervals", q)
}

// Unseen returns a page of nodes that no accepted attestation came from.
func (c *Client) Unseen(ctx context.Context, q api.UnseenQuery) (api.UnseenPage, error) {
	return ask[api.UnseenPage](ctx, c, "/v1/unseen", q)
}

// Population counts nodes by the value of a fact.
func (c *Client) Population(ctx context.Context, q api.PopulationQuery) (api.PopulationPage, error) {
	return ask[api.PopulationPage](ctx, c, "/v1/population", q)
}

// SVIDs returns a page of issued SVIDs, newest first.
func (c *Client) SVIDs(ctx context.Context, q api.SVIDQuery) (api.SVIDPage, error) {
	return ask[api.SVIDPage](ctx, c, "/v1/svids", q)
}

// FindSVID leads from a serial number to the decision and its evidence.
func (c *Client) FindSVID(ctx context.Context, serial string) (api.SVIDTrail, error) {
	return ask[api.SVIDTrail](ctx, c, "/v1/svids/"+url.PathEscape(serial), nil)
}

// Detections returns a page of drift with the time that it may have gone unseen.
func (c *Client) Detections(ctx context.Context, q api.DetectionQuery) (api.DetectionPage, error) {
	return ask[api.DetectionPage](ctx, c, "/v1/drift/detections", q)
}

// DetectionSummary sums the times to detect up by kind of drift.
func (c *Client) DetectionSummary(ctx context.Context, q api.SummaryQuery) (api.DetectionSummary, error) {
	return ask[api.DetectionSummary](ctx, c, "/v1/drift/summary", q)
}

// Baseline returns a page of nodes that differ from their fleet.
func (c *Client) Baseline(ctx context.Context, q api.BaselineQuery) (api.BaselinePage, error) {
	return ask[api.BaselinePage](ctx, c, "/v1/drift/baseline", q)
}

// Rates returns attestations by hour and zone.
func (c *Client) Rates(ctx context.Context, q api.RateQuery) (api.RateList, error) {
	return ask[api.RateList](ctx, c, "/v1/rates", q)
}

// CrossCheck compares the hourly counts with the rows. It may take minutes:
// Config.Timeout has to allow for them.
func (c *Client) CrossCheck(ctx context.Context, q api.CrossCheckQuery) (api.CrossCheck, error) {
	return ask[api.CrossCheck](ctx, c, "/v1/crosscheck", q)
}

// Coverage compares the imported inventory with what attests.
func (c *Client) Coverage(ctx context.Context, q api.CoverageQuery) (api.Coverage, error) {
	return ask[api.Coverage](ctx, c, "/v1/inventory/coverage", q)
}
