package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// How far back a row may lie that says something of a time.
const (
	// longestSpan bounds how long before a time a span that covers it began: a week,
	// the freshness that its last attestation may have (24 h, design section 5), and
	// room for clocks.
	longestSpan = 8*24*time.Hour + time.Hour
	// longestSVID is the longest that an SVID outlives its issuance (design section 5).
	longestSVID = 24 * time.Hour
	// longestGrace is the longest that an SVID outlives the freshness of the evidence
	// behind it (55 min, design section 5), and room for clocks.
	longestGrace = time.Hour
)

// spanQuery asks for spans that touch a time. Zero values do not filter.
type spanQuery struct {
	from, to time.Time // the span began at or before to, and ended after from
	grace    bool      // it ends with its SVIDs
	zone     string
	node     ledger.NodeID
	after    ledger.NodeID
	policy   int64
	facts    map[string]ledger.Wanted
}

const intervalColumns = `node_id, zone, measured, policy_version, valid_from, valid_until, expires_at, first_record, last_record, renewals, ended`

// addSpans appends the rows of spans, closed and open. What a program of schema 3
// went over, or what ended with a denial that it wrote, is open no more.
func addSpans(s *statement, q spanQuery) {
	low := q.from.Add(-longestSpan)
	ends, openEnds := "valid_until", "span_until"
	if q.grace {
		low = low.Add(-longestSVID)
		ends, openEnds = "expires_at", "span_expires"
	}
	s.add(`SELECT `+intervalColumns+` FROM measurement_interval WHERE recorded_at >= ? AND valid_from >= ? AND valid_from <= ?`, low, low, q.to)
	s.where(true, ends+" > ?", q.from)
	s.where(q.zone != "", "zone = ?", q.zone)
	s.where(q.node != "", "node_id = ?", string(q.node))
	s.where(q.after != "", "node_id > ?", string(q.after))
	s.where(q.policy != 0, "policy_version = ?", q.policy)
	addFacts(s, "measured", q.facts)
	s.add(` UNION ALL SELECT node_id, span_zone, span_measured, span_policy, span_from, span_until, span_expires, span_first, span_last, span_renewals, ''
		FROM node_state WHERE span_zone IS NOT NULL AND span_last = last AND verdict = 'allow' AND span_from <= ?`, q.to)
	s.where(true, openEnds+" > ?", q.from)
	s.where(q.zone != "", "span_zone = ?", q.zone)
	s.where(q.node != "", "node_id = ?", string(q.node))
	s.where(q.after != "", "node_id > ?", string(q.after))
	s.where(q.policy != 0, "span_policy = ?", q.policy)
	addFacts(s, "span_measured", q.facts)
}

// addFacts demands a measurement that has one of the wanted values of each fact.
func addFacts(s *statement, column string, facts map[string]ledger.Wanted) {
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		s.where(true, column+" IN (SELECT digest FROM measurement_fact WHERE name = ? AND value = ANY (?))", name, []string(facts[name]))
	}
}

func scanSpan(row pgx.CollectableRow) (ledger.Interval, error) {
	var i ledger.Interval
	err := row.Scan(spanDest(&i)...)
	return cleanSpan(i), err
}

func spanDest(i *ledger.Interval) []any {
	return []any{
		(*string)(&i.Node), &i.Zone, (*digestColumn)(&i.Measured), &i.PolicyVersion, &i.From, &i.Until, &i.Expires,
		&i.First, &i.Last, &i.Renewals, &i.Ended,
	}
}

func cleanSpan(i ledger.Interval) ledger.Interval {
	i.From, i.Until, i.Expires = i.From.UTC(), i.Until.UTC(), i.Expires.UTC()
	return i
}

// digestColumn takes a bytea of 32 bytes.
type digestColumn [32]byte

// ScanBytes copies a digest; NULL and other lengths leave the rest zero.
func (d *digestColumn) ScanBytes(v []byte) error {
	*d = digestColumn{}
	copy(d[:], v)
	return nil
}

// Members returns who had earned a zone at a time, ordered by node; of a node
// with several spans that touch it, the latest. Without a zone each node is
// listed once, too.
func (r *Reader) Members(ctx context.Context, q ledger.MembersQuery) ([]ledger.Member, ledger.AsOf, error) {
	var out []ledger.Member
	asOf, err := r.once(ctx, "members", collect(membersQuery(q), &out, func(row pgx.CollectableRow) (ledger.Member, error) {
		var m ledger.Member
		err := row.Scan(append(spanDest(&m.Interval), &m.Machine)...)
		m.Interval = cleanSpan(m.Interval)
		return m, err
	}))
	return out, asOf, err
}

