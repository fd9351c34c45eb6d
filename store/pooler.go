package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A pooler in transaction mode hands each transaction to any of its sessions on
// the server. What was said to one of them (SET ROLE, settings, a prepared
// statement) is unknown to the next, and known to whoever comes after us. So with
// one, statements are described and not prepared (pgbouncer before 1.21 loses
// their names), bounds are set inside transactions, and the login role is the
// writer's: there is no other to give up.

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

// checkSessions finds out whether sessions are ours alone, and refuses what
// cannot work with the configuration before anything is written.
func (s *Store) checkSessions(ctx context.Context) error {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return s.refuseSession(ctx, err)
	}
	defer c.Release()
	const who = `SELECT session_user, current_user, pg_backend_pid()`
	var login, role string
	var pid uint32
	if err := c.QueryRow(ctx, who).Scan(&login, &role, &pid); err != nil {
		return s.refuseSession(ctx, err)
	}
	if !s.cfg.Pooler {
		if pid != c.Conn().PgConn().PID() {
			// A pooler tells its clients a number of its own (pgbouncer, src/client.c).
			return errPooler()
		}
		return nil
	}
	if login != WriterRole || role != WriterRole {
		return fmt.Errorf("the database is reached through a pooler as role %s: there it must be %s itself, because a pooler loses SET ROLE", login, WriterRole)
	}
	if err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, boundLocally); return err }); err != nil {
		return s.refuseSession(ctx, err)
	}
	return nil
}

func errPooler() error {
	return errors.New("the database is reached through a pooler: say so in the configuration (database_pooler: true), and let brokers log in as " + WriterRole)
}

// refuseSession says what to do about a server that does not let us in.
func (s *Store) refuseSession(ctx context.Context, err error) error {
	const protocolViolation, undefinedRole, forbidden = "08P01", "22023", "42501"
	switch code := pgCode(err); {
	case code == protocolViolation && strings.Contains(err.Error(), "startup parameter"):
		return errPooler()
	case code == protocolViolation && strings.Contains(err.Error(), "statement pooling"):
		return errors.New("the pooler in front of the database runs in statement mode, which has no transactions: set pool_mode = transaction")
	case code == undefinedRole || code == forbidden:
		return fmt.Errorf("the database role of the broker must be %s or a member of it: %w", WriterRole, err)
	}
	return s.unavailable(ctx, "open", err)
}
