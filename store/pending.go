package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

const (
	pendingLimit = 1000
	// Machines that stopped asking make room, so that nobody fills the list for
	// good.
	pendingAge = 24 * time.Hour
)

// AddPending enters machines into the pending list, which holds at most 1 000;
// what does not fit is left out. A machine that is there is seen again.
func (s *Store) AddPending(ctx context.Context, ps []ledger.Pending) error {
	if len(ps) == 0 {
		return nil
	}
	var hashes, publics [][]byte
	var first, last []time.Time
	for i := range ps {
		hashes, publics = append(hashes, ps[i].EKHash[:]), append(publics, full(ps[i].EKPublic))
		first, last = append(first, ps[i].FirstSeen), append(last, ps[i].LastSeen)
	}
	const rows = `unnest($1::bytea[], $2::bytea[], $3::timestamptz[], $4::timestamptz[]) AS i (ek_hash, ek_public, first_seen, last_seen)`
	const seen = `UPDATE pending p SET last_seen = greatest(p.last_seen, i.last_seen) FROM ` + rows + ` WHERE p.ek_hash = i.ek_hash`
	const add = `INSERT INTO pending (ek_hash, ek_public, first_seen, last_seen)
		SELECT i.* FROM ` + rows + ` WHERE NOT EXISTS (SELECT 1 FROM pending p WHERE p.ek_hash = i.ek_hash)
		ORDER BY i.first_seen LIMIT greatest(0, $5 - (SELECT count(*) FROM pending))
		ON CONFLICT DO NOTHING`
	return s.read(ctx, "add pending", func(ctx context.Context, c *pgxpool.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			// One replica at a time counts and adds.
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('zonebroker pending'))`); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `DELETE FROM pending WHERE last_seen < clock_timestamp() - $1::interval`, pendingAge); err != nil {
				return err
			}
			// One array shape serves both statements.
			if _, err := tx.Exec(ctx, seen, hashes, publics, first, last); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, add, hashes, publics, first, last, pendingLimit)
			return err
		})
	})
}

// ListPending returns waiting machines, oldest first.
func (s *Store) ListPending(ctx context.Context, limit int) ([]ledger.Pending, error) {
	const query = `SELECT ek_hash, ek_public, first_seen, last_seen FROM pending ORDER BY first_seen, ek_hash LIMIT $1`
	var out []ledger.Pending
	err := s.read(ctx, "list pending", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, min(max(limit, 1), pendingLimit))
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (ledger.Pending, error) {
			var p ledger.Pending
			var hash []byte
			err := row.Scan(&hash, &p.EKPublic, &p.FirstSeen, &p.LastSeen)
			copy(p.EKHash[:], hash)
			p.FirstSeen, p.LastSeen = p.FirstSeen.UTC(), p.LastSeen.UTC()
			return p, err
		})
		return err
	})
	return out, err
}

// CountRefusals adds to the hourly roll-up.
func (s *Store) CountRefusals(ctx context.Context, counts []ledger.RefusalCount) error {
	const add = `INSERT INTO refusal_hourly AS r (hour, code, node_id, n) VALUES ($1, $2, $3, $4)
		ON CONFLICT (hour, code, node_id) DO UPDATE SET n = r.n + EXCLUDED.n`
	b := &pgx.Batch{}
	for _, c := range counts {
		if c.Count > 0 {
			b.Queue(add, c.Hour.UTC().Truncate(time.Hour), c.Code, string(c.Node), c.Count)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return s.read(ctx, "count refusals", func(ctx context.Context, c *pgxpool.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return tx.SendBatch(ctx, b).Close() })
	})
}
