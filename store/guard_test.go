package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// issuance is what a broker commits for a later SVID of a node in snap.
func issuance(t testing.TB, snap ledger.Snapshot, changes ...func(*ledger.Issuance)) ledger.Commit {
	t.Helper()
	id, now, st := recordID(t), time.Now(), snap.State
	i := ledger.Issuance{
		Type: ledger.TypeIssuance, ID: id, Node: snap.Node.ID, Workload: "web", Zone: st.Zone, Tier: st.Tier, Attestation: st.Last.String(),
		AttestedAt: st.AttestedAt.UnixMilli(), FreshUntil: st.FreshUntil.Truncate(time.Second).UnixMilli(), Presented: "aa",
		Policy: ledger.PolicyRef{Version: 1, Hash: "sha256:00"}, TrustDomain: "example.org", At: now.UnixMilli(), Replica: "test",
		SVIDs: []ledger.IssuedSVID{{
			Profile: ledger.ProfileJWT, Serial: id.String(), SPIFFEID: "spiffe://example.org/zone/payments/workload/web",
			NotBefore: now.Unix(), NotAfter: now.Add(time.Minute).Unix(), TBSSHA256: "aa", CAKeyID: "bb", Key: "software", Audience: "payments-api",
		}},
	}
	for _, change := range changes {
		change(&i)
	}
	rec, err := i.Record(salt())
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Commit{Record: rec, SVIDs: i.SVIDs, Guard: &ledger.Guard{Node: snap.Node.ID, Version: st.Version}}
}

func TestIssuanceReadsBack(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	x509 := issuance(t, snap, func(i *ledger.Issuance) {
		i.SVIDs[0].Profile, i.SVIDs[0].Audience = ledger.ProfileX509, ""
		i.SVIDs[0].NotAfter = time.Now().Add(time.Hour).Unix()
	})
	for _, c := range []ledger.Commit{issuance(t, snap), x509} {
		p := w.append(c)
		if p.Version != 0 {
			t.Errorf("the node got version %d", p.Version)
		}
		got, err := w.s.Record(t.Context(), c.Record.ID)
		if err != nil || got == nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.Record, got.Record); diff != "" || got.Index != p.Index {
			t.Errorf("record (-want +got):\n%s", diff)
		}
	}
	after, err := w.s.NodeByID(t.Context(), snap.Node.ID)
	if err != nil || after.State.Version != snap.State.Version {
		t.Errorf("the node moved to version %d: %v", after.State.Version, err)
	}
	rows := query[string](t, w.db, `SELECT string_agg(profile || ' ' || audience, ', ' ORDER BY log_idx) FROM svid WHERE log_idx > 1`)
	if rows != "jwt payments-api, x509 " {
		t.Errorf("rows %q", rows)
	}
	if v := w.verify(""); v.Records != 4 || v.Grants != 1 {
		t.Errorf("%d records, %d grants", v.Records, v.Grants)
	}
}

