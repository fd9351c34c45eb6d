package store_test

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
)

// twoLogs is a database with two brokers, each with a log of its own, and the
// keys of both.
type twoLogs struct {
	*world        // of log main
	other  *world // of log second
	signer note.Signer
	key    note.Verifier // of log second
}

func newTwoLogs(t testing.TB) *twoLogs {
	t.Helper()
	skey, _, err := ledger.NewLogKey(rand.Reader, ledger.Origin("example.org", "second"))
	if err != nil {
		t.Fatal(err)
	}
	l := &twoLogs{}
	if l.signer, l.key, err = ledger.ParseLogKey(skey); err != nil {
		t.Fatal(err)
	}
	_, mainKey := logKeys()
	db := storetest.New(t)
	l.world = &world{t: t, db: db, s: db.Open(t, func(c *store.Config) { c.OtherLogs = []ledger.NoteVerifier{l.key} })}
	l.other = &world{t: t, db: db, s: db.Open(t, func(c *store.Config) { c.LogID, c.OtherLogs = "second", []ledger.NoteVerifier{mainKey} })}
	return l
}

// verifyBoth verifies from either broker, and wants the same of both.
func (l *twoLogs) verifyBoth() ledger.Verification {
	l.t.Helper()
	v := l.verify("")
	w, err := l.other.s.VerifyHistory(l.t.Context(), "", l.key, nil)
	if err != nil || fmt.Sprint(w.Logs, w.Problems, w.Records, w.Grants) != fmt.Sprint(v.Logs, v.Problems, v.Records, v.Grants) {
		l.t.Errorf("the brokers verify to %+v and %+v (%v)", v, w, err)
	}
	return v
}

// wander enrols n nodes and has each attest and be issued SVIDs by the brokers in
// turn.
func (l *twoLogs) wander(n, rounds int) {
	l.t.Helper()
	worlds := []*world{l.world, l.other}
	snaps := make([]ledger.Snapshot, n)
	for i := range snaps {
		snaps[i] = worlds[i%2].enrol(i)
	}
	for round := range rounds {
		for i := range snaps {
			w := worlds[(round+i)%2]
			now, err := w.s.NodeByID(l.t.Context(), snaps[i].Node.ID)
			if err != nil {
				l.t.Fatal(err)
			}
			w.append(attestation(l.t, now, ledger.VerdictAllow))
			if now, err = worlds[i%2].s.NodeByID(l.t.Context(), snaps[i].Node.ID); err != nil {
				l.t.Fatal(err)
			}
			worlds[i%2].append(issuance(l.t, now))
		}
	}
}

// TestTwoLogs: nodes go from one broker to the other, each of which has a log of
// its own; both logs are whole, and what a node did has one order over both.
func TestTwoLogs(t *testing.T) {
	t.Parallel()
	l := newTwoLogs(t)
	l.wander(6, 30)
	signer, _ := logKeys()
	for _, s := range []struct {
		s      *store.Store
		signer note.Signer
		log    string
	}{{l.s, signer, "main"}, {l.other.s, l.signer, "second"}} {
		text, err := s.s.SignCheckpoint(t.Context(), s.signer, &memoryAnchor{})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(text, ledger.Origin("example.org", s.log)+"\n") {
			t.Errorf("signed %q", text)
		}
	}
	v := l.verifyBoth()
	if len(v.Logs) != 2 || v.Logs[0].Log != "main" || v.Logs[1].Log != "second" || v.Logs[0].Size+v.Logs[1].Size != v.Records || v.Size != v.Logs[0].Size {
		t.Errorf("verification = %+v", v)
	}
	for _, sum := range v.Logs {
		if root, found, err := l.s.CheckpointRoot(t.Context(), sum.Log, sum.Size); err != nil || !found || root != sum.Root {
			t.Errorf("log %s: its checkpoint is not over its entries (%v, %v)", sum.Log, found, err)
		}
	}
	// Each broker finds the records of the other.
	c := event(t)
	p := l.other.append(c)
	if got, err := l.s.Record(t.Context(), c.Record.ID); err != nil || got == nil || got.LogID != "second" || got.Index != p.Index {
		t.Errorf("record of the other log = %+v, %v", got, err)
	}
}

