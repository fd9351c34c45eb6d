//go:build benchhistory

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// Goals of the issue, warm.
const (
	pointGoal  = 5 * time.Millisecond
	windowGoal = 50 * time.Millisecond
	warmRuns   = 21
)

// benchQuestion is one question as its users ask it.
type benchQuestion struct {
	name string
	goal time.Duration // 0 for a question that reads what it is asked to count
	ask  func(ctx context.Context) error
}

// answer is what asking showed.
type answer struct {
	Question string  `json:"question"`
	Rows     int64   `json:"rows"` // of the history
	FirstMS  float64 `json:"first_ms"`
	WarmMS   float64 `json:"warm_ms"` // median
	GoalMS   float64 `json:"goal_ms"` // 0 for none
	Buffers  int64   `json:"buffers"` // pages of 8 KiB that its statements touched, warm
	Plan     string  `json:"plan"`    // top lines, and the indices that were read
}

// examples are values that the questions ask for, from the history itself.
type examples struct {
	node         ledger.NodeID
	serial       string
	record       [16]byte
	zone, reason string
	pcr          string
	log          [32]byte
	policy       int64
	end          time.Time // of the history
}

func readExamples(ctx context.Context, conn *pgx.Conn, f *fleet, rows int64) (x examples, err error) {
	// The rarest set that some node shows now: what one looks for after an incident.
	const rare = `SELECT s.span_measured FROM node_state s WHERE s.span_measured IS NOT NULL GROUP BY 1 ORDER BY count(*), 1 LIMIT 1`
	var digest []byte
	if err := conn.QueryRow(ctx, rare).Scan(&digest); err != nil {
		return x, err
	}
	for i := range f.sets {
		if slices.Equal(f.sets[i].m.Digest[:], digest) {
			x.pcr, x.log = f.sets[i].pcr, f.sets[i].log
		}
	}
	x.zone, x.reason, x.end = "zone-3", "policy.reason_3", f.now
	const newest = `SELECT v.serial, a.record_id, a.node_id, a.policy_version FROM svid v JOIN attestation a ON a.recorded_at = v.recorded_at AND a.log_idx = v.log_idx
		WHERE v.recorded_at <= $1 AND v.recorded_at > $2 AND a.type = 'attestation' ORDER BY v.recorded_at DESC LIMIT 1`
	at := f.now.Add(-min(36*time.Hour, f.step*time.Duration(rows/2)))
	err = conn.QueryRow(ctx, newest, at, at.Add(-12*time.Hour)).Scan(&x.serial, &x.record, &x.node, &x.policy)
	return x, err
}

// questions are all of them, by r and by s.
func questions(r *Reader, s *Store, x examples) []benchQuestion {
	day := x.end.Add(-24 * time.Hour)
	week := x.end.Add(-7 * 24 * time.Hour)
	then := x.end.Add(-3 * 24 * time.Hour)
	point := func(name string, ask func(ctx context.Context) error) benchQuestion {
		return benchQuestion{name, pointGoal, ask}
	}
	window := func(name string, ask func(ctx context.Context) error) benchQuestion {
		return benchQuestion{name, windowGoal, ask}
	}
	issued := func(q ledger.IssuedQuery) func(ctx context.Context) error {
		return func(ctx context.Context) error { _, _, err := r.Issued(ctx, q); return err }
	}
	members := func(q ledger.MembersQuery) func(ctx context.Context) error {
		return func(ctx context.Context) error { _, _, err := r.Members(ctx, q); return err }
	}
	records := func(q ledger.Query) func(ctx context.Context) error {
		q.Limit = 50
		return func(ctx context.Context) error { _, err := s.Records(ctx, q); return err }
	}
	drift := func(q ledger.DriftQuery) func(ctx context.Context) error {
		q.Limit = 50
		return func(ctx context.Context) error { _, err := s.Drift(ctx, q); return err }
	}
	return []benchQuestion{
		point("record by id", func(ctx context.Context) error { _, err := s.Record(ctx, x.record); return err }),
		point("node as of a time", func(ctx context.Context) error { _, _, err := r.NodeAt(ctx, x.node, then); return err }),
		point("SVID serial to record", issued(ledger.IssuedQuery{Serial: x.serial, Limit: 1})),
		point("intervals of a node, 7 days", func(ctx context.Context) error { _, _, err := r.Intervals(ctx, x.node, week, x.end, 50); return err }),
		point("newest 50 records", records(ledger.Query{})),
		point("newest 50 of a node", records(ledger.Query{Node: x.node})),
		point("newest 50 of a zone", records(ledger.Query{Zone: x.zone})),
		point("newest 50 drift events", drift(ledger.DriftQuery{})),
		window("denials of a reason, 24 h", records(ledger.Query{Reason: x.reason, Since: day})),
		window("denials of a zone, 24 h", records(ledger.Query{Zone: x.zone, Verdict: ledger.VerdictDeny, Since: day})),
		window("drift of a zone, 24 h", drift(ledger.DriftQuery{Zone: x.zone, Since: day})),
		window("members of a zone now", members(ledger.MembersQuery{Zone: x.zone, At: x.end, Limit: 500})),
		window("members of a zone, 3 days ago", members(ledger.MembersQuery{Zone: x.zone, At: then, Limit: 500})),
		window("members of all zones, 3 days ago", members(ledger.MembersQuery{At: then, Limit: 500})),
		window("members with grace, 3 days ago", members(ledger.MembersQuery{Zone: x.zone, At: then, Grace: true, Limit: 500})),
		window("population of a value, 3 days ago", func(ctx context.Context) error {
			_, _, err := r.Population(ctx, ledger.PopulationQuery{Fact: "pcr.4", Value: x.pcr, At: then})
			return err
		}),
		window("population of a fact in a zone, now", func(ctx context.Context) error {
			_, _, err := r.Population(ctx, ledger.PopulationQuery{Fact: "boot.kernel", Zone: x.zone, At: x.end})
			return err
		}),
		window("unseen nodes, 24 h", func(ctx context.Context) error {
			_, _, err := r.Unseen(ctx, ledger.UnseenQuery{Since: day})
			return err
		}),
		window("silent nodes, 24 h", func(ctx context.Context) error {
			_, _, err := r.Unseen(ctx, ledger.UnseenQuery{Since: day, Silent: true})
			return err
		}),
		window("SVIDs of a node, 24 h", issued(ledger.IssuedQuery{Node: x.node, Since: day, Limit: 50})),
		window("SVIDs of a zone, 24 h", issued(ledger.IssuedQuery{Zone: x.zone, Since: day, Limit: 50})),
		window("SVIDs under a PCR value, 24 h", issued(ledger.IssuedQuery{Fact: "pcr.4", Value: x.pcr, Since: day, Limit: 50})),
		window("SVIDs under an event log, 24 h", issued(ledger.IssuedQuery{Evidence: &x.log, Since: day, Limit: 50})),
		window("SVIDs under a policy, 24 h", issued(ledger.IssuedQuery{PolicyVersion: x.policy, Since: day, Limit: 50})),
		window("valid SVIDs of refused nodes", issued(ledger.IssuedQuery{DeniedNow: true, Since: day, Limit: 50})),
		window("time to detect, 24 h", func(ctx context.Context) error {
			_, _, err := r.Detections(ctx, ledger.DriftQuery{Since: day, Limit: 50})
			return err
		}),
		window("time to detect summed up, 24 h", func(ctx context.Context) error {
			_, _, err := r.DetectionSummary(ctx, "", day, x.end)
			return err
		}),
		window("rates of all zones, 24 h", func(ctx context.Context) error {
			_, _, err := r.Rates(ctx, ledger.RateQuery{Since: day, Until: x.end})
			return err
		}),
		{"drift from a model's fleet", 0, func(ctx context.Context) error {
			_, _, err := r.Baseline(ctx, ledger.BaselineQuery{By: byModel, Name: modelName(1), Limit: 50})
			return err
		}},
		{"coverage of the inventory", 0, func(ctx context.Context) error {
			_, _, err := r.Coverage(ctx, ledger.CoverageQuery{Fresh: day, Limit: 50})
			return err
		}},
		{"cross-check of an hour", 0, func(ctx context.Context) error {
			_, _, err := r.CrossCheck(ctx, day, day.Add(time.Hour))
			return err
		}},
	}
}

