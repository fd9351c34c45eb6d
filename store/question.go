package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/migrations"
)

const (
	// readerPool bounds what questions may take of the server: an auditor's export
	// must leave it to those who record.
	readerPool = 4
	// questionTimeout bounds a question of several statements, each of which has
	// the statement timeout besides.
	questionTimeout = 20 * time.Second
)

// ReaderConfig says where questions are asked.
type ReaderConfig struct {
	// DSN of a role that is zb_reader or a member of it, on the server that records
	// or on a standby. Required.
	DSN string
	// LogID names the log by whose head an answer says how fresh it is. Required.
	LogID string
	// Pooler says that a pooler in transaction mode stands in between; the login
	// role must be zb_reader itself then.
	Pooler bool
	// Logger may be nil.
	Logger *slog.Logger
}

// Reader answers questions about the history, in read-only snapshots. Its methods
// are safe for concurrent use and return reason.StoreUnavailable where the
// database does not answer in time. The rows that it reads carry no proof: they
// are what the database says, and VerifyHistory tells whether that is what was
// recorded.
type Reader struct {
	cfg  ReaderConfig
	pool *pgxpool.Pool
}

// OpenReader checks that the database can be reached, that its sessions are what
// cfg says of a pooler, and that it has this program's schema. It returns the errors of Open.
func OpenReader(ctx context.Context, cfg ReaderConfig) (*Reader, error) {
	if cfg.DSN == "" || cfg.LogID == "" {
		return nil, errors.New("store: DSN and LogID of the reader are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	pc, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil {
		// The parser's error may quote the password.
		return nil, errors.New("store: the URL of the reader's database does not parse")
	}
	pc.MaxConns = readerPool
	if cfg.Pooler {
		settlePooled(pc.ConnConfig)
	} else {
		settle(pc.ConnConfig)
		pc.AfterConnect = becomeReader
	}
	// A plan that is kept is one for any time and any zone. Questions bound their
	// times, and are planned for them.
	pc.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	r := &Reader{cfg: cfg}
	if r.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return nil, err
	}
	if err := r.checkServer(ctx); err != nil {
		r.pool.Close()
		return nil, err
	}
	return r, nil
}

// Close ends the connections.
func (r *Reader) Close() { r.pool.Close() }

// becomeReader gives up whatever else the login role may do. Compiling a plan
// takes longer than any of these runs.
func becomeReader(ctx context.Context, conn *pgx.Conn) error {
	const setup = `SET ROLE ` + ReaderRole + `; SET jit = off`
	_, err := conn.PgConn().Exec(ctx, setup).ReadAll()
	return err
}

func (r *Reader) checkServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := r.sessions().check(ctx, r.pool); err != nil {
		return err
	}
	rows, err := r.pool.Query(ctx, migrations.AppliedSQL)
	if err != nil {
		return r.opening(ctx, err)
	}
	applied, err := pgx.CollectRows(rows, pgx.RowToStructByPos[migrations.Applied])
	if err != nil {
		return r.opening(ctx, err)
	}
	return migrations.Compare(applied)
}

func (r *Reader) opening(ctx context.Context, err error) error {
	if pgCode(err) == "42P01" {
		return migrations.Compare(nil)
	}
	return r.sessions().refuse(ctx, err)
}

// asked is a statement of a question and what takes its rows.
type asked struct {
	sql  string
	args []any
	take func(rows pgx.Rows) error
}

// turn is one question on one connection: all of its statements see one snapshot.
type turn struct {
	r    *Reader
	conn *pgxpool.Conn
	asOf ledger.AsOf
	open bool // the snapshot stands
}

const (
	beginReading = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`
	// boundReading is what settle and becomeReader say to a session, for one
	// transaction of a pooler.
	boundReading = `SELECT set_config('statement_timeout', '5s', true), set_config('jit', 'off', true)`
	readAsOf     = `SELECT pg_is_in_recovery(), h.size, h.recorded_at FROM (SELECT 1) AS one LEFT JOIN log_head h ON h.log_id = $1`
)

// ask sends statements in one round trip, with the beginning of the snapshot
// where it is the first, and with its end where nothing else is asked.
func (t *turn) ask(ctx context.Context, last bool, questions ...asked) error {
	var b pgx.Batch
	begin := !t.open
	if begin {
		b.Queue(beginReading)
		if t.r.cfg.Pooler {
			b.Queue(boundReading)
		}
		b.Queue(readAsOf, t.r.cfg.LogID)
	}
	for _, q := range questions {
		b.Queue(q.sql, q.args...)
	}
	if last {
		b.Queue(`COMMIT`)
	}
	t.open = true
	answers := t.conn.SendBatch(ctx, &b)
	err := t.read(answers, begin, questions)
	return errors.Join(err, answers.Close())
}

func (t *turn) read(answers pgx.BatchResults, begin bool, questions []asked) error {
	if begin {
		if _, err := answers.Exec(); err != nil {
			return err
		}
		if t.r.cfg.Pooler {
			if _, err := answers.Exec(); err != nil {
				return err
			}
		}
		var size *int64
		var at *time.Time
		if err := answers.QueryRow().Scan(&t.asOf.Replica, &size, &at); err != nil {
			return err
		}
		t.asOf.LogID = t.r.cfg.LogID
		if size != nil && *size > 0 {
			t.asOf.Size, t.asOf.RecordedAt = *size, at.UTC()
		}
	}
	for _, q := range questions {
		rows, err := answers.Query()
		if err != nil {
			return err
		}
		if err := q.take(rows); err != nil {
			return err
		}
	}
	return nil
}

// within runs a question, once more where the connection was lost or the standby
// had to remove rows that it saw.
func (r *Reader) within(ctx context.Context, op string, fn func(ctx context.Context, t *turn) error) (ledger.AsOf, error) {
	return r.patient(ctx, op, questionTimeout, fn)
}

func (r *Reader) patient(ctx context.Context, op string, most time.Duration, fn func(ctx context.Context, t *turn) error) (ledger.AsOf, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	asOf, again, err := r.attempt(ctx, fn)
	if again {
		asOf, _, err = r.attempt(ctx, fn)
	}
	if err != nil {
		return ledger.AsOf{}, unavailable(ctx, r.cfg.Logger, op, err)
	}
	return asOf, nil
}

func (r *Reader) attempt(ctx context.Context, fn func(ctx context.Context, t *turn) error) (asOf ledger.AsOf, again bool, err error) {
	c, err := r.pool.Acquire(ctx)
	if err != nil {
		return asOf, false, err
	}
	// A connection whose transaction failed or did not end is closed with this.
	defer c.Release()
	t := &turn{r: r, conn: c}
	if err = fn(ctx, t); err != nil {
		return asOf, ctx.Err() == nil && (c.Conn().IsClosed() || pgCode(err) == "40001"), err
	}
	return t.asOf, false, nil
}

// end ends the snapshot of a question of several round trips.
func (t *turn) end(ctx context.Context) error {
	_, err := t.conn.Exec(ctx, `COMMIT`)
	return err
}

// once asks everything in one round trip.
func (r *Reader) once(ctx context.Context, op string, questions ...asked) (ledger.AsOf, error) {
	return r.within(ctx, op, func(ctx context.Context, t *turn) error { return t.ask(ctx, true, questions...) })
}

// collect is a statement whose rows go to out, in place of what it held.
func collect[T any](s *statement, out *[]T, scan pgx.RowToFunc[T]) asked {
	return asked{sql: s.text.String(), args: s.args, take: func(rows pgx.Rows) (err error) {
		*out, err = pgx.CollectRows(rows, scan)
		return err
	}}
}
