package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// partitioned are the tables that are partitioned by recorded_at.
var partitioned = []string{"attestation", "evidence_part", "evidence_content", "svid", "drift_event", "measurement_interval"}

const (
	week        = 7 * 24 * time.Hour
	weeksAhead  = 3
	lockAttempt = 5
)

// A week is split by the retention group of its rows, so that the week of one
// group can go; rows of groups without a leaf of their own stand in the one of
// group 0. A week itself has no default: a missing one must fail loudly.

// EnsurePartitions makes the weekly partitions from yesterday's week to three
// weeks ahead of now and of the database's clock, whichever reaches further, as
// the owner's role. It is run at start and daily: without a partition nothing is
// recorded, so nothing is issued.
func EnsurePartitions(ctx context.Context, ownerDSN string, now time.Time) (err error) {
	cfg, err := ownerConfig(ownerDSN)
	if err != nil {
		return err
	}
	// Attaching waits for transactions that use the table; writers must not queue
	// behind that wait.
	cfg.RuntimeParams["lock_timeout"] = "1s"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return reason.Wrap(reason.StoreUnavailable, "the database does not answer", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := becomeOwner(ctx, conn); err != nil {
		return fmt.Errorf("partitions: %w", err)
	}
	var at time.Time
	if err := conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&at); err != nil {
		return fmt.Errorf("partitions: %w", err)
	}
	first, last := at, at
	if !now.IsZero() && now.Before(first) {
		first = now
	}
	if now.After(last) {
		last = now
	}
	groups, err := groupsOf(ctx, conn)
	if err != nil {
		return fmt.Errorf("partitions: %w", err)
	}
	for from := ledger.Week(first.Add(-24 * time.Hour)); !from.After(ledger.Week(last).Add(weeksAhead * week)); from = from.Add(week) {
		for _, table := range partitioned {
			if err := ensurePartition(ctx, conn, table, from, groups); err != nil {
				return fmt.Errorf("partition of %s from %s: %w", table, from.Format(time.DateOnly), err)
			}
		}
	}
	return nil
}

// groupsOf is how many retention groups there are.
func groupsOf(ctx context.Context, conn *pgx.Conn) (int, error) {
	var n int
	err := conn.QueryRow(ctx, `SELECT coalesce(max(cardinality(groups)), 0) FROM retention`).Scan(&n)
	return n, err
}

func ensurePartition(ctx context.Context, conn *pgx.Conn, table string, from time.Time, groups int) error {
	name := table + "_p" + from.Format("20060102")
	for i := 1; ; i++ {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return addPartition(ctx, tx, table, name, from, groups) })
		if err == nil || i == lockAttempt || pgCode(err) != lockNotAvailable {
			return err
		}
	}
}

// addPartition makes a week of a table, split by retention group. A group whose
// leaf is missing has its rows in the default one: nothing fails for it.
func addPartition(ctx context.Context, tx pgx.Tx, table, name string, from time.Time, groups int) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('zonebroker partitions'))`); err != nil {
		return err
	}
	var exists bool
	const attached = `SELECT EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = $1::regclass AND inhrelid = to_regclass($2))`
	if err := tx.QueryRow(ctx, attached, table, name).Scan(&exists); err != nil || exists {
		return err
	}
	// Made beside the parent and attached: that locks out no writer, while CREATE
	// TABLE … PARTITION OF would.
	const bound = "2006-01-02T15:04:05Z"
	ddl := []string{
		fmt.Sprintf(`CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION) PARTITION BY LIST (keep)`, name, table),
		fmt.Sprintf(`CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %s EXECUTE FUNCTION refuse_change()`, name),
		likeTable(name+"_k0", table),
		fmt.Sprintf(`ALTER TABLE %[1]s ATTACH PARTITION %[1]s_k0 DEFAULT`, name),
	}
	for keep := 1; keep <= groups; keep++ {
		leaf := fmt.Sprintf("%s_k%d", name, keep)
		ddl = append(ddl, likeTable(leaf, table), fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%d)`, name, leaf, keep))
	}
	ddl = append(ddl, fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')`, table, name, from.Format(bound), from.Add(week).Format(bound)))
	_, err := tx.Exec(ctx, strings.Join(ddl, ";\n"))
	return err
}
