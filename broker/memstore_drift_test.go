package broker_test

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

func inTime(at, since, until time.Time) bool {
	return (since.IsZero() || !at.Before(since)) && (until.IsZero() || at.Before(until))
}

func (m *memStore) Drift(ctx context.Context, q ledger.DriftQuery) ([]ledger.DriftRow, error) {
	if err := m.enter(ctx, "Drift"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ledger.DriftRow
	for _, r := range slices.Backward(m.records) {
		var body ledger.Attestation
		_ = json.Unmarshal(r.Body, &body) // of another kind: without drift
		zone := body.DriftZone()
		for i, d := range r.Drift {
			if !q.After.IsZero() && (r.Index > q.After.Index || r.Index == q.After.Index && i <= q.After.Ord) {
				continue
			}
			if (q.Node == "" || r.Node == q.Node) && (q.Kind == "" || d.Kind == q.Kind) && (q.Zone == "" || zone == q.Zone) &&
				inTime(r.RecordedAt, q.Since, q.Until) && len(out) < q.Limit {
				out = append(out, ledger.DriftRow{
					Place: ledger.Place{RecordedAt: r.RecordedAt, Index: r.Index, LogID: r.LogID, Ord: i}, Record: r.ID,
					Node: r.Node, Zone: zone, Drift: d,
				})
			}
		}
	}
	return out, nil
}
