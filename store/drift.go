package store

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

const selectDrift = `SELECT log_idx, ord, record_id, recorded_at, node_id, zone, kind, before_value, after_value FROM drift_event `

// Drift returns a page of changes, newest record first, within a record in the
// order in which they were written.
func (s *Store) Drift(ctx context.Context, q ledger.DriftQuery) ([]ledger.DriftRow, error) {
	query, args := driftQuery(s.cfg.LogID, q)
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
	r := ledger.DriftRow{Key: ledger.DriftKey{Set: true}}
	var node string
	err := row.Scan(&r.Key.Index, &r.Key.Ord, &r.Record, &r.RecordedAt, &node, &r.Zone, &r.Kind, &r.Before, &r.After)
	r.Node, r.RecordedAt = ledger.NodeID(node), r.RecordedAt.UTC()
	return r, err
}

// driftQuery names only the filters that are set, so that each shape gets its
// index. Nothing of q ends up in the text.
func driftQuery(logID string, q ledger.DriftQuery) (string, []any) {
	f := newFilter(logID)
	f.add(q.Node != "", "node_id = ?", string(q.Node))
	f.add(q.Kind != "", "kind = ?", q.Kind)
	f.add(q.Zone != "", "zone = ?", q.Zone)
	f.add(!q.Since.IsZero(), "recorded_at >= ?", q.Since)
	f.add(!q.Until.IsZero(), "recorded_at < ?", q.Until)
	// The first half alone is where an index can start.
	f.add(q.After.Set, "log_idx <= ? AND (log_idx < ? OR ord > ?)", q.After.Index, q.After.Index, q.After.Ord)
	return f.query(selectDrift, "log_idx DESC, ord", q.Limit)
}

// filter collects the conditions of a list, and their arguments apart from them.
type filter struct {
	where []string
	args  []any
}

func newFilter(logID string) *filter {
	return &filter{where: []string{"log_id = $1"}, args: []any{logID}}
}

// add appends a condition in which each question mark stands for one of args.
func (f *filter) add(used bool, condition string, args ...any) {
	if !used {
		return
	}
	for _, arg := range args {
		f.args = append(f.args, arg)
		condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(f.args)), 1)
	}
	f.where = append(f.where, condition)
}

// query is the text and its arguments, for a page of at most maxPage rows.
func (f *filter) query(selected, order string, limit int) (string, []any) {
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	args := append(f.args, limit)
	return selected + "WHERE " + strings.Join(f.where, " AND ") + " ORDER BY " + order + " LIMIT $" + strconv.Itoa(len(args)), args
}
