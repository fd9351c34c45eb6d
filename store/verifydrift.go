package store

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// driftRow is a row of drift_event beside the record that it belongs to.
type driftRow struct {
	recordedAt time.Time
	record     uuid.UUID
	node, zone string
	lastGood   pgtype.Timestamptz
	keep       int16
	ledger.Drift
}

// addDrift reads the changes of a window. That a record is missing to them is
// found without them.
func (v *verification) addDrift(ctx context.Context, a, b int64, out map[int64][]*row) error {
	const query = `SELECT log_idx, recorded_at, record_id, node_id, zone, kind, before_value, after_value, last_good, keep FROM drift_event
		WHERE log_id = $1 AND log_idx >= $2 AND log_idx < $3 ORDER BY log_idx, ord`
	rows, err := v.tx.Query(ctx, query, v.id, a, b)
	if err != nil {
		return err
	}
	var idx int64
	var d driftRow
	dest := []any{&idx, &d.recordedAt, &d.record, &d.node, &d.zone, &d.Kind, &d.Before, &d.After, &d.lastGood, &d.keep}
	_, err = pgx.ForEachRow(rows, dest, func() error {
		// Drift goes with its record, so that none is left of one that is declared gone.
		if len(out[idx]) == 0 && v.missing.decisions.Has(idx) {
			v.problem("index %d: drift of node %s, whose record is gone", idx, d.node)
		}
		for _, r := range out[idx] {
			r.drift = append(r.drift, d)
		}
		return nil
	})
	return err
}

// drift compares the rows with what the body commits to: whoever takes one away
// hides what a machine did, and a page of drift is believed as it stands.
func (v *verification) drift(r *row, s said) {
	got := make([]ledger.Drift, 0, len(r.drift))
	for _, d := range r.drift {
		got = append(got, d.Drift)
		if !d.recordedAt.Equal(r.RecordedAt) || d.record != r.ID || d.node != string(r.Node) || d.zone != s.driftZone || d.keep != r.keep {
			v.problem("index %d record %s: a row of its drift names another time, record, node or zone", r.Index, r.ID)
		}
		// Schema 3 did not say since when.
		if r.packed && s.sure && !timeOf(d.lastGood).Equal(s.lastGood) {
			v.problem("index %d record %s: a row of its drift names another attestation before it than the log", r.Index, r.ID)
		}
	}
	if !slices.Equal(got, s.drift) {
		v.problem("index %d record %s: its drift is not that of the body", r.Index, r.ID)
	}
}
