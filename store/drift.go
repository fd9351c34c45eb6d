package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

const selectDrift = `SELECT log_id, log_idx, ord, record_id, recorded_at, node_id, zone, kind, before_value, after_value FROM drift_event `

// Drift returns a page of changes of all logs, newest record first, within a
// record in the order in which they were written.
func (s *Store) Drift(ctx context.Context, q ledger.DriftQuery) ([]ledger.DriftRow, error) {
	query, args := driftQuery(q)
	var out []ledger.DriftRow
	err := s.read(ctx, "list drift", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, scanDrift)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func scanDrift(row pgx.CollectableRow) (ledger.DriftRow, error) {
	var r ledger.DriftRow
	err := row.Scan(driftDest(&r)...)
	r.RecordedAt = r.RecordedAt.UTC()
	return r, err
}

// driftDest takes the columns of a drift row.
func driftDest(d *ledger.DriftRow) []any {
	return []any{&d.LogID, &d.Index, &d.Ord, &d.Record, &d.RecordedAt, (*string)(&d.Node), &d.Zone, &d.Kind, &d.Before, &d.After}
}

// driftQuery names only the filters that are set, so that each shape gets its
// index. Nothing of q ends up in the text.
func driftQuery(q ledger.DriftQuery) (string, []any) {
	var f filter
	f.add(q.Node != "", "node_id = ?", string(q.Node))
	f.add(q.Kind != "", "kind = ?", q.Kind)
	f.add(q.Zone != "", "zone = ?", q.Zone)
	f.between(q.Since, q.Until)
	f.after(q.After)
	return f.query(selectDrift, orderWithin, q.Limit)
}
