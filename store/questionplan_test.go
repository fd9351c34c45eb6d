package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
)

// fleetWeeks writes the history of 200 nodes in 20 zones for the weeks from..to
// before now: an attestation an hour, of which one in fifty is refused; a span of
// a day; drift where one begins.
func (w *world) fleetWeeks(now time.Time, from, to int) {
	w.t.Helper()
	begin := now.Add(-time.Duration(from) * 7 * 24 * time.Hour)
	if err := store.EnsurePartitions(w.t.Context(), w.db.OwnerDSN, begin); err != nil {
		w.t.Fatal(err)
	}
	hours, days := (from-to)*7*24, (from-to)*7
	at := func(unit string) string {
		return fmt.Sprintf(`timestamptz '%s' + i * interval '1 %s' + n * interval '1 second'`, stamp(begin), unit)
	}
	w.db.Exec(w.t,
		freely+fmt.Sprintf(`INSERT INTO attestation (recorded_at, log_id, log_idx, record_id, type, node_id, zone, verdict, reason, attested_at, fresh_until, policy_version, salt, body)
			SELECT %s, 'main', %d + i * 200 + n, gen_random_uuid(), 'attestation', 'node' || n, 'zone' || n %% 20, CASE WHEN (i + n) %% 50 = 0 THEN 'deny' ELSE 'allow' END,
			CASE WHEN (i + n) %% 50 = 0 THEN 'reason' || n %% 3 ELSE '' END, %s, NULL, %d, sha256('s'), '{"svids":[{"serial":"x"}]}'
			FROM generate_series(0, %d) i, generate_series(0, 199) n`, at("hour"), 1_000_000-from*7*24*200, at("hour"), from, hours-1),
		freely+fmt.Sprintf(`INSERT INTO measurement_interval (recorded_at, log_id, log_idx, node_id, zone, measured, policy_version, valid_from, valid_until, expires_at, first_record, last_record, renewals, ended)
			SELECT %[1]s + interval '1 day', 'main', i, 'node' || n, 'zone' || n %% 20, sha256(('set' || n %% 10)::bytea), %[2]d, %[1]s, %[1]s + interval '1 day', %[1]s + interval '25 hours',
			gen_random_uuid(), gen_random_uuid(), 24, 'changed' FROM generate_series(0, %[3]d) i, generate_series(0, 199) n`, at("day"), from, days-1),
		freely+fmt.Sprintf(`INSERT INTO drift_event (recorded_at, log_id, log_idx, ord, record_id, node_id, zone, kind, before_value, after_value, last_good)
			SELECT %[1]s, 'main', i * 200 + n, 0, gen_random_uuid(), 'node' || n, 'zone' || n %% 20, 'pcr.' || n %% 4, 'a', 'b', %[1]s - interval '1 hour'
			FROM generate_series(0, %[2]d) i, generate_series(0, 199) n`, at("day"), days-1),
		fmt.Sprintf(`INSERT INTO attest_hourly SELECT timestamptz '%s' + i * interval '1 hour', 'zone' || z, 'allow', '', 'w', 10 FROM generate_series(0, %d) i, generate_series(0, 19) z`,
			stamp(begin.Truncate(time.Hour)), hours-1),
		`ANALYZE`)
}

