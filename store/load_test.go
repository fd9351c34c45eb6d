package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// loadCallers is how many requests a broker under load has at once.
const loadCallers = 6

// ack is what a caller was told of a record.
type ack struct {
	log   string
	index int64
	svids int
}

// load has callers of one broker attest, issue and note events for nodes that
// other brokers attest too, until ctx ends. Every acknowledged record goes to
// acked, what was refused to failed. A node that another broker moved on costs a
// caller its turn, as it costs an agent its challenge.
func load(ctx context.Context, t testing.TB, s *store.Store, nodes []ledger.NodeID, acked func(uuid.UUID, ledger.Position, int), failed func(error)) {
	var wg sync.WaitGroup
	for range loadCallers {
		wg.Go(func() {
			for ctx.Err() == nil {
				c, err := someCommit(ctx, t, s, nodes[rand.N(len(nodes))])
				if err == nil {
					var p ledger.Position
					if p, err = s.Append(context.WithoutCancel(ctx), c); err == nil {
						acked(c.Record.ID, p, len(c.SVIDs))
						continue
					}
				}
				if reason.Of(err) != reason.ChallengeSpent && ctx.Err() == nil {
					failed(err)
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
}

func someCommit(ctx context.Context, t testing.TB, s *store.Store, node ledger.NodeID) (ledger.Commit, error) {
	kind := rand.N(10)
	if kind == 0 {
		return event(t), nil
	}
	snap, err := s.NodeByID(ctx, node)
	switch {
	case err != nil:
		return ledger.Commit{}, err
	case kind < 3 && snap.State.Verdict == ledger.VerdictAllow:
		return issuance(t, snap), nil
	case kind == 3:
		return attestation(t, snap, ledger.VerdictDeny), nil
	}
	return attestation(t, snap, ledger.VerdictAllow), nil
}

// acks collects what all callers of all brokers were told.
type acks struct {
	mu   sync.Mutex
	all  map[uuid.UUID]ack
	logs map[string]*atomic.Int64 // acknowledgements by writer
}

func newAcks(writers ...string) *acks {
	a := &acks{all: make(map[uuid.UUID]ack), logs: make(map[string]*atomic.Int64)}
	for _, w := range writers {
		a.logs[w] = &atomic.Int64{}
	}
	return a
}

func (a *acks) add(t testing.TB, writer string, id uuid.UUID, got ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, twice := a.all[id]; twice {
		t.Errorf("record %s was acknowledged twice", id)
	}
	a.all[id] = got
	if n := a.logs[writer]; n != nil {
		n.Add(1)
	}
}

// progress waits until every writer was acknowledged more records than now:
// after a fault, that is recovery.
func (a *acks) progress(t testing.TB, more int64) {
	t.Helper()
	began := time.Now()
	for name, n := range a.logs {
		for want := n.Load() + more; n.Load() < want; time.Sleep(5 * time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatalf("writer %s does not go on", name)
			}
		}
	}
}

// checkWhole holds the database against what callers were told: indices without
// a gap, every acknowledged record once and where it was said to be, no SVID row
// without its record and no acknowledged record without its SVID rows, a root
// over all entries that is that of the head.
func (w *world) checkWhole(a *acks) {
	w.t.Helper()
	v := w.verify("")
	for _, c := range []struct{ what, sql string }{
		{"indices have gaps or doubles", `SELECT count(*) FROM (SELECT log_id FROM attestation GROUP BY log_id
			HAVING count(*) <> max(log_idx) + 1 OR count(DISTINCT log_idx) <> count(*)) broken`},
		{"a head is not at the end of its log", `SELECT count(*) FROM log_head h WHERE size <> (SELECT count(*) FROM attestation a WHERE a.log_id = h.log_id)`},
		{"records stand twice", `SELECT count(*) - count(DISTINCT record_id) FROM attestation`},
		{"SVIDs have no record", `SELECT count(*) FROM svid s WHERE NOT EXISTS (SELECT 1 FROM attestation a WHERE a.log_id = s.log_id AND a.log_idx = s.log_idx)`},
	} {
		if n := query[int64](w.t, w.db, c.sql); n != 0 {
			w.t.Errorf("%s: %d", c.what, n)
		}
	}
	frontier, err := ledger.UnmarshalFrontier(query[[]byte](w.t, w.db, `SELECT frontier FROM log_head WHERE log_id = 'main'`))
	if err != nil || frontier.Root() != v.Root {
		w.t.Errorf("the root of all entries is not that of the head (%v)", err)
	}
	w.checkAcks(a)
}

func (w *world) checkAcks(a *acks) {
	w.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids []uuid.UUID
	var logs []string
	var indexes, svids []int64
	for id, got := range a.all {
		ids, logs, indexes, svids = append(ids, id), append(logs, got.log), append(indexes, got.index), append(svids, int64(got.svids))
	}
	const lost = `SELECT coalesce(string_agg(k.id::text, ' '), '') FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[]) k (id, log, idx, svids)
		WHERE (SELECT count(*) FROM attestation a WHERE a.record_id = k.id) <> 1
		OR NOT EXISTS (SELECT 1 FROM attestation a WHERE a.record_id = k.id AND a.log_id = k.log AND a.log_idx = k.idx)
		OR (SELECT count(*) FROM svid s WHERE s.log_id = k.log AND s.log_idx = k.idx) <> k.svids`
	if got := query[string](w.t, w.db, lost, ids, logs, indexes, svids); got != "" {
		w.t.Errorf("acknowledged records that do not stand once, in their place and with their SVIDs: %s", got)
	}
	w.t.Logf("%d records were acknowledged, %d stand", len(ids), query[int64](w.t, w.db, `SELECT count(*) FROM attestation`))
}

// enrolled makes n nodes for a load.
func (w *world) enrolled(n int) []ledger.NodeID {
	w.t.Helper()
	ids := make([]ledger.NodeID, n)
	for i := range ids {
		ids[i] = w.enrol(i).Node.ID
	}
	return ids
}

// startLoad puts a broker of that name under load until stop, which waits.
func (w *world) startLoad(name string, nodes []ledger.NodeID, a *acks, failures *atomic.Int64, change func(*store.Config)) (stop func()) {
	w.t.Helper()
	var logID string
	s := w.db.Open(w.t, func(c *store.Config) {
		c.Writer = name
		if change != nil {
			change(c)
		}
		logID = c.LogID
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		load(ctx, w.t, s, nodes, func(id uuid.UUID, p ledger.Position, svids int) {
			a.add(w.t, name, id, ack{log: logID, index: p.Index, svids: svids})
		}, func(error) { failures.Add(1) })
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// childLoad is load in a process of its own, which says what was acknowledged.
func childLoad(ctx context.Context, s *store.Store, logID string) int {
	t := &childTB{}
	snaps, err := s.Nodes(ctx, "", 100)
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	var nodes []ledger.NodeID
	for _, n := range snaps {
		nodes = append(nodes, n.Node.ID)
	}
	load(ctx, t, s, nodes, func(id uuid.UUID, p ledger.Position, svids int) {
		fmt.Println("ack", id, p.Index, svids, logID)
	}, func(err error) { fmt.Println("failed", reason.Of(err)) })
	return 0
}

// steps are the failpoints of a group commit, in their order.
func steps() []string {
	return []string{"store.begin", "store.cas", "store.head", "store.copy", "store.precommit", "store.postcommit"}
}