// TestT54_Guard: what was judged on a version that is over is not recorded, on
// whichever broker; what is recorded then verifies.
func TestT54_Guard(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	late := issuance(t, snap)
	w.append(issuance(t, snap))
	w.append(disabling(t, snap))
	for name, c := range map[string]ledger.Commit{
		"disabled":     late,
		"another node": withGuard(late, ledger.Guard{Node: testNode(2, 0, ledger.Admission{}).ID, Version: 1}),
	} {
		c.Record = anew(t, c.Record, c.Guard.Node)
		if _, err := w.s.Append(t.Context(), c); reason.Of(err) != reason.ChallengeSpent {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]ledger.Commit{
		"no guard":               withGuard(late, ledger.Guard{}),
		"no version":             withGuard(late, ledger.Guard{Node: snap.Node.ID}),
		"a guard of other nodes": withGuard(late, ledger.Guard{Node: "x", Version: 2}),
		"a guard beside a state": func() ledger.Commit {
			c := attestation(t, snap, ledger.VerdictAllow)
			c.Guard = late.Guard
			return c
		}(),
	} {
		if name == "no guard" {
			c.Guard = nil
		}
		if _, err := w.s.Append(t.Context(), c); reason.Of(err) != reason.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v := w.verify(""); v.Size != 4 {
		t.Errorf("%d entries: a loser left one", v.Size)
	}
}

func withGuard(c ledger.Commit, g ledger.Guard) ledger.Commit {
	c.Guard = &g
	return c
}

// anew is the record under another id, of another node.
func anew(t testing.TB, r ledger.Record, node ledger.NodeID) ledger.Record {
	t.Helper()
	var i ledger.Issuance
	if err := json.Unmarshal(r.Body, &i); err != nil {
		t.Fatal(err)
	}
	i.ID, i.Node = recordID(t), node
	out, err := i.Record(salt())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// disabling is what an operator's word commits.
func disabling(t testing.TB, snap ledger.Snapshot) ledger.Commit {
	t.Helper()
	n, st := snap.Node, snap.State
	n.Status = ledger.StatusDisabled
	return grantCommit(t, ledger.TypeNodeDisabled, string(n.ID), ledger.Commit{BasedOn: st.Version, Node: &n, State: &st})
}

// TestT54_GuardsRaceOnTwoStores: many nodes move on while SVIDs are issued on
// them by two brokers. Nothing of a node's SVIDs comes after what ended them,
// and nobody waits for one another in a circle.
func TestT54_GuardsRaceOnTwoStores(t *testing.T) {
	w := newWorld(t)
	stores := []appender{w.s, w.db.Open(t, nil)}
	var snaps []ledger.Snapshot
	for i := range 8 {
		snaps = append(snaps, w.enrol(i+1))
	}
	before := query[int64](t, w.db, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)
	var mu sync.Mutex
	issued, lost := 0, 0
	var wg sync.WaitGroup
	for _, snap := range snaps {
		last := attestation(t, snap, ledger.VerdictAllow)
		for n := range 24 {
			c, s := issuance(t, snap), stores[n%2]
			if n == 12 {
				c, s = last, stores[int(snap.Node.ID[0])%2]
			}
			wg.Go(func() {
				_, err := s.Append(t.Context(), c)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case c.State != nil && err != nil:
					t.Errorf("the attestation lost: %v", err)
				case c.State != nil:
				case err == nil:
					issued++
				default:
					lost++
					wantCode(t, err, reason.ChallengeSpent)
				}
			})
		}
	}
	wg.Wait()
	if issued+lost != 8*23 {
		t.Errorf("%d issued, %d lost", issued, lost)
	}
	const late = `SELECT count(*) FROM attestation i JOIN attestation a ON a.node_id = i.node_id AND a.type = 'attestation' AND a.log_idx < i.log_idx
		WHERE i.type = 'svid.issued' AND (SELECT count(*) FROM attestation x WHERE x.node_id = i.node_id AND x.type = 'attestation' AND x.log_idx < i.log_idx) > 1`
	if n := query[int64](t, w.db, late); n != 0 {
		t.Errorf("%d SVIDs after the attestation that ended them", n)
	}
	if v := w.verify(""); v.Size != int64(16+8+issued) {
		t.Errorf("%d entries, %d issued", v.Size, issued)
	}
	if after := query[int64](t, w.db, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`); after != before {
		t.Errorf("%d deadlocks", after-before)
	}
	t.Logf("%d issued, %d lost", issued, lost)
}

// TestGuardsShareABatch: SVIDs of one node go out together, behind what changes
// the node and before what comes after.
func TestGuardsShareABatch(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	// The head's lock holds the writer, so that all of this waits in the queue.
	head := w.session()
	head.exec(`BEGIN; SELECT size FROM log_head FOR UPDATE`)
	var wg sync.WaitGroup
	sizes := make([]int64, 10)
	send := func(n int, c ledger.Commit, want reason.Code) {
		started := make(chan struct{})
		wg.Go(func() {
			close(started)
			p, err := w.s.Append(t.Context(), c)
			sizes[n] = p.Size
			wantCode(t, err, want)
		})
		<-started
		time.Sleep(20 * time.Millisecond) // for its place in the queue
	}
	send(0, event(t), "") // what the writer is at
	for n := 1; n < 5; n++ {
		send(n, issuance(t, snap), "")
	}
	next := attestation(t, snap, ledger.VerdictAllow)
	send(5, next, "")
	late := issuance(t, snap)
	send(6, late, reason.ChallengeSpent)
	snap.State = *next.State
	snap.State.Version = 2
	send(7, issuance(t, snap), "")
	head.exec(`COMMIT`)
	wg.Wait()
	if four := slices.Compact(slices.Clone(sizes[1:5])); len(four) != 1 || sizes[5] <= four[0] || sizes[7] <= sizes[5] {
		t.Errorf("batches ended at %v", sizes)
	}
	w.verify("")
}

// TestNodesAreLockedInOrder: whatever a batch wants of nodes, it waits for the
// first one while it holds no later one; two brokers that took them as they come
// would wait for one another.
func TestNodesAreLockedInOrder(t *testing.T) {
	for name, commitOf := range map[string]func(first, later ledger.Snapshot) []ledger.Commit{
		"guards": func(first, later ledger.Snapshot) []ledger.Commit {
			return []ledger.Commit{issuance(t, later), issuance(t, first)}
		},
		"a guard behind a change": func(first, later ledger.Snapshot) []ledger.Commit {
			return []ledger.Commit{issuance(t, later), attestation(t, first, ledger.VerdictAllow)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first, later := w.enrol(1), w.enrol(2)
			if first.Node.ID > later.Node.ID {
				first, later = later, first
			}
			// Where the table gives the rows in another order.
			w.db.Exec(t, freely+fmt.Sprintf(`UPDATE node_state SET repeats = repeats WHERE node_id = '%s'`, first.Node.ID))
			head, row := w.session(), w.session()
			head.exec(`BEGIN; SELECT size FROM log_head FOR UPDATE`)
			var wg sync.WaitGroup
			for _, c := range append([]ledger.Commit{event(t)}, commitOf(first, later)...) {
				wg.Go(func() {
					_, err := w.s.Append(t.Context(), c)
					wantCode(t, err, "")
				})
				time.Sleep(20 * time.Millisecond) // for its place in the queue
			}
			row.exec(`BEGIN; SELECT 1 FROM node_state WHERE node_id = '` + string(first.Node.ID) + `' FOR UPDATE`)
			head.exec(`COMMIT`)
			for deadline := time.Now().Add(2 * time.Second); query[int64](t, w.db, `SELECT count(*) FROM pg_locks WHERE NOT granted`) == 0; {
				if time.Now().After(deadline) {
					t.Fatal("nobody waits for the first node")
				}
				time.Sleep(5 * time.Millisecond)
			}
			head.exec(`SELECT 1 FROM node_state WHERE node_id = '` + string(later.Node.ID) + `' FOR UPDATE NOWAIT`)
			row.exec(`COMMIT`)
			wg.Wait()
			w.verify("")
		})
	}
}

// session is a connection of the owner, for locks.
type session struct {
	t    testing.TB
	conn *pgx.Conn
}

func (w *world) session() *session {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.OwnerDSN)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &session{t: w.t, conn: conn}
}

func (s *session) exec(sql string) {
	s.t.Helper()
	if _, err := s.conn.Exec(s.t.Context(), sql); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// TestT60_IssuanceTampering: rows of later SVIDs are compared with the body, and
// the body with what the log says of the node.
func TestT60_IssuanceTampering(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ sql, want string }{
		"audience": {`UPDATE svid SET audience = 'bank' WHERE log_idx = 2`, "SVIDs are not those"},
		"removed":  {`DELETE FROM svid WHERE log_idx = 2`, "SVIDs are not those"},
		"added":    {`INSERT INTO svid SELECT recorded_at, log_id, log_idx, 1, node_id, profile, 'ff', spiffe_id, not_before, not_after, tbs_sha256, ca_key_id, key, audience FROM svid WHERE log_idx = 2`, "SVIDs are not those"},
		"of a grant": {
			`INSERT INTO svid SELECT recorded_at, log_id, 0, 0, node_id, profile, 'ff', spiffe_id, not_before, not_after, tbs_sha256, ca_key_id, key, audience FROM svid WHERE log_idx = 2`,
			"index 0",
		},
		"evidence": {`INSERT INTO evidence_part SELECT recorded_at, log_id, 2, 0, kind, digest FROM evidence_part WHERE log_idx = 1`, "evidence parts are not those"},
		"body":     {`UPDATE attestation SET body = replace(body, '"workload":"web"', '"workload":"db"') WHERE log_idx = 2`, "not the one that the log committed to"},
		"type":     {`UPDATE attestation SET type = 'attestation' WHERE log_idx = 2`, "column type differs"},
		"zone":     {`UPDATE attestation SET zone = 'vault' WHERE log_idx = 2`, "column zone differs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.append(issuance(t, w.enrol(1)))
			w.verify("")
			if strings.Contains(tc.sql, "replace(body") {
				w.unpack(2)
			}
			w.db.Exec(t, freely+tc.sql)
			wantProblem(t, w, tc.want)
		})
	}
}

// TestT60_IssuanceAgainstTheLog: a broker that is broken into can write records
// of SVIDs; what the log says of the node contradicts them.
func TestT60_IssuanceAgainstTheLog(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before func(w *world, snap *ledger.Snapshot)
		change func(*ledger.Issuance)
		want   string
	}{
		"honest":               {nil, func(*ledger.Issuance) {}, ""},
		"another attestation":  {nil, func(i *ledger.Issuance) { i.Attestation = i.ID.String() }, "another attestation than the node's last"},
		"another zone":         {nil, func(i *ledger.Issuance) { i.Zone = "vault" }, "more than the attestation earned"},
		"a higher tier":        {nil, func(i *ledger.Issuance) { i.Tier = 4 }, "more than the attestation earned"},
		"attested later":       {nil, func(i *ledger.Issuance) { i.AttestedAt += 60_000 }, "more than the attestation earned"},
		"fresh for longer":     {nil, func(i *ledger.Issuance) { i.FreshUntil += 60_000 }, "more than the attestation earned"},
		"T53_past fresh_until": {nil, func(i *ledger.Issuance) { i.At = i.FreshUntil }, "no longer fresh"},
		"T53_a token that outlives its evidence": {nil, func(i *ledger.Issuance) {
			i.SVIDs[0].NotAfter = i.FreshUntil/1000 + 1
		}, "outlives its evidence"},
		"T54_disabled": {func(w *world, snap *ledger.Snapshot) {
			w.append(disabling(w.t, *snap))
			snap.State.Version++
		}, func(*ledger.Issuance) {}, "not active"},
		"T54_refused": {func(w *world, snap *ledger.Snapshot) {
			c := attestation(w.t, *snap, ledger.VerdictDeny)
			last := snap.State.Last
			w.append(c)
			snap.State = *c.State
			snap.State.Last, snap.State.Version = last, 2
		}, func(*ledger.Issuance) {}, "another attestation than the node's last"},
		"T54_on the refusal itself": {func(w *world, snap *ledger.Snapshot) {
			c := attestation(w.t, *snap, ledger.VerdictDeny)
			w.append(c)
			snap.State.Last, snap.State.Version = c.Record.ID, 2
		}, func(*ledger.Issuance) {}, "another attestation than the node's last"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			snap := w.enrol(1)
			if tc.before != nil {
				tc.before(w, &snap)
			}
			w.append(issuance(t, snap, tc.change))
			got := w.problems("")
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("%q is not among the problems:\n%s", tc.want, got)
			}
		})
	}
	t.Run("a node that nobody attested", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		snap := w.enrol(1)
		c := issuance(t, snap, func(i *ledger.Issuance) { i.Node = ledger.NodeID(strings.Repeat("a", 26)) })
		w.db.Exec(t, freely+fmt.Sprintf(`CREATE TABLE other AS TABLE node_state; UPDATE other SET node_id = '%s'; INSERT INTO node_state TABLE other`, strings.Repeat("a", 26)))
		c.Guard = &ledger.Guard{Node: c.Record.Node, Version: 1}
		w.append(c)
		wantProblem(t, w, "for a node that no attestation names")
	})
}
