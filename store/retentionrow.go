package store

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxHolds bounds the holds that are not released: each sweep asks every one of
// them about every week.
const maxHolds = 200

// queueRetention writes the rows that say what may go. A version that is taken,
// or a hold that is released already, refuses this item alone.
func (t *transaction) queueRetention(b *pgx.Batch, it *item) {
	written := func(refused error) func(pgx.Rows) error {
		return func(rows pgx.Rows) error {
			ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err == nil && len(ids) == 0 {
				return &itemError{item: it, err: refused}
			}
			return err
		}
	}
	if r := it.commit.Retention; r != nil {
		const put = `INSERT INTO retention (version, document, groups, granted_by, created_at, mac)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING version::text`
		b.Queue(put, r.Version, r.Document[:], full(r.Groups), r.By, r.CreatedAt, it.macs.retention).
			Query(written(reason.New(reason.RequestOverloaded, "another retention document was activated meanwhile; try again")))
	}
	if h := it.commit.Hold; h != nil && !h.Released {
		const put = `INSERT INTO legal_hold (hold_id, node_id, zone, since, until, reason, granted_by, released, created_at, mac)
			SELECT $1, $2, $3, $4, $5, $6, $7, false, $8, $9
			WHERE (SELECT count(*) FROM legal_hold WHERE NOT released) < $10 RETURNING hold_id::text`
		b.Queue(put, h.ID, string(h.Node), h.Zone, timeArg(h.Since), timeArg(h.Until), h.Reason, h.By, h.CreatedAt, it.macs.hold, maxHolds).
			Query(written(reason.Newf(reason.RequestOverloaded, "there are %d legal holds already; release some", maxHolds)))
	} else if h != nil {
		const release = `UPDATE legal_hold SET released = true, mac = $2 WHERE hold_id = $1 AND NOT released RETURNING hold_id::text`
		b.Queue(release, h.ID, it.macs.hold).Query(written(reason.New(reason.RequestNotFound, "no such hold, or it is released already")))
	}
	if e := it.commit.Erasure; e != nil {
		const put = `INSERT INTO erasure (node_id, object, reason, granted_by, created_at, digests, mac)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING node_id`
		digests := make([][]byte, len(e.Digests))
		for i := range e.Digests {
			digests[i] = e.Digests[i][:]
		}
		b.Queue(put, string(e.Node), e.Object[:], e.Reason, e.By, e.CreatedAt, digests, it.macs.erasure).
			Query(written(reason.New(reason.RequestMalformed, "the node is erased already")))
	}
}

const selectRetention = `SELECT version, document, groups, granted_by, created_at, mac FROM retention `

type retentionRow struct {
	ledger.Retention
	mac []byte
}

func scanRetention(row pgx.CollectableRow) (retentionRow, error) {
	var r retentionRow
	var document []byte
	err := row.Scan(&r.Version, &document, &r.Groups, &r.By, &r.CreatedAt, &r.mac)
	copy(r.Document[:], document)
	r.CreatedAt = r.CreatedAt.UTC()
	return r, err
}

// Retention returns the version in force: the newest with our HMAC, nil before
// the first.
func (s *Store) Retention(ctx context.Context) (*ledger.Retention, error) {
	var out *ledger.Retention
	err := s.read(ctx, "read retention", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, selectRetention+`ORDER BY version DESC LIMIT 100`)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, scanRetention)
		for _, r := range all {
			if s.genuine("retention", strconv.FormatInt(r.Version, 10), r.Retention, r.mac) {
				out = &r.Retention
				break
			}
		}
		return err
	})
	return out, err
}

// Retentions returns the newest 500 versions that have our HMAC, the oldest of them
// first.
func (s *Store) Retentions(ctx context.Context) ([]ledger.Retention, error) {
	var out []ledger.Retention
	err := s.read(ctx, "list retention", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, selectRetention+`ORDER BY version DESC LIMIT $1`, maxPage)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, scanRetention)
		for _, r := range slices.Backward(all) {
			if s.genuine("retention", strconv.FormatInt(r.Version, 10), r.Retention, r.mac) {
				out = append(out, r.Retention)
			}
		}
		return err
	})
	return out, err
}

