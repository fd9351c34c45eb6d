package store

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Baselines that nodes are compared with.
const (
	byReference = "reference"
	byModel     = "model"
	byGroup     = "group"
)

// maxBaselineSets bounds the measurements of one comparison: more different ones
// have no fleet in common.
const maxBaselineSets = 20_000

// Baseline returns nodes whose machines show something else than their fleet,
// ordered by node: than the values that a reference set allows, or than what more
// than half of the accepted nodes of their TPM model or group measured. A fact
// that no such majority shares is no baseline. A node that is refused is compared
// by what its last attempt showed; disabled nodes are left out. A node in several
// groups is listed with the first one that it differs from.
func (r *Reader) Baseline(ctx context.Context, q ledger.BaselineQuery) ([]ledger.Deviation, ledger.AsOf, error) {
	if q.By != byReference && q.By != byModel && q.By != byGroup || (q.By == byReference) != (len(q.Want) > 0) {
		return nil, ledger.AsOf{}, reason.New(reason.RequestMalformed, "by: reference with its values, model or group")
	}
	var out []ledger.Deviation
	asOf, err := r.within(ctx, "baseline", func(ctx context.Context, t *turn) error {
		c := &comparison{BaselineQuery: q, cohorts: make(map[string]*cohort)}
		c.Limit = pageOf(q.Limit)
		if err := c.load(ctx, t); err != nil {
			return err
		}
		var err error
		if out, err = c.list(ctx, t); err != nil {
			return err
		}
		return t.end(ctx)
	})
	return out, asOf, err
}

// cohort are the accepted nodes that are compared with one another.
type cohort struct {
	nodes int64
	seen  map[string]map[string]int64 // nodes by fact and value
	want  map[string]ledger.Wanted    // nil until it is asked for
}

type comparison struct {
	ledger.BaselineQuery
	sets    map[[32]byte]map[string]string // facts by measurement
	cohorts map[string]*cohort
}

// cohortSet is how many accepted nodes of a cohort measured one set.
type cohortSet struct {
	cohort   string
	measured [32]byte
	nodes    int64
	facts    string
}

// cohortColumn is what names the cohort of a node n.
func (c *comparison) cohortColumn(s *statement) {
	switch c.By {
	case byModel:
		s.add(`n.tpm_model`)
	case byGroup:
		s.add(`g.name`)
	default:
		s.add(`?::text`, c.Name)
	}
}

// cohortFrom is the source of nodes n with their state s and, by group, a row for
// each group.
func (c *comparison) cohortFrom(s *statement) {
	s.add(` FROM node_state s JOIN node n ON n.node_id = s.node_id AND n.status <> 'disabled'`)
	if c.By == byGroup {
		s.add(` CROSS JOIN LATERAL unnest(n.groups) AS g (name)`)
	}
}

func (c *comparison) cohortWhere(s *statement) {
	s.where(c.By == byModel && c.Name != "", "n.tpm_model = ?", c.Name)
	s.where(c.By == byGroup && c.Name != "", "g.name = ?", c.Name)
	s.where(c.Zone != "", "s.zone = ?", c.Zone)
}

const accepted = `s.span_zone IS NOT NULL AND s.span_last = s.last AND s.verdict = 'allow'`

// load reads which measurements each cohort has, and how often.
func (c *comparison) load(ctx context.Context, t *turn) error {
	var s statement
	s.add(`SELECT w.cohort, w.measured, w.nodes, m.facts FROM (SELECT `)
	c.cohortColumn(&s)
	s.add(` AS cohort, s.span_measured AS measured, count(*) AS nodes`)
	c.cohortFrom(&s)
	s.add(` WHERE ` + accepted)
	c.cohortWhere(&s)
	s.add(` GROUP BY 1, 2 LIMIT ?) AS w JOIN measurement_set m ON m.digest = w.measured`, maxBaselineSets+1)
	var sets []cohortSet
	err := t.ask(ctx, false, collect(&s, &sets, func(row pgx.CollectableRow) (m cohortSet, err error) {
		return m, row.Scan(&m.cohort, (*digestColumn)(&m.measured), &m.nodes, &m.facts)
	}))
	if err != nil {
		return err
	}
	if len(sets) > maxBaselineSets {
		return reason.New(reason.RequestMalformed, "name, zone: too many different measurements to compare; name a zone, model or group")
	}
	c.sets = make(map[[32]byte]map[string]string)
	for _, m := range sets {
		facts, known := c.sets[m.measured]
		if !known {
			// One that does not parse counts as empty: its nodes differ in everything,
			// and one row of the writer's role ends no question.
			facts, _ = factsOf(m.facts)
			c.sets[m.measured] = facts
		}
		c.count(m, facts)
	}
	return nil
}

func (c *comparison) count(m cohortSet, facts map[string]string) {
	h := c.cohorts[m.cohort]
	if h == nil {
		h = &cohort{seen: make(map[string]map[string]int64)}
		c.cohorts[m.cohort] = h
	}
	h.nodes += m.nodes
	for name, value := range facts {
		if h.seen[name] == nil {
			h.seen[name] = make(map[string]int64)
		}
		h.seen[name][value] += m.nodes
	}
}

// baseline is what the nodes of a cohort should show.
func (c *comparison) baseline(h *cohort) map[string]ledger.Wanted {
	if c.By == byReference {
		return c.Want
	}
	if h == nil {
		return nil
	}
	if h.want == nil {
		h.want = make(map[string]ledger.Wanted)
		for name, values := range h.seen {
			for value, n := range values {
				if 2*n > h.nodes {
					h.want[name] = ledger.Wanted{value}
				}
			}
		}
	}
	return h.want
}

