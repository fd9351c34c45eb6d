package store

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// driftRow is a row of drift_event beside the record that it belongs to.
type driftRow struct {
	recordedAt time.Time
	record     uuid.UUID
	node, zone string
	ledger.Drift
}

// addDrift reads the changes of a window. That a record is missing to them is
// found without them.
func (v *verification) addDrift(ctx context.Context, a, b int64, out map[int64][]*row) error {
	const query = `SELECT log_idx, recorded_at, record_id, node_id, zone, kind, before_value, after_value FROM drift_event
		WHERE log_id = $1 AND log_idx >= $2 AND log_idx < $3 ORDER BY log_idx, ord`
	rows, err := v.tx.Query(ctx, query, v.id, a, b)
	if err != nil {
		return err
	}
	var idx int64
	var d driftRow
	dest := []any{&idx, &d.recordedAt, &d.record, &d.node, &d.zone, &d.Kind, &d.Before, &d.After}
	_, err = pgx.ForEachRow(rows, dest, func() error {
		for _, r := range out[idx] {
			r.drift = append(r.drift, d)
		}
		return nil
	})
	return err
}

// drift compares the rows with what the body commits to: whoever takes one away
// hides what a machine did, and a page of drift is believed as it stands.
func (v *verification) drift(r *row, want []ledger.Drift, zone string) {
	got := make([]ledger.Drift, 0, len(r.drift))
	for _, d := range r.drift {
		got = append(got, d.Drift)
		if !d.recordedAt.Equal(r.RecordedAt) || d.record != r.ID || d.node != string(r.Node) || d.zone != zone {
			v.problem("index %d record %s: a row of its drift names another time, record, node or zone", r.Index, r.ID)
		}
	}
	if !slices.Equal(got, want) {
		v.problem("index %d record %s: its drift is not that of the body", r.Index, r.ID)
	}
}
