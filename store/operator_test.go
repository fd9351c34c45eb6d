package store_test

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func operatorRow(t testing.TB, name string) ledger.Operator {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	id := recordID(t)
	return ledger.Operator{
		ID: id, Name: name, Role: "auditor", SPKISHA256: sha256.Sum256(id[:]), By: "uid:0", CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
}

func operatorCommit(t testing.TB, o ledger.Operator) ledger.Commit {
	t.Helper()
	kind := ledger.TypeOperatorAdded
	if o.Revoked {
		kind = ledger.TypeOperatorRevoked
	}
	return grantCommit(t, kind, o.ID.String(), ledger.Commit{Operator: &o})
}

func (w *world) operators(since time.Time) []ledger.Operator {
	w.t.Helper()
	out, err := w.s.Operators(w.t.Context(), since, 10)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func TestOperators(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := operatorRow(t, "alice"), operatorRow(t, "bob")
	bob.CreatedAt = bob.CreatedAt.Add(time.Second)
	bob.Role, bob.ExpiresAt = "operator", bob.ExpiresAt.Add(time.Hour)
	w.append(operatorCommit(t, bob))
	w.append(operatorCommit(t, alice))
	if diff := cmp.Diff([]ledger.Operator{alice, bob}, w.operators(time.Now())); diff != "" {
		t.Error(diff)
	}
	if got := w.operators(alice.ExpiresAt); len(got) != 1 || got[0].Name != "bob" {
		t.Errorf("a role that ended is returned: %+v", got)
	}
	alice.Revoked = true
	w.append(operatorCommit(t, alice))
	if got := w.operators(time.Now()); len(got) != 2 || !got[0].Revoked {
		t.Errorf("the revocation is not returned: %+v", got)
	}
	if o, err := w.s.OperatorByName(t.Context(), "alice"); o != nil || err != nil {
		t.Errorf("a revoked role by its name: %+v, %v", o, err)
	}
	again := operatorRow(t, "alice")
	w.append(operatorCommit(t, again))
	if o, err := w.s.OperatorByName(t.Context(), "alice"); err != nil || o == nil || cmp.Diff(again, *o) != "" {
		t.Errorf("by name: %+v, %v", o, err)
	}
	w.verify("")
}

// TestOperatorRefusals: what the table does not take refuses that item alone,
// and leaves neither a row nor a record.
func TestOperatorRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := operatorRow(t, "alice")
	w.append(operatorCommit(t, alice))
	sameKey := operatorRow(t, "carol")
	sameKey.SPKISHA256 = alice.SPKISHA256
	nobody := operatorRow(t, "nobody")
	nobody.Revoked = true
	gone := operatorRow(t, "gone")
	w.append(operatorCommit(t, gone))
	gone.Revoked = true
	w.append(operatorCommit(t, gone))
	size := query[int64](t, w.db, `SELECT size FROM log_head`)
	for _, tt := range []struct {
		name string
		row  ledger.Operator
		want reason.Code
	}{
		{"name_in_use", operatorRow(t, "alice"), reason.RequestMalformed},
		{"key_in_use", sameKey, reason.RequestMalformed},
		{"revoke_nobody", nobody, reason.RequestNotFound},
		{"revoke_twice", gone, reason.RequestNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Another item of the same batch is written all the same.
			other := make(chan error, 1)
			go func() {
				_, err := w.s.Append(t.Context(), event(t))
				other <- err
			}()
			_, err := w.s.Append(t.Context(), operatorCommit(t, tt.row))
			wantCode(t, err, tt.want)
			if err := <-other; err != nil {
				t.Errorf("the other item: %v", err)
			}
		})
	}
	if n := query[int64](t, w.db, `SELECT size FROM log_head`); n != size+4 {
		t.Errorf("%d records, want %d", n, size+4)
	}
	w.verify("")
}

// TestOperatorRows: what a superuser makes of the table grants nothing or shows
// in the verification.
func TestOperatorRows(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sql   string
		names string // of who is left, in order
		want  string // among the problems
	}{
		"another_role":    {`UPDATE operator SET role = 'operator' WHERE name = 'alice'`, "gone", "its HMAC does not hold"},
		"another_key":     {`UPDATE operator SET spki_sha256 = sha256('mine') WHERE name = 'alice'`, "gone", "its HMAC does not hold"},
		"longer":          {`UPDATE operator SET expires_at = expires_at + interval '1 year' WHERE name = 'alice'`, "gone", "its HMAC does not hold"},
		"a_row":           {`INSERT INTO operator SELECT gen_random_uuid(), 'mine', role, sha256('mine'), granted_by, revoked, created_at, expires_at, mac FROM operator WHERE name = 'alice'`, "alice gone", "its HMAC does not hold"},
		"unrevoked":       {`UPDATE operator SET revoked = false WHERE name = 'gone'`, "alice", "its HMAC does not hold"},
		"old_row_is_back": {`UPDATE operator o SET revoked = false, mac = k.mac FROM kept k WHERE o.name = 'gone'`, "alice gone", "not the row that the log's record granted"},
		"deleted":         {`DELETE FROM operator WHERE name = 'alice'`, "gone", "its row is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := newWatchedWorld(t)
			alice, gone := operatorRow(t, "alice"), operatorRow(t, "gone")
			gone.CreatedAt = gone.CreatedAt.Add(time.Second)
			w.append(operatorCommit(t, alice))
			w.append(operatorCommit(t, gone))
			w.db.Exec(t, `CREATE TABLE kept AS SELECT * FROM operator WHERE name = 'gone'`)
			gone.Revoked = true
			w.append(operatorCommit(t, gone))
			w.verify("")
			// No fence stops a new row; the HMAC does.
			if name != "a_row" && w.tryExec(w.db.OwnerDSN, tc.sql) == nil {
				t.Error("no fence stopped it")
			}
			w.db.Exec(t, freely+tc.sql)
			var names []string
			for _, o := range w.operators(time.Now()) {
				names = append(names, o.Name)
			}
			if got := strings.Join(names, " "); got != tc.names {
				t.Errorf("left are %q, want %q", got, tc.names)
			}
			wantProblem(t, w, tc.want)
		})
	}
}
