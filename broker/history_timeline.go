package broker

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Timeline returns a page of what happened to one node: its attestations and
// denials, what drifted, the SVIDs that were issued, and what operators did. A
// node that the broker does not know is request.not_found.
func (b *Broker) Timeline(ctx context.Context, c Caller, q api.TimelineQuery) (page api.TimelinePage, err error) {
	after, err := parseCursor(q.Cursor)
	if err != nil {
		return api.TimelinePage{}, err
	}
	limit := pageSize(q.Limit)
	if q.Since, err = b.window(q.Since, q.Until, nodeSpan); err != nil {
		return api.TimelinePage{}, err
	}
	asOf, err := b.reads(ctx, c, readTimeline, filterOf(q, "node", q.Node))
	if err != nil {
		return api.TimelinePage{}, err
	}
	rows, err := b.cfg.Store.Records(ctx, ledger.Query{
		Node: ledger.NodeID(q.Node), Since: q.Since, Until: q.Until, After: after, Limit: limit,
	})
	if err != nil {
		return api.TimelinePage{}, err
	}
	if len(rows) == 0 {
		// An empty page of a node that exists is the end; a misspelt node is not.
		snap, err := b.cfg.Store.NodeByID(ctx, ledger.NodeID(q.Node))
		if err != nil {
			return api.TimelinePage{}, err
		}
		if !snap.Found {
			return api.TimelinePage{}, reason.New(reason.RequestNotFound, "no such node")
		}
	}
	page = api.TimelinePage{Node: q.Node, Since: q.Since, Entries: make([]api.TimelineEntry, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, r := range slices.Backward(rows) {
		e, err := timelineEntry(r)
		if err != nil {
			return api.TimelinePage{}, err
		}
		page.Entries = append(page.Entries, e)
	}
	if len(rows) == limit {
		page.NextCursor = rows[len(rows)-1].Place().String()
	}
	return page, nil
}

func timelineEntry(r ledger.Stored) (api.TimelineEntry, error) {
	// The three kinds of body have disjoint members beside the common ones.
	var body struct {
		Tier    int                 `json:"tier"`
		Reasons []ledger.Reason     `json:"reasons"`
		Events  []string            `json:"events"`
		SVIDs   []ledger.IssuedSVID `json:"svids"`
		By      string              `json:"by"`
		Note    string              `json:"note"`
	}
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return api.TimelineEntry{}, reason.Wrap(reason.StoreRowForged, "a record of the node does not parse; run zonebroker history verify", err)
	}
	e := api.TimelineEntry{
		Log: r.LogID, Index: r.Index, ID: r.ID.String(), RecordedAt: r.RecordedAt, Type: r.Type, Verdict: r.Verdict, Zone: r.Zone,
		Tier: body.Tier, Reasons: wireReasons(body.Reasons), Events: nonNil(body.Events), Drift: wireDrift(r.Drift),
		SVIDs: make([]api.TimelineSVID, 0, len(body.SVIDs)), By: body.By, Note: body.Note,
	}
	for _, s := range body.SVIDs {
		e.SVIDs = append(e.SVIDs, api.TimelineSVID{
			Profile: s.Profile, SPIFFEID: s.SPIFFEID, Audience: s.Audience, Serial: s.Serial, Key: s.Key,
			ExpiresAt: time.Unix(s.NotAfter, 0).UTC(),
		})
	}
	return e, nil
}

func wireDrift(drift []ledger.Drift) []api.DriftChange {
	out := make([]api.DriftChange, 0, len(drift))
	for _, d := range drift {
		out = append(out, api.DriftChange{Kind: d.Kind, Before: d.Before, After: d.After})
	}
	return out
}
