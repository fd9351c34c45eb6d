package store

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// tablesOf are the tables of each class; the first one's rows are what the class
// lists as gone, the others go with it.
var tablesOf = map[string][]string{
	ledger.ClassDecisions: {"attestation", "drift_event", "measurement_interval"},
	ledger.ClassEvidence:  {"evidence_part", "evidence_content"},
	ledger.ClassSVIDs:     {"svid"},
}

// leafForm is how partitions are called: by their table, their week and, where
// the week is split, the retention group.
var leafForm = regexp.MustCompile(`^([a-z_]+)_p([0-9]{8})(_k[0-9])?$`)

// leavesOf reads the partitions that hold rows of a table, oldest first.
func leavesOf(ctx context.Context, q rowQuerier, table string) ([]string, error) {
	const query = `WITH RECURSIVE part AS (
			SELECT inhrelid AS id FROM pg_inherits WHERE inhparent = $1::regclass
			UNION ALL SELECT i.inhrelid FROM pg_inherits i JOIN part p ON i.inhparent = p.id)
		SELECT c.relname::text FROM part JOIN pg_class c ON c.oid = part.id WHERE c.relkind = 'r' ORDER BY 1`
	rows, err := q.Query(ctx, query, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Leaves returns the partitions of a class whose week has ended by now, oldest
// first. What their rows are is told by Plan.
func (o *Owner) Leaves(ctx context.Context, class string, now time.Time) ([]ledger.Leaf, error) {
	var out []ledger.Leaf
	err := o.do(ctx, "list partitions", func(c *pgx.Conn) error {
		var at time.Time
		if err := c.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&at); err != nil {
			return err
		}
		// A week that has not ended by one of the clocks may still get rows. Whether
		// its period has ended is the caller's to say, by the clock that is behind.
		if at.Before(now) {
			now = at
		}
		names, err := leavesOf(ctx, c, tablesOf[class][0])
		for _, name := range names {
			if l, ok := parseLeaf(class, name); ok && !l.Week.Add(week).After(now) {
				out = append(out, l)
			}
		}
		return err
	})
	return out, err
}

// parseLeaf reads the name of a partition of the class's first table.
func parseLeaf(class, name string) (ledger.Leaf, bool) {
	m := leafForm.FindStringSubmatch(name)
	if m == nil || m[1] != tablesOf[class][0] {
		return ledger.Leaf{}, false
	}
	at, err := time.Parse("20060102", m[2])
	if err != nil {
		return ledger.Leaf{}, false
	}
	l := ledger.Leaf{Class: class, Table: name, Week: at, Keep: -1}
	if m[3] != "" && m[3] != "_k0" {
		keep, err := strconv.ParseInt(m[3][2:], 10, 16)
		if err != nil {
			return ledger.Leaf{}, false
		}
		l.Keep = int16(keep)
	}
	return l, true
}

// companion is the partition of another table of the class that goes with l.
func companion(l ledger.Leaf, table string) string {
	return table + l.Table[len(tablesOf[l.Class][0]):]
}

// MakeGroups makes the leaves of the groups 1 to n in this and the coming weeks,
// so that their rows can be dropped apart from others. A week has those of a group
// in every table or in none: a record and what belongs to it go by one period. A
// week that holds rows already is split only where that takes less than a second a
// table; else its rows share a leaf, which goes when the last of them may.
func (o *Owner) MakeGroups(ctx context.Context, n int, now time.Time) error {
	return o.do(ctx, "make leaves", func(c *pgx.Conn) error {
		return makeGroups(ctx, c, n, now)
	})
}

func makeGroups(ctx context.Context, c *pgx.Conn, n int, now time.Time) error {
	const split = `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = $1::regclass AND c.relkind = 'p' AND c.relname >= $2 ORDER BY 1`
	table := partitioned[0]
	rows, err := c.Query(ctx, split, table, table+"_p"+ledger.Week(now).Format("20060102"))
	if err != nil {
		return err
	}
	weeks, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, w := range weeks {
		for keep := 1; keep <= n; keep++ {
			if err := addLeaves(ctx, c, w[len(table):], keep); err != nil && !tooBusy(err) {
				return fmt.Errorf("leaf %d of %s: %w", keep, w, err)
			}
		}
	}
	return nil
}

// tooBusy: the default leaf of the week is in use, or takes long to search for
// rows of the group.
func tooBusy(err error) bool {
	const queryCanceled, rowsOfGroup = "57014", checkViolation
	code := pgCode(err)
	return code == lockNotAvailable || code == queryCanceled || code == rowsOfGroup
}

// addLeaves makes the leaves of a group in a week of every table.
func addLeaves(ctx context.Context, c *pgx.Conn, week string, keep int) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('zonebroker partitions')); SET LOCAL statement_timeout = '1s'`); err != nil {
			return err
		}
		for _, table := range partitioned {
			parent := table + week
			name := fmt.Sprintf("%s_k%d", parent, keep)
			var done bool
			if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL OR to_regclass($2) IS NULL`, name, parent).Scan(&done); err != nil {
				return err
			}
			if done {
				continue
			}
			ddl := fmt.Sprintf(`%s; ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%d)`, likeTable(name, table), parent, name, keep)
			if _, err := tx.Exec(ctx, ddl); err != nil {
				return err
			}
		}
		return nil
	})
}

// likeTable makes a table that can become a partition. It is made beside its
// parent and attached: that locks out no writer.
func likeTable(name, table string) string {
	return fmt.Sprintf(`CREATE TABLE %[1]s (LIKE %[2]s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION);
		CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON %[1]s EXECUTE FUNCTION refuse_change()`, name, table)
}

// PartitionsAhead returns how many whole weeks after now's every partitioned
// table has a partition for, without a gap.
func (s *Store) PartitionsAhead(ctx context.Context, now time.Time) (int, error) {
	const query = `SELECT p.relname::text, c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		JOIN pg_class p ON p.oid = i.inhparent WHERE p.oid = ANY ($1::regclass[])`
	have := make(map[string]bool)
	err := s.snapshot(ctx, "count partitions", func(tx pgx.Tx) error {
		ctx, cancel := bounded(ctx)
		defer cancel()
		rows, err := tx.Query(ctx, query, partitioned)
		if err != nil {
			return err
		}
		var parent, name string
		_, err = pgx.ForEachRow(rows, []any{&parent, &name}, func() error {
			have[name] = true
			return nil
		})
		return err
	})
	if err != nil {
		return 0, err
	}
	const most = 10
	for n := range most {
		from := ledger.Week(now).Add(time.Duration(n+1) * week).Format("20060102")
		for _, table := range partitioned {
			if !have[table+"_p"+from] {
				return n, nil
			}
		}
	}
	return most, nil
}

// ForgetHours deletes hourly counts older than a time, some thousands at once.
func (o *Owner) ForgetHours(ctx context.Context, before time.Time) error {
	const forget = `DELETE FROM attest_hourly WHERE (hour, zone, verdict, reason, writer) IN
		(SELECT hour, zone, verdict, reason, writer FROM attest_hourly WHERE hour < $1 ORDER BY hour LIMIT 10000)`
	return o.do(ctx, "forget hourly counts", func(c *pgx.Conn) error {
		for {
			tag, err := c.Exec(ctx, forget, before)
			if err != nil || tag.RowsAffected() == 0 {
				return err
			}
		}
	})
}
