package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// What lists ask Postgres, for tests of their plans.
var (
	RecordsQuery = recordsQuery
	DriftQuery   = driftQuery
)

// Try runs a statement as the reader does, and AsOf asks nothing.
func (r *Reader) Try(ctx context.Context, sql string) error {
	_, err := r.attemptOnly(ctx, sql)
	return err
}

func (r *Reader) attemptOnly(ctx context.Context, sql string) (ledger.AsOf, error) {
	asOf, _, err := r.attempt(ctx, func(ctx context.Context, t *turn) error {
		var qs []asked
		if sql != "" {
			qs = append(qs, asked{sql: sql, take: func(rows pgx.Rows) error { rows.Close(); return rows.Err() }})
		}
		return t.ask(ctx, true, qs...)
	})
	return asOf, err
}

func (r *Reader) AsOf(ctx context.Context) (ledger.AsOf, error) { return r.attemptOnly(ctx, "") }