// measure asks once, then often, then has the statements explained.
func measure(ctx context.Context, q benchQuestion, s *Spy, owner *pgx.Conn, rows int64) (answer, error) {
	s.Take()
	a := answer{Question: q.name, Rows: rows, GoalMS: ms(q.goal)}
	var took []time.Duration
	for i := range 1 + warmRuns {
		begin := time.Now()
		if err := q.ask(ctx); err != nil {
			return a, fmt.Errorf("%s: %w", q.name, err)
		}
		if i == 0 {
			a.FirstMS = ms(time.Since(begin))
		} else {
			took = append(took, time.Since(begin))
		}
		if i < warmRuns {
			s.Take()
		}
	}
	slices.Sort(took)
	a.WarmMS = ms(took[len(took)/2])
	for _, sent := range s.Take() {
		plan, err := explained(ctx, owner, sent)
		if err != nil {
			return a, fmt.Errorf("explain %s: %w", q.name, err)
		}
		a.Buffers += plan.Hit + plan.Read
		if a.Plan != "" {
			a.Plan += "; "
		}
		a.Plan += plan.line()
	}
	return a, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// benchPlan is a node of EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON).
type benchPlan struct {
	Kind  string      `json:"Node Type"`
	Index string      `json:"Index Name"`
	Table string      `json:"Relation Name"`
	Hit   int64       `json:"Shared Hit Blocks"`
	Read  int64       `json:"Shared Read Blocks"`
	Loops float64     `json:"Actual Loops"`
	Plans []benchPlan `json:"Plans"`
}

func explained(ctx context.Context, owner *pgx.Conn, q Sent) (benchPlan, error) {
	var raw []byte
	args := append([]any{pgx.QueryExecModeDescribeExec}, q.Args...)
	if err := owner.QueryRow(ctx, `EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) `+q.SQL, args...).Scan(&raw); err != nil {
		return benchPlan{}, err
	}
	var out []struct{ Plan benchPlan }
	if err := json.Unmarshal(raw, &out); err != nil {
		return benchPlan{}, err
	}
	return out[0].Plan, nil
}

// line is the way from the top down to where the plan branches, and what was read.
func (p benchPlan) line() string {
	var tops, read []string
	for at := p; ; at = at.Plans[0] {
		tops = append(tops, at.Kind)
		if len(at.Plans) != 1 {
			break
		}
	}
	var walk func(p benchPlan)
	walk = func(p benchPlan) {
		name := p.Index
		if p.Kind == "Seq Scan" && p.Hit+p.Read > 0 {
			name = "all of " + p.Table
		}
		// The copy of a week is named after the week, and the index after its columns.
		if base, _, found := strings.Cut(name, "_p20"); found {
			name = base + " weeks"
		}
		if name != "" && p.Loops > 0 && !slices.Contains(read, name) {
			read = append(read, name)
		}
		for _, sub := range p.Plans {
			walk(sub)
		}
	}
	walk(p)
	return strings.Join(tops, " > ") + " [" + strings.Join(read, ", ") + "]"
}