// TestQuestionsReadWithinTheirBounds: what a question reads does not grow with the
// history that lies before its time.
func TestQuestionsReadWithinTheirBounds(t *testing.T) {
	w := newWorld(t)
	now := time.Now().UTC().Truncate(time.Second)
	for n := range 10 {
		w.db.Exec(t, fmt.Sprintf(`INSERT INTO measurement_set (digest, facts) VALUES (sha256('set%d'), '{}')`, n),
			fmt.Sprintf(`INSERT INTO measurement_fact VALUES ('pcr.4', 'v%d', sha256('set%d'))`, n, n))
	}
	w.db.Exec(t, freely+`INSERT INTO node SELECT 'node' || n, 'ek', sha256(n::text::bytea), '', '', sha256(n::text::bytea), '', 'm', '', false, 'inventory', gen_random_uuid(),
			'machine' || n, '{}', 'active', true, now(), sha256('') FROM generate_series(0, 199) n`,
		freely+`INSERT INTO node_state (node_id, rebaseline, has_clock, tier, reset_count, restart_count, firmware, policy_version, repeats, zone, verdict, reason, secure_boot,
			version, clock, last_ok_at, mac) SELECT 'node' || n, false, false, 2, 0, 0, 0, 1, 0, 'zone' || n % 20, CASE WHEN n % 50 = 0 THEN 'deny' ELSE 'allow' END, '', '', 1, 0, now(), sha256('')
			FROM generate_series(0, 199) n`)
	w.fleetWeeks(now, 3, 0)
	r := w.reader()
	spy, err := r.Spied(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := w.boundedQuestions(r, now)
	before := make(map[string]int)
	for name, q := range ask {
		before[name] = w.rowsRead(spy, q)
	}
	w.fleetWeeks(now, 13, 3)
	for name, q := range ask {
		got := w.rowsRead(spy, q)
		// Plans may change with the number of weeks, by a few rows.
		if got > before[name]+before[name]/5+20 || got > 8000 {
			t.Errorf("%s reads %d rows of the history, and %d with ten weeks more before its time", name, before[name], got)
		}
	}
}

// boundedQuestions are questions of the last days, by their names.
func (w *world) boundedQuestions(r *store.Reader, now time.Time) map[string]func(ctx context.Context) error {
	day := now.Add(-24 * time.Hour)
	members := func(q ledger.MembersQuery) func(ctx context.Context) error {
		q.At = day
		return func(ctx context.Context) error { _, _, err := r.Members(ctx, q); return err }
	}
	issued := func(q ledger.IssuedQuery) func(ctx context.Context) error {
		q.Since, q.Limit = day, 50
		return func(ctx context.Context) error { _, _, err := r.Issued(ctx, q); return err }
	}
	population := func(q ledger.PopulationQuery) func(ctx context.Context) error {
		q.At = day
		return func(ctx context.Context) error { _, _, err := r.Population(ctx, q); return err }
	}
	return map[string]func(ctx context.Context) error{
		"members_zone":     members(ledger.MembersQuery{Zone: "zone3"}),
		"members_grace":    members(ledger.MembersQuery{Zone: "zone3", Grace: true}),
		"members_all":      members(ledger.MembersQuery{Limit: 50}),
		"node_at":          func(ctx context.Context) error { _, _, err := r.NodeAt(ctx, "node7", day); return err },
		"intervals":        func(ctx context.Context) error { _, _, err := r.Intervals(ctx, "node7", day, now, 50); return err },
		"population_value": population(ledger.PopulationQuery{Fact: "pcr.4", Value: "v3"}),
		"population_fact":  population(ledger.PopulationQuery{Fact: "pcr.4"}),
		"issued_node":      issued(ledger.IssuedQuery{Node: "node7"}),
		"issued_zone":      issued(ledger.IssuedQuery{Zone: "zone3"}),
		"issued_all":       issued(ledger.IssuedQuery{}),
		"issued_policy":    issued(ledger.IssuedQuery{PolicyVersion: 3}),
		"issued_fact":      issued(ledger.IssuedQuery{Fact: "pcr.4", Value: "v3"}),
		"issued_denied":    issued(ledger.IssuedQuery{DeniedNow: true}),
		"detections": func(ctx context.Context) error {
			_, _, err := r.Detections(ctx, ledger.DriftQuery{Since: day, Limit: 50})
			return err
		},
		"detection_summary": func(ctx context.Context) error { _, _, err := r.DetectionSummary(ctx, "zone3", day, now); return err },
		"rates": func(ctx context.Context) error {
			_, _, err := r.Rates(ctx, ledger.RateQuery{Since: day, Until: now})
			return err
		},
		"cross_check": func(ctx context.Context) error { _, _, err := r.CrossCheck(ctx, day, day.Add(2*time.Hour)); return err },
	}
}

// rowsRead asks, and counts what the scans of the history's tables looked at.
func (w *world) rowsRead(spy *store.Spy, ask func(ctx context.Context) error) int {
	w.t.Helper()
	ctx := w.t.Context()
	spy.Take()
	if err := ask(ctx); err != nil {
		w.t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, w.db.OwnerDSN)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	read := 0.0
	for _, q := range spy.Take() {
		var raw []byte
		args := append([]any{pgx.QueryExecModeDescribeExec}, q.Args...)
		if err := conn.QueryRow(ctx, `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) `+q.SQL, args...).Scan(&raw); err != nil {
			w.t.Fatal(err)
		}
		var out []struct{ Plan scanned }
		if err := json.Unmarshal(raw, &out); err != nil {
			w.t.Fatal(err)
		}
		read += out[0].Plan.read()
	}
	return int(read)
}

// scanned is a node of EXPLAIN (ANALYZE, FORMAT JSON) by its table.
type scanned struct {
	Table   string    `json:"Relation Name"`
	Rows    float64   `json:"Actual Rows"`
	Loops   float64   `json:"Actual Loops"`
	Removed float64   `json:"Rows Removed by Filter"`
	Recheck float64   `json:"Rows Removed by Index Recheck"`
	Plans   []scanned `json:"Plans"`
}

func (s scanned) read() (n float64) {
	for _, history := range []string{"attestation", "measurement_interval", "drift_event", "svid", "evidence", "attest_hourly"} {
		if strings.HasPrefix(s.Table, history) {
			n += s.Loops * (s.Rows + s.Removed + s.Recheck)
			break
		}
	}
	for _, sub := range s.Plans {
		n += sub.read()
	}
	return n
}
