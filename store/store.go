// Package store keeps the history in Postgres: the group-committing writer with
// its Merkle log, the rows that grant something, and the checks of both.
//
// It trusts Postgres to be durable and nothing else about it: rows that grant
// something carry an HMAC under a key that the database does not have, every
// record stands in the log, and a checkpoint is signed only for a log that
// extends what an anchor outside the database holds. Whoever writes the
// database can make the broker refuse; VerifyHistory finds what was changed.
package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/migrations"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Roles of the database. A login role of another name must be a member of the
// one that it acts as.
const (
	OwnerRole  = "zb_owner"  // owns the schema: migrations and partitions
	WriterRole = "zb_writer" // the broker: may add to the history, never change it
	ReaderRole = "zb_reader" // queries
)

const (
	connectTimeout = 2 * time.Second
	readTimeout    = 5 * time.Second
	poolSize       = 8
)

// Config says which database and which log a Store serves.
type Config struct {
	// DSN of a role that is zb_writer or a member of it. Required.
	DSN string
	// Pooler says that the DSN leads to a pooler that gives each transaction any
	// session (pgbouncer, pool_mode=transaction). Nothing of a session is relied
	// upon then; the DSN's role must be zb_writer itself.
	Pooler bool
	// RowKey authenticates granting rows. It must never be stored in Postgres.
	RowKey [32]byte
	// LogID names the log that this replica writes; up to three share one. Required.
	LogID string
	// OtherLogs are the keys of the other logs in the database, each named for its
	// log: VerifyHistory opens their checkpoints with them. Nil: there is one log.
	OtherLogs []ledger.NoteVerifier
	// Writer names this replica. Required.
	Writer string
	// Now is our clock; nil means time.Now. It dates nothing in the history.
	Now func() time.Time
	// Step is called at named points of the group commit and before each reading
	// of nodes, by tests that stop or kill the process there. Nil: nothing.
	Step func(name string)
	// OnForged hears of granting rows that fail their HMAC, and of stored bytes
	// that do not have their digest. It must not block. Nil: nothing.
	OnForged func(table, id string)
	// Logger may be nil.
	Logger *slog.Logger
}

// Store is the history of one log. Its methods are safe for concurrent use and
// return reason.StoreUnavailable where the database does not answer in time.
type Store struct {
	cfg     Config
	pool    *pgxpool.Pool
	conn    *pgx.ConnConfig // of the writer's own connection
	session string          // names this process in log_writer
	queue   queue
	forked  atomic.Bool
	signing signing
	byID    nodeReader
	byAK    nodeReader
	stored  storedParts // of the writer's connection
}

// Open checks that the database can be reached and has this program's schema.
// It returns *migrations.NewerError, *migrations.OlderError or
// *migrations.ChangedError where it has another. Nothing is written until Run.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.DSN == "" || cfg.LogID == "" || cfg.Writer == "" || cfg.RowKey == [32]byte{} {
		return nil, errors.New("store: DSN, LogID, Writer and RowKey are required")
	}
	cfg = withDefaults(cfg)
	pc, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil {
		// The parser's error may quote the password.
		return nil, errors.New("store: the database URL does not parse")
	}
	pc.MaxConns = poolSize
	if cfg.Pooler {
		settlePooled(pc.ConnConfig)
	} else {
		settle(pc.ConnConfig)
		pc.AfterConnect = becomeWriter
	}
	// As the pool does of itself, and where it was asked for.
	pc.ShouldPing = func(ctx context.Context, p pgxpool.ShouldPingParams) bool {
		return p.IdleDuration > time.Second || ctx.Value(askFirst{}) != nil
	}
	suffix := make([]byte, 6)
	if _, err := rand.Read(suffix); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, conn: pc.ConnConfig.Copy(), session: cfg.Writer + "/" + hex.EncodeToString(suffix)}
	s.queue.init()
	s.initReaders()
	if s.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return nil, err
	}
	if err := s.checkServer(ctx); err != nil {
		s.pool.Close()
		return nil, err
	}
	return s, nil
}

