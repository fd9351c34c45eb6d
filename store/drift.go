package store

import (
	"context"
	"strconv"
	"strings"
	"time"

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

// filter collects the conditions of a list, and their arguments apart from them.
type filter struct {
	where []string
	args  []any
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

// between bounds the time of the commit.
func (f *filter) between(since, until time.Time) {
	f.add(!since.IsZero(), "recorded_at >= ?", since)
	f.add(!until.IsZero(), "recorded_at < ?", until)
}

// orderWithin is the order of rows of which a record has several.
const orderWithin = "recorded_at DESC, log_idx DESC, log_id DESC, ord"

// afterWithin goes on in orderWithin. The first half alone is where an index can
// start.
const afterWithin = "(recorded_at, log_idx, log_id) <= (?, ?, ?) AND ((recorded_at, log_idx, log_id) < (?, ?, ?) OR ord > ?)"

// after goes on in orderWithin.
func (f *filter) after(p ledger.Place) {
	f.add(!p.IsZero(), afterWithin, p.RecordedAt, p.Index, p.LogID, p.RecordedAt, p.Index, p.LogID, p.Ord)
}

// query is the text and its arguments, for a page of at most maxPage rows.
func (f *filter) query(selected, order string, limit int) (string, []any) {
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	args := append(f.args, limit)
	where := ""
	if len(f.where) > 0 {
		where = "WHERE " + strings.Join(f.where, " AND ")
	}
	return selected + where + " ORDER BY " + order + " LIMIT $" + strconv.Itoa(len(args)), args
}
