package store_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
)

const (
	planRows = 60_000
)

// TestListsUseTheirIndex: every filter, alone and with others, is answered from
// an index in the order of the page, and reads hardly more rows than it returns.
// A page of a billion records must not cost more than one of a thousand.
func TestListsUseTheirIndex(t *testing.T) {
	db := storetest.New(t)
	// Two weekly partitions of a busy log, half of its seven days in each, whatever
	// day it is: few denials, fewer grants.
	start := ledger.Week(time.Now()).Add(84 * time.Hour)
	db.Exec(t, freely+`INSERT INTO attestation SELECT
			timestamptz '`+start.Format(time.RFC3339)+`' + i * interval '10 seconds', 'main', i, gen_random_uuid(),
			CASE WHEN i % 1000 = 7 THEN 'node.approved' WHEN i % 3 = 0 THEN 'svid.issued' ELSE 'attestation' END,
			'node' || i % 1000, CASE WHEN i % 1000 = 7 THEN '' ELSE 'zone' || i % 300 END,
			CASE WHEN i % 1000 = 7 OR i % 3 = 0 THEN '' WHEN i % 200 = 1 THEN 'deny' ELSE 'allow' END,
			CASE WHEN i % 3 <> 0 AND i % 200 = 1 THEN 'reason.' || i % 7 ELSE '' END, NULL, NULL, 1, sha256('s'), '{}'
		FROM generate_series(0, 60000 - 1) i`,
		freely+`INSERT INTO drift_event SELECT
			timestamptz '`+start.Format(time.RFC3339)+`' + i / 4 * interval '40 seconds', 'main', i / 4, i % 4, gen_random_uuid(),
			'node' || i / 4 % 1000, 'zone' || i / 4 % 300, 'pcr.' || i % 24, 'a', 'b'
		FROM generate_series(0, 60000 - 1) i`,
		`ANALYZE attestation`, `ANALYZE drift_event`)
	middle := start.Add(planRows / 3 * 10 * time.Second)
	page := ledger.Place{RecordedAt: start.Add(planRows / 2 * 10 * time.Second), Index: planRows / 2, LogID: "main"}
	for name, tc := range map[string]struct {
		q     ledger.Query
		index []string
	}{
		"newest":      {ledger.Query{}, []string{"attestation_recorded"}},
		"page":        {ledger.Query{After: page}, []string{"attestation_recorded"}},
		"node":        {ledger.Query{Node: "node3"}, []string{"attestation_node"}},
		"zone":        {ledger.Query{Zone: "zone3"}, []string{"attestation_zone"}},
		"denied":      {ledger.Query{Verdict: ledger.VerdictDeny}, []string{"attestation_denied"}},
		"allowed":     {ledger.Query{Verdict: ledger.VerdictAllow}, []string{"attestation_recorded"}},
		"reason":      {ledger.Query{Reason: "reason.3"}, []string{"attestation_reason"}},
		"grants":      {ledger.Query{Type: ledger.TypeNodeApproved}, []string{"attestation_grant"}},
		"issuance":    {ledger.Query{Type: ledger.TypeIssuance}, []string{"attestation_recorded"}},
		"until":       {ledger.Query{Until: middle}, []string{"attestation_recorded"}},
		"since":       {ledger.Query{Since: middle}, []string{"attestation_recorded"}},
		"zone_denied": {ledger.Query{Zone: "zone1", Verdict: ledger.VerdictDeny}, []string{"attestation_zone", "attestation_denied", "attestation_reason"}},
		"node_allowed_before": {
			ledger.Query{Node: "node3", Type: ledger.TypeAttestation, Verdict: ledger.VerdictAllow, After: page},
			[]string{"attestation_node"},
		},
		"all_of_them": {
			ledger.Query{Node: "node1", Zone: "zone1", Reason: "reason.1", Verdict: ledger.VerdictDeny, Type: ledger.TypeAttestation, Since: start, Until: middle, After: page},
			[]string{"attestation_node", "attestation_reason"},
		},
	} {
		t.Run("records/"+name, func(t *testing.T) {
			tc.q.Limit = 50
			sql, args := store.RecordsQuery(tc.q)
			expectPlan(t, db, tc.index, sql, args)
		})
	}
	after := ledger.Place{RecordedAt: start.Add(7_000 * 40 * time.Second), Index: 7_000, LogID: "main", Ord: 1}
	for name, tc := range map[string]struct {
		q     ledger.DriftQuery
		index []string
	}{
		"newest":    {ledger.DriftQuery{}, []string{"drift_event_recorded"}},
		"page":      {ledger.DriftQuery{After: after}, []string{"drift_event_recorded"}},
		"node":      {ledger.DriftQuery{Node: "node3"}, []string{"drift_event_node"}},
		"kind":      {ledger.DriftQuery{Kind: "pcr.3"}, []string{"drift_event_kind"}},
		"zone":      {ledger.DriftQuery{Zone: "zone3"}, []string{"drift_event_zone"}},
		"zone_page": {ledger.DriftQuery{Zone: "zone3", After: after}, []string{"drift_event_zone"}},
		"node_kind_since": {
			ledger.DriftQuery{Node: "node3", Kind: "pcr.13", Since: middle, After: after},
			[]string{"drift_event_node", "drift_event_kind"},
		},
	} {
		t.Run("drift/"+name, func(t *testing.T) {
			tc.q.Limit = 50
			sql, args := store.DriftQuery(tc.q)
			expectPlan(t, db, tc.index, sql, args)
		})
	}
}

// plan is a node of EXPLAIN (ANALYZE, FORMAT JSON).
type plan struct {
	Kind     string  `json:"Node Type"`
	Relation string  `json:"Parent Relationship"`
	Index    string  `json:"Index Name"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Plans    []plan  `json:"Plans"`
}

// expectPlan wants scans of the page to use the named indices of the parent
// table, or partition's copies of them, and to read at most 600 rows.
func expectPlan(t *testing.T, db *storetest.Database, indexes []string, sql string, args []any) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, db.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var raw []byte
	if err := conn.QueryRow(ctx, `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) `+sql, args...).Scan(&raw); err != nil {
		t.Fatal(err)
	}
	var out []struct{ Plan plan }
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	read := 0.0
	used := 0
	var walk func(p plan)
	walk = func(p plan) {
		if p.Relation == "InitPlan" {
			return // the bound of a time, read from the pages of a quarter of an hour
		}
		if p.Kind == "Seq Scan" && p.Loops > 0 && p.Rows+p.Removed > 0 {
			t.Errorf("the plan has a %s:\n%s", p.Kind, raw)
		}
		if p.Index != "" && p.Loops > 0 && p.Rows+p.Removed > 0 {
			parent := ""
			_ = conn.QueryRow(ctx, `WITH RECURSIVE up AS (SELECT $1::regclass::oid AS id UNION ALL SELECT i.inhparent FROM pg_inherits i JOIN up ON i.inhrelid = up.id)
				SELECT max(id::regclass::text) FROM up WHERE NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = up.id)`, p.Index).Scan(&parent)
			if !slices.Contains(indexes, parent) {
				t.Errorf("the plan uses %s, want one of %v:\n%s", parent, indexes, raw)
			}
			used++
			read += p.Loops * (p.Rows + p.Removed)
		}
		for _, sub := range p.Plans {
			walk(sub)
		}
	}
	walk(out[0].Plan)
	if used == 0 || read > 600 {
		t.Errorf("%d indices, %.0f rows read for a page of 50:\n%s", used, read, raw)
	}
}