func withDefaults(cfg Config) Config {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Step == nil {
		cfg.Step = func(string) {}
	}
	if cfg.OnForged == nil {
		cfg.OnForged = func(string, string) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// Close ends the connections of readers. Run ends by its context.
func (s *Store) Close() { s.pool.Close() }

// settle bounds every wait of a connection, so that neither a lock nor a frozen
// peer holds a request for long.
func settle(c *pgx.ConnConfig) {
	c.ConnectTimeout = connectTimeout
	for k, v := range map[string]string{
		"application_name":                    "zonebroker",
		"search_path":                         "public",
		"timezone":                            "UTC",
		"statement_timeout":                   "5s",
		"lock_timeout":                        "2s",
		"idle_in_transaction_session_timeout": "2s",
	} {
		c.RuntimeParams[k] = v
	}
}

// becomeWriter gives up whatever else the login role may do, and takes back a
// setting that would acknowledge a commit before it is on disk.
func becomeWriter(ctx context.Context, conn *pgx.Conn) error {
	const setup = `SET ROLE ` + WriterRole + `;
		SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`
	_, err := conn.PgConn().Exec(ctx, setup).ReadAll()
	return err
}

func (s *Store) checkServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	const durable = `SELECT current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on', to_regclass('schema_file') IS NOT NULL,
		to_regclass('schema_compatible') IS NOT NULL`
	var ok, migrated, declared bool
	if err := s.sessions().check(ctx, s.pool); err != nil {
		return err
	}
	if err := s.pool.QueryRow(ctx, durable).Scan(&ok, &migrated, &declared); err != nil {
		return s.unavailable(ctx, "open", err)
	}
	if !ok {
		return errors.New("the database runs with fsync or full_page_writes off and would lose recorded history at a power cut: turn both on")
	}
	var applied []migrations.Applied
	if migrated {
		query := migrations.AppliedSQL3
		if declared {
			query = migrations.AppliedSQL
		}
		rows, err := s.pool.Query(ctx, query)
		if err != nil {
			return s.unavailable(ctx, "open", err)
		}
		if applied, err = pgx.CollectRows(rows, pgx.RowToStructByPos[migrations.Applied]); err != nil {
			return s.unavailable(ctx, "open", err)
		}
	}
	return migrations.Compare(applied)
}

// unavailable turns whatever the database or the way to it did into the one
// code that callers know; the cause goes to the log.
func (s *Store) unavailable(ctx context.Context, op string, err error) error {
	return unavailable(ctx, s.cfg.Logger, op, err)
}

func unavailable(ctx context.Context, logger *slog.Logger, op string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*reason.Error](err); ok {
		return e
	}
	logger.WarnContext(ctx, "database failed", "op", op, "error", err)
	return reason.Wrap(reason.StoreUnavailable, "the database does not answer; nothing is issued", fmt.Errorf("%s: %w", op, err))
}

// pgCode returns the SQLSTATE of err, "" where it did not come from the server.
func pgCode(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// bounded gives one query, or a page of them, its time: a snapshot that is read
// for minutes must still notice within seconds that nobody answers.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, readTimeout)
}

// reading is what runs on a pooled connection, within the context's time.
type reading func(ctx context.Context, c *pgxpool.Conn) error

// read runs fn on a pooled connection within the reading timeout.
func (s *Store) read(ctx context.Context, op string, fn reading) error {
	_, err := s.attempt(ctx, time.Now().Add(readTimeout), fn)
	return s.unavailable(ctx, op, err)
}

// askFirst marks a context whose connection must answer before it is used.
type askFirst struct{}

// readTwice is read for what may be asked again: where the connection is lost,
// another one that answers gets the time that is left. After a failover all that
// the pool holds are dead.
func (s *Store) readTwice(ctx context.Context, op string, fn reading) error {
	end := time.Now().Add(readTimeout)
	lost, err := s.attempt(ctx, end, fn)
	if lost {
		_, err = s.attempt(context.WithValue(ctx, askFirst{}, true), end, fn)
	}
	return s.unavailable(ctx, op, err)
}

// attempt runs fn until end, and says whether that cost the connection.
// Waiting for one ends with the caller; a query that has begun does not: a query
// that is given up takes its connection along, and strangers who cancel requests
// would have Postgres start a process for each.
func (s *Store) attempt(ctx context.Context, end time.Time, fn reading) (lost bool, err error) {
	wait, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	c, err := s.pool.Acquire(wait)
	if err != nil {
		return false, err
	}
	defer c.Release()
	run, cancelRun := context.WithDeadline(context.WithoutCancel(ctx), end)
	defer cancelRun()
	err = fn(run, c)
	return c.Conn().IsClosed(), err
}

// ClockSkew returns the database's clock minus ours, less half of the round
// trip.
func (s *Store) ClockSkew(ctx context.Context) (time.Duration, error) {
	var skew time.Duration
	err := s.read(ctx, "clock", func(ctx context.Context, c *pgxpool.Conn) error {
		before := s.cfg.Now()
		var at time.Time
		if err := c.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&at); err != nil {
			return err
		}
		after := s.cfg.Now()
		skew = at.Sub(before.Add(after.Sub(before) / 2))
		return nil
	})
	return skew, err
}
