package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store/storetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestAppendReadsBack(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	got, err := w.s.NodeByID(t.Context(), snap.Node.ID)
	if err != nil {
		t.Fatal(err)
	}
	opts := cmp.Options{cmp.Comparer(func(a, b time.Time) bool {
		return a.Truncate(time.Microsecond).Equal(b.Truncate(time.Microsecond))
	})}
	snap.Open = got.Open // TestIntervals looks at it
	if diff := cmp.Diff(snap, got, opts); diff != "" {
		t.Error(diff)
	}
	for name, read := range map[string]func() (ledger.Snapshot, error){
		"ak": func() (ledger.Snapshot, error) { return w.s.NodeByAK(t.Context(), snap.Node.AKName) },
	} {
		other, err := read()
		if err != nil || cmp.Diff(got, other) != "" {
			t.Errorf("by %s: another node, %v", name, err)
		}
	}
	c := attestation(t, got, ledger.VerdictDeny)
	p := w.append(c)
	if p.Version != 2 || p.Index != 2 || p.Size != 3 {
		t.Errorf("position = %+v", p)
	}
	r, err := w.s.Record(t.Context(), c.Record.ID)
	if err != nil || r == nil {
		t.Fatal(r, err)
	}
	want := ledger.Stored{Record: c.Record, LogID: "main", Index: 2, RecordedAt: p.RecordedAt, Drift: c.Drift}
	if diff := cmp.Diff(want, *r); diff != "" {
		t.Error(diff)
	}
	if len(c.Drift) == 0 {
		t.Error("a denial after an acceptance is no drift")
	}
	if none, err := w.s.NodeByID(t.Context(), "nobody"); err != nil || none.Found {
		t.Errorf("a node that does not exist: %+v, %v", none, err)
	}
	v := w.verify("")
	if v.Size != 3 || v.Records != 3 || v.Grants != 1 {
		t.Errorf("verification = %+v", v)
	}
}

func TestGroupCommitOf256Callers(t *testing.T) {
	w := newWorld(t)
	const callers, each = 256, 5
	var mu sync.Mutex
	seen := make(map[int64]bool)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				p, err := w.s.Append(t.Context(), event(t))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[p.Index] {
					t.Errorf("index %d was given twice", p.Index)
				}
				seen[p.Index] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i := range int64(callers * each) {
		if !seen[i] {
			t.Fatalf("index %d is missing", i)
		}
	}
	if v := w.verify(""); v.Size != callers*each {
		t.Errorf("size = %d", v.Size)
	}
}

