package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// goes says which records may go. The others grant something, or say that
// something was granted: the rows of today rest on them.
const goes = `type IN ('attestation', 'svid.issued', 'history.read')`

// newestOf finds, of a leaf, the attestations on which the row of a node rests:
// what it was last accepted by, and the last of all.
const newestOf = `SELECT record_id FROM %[1]s WHERE record_id IN (SELECT last FROM node_state WHERE last IS NOT NULL)
	UNION SELECT n.record_id FROM (
		SELECT DISTINCT ON (node_id) node_id, record_id, recorded_at FROM %[1]s WHERE type = 'attestation'
		ORDER BY node_id, recorded_at DESC, log_idx DESC) n
	WHERE NOT EXISTS (SELECT 1 FROM attestation b WHERE b.node_id = n.node_id AND b.node_id <> ''
		AND b.type = 'attestation' AND b.recorded_at > n.recorded_at)`

// runsOf lists the indices of the rows that go, as runs.
const runsOf = `SELECT log_id, min(log_idx), max(log_idx) FROM (
		SELECT log_id, log_idx, log_idx - row_number() OVER (PARTITION BY log_id ORDER BY log_idx) AS run
		FROM (SELECT DISTINCT log_id, log_idx FROM %s l WHERE %s) d) r
	GROUP BY log_id, run ORDER BY 1, 2`

// planning is one Plan.
type planning struct {
	o    *Owner
	tx   pgx.Tx
	out  ledger.LeafPlan
	stay []uuid.UUID // attestations that rights rest on

	group ledger.GroupAt // which a row may have
}

// Plan says what would go of a leaf: the groups in it, the rows, the legal holds
// that touch them, and the list to publish before they go. Each row that would go
// is compared with its body and with the log: reason.StoreRowForged where one is
// not what the log committed to, not of this week, or of a group that it was not
// given.
func (o *Owner) Plan(ctx context.Context, leaf ledger.Leaf, group ledger.GroupAt) (ledger.LeafPlan, error) {
	p := &planning{o: o, group: group, out: ledger.LeafPlan{Leaf: leaf}}
	err := o.do(ctx, "plan a drop", func(c *pgx.Conn) error {
		tx, err := c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it wrote nothing
		p.tx = tx
		return p.run(ctx)
	})
	return p.out, err
}

func (p *planning) run(ctx context.Context) error {
	var err error
	if p.out.Keeps, err = keepsOf(ctx, p.tx, p.out.Leaf); err != nil || len(p.out.Keeps) == 0 {
		return err
	}
	where, args := "true", []any(nil)
	if p.out.Class == ledger.ClassDecisions {
		rows, err := p.tx.Query(ctx, fmt.Sprintf(newestOf, p.out.Table))
		if err != nil {
			return err
		}
		if p.stay, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
			return err
		}
		where, args = goes+` AND NOT record_id = ANY ($1)`, []any{p.stay}
		p.out.Stay = p.stay
	}
	runs, err := p.runs(ctx, where, args)
	if err != nil || p.out.Rows == 0 {
		return err
	}
	if err := p.list(ctx, runs, where, args); err != nil {
		return err
	}
	return p.o.touching(ctx, p.tx, &p.out)
}

// keepsOf returns the groups that have rows in a leaf or in those that go with it:
// a table may have no leaf for a group that another one has.
func keepsOf(ctx context.Context, tx pgx.Tx, leaf ledger.Leaf) ([]int16, error) {
	names, err := leavesWith(ctx, tx, leaf)
	var out []int16
	for _, name := range names {
		rows, err := tx.Query(ctx, fmt.Sprintf(`SELECT DISTINCT keep FROM %s`, name))
		if err != nil {
			return nil, err
		}
		keeps, err := pgx.CollectRows(rows, pgx.RowTo[int16])
		if err != nil {
			return nil, err
		}
		out = append(out, keeps...)
	}
	slices.Sort(out)
	return slices.Compact(out), err
}

