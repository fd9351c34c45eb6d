package store

import (
	"context"
	"database/sql"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/migrations"
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

// Spy notes the statements of questions, so that tests can have them explained.
type Spy struct {
	mu   sync.Mutex
	sent []Sent
}

// Sent is a statement with its arguments.
type Sent struct {
	SQL  string
	Args []any
}

func (s *Spy) note(sql string, args []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(sql, "SELECT") && sql != readAsOf {
		s.sent = append(s.sent, Sent{sql, args})
	}
}

// Take returns what was sent since the last call.
func (s *Spy) Take() []Sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.sent
	s.sent = nil
	return out
}

// TraceQueryStart implements pgx.QueryTracer.
func (s *Spy) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	s.note(d.SQL, d.Args)
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (s *Spy) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart implements pgx.BatchTracer.
func (s *Spy) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	for _, q := range d.Batch.QueuedQueries {
		s.note(q.SQL, q.Arguments)
	}
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (s *Spy) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (s *Spy) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// on replaces a pool by one whose statements s notes.
func (s *Spy) on(ctx context.Context, pool **pgxpool.Pool) error {
	pc := (*pool).Config()
	pc.ConnConfig.Tracer = s
	spied, err := pgxpool.NewWithConfig(ctx, pc)
	if err == nil {
		(*pool).Close()
		*pool = spied
	}
	return err
}

// Spied notes what the reader sends from now on.
func (r *Reader) Spied(ctx context.Context) (*Spy, error) {
	s := &Spy{}
	return s, s.on(ctx, &r.pool)
}

// How bodies are packed, for tests of the form and of its dictionary.
var (
	Shorten        = shorten
	PackBody       = packBody
	UnpackBody     = unpackBody
	BodyDictionary = bodyDictionary
)

// MigrateTo is what a program of an earlier release does.
func MigrateTo(ctx context.Context, ownerDSN string, version int64) error {
	return migrate(ctx, ownerDSN, func(ctx context.Context, db *sql.DB, progress func(string)) error {
		return migrations.ApplyTo(ctx, db, version, progress)
	}, func(string) {})
}