// TestTwoLogsTampered: whatever is changed in either log is found, and named with
// its log.
func TestTwoLogsTampered(t *testing.T) {
	t.Parallel()
	const stray = `INSERT INTO svid SELECT recorded_at, 'third', log_idx, ord, node_id, profile, serial, spiffe_id, not_before, not_after,
		tbs_sha256, ca_key_id, key, audience FROM svid LIMIT 1`
	for name, c := range map[string]struct{ sql, want string }{
		"row_of_main":      {`UPDATE attestation SET salt = sha256('x') WHERE log_id = 'main' AND log_idx = 5`, "log main: index 5 record"},
		"row_of_second":    {`UPDATE attestation SET salt = sha256('x') WHERE log_id = 'second' AND log_idx = 5`, "log second: index 5 record"},
		"removed":          {`DELETE FROM attestation WHERE log_id = 'second' AND log_idx = 7`, "log second: index 7 record"},
		"carried_over":     {`UPDATE attestation SET log_id = 'second' WHERE log_id = 'main' AND log_idx = 5`, "log main: index 5 record"},
		"whole_log":        {`DELETE FROM log_head WHERE log_id = 'second'`, "log second: the log has no head"},
		"log_of_nobody":    {stray, `svid: 1 rows are of log "third"`},
		"head_of_nobody":   {`INSERT INTO log_head SELECT 'third', size, frontier, recorded_at FROM log_head WHERE log_id = 'second'`, "log third: its key is not known"},
		"admission_moved":  {`UPDATE admission SET change_log = 'second' WHERE change_log = 'main'`, "for its last change, which is in log main"},
		"admission_redate": {`UPDATE admission SET changed_at = changed_at + interval '1 hour'`, "names another time for its last change"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTwoLogs(t)
			l.wander(2, 4)
			l.verifyBoth()
			l.db.Exec(t, freely+c.sql)
			wantProblem(t, l.world, c.want)
			_, err := l.other.s.VerifyHistory(t.Context(), "", l.key, nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAdmissionsOfTwoLogs: a broker that follows the admissions misses none of
// another's log, wherever the indices of the two stand.
func TestAdmissionsOfTwoLogs(t *testing.T) {
	t.Parallel()
	l := newTwoLogs(t)
	for range 20 {
		l.append(event(t)) // the indices of main are far ahead
	}
	followers := map[string]*store.Store{"main": l.s, "second": l.other.s}
	cursors := make(map[string]ledger.Places)
	follow := func(want ...ledger.Admission) {
		t.Helper()
		for name, s := range followers {
			var got []string
			for {
				page, next, err := s.AdmissionsSince(t.Context(), cursors[name], 2)
				if err != nil {
					t.Fatal(err)
				}
				cursors[name] = next
				for _, a := range page {
					got = append(got, fmt.Sprint(a.Machine, a.Revoked))
				}
				if len(page) < 2 {
					break
				}
			}
			var machines []string
			for _, a := range want {
				machines = append(machines, fmt.Sprint(a.Machine, a.Revoked))
			}
			if fmt.Sprint(got) != fmt.Sprint(machines) {
				t.Errorf("broker of %s follows %v, want %v", name, got, machines)
			}
		}
	}
	ek := sha256.Sum256([]byte("ek 1"))
	a, b, c := admission(t, "a", ek), admission(t, "b"), admission(t, "c")
	l.append(admissionCommit(t, a))
	l.other.append(admissionCommit(t, b))
	l.other.append(admissionCommit(t, c))
	follow(a, b, c)
	follow()
	a.Revoked = true
	l.other.append(grantCommit(t, ledger.TypeAdmissionEnded, a.ID.String(), ledger.Commit{Admission: &a}))
	follow(a)
	// The newest of an EK counts, though its index is smaller.
	again := admission(t, "again", ek)
	l.other.append(admissionCommit(t, again))
	follow(again)
	if got, err := l.s.AdmissionByEK(t.Context(), ek); err != nil || got == nil || got.ID != again.ID {
		t.Errorf("admission = %+v, %v", got, err)
	}
	l.verifyBoth()
}

// TestTwoLogsUnderLoad: four brokers, two a log, work on the same nodes, while
// the clock steps back and objects get their versions.
func TestTwoLogsUnderLoad(t *testing.T) {
	t.Parallel()
	l := newTwoLogs(t)
	nodes := l.enrolled(8)
	l.stepClock(0)
	a := newAcks("0", "1", "2", "3")
	var failures atomic.Int64
	var stops []func()
	for i, log := range []string{"main", "second", "main", "second"} {
		stops = append(stops, l.startLoad(fmt.Sprint(i), nodes, a, &failures, func(c *store.Config) { c.LogID = log }))
	}
	a.progress(t, 20)
	l.stepClock(-2 * time.Hour)
	for i := range 10 {
		o := ledger.Object{Kind: "policy", Bytes: fmt.Appendf(nil, "policy %d", i)}
		o.Digest = sha256.Sum256(o.Bytes)
		w := []*world{l.world, l.other}[i%2]
		p := w.append(grantCommit(t, ledger.TypePolicyActivated, hexOf(o.Digest[:]), ledger.Commit{Object: &o}))
		if p.Version != int64(i)+1 {
			t.Errorf("object %d got version %d", i, p.Version)
		}
	}
	a.progress(t, 20)
	for _, stop := range stops {
		stop()
	}
	if n := failures.Load(); n != 0 {
		t.Errorf("%d requests were refused", n)
	}
	l.checkWhole(a)
	l.verifyBoth()
	const order = `SELECT count(*) FROM attestation a JOIN attestation b USING (node_id, recorded_at) WHERE node_id <> '' AND a.log_id < b.log_id`
	if n := query[int64](t, l.db, order); n != 0 {
		t.Errorf("%d records of a node have no order between the logs", n)
	}
}