// differences compares what a machine showed with its baseline. Of a refused
// attempt the facts of its log are not known, and not compared.
func differences(want map[string]ledger.Wanted, facts map[string]string, partly bool) []ledger.FactDifference {
	var out []ledger.FactDifference
	for _, name := range slices.Sorted(maps.Keys(want)) {
		value, shown := facts[name]
		if !slices.Contains(want[name], value) && (shown || !partly) {
			out = append(out, ledger.FactDifference{Name: name, Expected: want[name], Seen: value})
		}
	}
	return out
}

// list reads the nodes of measurements that differ, and those that are refused.
func (c *comparison) list(ctx context.Context, t *turn) ([]ledger.Deviation, error) {
	cohorts, digests := c.deviating()
	var out []ledger.Deviation
	for after := c.After; ; {
		var rows []deviant
		if err := t.ask(ctx, false, collect(c.pageQuery(cohorts, digests, after), &rows, scanDeviant)); err != nil {
			return nil, err
		}
		more := len(rows) > c.Limit
		if more {
			rows = wholeNodes(rows)
		}
		for _, d := range rows {
			if n := len(out); n > 0 && out[n-1].Node == d.Node {
				continue // it stands in another group, too
			}
			if len(out) == c.Limit {
				return out, nil
			}
			if d.Facts = c.differing(d); len(d.Facts) > 0 {
				d.Nodes = c.size(d.Cohort)
				out = append(out, d.Deviation)
			}
		}
		if !more {
			return out, nil
		}
		after = rows[len(rows)-1].Node
	}
}

// wholeNodes leaves out the last node of a page that may go on with it, but for
// one that alone has more groups than a page has rows.
func wholeNodes(rows []deviant) []deviant {
	last := rows[len(rows)-1].Node
	if i := slices.IndexFunc(rows, func(d deviant) bool { return d.Node == last }); i > 0 {
		return rows[:i]
	}
	return rows
}

func (c *comparison) size(name string) int64 {
	if h := c.cohorts[name]; h != nil {
		return h.nodes
	}
	return 0
}

// deviating are the pairs of cohort and measurement that differ from the cohort's
// baseline.
func (c *comparison) deviating() (cohorts []string, digests [][]byte) {
	for _, name := range slices.Sorted(maps.Keys(c.cohorts)) {
		want := c.baseline(c.cohorts[name])
		for digest, facts := range c.sets {
			if len(differences(want, facts, false)) > 0 {
				cohorts, digests = append(cohorts, name), append(digests, slices.Clone(digest[:]))
			}
		}
	}
	return cohorts, digests
}

// deviant is a node that may differ.
type deviant struct {
	ledger.Deviation
	refused  bool
	measured [32]byte
	state    ledger.NodeState // of a refused one: what it showed
}

func (c *comparison) differing(d deviant) []ledger.FactDifference {
	want := c.baseline(c.cohorts[d.Cohort])
	if !d.refused {
		return differences(want, c.sets[d.measured], false)
	}
	m := d.state.Measured()
	facts := make(map[string]string)
	for name, value := range m.PCRs {
		if _, err := strconv.Atoi(name); err == nil {
			name = ledger.DriftPCR + name
		}
		facts[name] = value
	}
	for name, value := range map[string]string{
		ledger.DriftEventLog: m.EventLog, ledger.DriftSecureBoot: m.SecureBoot, ledger.DriftFirmware: m.Firmware,
	} {
		if value != "" {
			facts[name] = value
		}
	}
	return differences(want, facts, true)
}

func (c *comparison) pageQuery(cohorts []string, digests [][]byte, after ledger.NodeID) *statement {
	var s statement
	s.add(`SELECT s.node_id, n.machine, s.zone, `)
	c.cohortColumn(&s)
	s.add(`, s.last_ok_at, s.verdict = 'deny', s.span_measured, s.pcrs, s.event_log, s.secure_boot, s.firmware, s.seen`)
	c.cohortFrom(&s)
	s.add(` WHERE s.node_id > ? AND (s.verdict = 'deny' OR `+accepted+` AND (`, string(after))
	c.cohortColumn(&s)
	s.add(`, s.span_measured) IN (SELECT u.cohort, u.digest FROM unnest(?::text[], ?::bytea[]) AS u (cohort, digest)))`, cohorts, digests)
	c.cohortWhere(&s)
	s.add(` ORDER BY s.node_id, 4 LIMIT ?`, c.Limit+1)
	return &s
}

func scanDeviant(row pgx.CollectableRow) (d deviant, err error) {
	var ok pgtype.Timestamptz
	var pcrs, seen pgtype.Text
	var firmware int64
	st := &d.state
	err = row.Scan((*string)(&d.Node), &d.Machine, &d.Zone, &d.Cohort, &ok, &d.refused, (*digestColumn)(&d.measured),
		&pcrs, (*digestColumn)(&st.EventLog), &st.SecureBoot, &firmware, &seen)
	st.Firmware = uint64(firmware)
	st.PCRs, st.Seen = textBytes(pcrs), textBytes(seen)
	d.LastOKAt = timeOf(ok)
	return d, err
}

func textBytes(t pgtype.Text) []byte {
	if !t.Valid {
		return nil
	}
	return []byte(t.String)
}
