package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const selectOperator = `SELECT operator_id, name, role, spki_sha256, granted_by, revoked, created_at, expires_at, mac FROM operator `

type operatorRow struct {
	ledger.Operator
	mac []byte
}

func scanOperator(row pgx.CollectableRow) (operatorRow, error) {
	var o operatorRow
	var spki []byte
	err := row.Scan(&o.ID, &o.Name, &o.Role, &spki, &o.By, &o.Revoked, &o.CreatedAt, &o.ExpiresAt, &o.mac)
	copy(o.SPKISHA256[:], spki)
	o.CreatedAt, o.ExpiresAt = o.CreatedAt.UTC(), o.ExpiresAt.UTC()
	return o, err
}

// Operators returns who has a role that ends after since, revoked ones too, the
// oldest first, at most limit. Rows whose HMAC fails are left out.
func (s *Store) Operators(ctx context.Context, since time.Time, limit int) ([]ledger.Operator, error) {
	const query = selectOperator + `WHERE expires_at > $1 ORDER BY created_at, operator_id LIMIT $2`
	var out []ledger.Operator
	err := s.read(ctx, "read operators", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, since, limit)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, scanOperator)
		for _, o := range all {
			if s.genuine("operator", o.ID.String(), o.Operator, o.mac) {
				out = append(out, o.Operator)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// OperatorByName reads the role of a name that is not revoked; nil where there
// is none with our HMAC.
func (s *Store) OperatorByName(ctx context.Context, name string) (*ledger.Operator, error) {
	const query = selectOperator + `WHERE name = $1 AND NOT revoked`
	var out *ledger.Operator
	err := s.read(ctx, "read operator", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, name)
		if err != nil {
			return err
		}
		o, err := pgx.CollectExactlyOneRow(rows, scanOperator)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil && s.genuine("operator", o.ID.String(), o.Operator, o.mac) {
			out = &o.Operator
		}
		return err
	})
	return out, err
}

// queueOperator writes a new role or takes one back. A name or key that is in
// use, or a role that is revoked already, refuses this item alone.
func (t *transaction) queueOperator(b *pgx.Batch, it *item) {
	const put = `INSERT INTO operator (operator_id, name, role, spki_sha256, granted_by, revoked, created_at, expires_at, mac)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING operator_id::text`
	const revoke = `UPDATE operator SET revoked = true, mac = $2 WHERE operator_id = $1 AND NOT revoked RETURNING operator_id::text`
	o := it.commit.Operator
	if o == nil {
		return
	}
	written := func(refused error) func(pgx.Rows) error {
		return func(rows pgx.Rows) error {
			ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err == nil && len(ids) == 0 {
				return &itemError{item: it, err: refused}
			}
			return err
		}
	}
	if o.Revoked {
		b.Queue(revoke, o.ID, it.macs.operator).
			Query(written(reason.New(reason.RequestNotFound, "no such operator, or its role is revoked already")))
		return
	}
	b.Queue(put, o.ID, o.Name, o.Role, o.SPKISHA256[:], o.By, o.Revoked, o.CreatedAt, o.ExpiresAt, it.macs.operator).
		Query(written(reason.New(reason.RequestMalformed, "the name or the key has a role already; revoke it first")))
}
