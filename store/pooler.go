package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A pooler in transaction mode hands each transaction to any of its sessions on
// the server. What was said to one of them (SET ROLE, settings, a prepared
// statement) is unknown to the next, and known to whoever comes after us. So with
// one, statements are described and not prepared (pgbouncer before 1.21 loses
// their names), bounds are set inside transactions, and the login role is the
// writer's or the reader's: there is no other to give up.

// settlePooled is settle for a pooler, which refuses most parameters at the start
// of a session (pgbouncer: "unsupported startup parameter").
func settlePooled(c *pgx.ConnConfig) {
	c.ConnectTimeout = connectTimeout
	clear(c.RuntimeParams)
	c.RuntimeParams["application_name"] = "zonebroker"
	c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
}

// boundLocally is what settle and becomeWriter say to a session, for one
// transaction.
const boundLocally = `SELECT set_config('statement_timeout', '5s', true), set_config('lock_timeout', '2s', true),
	set_config('idle_in_transaction_session_timeout', '2s', true), set_config('synchronous_commit',
	CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)`

// sessions says how a pool's connections are to be used.
type sessions struct {
	pooler bool   // as configured
	role   string // that the statements need
	key    string // of zonebroker.yaml that says pooler
	who    string // logs in
	bounds string // of one transaction behind a pooler
	logger *slog.Logger
}

func (s *Store) sessions() *sessions {
	return &sessions{pooler: s.cfg.Pooler, role: WriterRole, key: "database_pooler", who: "brokers", bounds: boundLocally, logger: s.cfg.Logger}
}

func (r *Reader) sessions() *sessions {
	return &sessions{
		pooler: r.cfg.Pooler, role: ReaderRole, key: "database_reader_pooler", who: "readers",
		bounds: boundReading, logger: r.cfg.Logger,
	}
}

// check finds out whether sessions are ours alone, and refuses what cannot work
// with the configuration before anything is asked or written.
func (s *sessions) check(ctx context.Context, pool *pgxpool.Pool) error {
	c, err := pool.Acquire(ctx)
	if err != nil {
		return s.refuse(ctx, err)
	}
	defer c.Release()
	const who = `SELECT session_user, current_user, pg_backend_pid()`
	var login, role string
	var pid uint32
	if err := c.QueryRow(ctx, who).Scan(&login, &role, &pid); err != nil {
		return s.refuse(ctx, err)
	}
	if !s.pooler {
		if pid != c.Conn().PgConn().PID() {
			// A pooler tells its clients a number of its own (pgbouncer, src/client.c).
			return s.errPooler()
		}
		return nil
	}
	if login != s.role || role != s.role {
		return fmt.Errorf("the database is reached through a pooler as role %s: there it must be %s itself, because a pooler loses SET ROLE", login, s.role)
	}
	if err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, s.bounds); return err }); err != nil {
		return s.refuse(ctx, err)
	}
	return nil
}

func (s *sessions) errPooler() error {
	return fmt.Errorf("the database is reached through a pooler: say so in the configuration (%s: true), and let %s log in as %s", s.key, s.who, s.role)
}

// refuse says what to do about a server that does not let us in.
func (s *sessions) refuse(ctx context.Context, err error) error {
	const protocolViolation, undefinedRole, forbidden = "08P01", "22023", "42501"
	switch code := pgCode(err); {
	case code == protocolViolation && strings.Contains(err.Error(), "startup parameter"):
		return s.errPooler()
	case code == protocolViolation && strings.Contains(err.Error(), "statement pooling"):
		return errors.New("the pooler in front of the database runs in statement mode, which has no transactions: set pool_mode = transaction")
	case code == undefinedRole || code == forbidden:
		return fmt.Errorf("the database role of %s must be %s or a member of it: %w", s.who, s.role, err)
	}
	return unavailable(ctx, s.logger, "open", err)
}
