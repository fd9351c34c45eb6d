package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Owner does what needs the rights of the owner's role: it makes leaves of
// partitions and takes them away. Each call has a connection of its own.
type Owner struct {
	s   *Store
	dsn string
}

// NewOwner returns the owner's hand of a store, which checks HMACs for it. The
// DSN is that of Migrate.
func NewOwner(s *Store, dsn string) *Owner { return &Owner{s: s, dsn: dsn} }

const (
	// dropPatience is how long a drop waits for a lock: writers queue behind it no
	// longer.
	dropPatience = 200 * time.Millisecond
	dropAttempts = 10
	// lockWatch is how often the connection of Alone is asked, and how long giving its
	// lock back may take.
	lockWatch = 2 * time.Second
	// sweepTime bounds one statement over a week of rows.
	sweepTime = 10 * time.Minute
)

// do runs fn on a connection of the owner's role.
func (o *Owner) do(ctx context.Context, op string, fn func(c *pgx.Conn) error) (err error) {
	cfg, err := ownerConfig(o.dsn)
	if err != nil {
		return err
	}
	cfg.RuntimeParams["lock_timeout"] = fmt.Sprint(dropPatience.Milliseconds())
	cfg.RuntimeParams["statement_timeout"] = fmt.Sprint(sweepTime.Milliseconds())
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return reason.Wrap(reason.StoreUnavailable, "the database does not answer", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := becomeOwner(ctx, conn); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if err := fn(conn); err != nil {
		return o.s.unavailable(ctx, op, err)
	}
	return nil
}

// Alone runs fn while no other replica plans, publishes or takes away rows: they
// may be of any log. Others are told so with reason.RequestOverloaded, at once. The
// lock goes with its connection; where that was lost meanwhile, fn's context ends.
// It is given back before Alone returns: Postgres hears of a closed connection when it
// looks, and whoever came next would be turned away until then.
func (o *Owner) Alone(ctx context.Context, fn func(ctx context.Context) error) error {
	var result error
	err := o.do(ctx, "wait for other replicas", func(c *pgx.Conn) error {
		var got bool
		if err := c.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtext('zonebroker retention'))`).Scan(&got); err != nil {
			return err
		}
		if !got {
			return reason.New(reason.RequestOverloaded, "another replica sweeps or erases at this moment; try again")
		}
		held, lost := context.WithCancelCause(ctx)
		watched := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(watched)
			watchLock(held, c, done, lost)
		}()
		result = fn(held)
		close(done)
		<-watched
		lost(nil)
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockWatch)
		defer cancel()
		_, _ = c.Exec(ending, `SELECT pg_advisory_unlock(hashtext('zonebroker retention'))`) // else it goes with the connection
		return nil
	})
	if result != nil {
		return result
	}
	return err
}

// watchLock asks the connection of a lock whether it is there, until done.
func watchLock(ctx context.Context, c *pgx.Conn, done <-chan struct{}, lost context.CancelCauseFunc) {
	every := time.NewTicker(lockWatch)
	defer every.Stop()
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-every.C:
			if err := c.Ping(ctx); err != nil {
				lost(reason.Wrap(reason.StoreUnavailable, "the connection was lost that kept other replicas from sweeping", err))
				return
			}
		}
	}
}

// insistent runs a transaction until its locks are to be had.
func insistent(ctx context.Context, c *pgx.Conn, fn func(tx pgx.Tx) error) error {
	for i := 1; ; i++ {
		err := pgx.BeginFunc(ctx, c, fn)
		if err == nil || i == dropAttempts || pgCode(err) != lockNotAvailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(dropPatience):
		}
	}
}