func TestT4_OneVersionFiftyParallelAppendsOnTwoStores(t *testing.T) {
	w := newWorld(t)
	other := w.db.Open(t, nil)
	snap := w.enrol(1)
	for round := range 4 {
		var mu sync.Mutex
		won := 0
		var wg sync.WaitGroup
		for i := range 50 {
			s := w.s
			if i%2 == 1 {
				s = other
			}
			c := attestation(t, snap, ledger.VerdictAllow)
			wg.Go(func() {
				p, err := s.Append(t.Context(), c)
				if err != nil {
					wantCode(t, err, reason.ChallengeSpent)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				won++
				if p.Version != snap.State.Version+1 {
					t.Errorf("version = %d", p.Version)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Fatalf("round %d: %d acceptances of one version", round, won)
		}
		var err error
		if snap, err = w.s.NodeByID(t.Context(), snap.Node.ID); err != nil {
			t.Fatal(err)
		}
	}
	if v := w.verify(""); v.Size != 2+4 {
		t.Errorf("size = %d: a loser left a row", v.Size)
	}
}

func TestT16_SameNodeIDOtherRoot(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	thief := testNode(2, 0, ledger.Admission{Groups: []string{}})
	thief.ID = snap.Node.ID
	t.Run("new", func(t *testing.T) {
		c := attestation(t, ledger.Snapshot{Node: thief}, ledger.VerdictAllow)
		c.Node = &thief
		_, err := w.s.Append(t.Context(), c)
		wantCode(t, err, reason.NodeIdentityConflict)
	})
	t.Run("replace", func(t *testing.T) {
		c := attestation(t, ledger.Snapshot{Node: thief, State: snap.State}, ledger.VerdictAllow)
		c.Node = &thief
		_, err := w.s.Append(t.Context(), c)
		wantCode(t, err, reason.NodeIdentityConflict)
	})
	t.Run("concurrent", func(t *testing.T) {
		other := w.db.Open(t, nil)
		raceOneWinner(t, func(i int) (ledger.Commit, appender) {
			n := testNode(100+i, 0, ledger.Admission{Groups: []string{}})
			n.ID = "oneidforall"
			c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
			c.Node = &n
			return c, either(i, w.s, other)
		}, reason.NodeIdentityConflict)
	})
	got, err := w.s.NodeByID(t.Context(), snap.Node.ID)
	if err != nil || got.Node.RootHash != snap.Node.RootHash || got.State.Version != snap.State.Version {
		t.Errorf("the node was changed: %+v, %v", got, err)
	}
}

func TestT17_SameRootTwoNodeIDs(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	t.Run("sequential", func(t *testing.T) {
		n := snap.Node
		n.ID, n.AKName = "anothername", []byte("another ak")
		c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
		c.Node = &n
		_, err := w.s.Append(t.Context(), c)
		wantCode(t, err, reason.NodeIdentityConflict)
	})
	t.Run("same_ak", func(t *testing.T) {
		n := testNode(2, 0, ledger.Admission{Groups: []string{}})
		n.AKName, n.AKPublic = snap.Node.AKName, snap.Node.AKPublic
		c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
		c.Node = &n
		_, err := w.s.Append(t.Context(), c)
		wantCode(t, err, reason.NodeIdentityConflict)
	})
	t.Run("ak_of_another_by_change", func(t *testing.T) {
		second := w.enrol(3)
		n := second.Node
		n.AKName, n.AKPublic = snap.Node.AKName, snap.Node.AKPublic
		c := attestation(t, ledger.Snapshot{Node: n, State: second.State}, ledger.VerdictAllow)
		c.Node = &n
		_, err := w.s.Append(t.Context(), c)
		wantCode(t, err, reason.NodeIdentityConflict)
		got, err := w.s.NodeByID(t.Context(), n.ID)
		if err != nil || got.State.Version != second.State.Version {
			t.Errorf("the refused change moved the version: %+v, %v", got.State, err)
		}
	})
	t.Run("concurrent", func(t *testing.T) {
		other := w.db.Open(t, nil)
		raceOneWinner(t, func(i int) (ledger.Commit, appender) {
			n := testNode(200, i, ledger.Admission{Groups: []string{}})
			n.ID = ledger.NodeID(fmt.Sprintf("name%02d", i))
			c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
			c.Node = &n
			return c, either(i, w.s, other)
		}, reason.NodeIdentityConflict)
	})
}

func TestTwelveAKsRaceForOneEK(t *testing.T) {
	w := newWorld(t)
	other := w.db.Open(t, nil)
	root := sha256.Sum256([]byte("ek 7"))
	adm := admission(t, "m", root)
	w.append(admissionCommit(t, adm))
	winner := raceOneWinner(t, func(i int) (ledger.Commit, appender) {
		n := testNode(7, i, adm)
		c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
		c.Node = &n
		return c, either(i, w.s, other)
	}, reason.ChallengeSpent)
	got, err := w.s.NodeByID(t.Context(), winner.Node.ID)
	if err != nil || string(got.Node.AKName) != string(winner.Node.AKName) {
		t.Errorf("pinned AK %x is not the winner's (%v)", got.Node.AKName, err)
	}
	w.verify("")
}

type appender interface {
	Append(ctx context.Context, c ledger.Commit) (ledger.Position, error)
}

func either(i int, a, b appender) appender {
	if i%2 == 0 {
		return a
	}
	return b
}

// raceOneWinner appends twelve commits at once and wants one winner and the code
// for the rest.
func raceOneWinner(t *testing.T, make func(i int) (ledger.Commit, appender), loser reason.Code) ledger.Commit {
	t.Helper()
	var mu sync.Mutex
	var winners []ledger.Commit
	var wg sync.WaitGroup
	for i := range 12 {
		c, s := make(i)
		wg.Go(func() {
			_, err := s.Append(t.Context(), c)
			if err != nil {
				wantCode(t, err, loser)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			winners = append(winners, c)
		})
	}
	wg.Wait()
	if len(winners) != 1 {
		t.Fatalf("%d of 12 won", len(winners))
	}
	return winners[0]
}

func TestPoisonedItemLeaves255(t *testing.T) {
	// The writer starts only after all 256 are queued, so they share a batch.
	db := storetest.New(t)
	gate := make(chan struct{})
	w := &world{t: t, db: db, s: db.Open(t, gated(gate))}
	first := make(chan error, 1)
	go func() {
		_, err := w.s.Append(t.Context(), event(t))
		first <- err
	}()
	var mu sync.Mutex
	good, bad := 0, 0
	var wg sync.WaitGroup
	for i := range 256 {
		c := event(t)
		if i == 77 {
			c.Drift = []ledger.Drift{{Kind: "a text that Postgres refuses: \x00"}}
		}
		wg.Go(func() {
			_, err := w.s.Append(t.Context(), c)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				good++
				return
			}
			bad++
			wantCode(t, err, reason.Internal)
			if c.Drift == nil {
				t.Errorf("an honest item was refused: %v", err)
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	close(gate)
	wg.Wait()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if good != 255 || bad != 1 {
		t.Errorf("%d recorded, %d refused", good, bad)
	}
	if v := w.verify(""); v.Size != 256 {
		t.Errorf("size = %d", v.Size)
	}
}