func membersQuery(q ledger.MembersQuery) *statement {
	var s statement
	s.add(`SELECT m.node_id, m.zone, m.measured, m.policy_version, m.valid_from, m.valid_until, m.expires_at, m.first_record, m.last_record,
		m.renewals, m.ended, COALESCE(n.machine, '') FROM (SELECT DISTINCT ON (node_id) ` + intervalColumns + ` FROM (`)
	addSpans(&s, spanQuery{from: q.At, to: q.At, grace: q.Grace, zone: q.Zone, after: q.After})
	s.add(`) AS spans ORDER BY node_id, valid_from DESC LIMIT ?) AS m LEFT JOIN node n ON n.node_id = m.node_id ORDER BY m.node_id`, pageOf(q.Limit))
	return &s
}

// NodeAt returns what a node was at a time: where it was, its last attestation,
// and whether an SVID of it was valid.
func (r *Reader) NodeAt(ctx context.Context, node ledger.NodeID, at time.Time) (ledger.NodeAt, ledger.AsOf, error) {
	out := ledger.NodeAt{Node: node, At: at}
	var spans []ledger.Interval
	var records []ledger.Stored
	asOf, err := r.once(ctx, "node as of a time",
		collect(nodeSpans(node, at), &spans, scanSpan), collect(lastAttestation(node, at), &records, scanRecord))
	if err != nil {
		return out, asOf, err
	}
	for _, i := range spans {
		out.ValidSVID = out.ValidSVID || i.Expires.After(at)
		if out.Interval == nil && i.Until.After(at) {
			out.Interval = &i
		}
	}
	if len(records) > 0 {
		out.Record = &records[0]
		out.Denied = records[0].Verdict == ledger.VerdictDeny
	}
	return out, asOf, nil
}

// nodeSpans are the spans that touch a time or have SVIDs that do, the latest
// first.
func nodeSpans(node ledger.NodeID, at time.Time) *statement {
	var s statement
	s.add(`SELECT ` + intervalColumns + ` FROM (`)
	addSpans(&s, spanQuery{from: at, to: at, grace: true, node: node})
	s.add(`) AS spans ORDER BY valid_from DESC LIMIT 500`)
	return &s
}

// lastAttestation walks back from the time and stops at the first row: how much
// history lies before costs nothing.
func lastAttestation(node ledger.NodeID, at time.Time) *statement {
	var s statement
	s.add(selectRecord+`WHERE node_id = ? AND node_id <> '' AND type = 'attestation' AND recorded_at <= ?
		ORDER BY recorded_at DESC LIMIT 1`, string(node), at)
	return &s
}

// Intervals returns the spans of a node that touch the time from since to until,
// newest first, the open one included.
func (r *Reader) Intervals(ctx context.Context, node ledger.NodeID, since, until time.Time, limit int) ([]ledger.Interval, ledger.AsOf, error) {
	var s statement
	s.add(`SELECT ` + intervalColumns + ` FROM (`)
	addSpans(&s, spanQuery{from: since, to: until, node: node})
	s.add(`) AS spans ORDER BY valid_from DESC, first_record LIMIT ?`, pageOf(limit))
	var out []ledger.Interval
	asOf, err := r.once(ctx, "intervals", collect(&s, &out, scanSpan))
	return out, asOf, err
}

// Population counts the nodes that were in a zone at a time, by the value of a
// fact that their machines measured, the most frequent value first.
func (r *Reader) Population(ctx context.Context, q ledger.PopulationQuery) ([]ledger.Population, ledger.AsOf, error) {
	var out []ledger.Population
	asOf, err := r.once(ctx, "population", collect(populationQuery(q), &out, func(row pgx.CollectableRow) (ledger.Population, error) {
		var p ledger.Population
		var some []string
		err := row.Scan(&p.Value, &p.Nodes, &some)
		for _, n := range some {
			p.Some = append(p.Some, ledger.NodeID(n))
		}
		return p, err
	}))
	return out, asOf, err
}

func populationQuery(q ledger.PopulationQuery) *statement {
	spans := spanQuery{from: q.At, to: q.At, zone: q.Zone}
	if q.Value != "" {
		spans.facts = map[string]ledger.Wanted{q.Fact: {q.Value}}
	}
	var s statement
	s.add(`SELECT f.value, count(DISTINCT spans.node_id), (array_agg(DISTINCT spans.node_id ORDER BY spans.node_id))[1:10] FROM (`)
	addSpans(&s, spans)
	s.add(`) AS spans JOIN measurement_fact f ON f.digest = spans.measured AND f.name = ?`, q.Fact)
	if q.Value != "" {
		s.add(` AND f.value = ?`, q.Value)
	}
	s.add(` GROUP BY f.value ORDER BY 2 DESC, 1 LIMIT ?`, pageOf(q.Limit))
	return &s
}