// leavesWith returns a leaf with those of the class's other tables that go with it.
func leavesWith(ctx context.Context, tx pgx.Tx, leaf ledger.Leaf) ([]string, error) {
	const there = `SELECT relname::text FROM pg_class WHERE oid IN (SELECT to_regclass(n) FROM unnest($1::text[]) n) ORDER BY 1`
	var names []string
	for _, table := range tablesOf[leaf.Class] {
		names = append(names, companion(leaf, table))
	}
	rows, err := tx.Query(ctx, there, names)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// runs reads the rows that go by log.
func (p *planning) runs(ctx context.Context, where string, args []any) (map[string][]ledger.Span, error) {
	rows, err := p.tx.Query(ctx, fmt.Sprintf(runsOf, p.out.Table, where), args...)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]ledger.Span)
	var logID string
	var s ledger.Span
	_, err = pgx.ForEachRow(rows, []any{&logID, &s.First, &s.Last}, func() error {
		out[logID] = append(out[logID], s)
		p.out.Rows += s.Last - s.First + 1
		return nil
	})
	return out, err
}

// list makes what is to be published of our log, and looks whether other logs
// have published theirs.
func (p *planning) list(ctx context.Context, runs map[string][]ledger.Span, where string, args []any) error {
	own := p.o.s.cfg.LogID
	for logID, spans := range runs {
		declared, err := readMissing(ctx, p.tx, logID, func(string, ...any) {})
		if err != nil {
			return err
		}
		fresh := declared.of(p.out.Class)[0].Without(spans)
		if err := checkListed(ctx, p.tx, ofLeaf(p.out, logID, &declared.decisions, p.group), spans); err != nil {
			return err
		}
		switch {
		case logID != own && len(fresh) > 0:
			p.out.Other = logID
		case logID == own && len(fresh) > 0:
			m := ledger.Missing{LogID: own, Class: p.out.Class, Leaf: p.out.Table, Week: p.out.Week, Keeps: p.out.Keeps}
			if err := m.SetSpans(fresh); err != nil {
				return err
			}
			if p.out.Class == ledger.ClassDecisions {
				if m.Changes, err = p.changes(ctx, fresh, !slices.Equal(fresh, spans), where, args); err != nil {
					return err
				}
			}
			p.out.Missing = m
		}
	}
	return nil
}

// changes counts by node the listed records that changed its state. Where some of
// the rows are declared gone already they are counted there.
func (p *planning) changes(ctx context.Context, spans []ledger.Span, partly bool, where string, args []any) (map[ledger.NodeID]int64, error) {
	query := `SELECT node_id, count(*) FROM ` + p.out.Table + ` l WHERE ` + where + ` AND type = 'attestation' AND log_id = $2`
	args = append(slices.Clone(args), p.o.s.cfg.LogID)
	if partly {
		first, last := make([]int64, len(spans)), make([]int64, len(spans))
		for i, s := range spans {
			first[i], last[i] = s.First, s.Last
		}
		query += ` AND EXISTS (SELECT 1 FROM unnest($3::bigint[], $4::bigint[]) AS s (a, b) WHERE l.log_idx BETWEEN s.a AND s.b)`
		args = append(args, first, last)
	}
	rows, err := p.tx.Query(ctx, query+` GROUP BY node_id`, args...)
	if err != nil {
		return nil, err
	}
	out := make(map[ledger.NodeID]int64)
	var node string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&node, &n}, func() error {
		out[ledger.NodeID(node)] = n
		return nil
	})
	return out, err
}

// Drop takes away what a plan names. What it lists has to be in the log before.
// It waits for locks for a fraction of a second at a time; reason.RequestOverloaded
// where the rows are in use, and reason.RequestMalformed, with the hold, where one
// was placed meanwhile.
func (o *Owner) Drop(ctx context.Context, plan ledger.LeafPlan) error {
	err := o.do(ctx, "drop a leaf", func(c *pgx.Conn) error {
		err := insistent(ctx, c, func(tx pgx.Tx) error { return o.drop(ctx, tx, plan) })
		if err == nil {
			err = dropEmptyWeeks(ctx, c, plan)
		}
		if pgCode(err) == lockNotAvailable {
			return reason.New(reason.RequestOverloaded, "the rows are being read or written; the next sweep tries again")
		}
		return err
	})
	return err
}

