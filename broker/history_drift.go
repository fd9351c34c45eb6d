package broker

import (
	"context"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

// Drift returns a page of what changed on the nodes, newest first. A cursor that
// this broker did not give is request.malformed.
func (b *Broker) Drift(ctx context.Context, c Caller, q api.DriftQuery) (page api.DriftPage, err error) {
	after, err := parseCursor(q.Cursor)
	if err != nil {
		return api.DriftPage{}, err
	}
	if q.Since, err = b.window(q.Since, q.Until, defaultSpan); err != nil {
		return api.DriftPage{}, err
	}
	asOf, err := b.reads(ctx, c, readDrift, filterOf(q))
	if err != nil {
		return api.DriftPage{}, err
	}
	limit := pageSize(q.Limit)
	rows, err := b.cfg.Store.Drift(ctx, ledger.DriftQuery{
		Node: ledger.NodeID(q.Node), Kind: q.Kind, Zone: q.Zone, Since: q.Since, Until: q.Until, After: after, Limit: limit,
	})
	if err != nil {
		return api.DriftPage{}, err
	}
	page = api.DriftPage{Since: q.Since, Changes: make([]api.Drift, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, r := range rows {
		page.Changes = append(page.Changes, api.Drift{
			Log: r.LogID, Index: r.Index, ID: r.Record.String(), RecordedAt: r.RecordedAt, Node: string(r.Node), Zone: r.Zone,
			Kind: r.Kind, Before: r.Before, After: r.After,
		})
	}
	if len(rows) == limit {
		page.NextCursor = rows[len(rows)-1].Place.String()
	}
	return page, nil
}
