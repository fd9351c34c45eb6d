package store

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// maxPage bounds a page of anything.
const maxPage = 500

const selectRecord = `SELECT recorded_at, log_id, log_idx, record_id, type, node_id, zone, verdict, reason, attested_at, fresh_until,
	policy_version, salt, body, packed, keep FROM attestation `

// storedRow is a record with what of its row is no part of it.
type storedRow struct {
	ledger.Stored
	packed bool // written by a program that knows schema 4
	keep   int16
}

// scanRow reads a row of selectRecord. A body that does not unpack is nil: the
// row is shown for what it is, and who reads the body finds it broken.
func scanRow(row pgx.CollectableRow) (storedRow, error) {
	var r storedRow
	var node string
	var body pgtype.Text
	var salt, packed []byte
	var attested, fresh pgtype.Timestamptz
	err := row.Scan(&r.RecordedAt, &r.LogID, &r.Index, &r.ID, &r.Type, &node, &r.Zone, &r.Verdict, &r.Reason, &attested, &fresh,
		&r.PolicyVersion, &salt, &body, &packed, &r.keep)
	r.RecordedAt, r.Node = r.RecordedAt.UTC(), ledger.NodeID(node)
	r.AttestedAt, r.FreshUntil = timeOf(attested), timeOf(fresh)
	copy(r.Salt[:], salt)
	if err != nil {
		return r, err
	}
	if r.packed = !body.Valid; !r.packed {
		r.Body = []byte(body.String)
	} else if r.Body, err = unpackBody(packed, r.ID, node); err != nil {
		r.Body = nil
	}
	return r, nil
}

func scanRecord(row pgx.CollectableRow) (ledger.Stored, error) {
	r, err := scanRow(row)
	return r.Stored, err
}

// The time in a record's id is the broker's, that in its row the database's.
const (
	nearBefore = time.Hour
	nearAfter  = 24 * time.Hour
)

// Record returns one record of any log with its index, time and drift; nil where
// there is none. The time in the id narrows the search to a partition or two; an id with
// a wrong time is still found, by looking into all.
func (s *Store) Record(ctx context.Context, id uuid.UUID) (*ledger.Stored, error) {
	const near = selectRecord + `WHERE record_id = $1 AND recorded_at >= $2 AND recorded_at < $3 ORDER BY recorded_at LIMIT 1`
	const anywhere = selectRecord + `WHERE record_id = $1 ORDER BY recorded_at LIMIT 1`
	var out *ledger.Stored
	err := s.read(ctx, "read record", func(ctx context.Context, c *pgxpool.Conn) error {
		at := ledger.RecordTime(id)
		found, err := collectRecords(ctx, c, near, id, at.Add(-nearBefore), at.Add(nearAfter))
		if err == nil && len(found) == 0 {
			found, err = collectRecords(ctx, c, anywhere, id)
		}
		if err != nil || len(found) == 0 {
			return err
		}
		out = &found[0]
		return s.addDrift(ctx, c, found)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func collectRecords(ctx context.Context, c *pgxpool.Conn, query string, args ...any) ([]ledger.Stored, error) {
	rows, err := c.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanRecord)
}

// Records returns a page of the records of all logs, newest first.
func (s *Store) Records(ctx context.Context, q ledger.Query) ([]ledger.Stored, error) {
	query, args := recordsQuery(q)
	var out []ledger.Stored
	err := s.read(ctx, "list records", func(ctx context.Context, c *pgxpool.Conn) error {
		var err error
		if out, err = collectRecords(ctx, c, query, args...); err != nil {
			return err
		}
		return s.addDrift(ctx, c, out)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// recordsQuery names only the filters that are set, so that each shape gets its
// index. Nothing of q ends up in the text.
func recordsQuery(q ledger.Query) (string, []any) {
	var f filter
	f.add(q.Node != "", "node_id = ? AND node_id <> ''", string(q.Node))
	f.add(q.Zone != "", "zone = ? AND zone <> ''", q.Zone)
	// Only denials have a reason. The planner takes an index of denials alone
	// where the text says so, not where an argument does.
	f.add(q.Verdict == ledger.VerdictDeny || q.Reason != "", "verdict = 'deny'")
	f.add(q.Verdict != "" && q.Verdict != ledger.VerdictDeny, "verdict = ?", q.Verdict)
	f.add(q.Reason != "", "reason = ?", q.Reason)
	f.add(q.Type != "", "type = ?", q.Type)
	f.add(q.Type != "" && q.Type != ledger.TypeAttestation && q.Type != ledger.TypeIssuance, "type NOT IN ('attestation', 'svid.issued')")
	// Who asks every minute would bury what was decided under what was read.
	f.add(q.Type != ledger.TypeHistoryRead, "type <> 'history.read'")
	f.between(q.Since, q.Until)
	f.add(!q.After.IsZero(), "(recorded_at, log_idx, log_id) < (?, ?, ?)", q.After.RecordedAt, q.After.Index, q.After.LogID)
	return f.query(selectRecord, "recorded_at DESC, log_idx DESC, log_id DESC", q.Limit)
}

// inLog names a record within all logs.
type inLog struct {
	log   string
	index int64
}

// addDrift fills in what changed, for a page at a time.
func (s *Store) addDrift(ctx context.Context, c *pgxpool.Conn, page []ledger.Stored) error {
	if len(page) == 0 {
		return nil
	}
	indexes := make([]int64, len(page))
	at := make(map[inLog]*ledger.Stored, len(page))
	from, to := page[0].RecordedAt, page[0].RecordedAt
	for i := range page {
		r := &page[i]
		indexes[i], at[inLog{r.LogID, r.Index}] = r.Index, r
		if r.RecordedAt.Before(from) {
			from = r.RecordedAt
		}
		if r.RecordedAt.After(to) {
			to = r.RecordedAt
		}
	}
	// Other logs have records at these indices as well.
	const query = `SELECT log_id, log_idx, kind, before_value, after_value FROM drift_event
		WHERE log_idx = ANY ($1) AND recorded_at BETWEEN $2 AND $3 ORDER BY log_idx, ord`
	rows, err := c.Query(ctx, query, indexes, from, to)
	if err != nil {
		return err
	}
	var key inLog
	var d ledger.Drift
	_, err = pgx.ForEachRow(rows, []any{&key.log, &key.index, &d.Kind, &d.Before, &d.After}, func() error {
		if r := at[key]; r != nil {
			r.Drift = append(r.Drift, d)
		}
		return nil
	})
	return err
}

// CheckpointRoot returns the root of the signed checkpoint of that size of a log;
// false where there was none.
func (s *Store) CheckpointRoot(ctx context.Context, log string, size int64) ([32]byte, bool, error) {
	var root [32]byte
	var found bool
	err := s.read(ctx, "read checkpoint", func(ctx context.Context, c *pgxpool.Conn) error {
		var raw []byte
		err := c.QueryRow(ctx, `SELECT root FROM checkpoint WHERE log_id = $1 AND size = $2`, log, size).Scan(&raw)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		found = err == nil
		copy(root[:], raw)
		return err
	})
	return root, found, err
}

// LatestCheckpoint returns the newest signed note, "" before the first.
func (s *Store) LatestCheckpoint(ctx context.Context) (string, error) {
	var text string
	err := s.read(ctx, "read checkpoint", func(ctx context.Context, c *pgxpool.Conn) error {
		err := c.QueryRow(ctx, latestCheckpoint, s.cfg.LogID).Scan(&text)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return text, err
}

const latestCheckpoint = `SELECT note FROM checkpoint WHERE log_id = $1 ORDER BY size DESC LIMIT 1`
