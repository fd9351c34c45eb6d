package store_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// grantOlder admits as a program of schema 3 does, which writes neither a log nor
// a time.
func (w *world) grantOlder(a ledger.Admission) {
	w.t.Helper()
	w.append(admissionCommit(w.t, a))
	w.db.Exec(w.t, freely+`UPDATE admission SET changed_at = NULL, timed_seq = NULL WHERE admission_id = '`+a.ID.String()+`'`)
}

// revokeOlder revokes as such a program does: its statement runs on the row as it
// was, with every trigger.
func (w *world) revokeOlder(a ledger.Admission) {
	w.t.Helper()
	a.Revoked = true
	w.db.Exec(w.t, `DROP TABLE IF EXISTS was, became`, `CREATE TABLE was AS TABLE admission`)
	w.append(grantCommit(w.t, ledger.TypeAdmissionEnded, a.ID.String(), ledger.Commit{Admission: &a}))
	w.db.Exec(w.t, `CREATE TABLE became AS SELECT * FROM admission WHERE admission_id = '`+a.ID.String()+`'`,
		freely+`UPDATE admission a SET revoked = w.revoked, change_seq = w.change_seq, mac = w.mac, change_log = w.change_log,
			changed_at = w.changed_at, timed_seq = w.timed_seq FROM was w WHERE a.admission_id = w.admission_id`,
		`RESET session_replication_role`,
		`UPDATE admission a SET revoked = b.revoked, change_seq = b.change_seq, mac = b.mac FROM became b WHERE a.admission_id = b.admission_id`)
}

// TestAdmissionsOfSchema3: what a program of schema 3 grants and revokes beside
// this one is verified, is the newest where it is, and is missed by no follower.
func TestAdmissionsOfSchema3(t *testing.T) {
	t.Parallel()
	l := newTwoLogs(t)
	l.append(event(t))
	ek := sha256.Sum256([]byte("ek 1"))
	newest := func(want ledger.Admission) {
		t.Helper()
		if got, err := l.s.AdmissionByEK(t.Context(), ek); err != nil || got == nil || got.ID != want.ID {
			t.Errorf("admission = %+v, %v; want that of %s", got, err, want.Machine)
		}
	}
	a, b, c, d := admission(t, "a", ek), admission(t, "b", ek), admission(t, "c", ek), admission(t, "d")
	l.append(admissionCommit(t, a))
	l.grantOlder(b)
	newest(b)
	l.other.append(admissionCommit(t, c))
	newest(c)
	l.append(admissionCommit(t, d))
	l.revokeOlder(c)
	if got := query[string](t, l.db, `SELECT concat_ws(' ', change_log, changed_at, timed_seq) FROM admission WHERE machine = 'c'`); got != "main" {
		t.Errorf("the place of another log stands: %s", got)
	}
	l.revokeOlder(d)
	l.verifyBoth()
	for limit := 1; limit < 5; limit++ {
		var got []string
		var cursor ledger.Places
		for {
			page, next, err := l.s.AdmissionsSince(t.Context(), cursor, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range page {
				got = append(got, fmt.Sprint(a.Machine, a.Revoked))
			}
			if cursor = next; len(page) < limit {
				break
			}
		}
		if want := []string{"afalse", "bfalse", "ctrue", "dtrue"}; !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v, want %v", limit, got, want)
		}
	}
}
