package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// AdmissionsSince returns admissions changed after cursor, at most limit, and the
// next cursor; a nil one starts. Each log has its own place in it, so that no
// change of another broker's log is passed over, however slowly it was committed;
// within a page they are in the order of their times. Forged rows, and rows that
// claim a place which their log has not reached, are left out without shortening
// the page; they do not move the cursor, or one of them would hide all that comes
// later.
func (s *Store) AdmissionsSince(ctx context.Context, cursor ledger.Places, limit int) ([]ledger.Admission, ledger.Places, error) {
	limit = max(limit, 1)
	var rows []admissionRow
	err := s.read(ctx, "read admissions", func(ctx context.Context, c *pgxpool.Conn) error {
		logs, err := readLogs(ctx, c)
		if err != nil {
			return err
		}
		for _, log := range logs {
			more, err := s.admissionsOf(ctx, c, log, cursor[log], limit)
			if err != nil {
				return err
			}
			settleTimes(more)
			rows = append(rows, more...)
		}
		return nil
	})
	if err != nil {
		return nil, cursor, err
	}
	// Within a log time and place agree, so what is cut off is the end of each.
	slices.SortStableFunc(rows, func(a, b admissionRow) int {
		return cmp.Or(timeOf(a.at).Compare(timeOf(b.at)), cmp.Compare(a.changed.log, b.changed.log), cmp.Compare(a.changed.index, b.changed.index))
	})
	next := maps.Clone(cursor)
	if next == nil {
		next = make(ledger.Places)
	}
	out := make([]ledger.Admission, 0, min(len(rows), limit))
	for _, a := range rows[:min(len(rows), limit)] {
		out, next[a.changed.log] = append(out, a.Admission), a.changed.index
	}
	return out, next, nil
}

// settleTimes gives a time to what programs of schema 3 changed, and makes those
// of one log agree with its places: what is cut off a page must be its end.
func settleTimes(rows []admissionRow) {
	var last time.Time
	for i := range rows {
		at := timeOf(rows[i].at)
		if !rows[i].at.Valid {
			at = rows[i].CreatedAt
		}
		if at.Before(last) {
			at = last
		}
		last = at
		rows[i].at = pgtype.Timestamptz{Time: at, Valid: true}
	}
}

// readLogs lists the logs of the database: one a broker at most, and so few.
func readLogs(ctx context.Context, c *pgxpool.Conn) ([]string, error) {
	rows, err := c.Query(ctx, `SELECT log_id FROM log_head ORDER BY log_id LIMIT 1000`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// admissionsOf reads what was changed in one log after its place.
func (s *Store) admissionsOf(ctx context.Context, c *pgxpool.Conn, log string, after int64, limit int) ([]admissionRow, error) {
	// Admissions and head come from one statement, so from one snapshot.
	const query = `SELECT a.*, coalesce((SELECT size FROM log_head WHERE log_id = $1), 0) FROM (` + selectAdmission +
		`WHERE change_log = $1 AND (change_seq, admission_id) > ($2, $3) ORDER BY change_seq, admission_id LIMIT $4) a`
	var out []admissionRow
	id := uuid.Max
	for more := true; more && len(out) < limit; {
		want := limit - len(out)
		rows, err := c.Query(ctx, query, log, after, id, want)
		if err != nil {
			return nil, err
		}
		var size int64
		page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (admissionRow, error) { return scanAdmission(row, &size) })
		if err != nil {
			return nil, err
		}
		for _, a := range page {
			after, id = a.changed.index, a.ID
			if !s.genuine("admission", a.ID.String(), a.Admission, a.mac) {
				continue
			}
			if a.changed.index > size {
				s.cfg.OnForged("admission", a.ID.String())
				continue
			}
			out = append(out, a)
		}
		more = len(page) == want
	}
	return out, nil
}