const selectHold = `SELECT hold_id, node_id, zone, since, until, reason, granted_by, released, created_at, mac FROM legal_hold `

type holdRow struct {
	ledger.Hold
	mac []byte
}

func scanHold(row pgx.CollectableRow) (holdRow, error) {
	var h holdRow
	var node string
	var since, until pgtype.Timestamptz
	err := row.Scan(&h.ID, &node, &h.Zone, &since, &until, &h.Reason, &h.By, &h.Released, &h.CreatedAt, &h.mac)
	h.Node, h.Since, h.Until, h.CreatedAt = ledger.NodeID(node), timeOf(since), timeOf(until), h.CreatedAt.UTC()
	return h, err
}

// Holds returns the legal holds, the newest first, at most 500; released ones
// only where they are asked for. Rows whose HMAC fails are left out.
func (s *Store) Holds(ctx context.Context, released bool) ([]ledger.Hold, error) {
	var out []ledger.Hold
	err := s.read(ctx, "read holds", func(ctx context.Context, c *pgxpool.Conn) error {
		var err error
		out, err = s.genuineHolds(ctx, c.Conn(), released)
		return err
	})
	return out, err
}

func (s *Store) genuineHolds(ctx context.Context, c *pgx.Conn, released bool) ([]ledger.Hold, error) {
	// Rows that nobody with the key wrote must not push the others out, so the
	// bound is on those that are shown.
	rows, err := c.Query(ctx, selectHold+`WHERE NOT released OR $1 ORDER BY released, created_at DESC, hold_id`, released)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []ledger.Hold
	for len(out) < maxPage && rows.Next() {
		h, err := scanHold(rows)
		if err != nil {
			return nil, err
		}
		if s.genuine("legal_hold", h.ID.String(), h.Hold, h.mac) {
			out = append(out, h.Hold)
		}
	}
	rows.Close() // of those past the bound nothing is wrong
	return out, rows.Err()
}

// Erasure returns the erasure of a node; nil where there is none with our HMAC.
func (s *Store) Erasure(ctx context.Context, node ledger.NodeID) (*ledger.Erasure, error) {
	var out *ledger.Erasure
	err := s.read(ctx, "read erasure", func(ctx context.Context, c *pgxpool.Conn) error {
		var err error
		out, err = s.erasureOf(ctx, c.Conn(), node)
		return err
	})
	return out, err
}

const selectErasure = `SELECT node_id, object, reason, granted_by, created_at, digests, mac FROM erasure `

type erasureRow struct {
	ledger.Erasure
	mac []byte
}

func scanErasure(row pgx.CollectableRow) (erasureRow, error) {
	var e erasureRow
	var node string
	var object []byte
	var digests [][]byte
	var at time.Time
	err := row.Scan(&node, &object, &e.Reason, &e.By, &at, &digests, &e.mac)
	e.Node, e.CreatedAt = ledger.NodeID(node), at.UTC()
	copy(e.Object[:], object)
	for _, d := range digests {
		var digest [32]byte
		copy(digest[:], d)
		e.Digests = append(e.Digests, digest)
	}
	return e, err
}

func (s *Store) erasureOf(ctx context.Context, c *pgx.Conn, node ledger.NodeID) (*ledger.Erasure, error) {
	rows, err := c.Query(ctx, selectErasure+`WHERE node_id = $1`, string(node))
	if err != nil {
		return nil, err
	}
	e, err := pgx.CollectExactlyOneRow(rows, scanErasure)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil || !s.genuine("erasure", string(node), e.Erasure, e.mac) {
		return nil, err
	}
	return &e.Erasure, nil
}

// Hold returns a legal hold, released or not; nil where there is none with our
// HMAC.
func (s *Store) Hold(ctx context.Context, id uuid.UUID) (*ledger.Hold, error) {
	var out *ledger.Hold
	err := s.read(ctx, "read hold", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, selectHold+`WHERE hold_id = $1`, id)
		if err != nil {
			return err
		}
		h, err := pgx.CollectExactlyOneRow(rows, scanHold)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil && s.genuine("legal_hold", h.ID.String(), h.Hold, h.mac) {
			out = &h.Hold
		}
		return err
	})
	return out, err
}
