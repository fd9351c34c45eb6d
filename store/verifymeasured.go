package store

import (
	"context"
	"crypto/sha256"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// checkMeasurements looks for intervals whose measurement nobody has, and for
// facts that are not those of their set.
func (v *verification) checkMeasurements(ctx context.Context) error {
	if err := v.checkFacts(ctx); err != nil {
		return err
	}
	const absent = `SELECT encode(i.measured, 'hex') FROM measurement_interval i
		WHERE NOT EXISTS (SELECT 1 FROM measurement_set s WHERE s.digest = i.measured) LIMIT 100`
	const open = `SELECT encode(n.span_measured, 'hex') FROM node_state n WHERE n.span_measured IS NOT NULL
		AND NOT EXISTS (SELECT 1 FROM measurement_set s WHERE s.digest = n.span_measured) LIMIT 100`
	for _, q := range []struct{ sql, what string }{
		{absent, "an interval names it, and it is missing"},
		{open, "an open interval names it, and it is missing"},
	} {
		rows, err := v.tx.Query(ctx, q.sql)
		if err != nil {
			return err
		}
		digests, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, d := range slices.Compact(slices.Sorted(slices.Values(digests))) {
			v.problem("measurement %s: %s", d, q.what)
		}
	}
	return nil
}

// checkFacts compares each set with its digest and with its rows of facts. It is
// parsed here, not by the database: the writer's role may add sets, and one that
// is no JSON would end the statement, and the verification with it.
func (v *verification) checkFacts(ctx context.Context) error {
	const query = `SELECT digest, s.facts, array_agg(f.name) FILTER (WHERE f.name IS NOT NULL), array_agg(f.value) FILTER (WHERE f.name IS NOT NULL)
		FROM measurement_set s FULL JOIN measurement_fact f USING (digest) GROUP BY digest, s.facts ORDER BY digest`
	rows, err := v.tx.Query(ctx, query)
	if err != nil {
		return err
	}
	var digest []byte
	var text *string
	var names, values []string
	_, err = pgx.ForEachRow(rows, []any{&digest, &text, &names, &values}, func() error {
		var facts map[string]string
		if text != nil {
			var ok bool
			if d := sha256.Sum256([]byte(*text)); string(d[:]) != string(digest) {
				v.problem("measurement %x: its facts do not have its digest", digest)
			}
			if facts, ok = factsOf(*text); !ok {
				v.problem("measurement %x: its facts are not an object of strings as a broker writes it", digest)
				return nil // it has no facts to compare
			}
		}
		same := len(names) == len(facts)
		for i, name := range names {
			value, said := facts[name]
			same = same && said && value == values[i]
		}
		if !same {
			v.problem("measurement %x: its rows of facts are not those of the set", digest)
		}
		return nil
	})
	return err
}

// factsOf reads facts in the one form that a broker writes.
func factsOf(text string) (map[string]string, bool) {
	facts, err := ledger.Measurement{Facts: []byte(text)}.ByName()
	if err != nil || facts == nil {
		return nil, false
	}
	again, err := ledger.NewMeasurement(facts)
	return facts, err == nil && string(again.Facts) == text
}