func (o *Owner) drop(ctx context.Context, tx pgx.Tx, plan ledger.LeafPlan) error {
	names, err := leavesWith(ctx, tx, plan.Leaf)
	if err != nil || len(names) == 0 {
		return err
	}
	if _, err := tx.Exec(ctx, `LOCK TABLE `+strings.Join(names, ", ")+` IN ACCESS EXCLUSIVE MODE`); err != nil {
		return err
	}
	if keeps, err := keepsOf(ctx, tx, plan.Leaf); err != nil || !slices.Equal(keeps, plan.Keeps) {
		return cmp.Or(err, error(reason.Newf(reason.RequestOverloaded, "%s has rows of other groups than as planned", plan.Table)))
	}
	decisions := plan.Class == ledger.ClassDecisions
	count, args := `SELECT count(DISTINCT (log_id, log_idx)) FROM `+plan.Table, []any(nil)
	if decisions {
		count, args = count+` WHERE `+goes+` AND NOT record_id = ANY ($1)`, []any{plan.Stay}
	}
	var rows int64
	if err := tx.QueryRow(ctx, count, args...).Scan(&rows); err != nil {
		return err
	}
	if rows != plan.Rows {
		return reason.Newf(reason.RequestOverloaded, "%s has %d rows that may go, not %d as planned", plan.Table, rows, plan.Rows)
	}
	var after []string
	for _, table := range tablesOf[plan.Class] {
		steps, err := replaceLeaf(ctx, tx, plan, table)
		if err != nil {
			return err
		}
		after = append(after, steps...)
	}
	if _, err := tx.Exec(ctx, strings.Join(after, ";\n")); err != nil {
		return err
	}
	return o.noNewHold(ctx, tx, plan.Seen)
}

// replaceLeaf keeps what stays of a table's leaf in a new one, and returns how the
// one takes the place of the other.
func replaceLeaf(ctx context.Context, tx pgx.Tx, plan ledger.LeafPlan, table string) ([]string, error) {
	name := companion(plan.Leaf, table)
	var parent, bound string
	const place = `SELECT i.inhparent::regclass::text, pg_get_expr(c.relpartbound, c.oid) FROM pg_class c
		JOIN pg_inherits i ON i.inhrelid = c.oid WHERE c.oid = to_regclass($1)`
	rows, err := tx.Query(ctx, place, name)
	if err != nil {
		return nil, err
	}
	found, err := pgx.ForEachRow(rows, []any{&parent, &bound}, func() error { return nil })
	if err != nil || found.RowsAffected() == 0 {
		return nil, err
	}
	drop := []string{`DROP TABLE ` + name}
	fresh := name + "_stay"
	var keep string
	var args []any
	switch table {
	case "attestation":
		keep, args = `NOT (`+goes+`) OR record_id = ANY ($1)`, []any{plan.Stay}
	case "drift_event":
		keep, args = `record_id = ANY ($1)`, []any{plan.Stay}
	default:
		return drop, nil
	}
	if _, err := tx.Exec(ctx, likeTable(fresh, table)); err != nil {
		return nil, err
	}
	kept, err := tx.Exec(ctx, `INSERT INTO `+fresh+` SELECT * FROM `+name+` WHERE `+keep, args...)
	if err != nil {
		return nil, err
	}
	if kept.RowsAffected() == 0 {
		return append(drop, `DROP TABLE `+fresh), nil
	}
	return append(drop, `ALTER TABLE `+fresh+` RENAME TO `+name, `ALTER TABLE `+parent+` ATTACH PARTITION `+name+` `+bound), nil
}

// dropEmptyWeeks takes weeks away of which no leaf is left: every partition makes
// planning slower.
func dropEmptyWeeks(ctx context.Context, c *pgx.Conn, plan ledger.LeafPlan) error {
	for _, table := range tablesOf[plan.Class] {
		name := table + "_p" + plan.Week.Format("20060102")
		const empty = `SELECT count(*) FROM pg_class c WHERE c.oid = to_regclass($1) AND c.relkind = 'p'
			AND NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhparent = c.oid)`
		var n int
		if err := c.QueryRow(ctx, empty, name).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		err := insistent(ctx, c, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `DROP TABLE `+name)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
