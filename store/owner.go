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
