package store_test

import (
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// forgeries collects what OnForged heard.
type forgeries struct {
	mu   sync.Mutex
	seen []string
}

func (f *forgeries) hear(table, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, table+" "+id)
}

func (f *forgeries) has(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.seen, name)
}

func newWatchedWorld(t *testing.T) (*world, *forgeries) {
	t.Helper()
	f := &forgeries{}
	db := storetest.New(t)
	return &world{t: t, db: db, s: db.Open(t, func(c *store.Config) { c.OnForged = f.hear })}, f
}

// TestSuperuserGrantsNothing: rows that somebody without the row key writes are
// as if absent, are told of, and are found by the verification.
func TestSuperuserGrantsNothing(t *testing.T) {
	t.Parallel()
	t.Run("another_AK_in_node", func(t *testing.T) {
		w, heard := newWatchedWorld(t)
		snap := w.enrol(1)
		w.db.Exec(t, `UPDATE node SET ak_name = 'mine', ak_public = 'mine'`)
		for name, read := range map[string]func() (ledger.Snapshot, error){
			"id": func() (ledger.Snapshot, error) { return w.s.NodeByID(t.Context(), snap.Node.ID) },
			"ak": func() (ledger.Snapshot, error) { return w.s.NodeByAK(t.Context(), []byte("mine")) },
		} {
			got, err := read()
			wantCode(t, err, reason.StoreRowForged)
			if got.Found {
				t.Errorf("by %s: a forged node was returned", name)
			}
		}
		if list, err := w.s.Nodes(t.Context(), "", 10); err != nil || len(list) != 0 {
			t.Errorf("a forged node is listed: %v, %v", list, err)
		}
		wantForged(t, w, heard, "node "+string(snap.Node.ID))
		if got := w.problems(""); !strings.Contains(got, "AK differs") {
			t.Errorf("the log is not held against the AK:\n%s", got)
		}
	})
	t.Run("another_status_in_node", func(t *testing.T) {
		w, heard := newWatchedWorld(t)
		snap := w.enrol(1)
		w.db.Exec(t, `UPDATE node SET status = 'disabled'`)
		_, err := w.s.NodeByID(t.Context(), snap.Node.ID)
		wantCode(t, err, reason.StoreRowForged)
		wantForged(t, w, heard, "node "+string(snap.Node.ID))
	})
	t.Run("a_node", func(t *testing.T) {
		w, heard := newWatchedWorld(t)
		w.enrol(1)
		w.db.Exec(t, freely+`INSERT INTO node SELECT 'mine', root_kind, sha256('x'), ek_public, ak_public, 'mine', manufacturer, tpm_model, tpm_version, ek_expired, admitted_by,
			gen_random_uuid(), machine, groups, status, ak_approved, created_at, mac FROM node;
			CREATE TABLE mine AS TABLE node_state; UPDATE mine SET node_id = 'mine', version = 1; INSERT INTO node_state TABLE mine`)
		_, err := w.s.NodeByAK(t.Context(), []byte("mine"))
		wantCode(t, err, reason.StoreRowForged)
		wantForged(t, w, heard, "node mine")
	})
	t.Run("an_admission", func(t *testing.T) {
		w, heard := newWatchedWorld(t)
		w.enrol(1)
		id := uuid.New()
		w.db.Exec(t, `INSERT INTO admission SELECT '`+id.String()+`', kind, machine, groups, ARRAY[sha256('ek 2')], granted_by, revoked, created_at, 2, mac FROM admission`)
		got, err := w.s.AdmissionByEK(t.Context(), sha256.Sum256([]byte("ek 2")))
		if got != nil || err != nil {
			t.Errorf("a forged admission was returned: %+v, %v", got, err)
		}
		all, cursor, err := w.s.AdmissionsSince(t.Context(), nil, 10)
		if len(all) != 1 || cursor["main"] != 1 || err != nil {
			t.Errorf("a forged admission is in the list: %+v, %v, %v", all, cursor, err)
		}
		wantForged(t, w, heard, "admission "+id.String())
	})
	t.Run("another_EK_in_an_admission", func(t *testing.T) {
		w, heard := newWatchedWorld(t)
		snap := w.enrol(1)
		w.db.Exec(t, freely+`UPDATE admission SET ek_hashes = ek_hashes || sha256('ek 2')`)
		if got, err := w.s.AdmissionByEK(t.Context(), sha256.Sum256([]byte("ek 2"))); got != nil || err != nil {
			t.Errorf("a forged admission was returned: %+v, %v", got, err)
		}
		wantForged(t, w, heard, "admission "+snap.Node.Admission.String())
	})
	t.Run("a_CA_in_key", func(t *testing.T) {
		w, heard := newWatchedWorld(t)
		w.append(keyCommit(t, "aa"))
		w.db.Exec(t, `INSERT INTO key SELECT 'bb', kind, replica, 'mine', not_before, not_after, mac FROM key`)
		keys, err := w.s.Keys(t.Context(), []string{"x509-ca"}, time.Now())
		if err != nil || len(keys) != 1 || keys[0].ID != "aa" {
			t.Errorf("keys = %+v, %v", keys, err)
		}
		wantForged(t, w, heard, "key bb")
	})
	t.Run("a_join_token", func(t *testing.T) {
		w, heard := newWatchedWorld(t)
		jt := joinToken(t)
		w.append(tokenCommit(t, jt))
		id := uuid.New()
		w.db.Exec(t, `INSERT INTO join_token SELECT '`+id.String()+`', sha256('mine'), machine, groups, granted_by, created_at, expires_at, NULL, mac FROM join_token`)
		got, err := w.s.JoinTokenByHash(t.Context(), sha256.Sum256([]byte("mine")), time.Now())
		if got != nil || err != nil {
			t.Errorf("a forged token was returned: %+v, %v", got, err)
		}
		wantForged(t, w, heard, "join_token "+id.String())
	})
	t.Run("a_row_of_another_table", func(t *testing.T) {
		// The HMAC of an admission is not one of a token even for equal bytes: the
		// table is in it. Here the key's HMAC is carried over.
		w, heard := newWatchedWorld(t)
		w.append(keyCommit(t, "aa"))
		jt := joinToken(t)
		w.append(tokenCommit(t, jt))
		w.db.Exec(t, freely+`UPDATE join_token SET mac = (SELECT mac FROM key)`)
		if got, err := w.s.JoinTokenByHash(t.Context(), jt.SecretHash, time.Now()); got != nil || err != nil {
			t.Errorf("returned %+v, %v", got, err)
		}
		wantForged(t, w, heard, "join_token "+jt.ID.String())
	})
	t.Run("another_policy", func(t *testing.T) {
		w, heard := newWatchedWorld(t)
		c := policyCommit(t, "zones")
		w.append(c)
		w.db.Exec(t, freely+`UPDATE object SET bytes = 'mine'`)
		if got, err := w.s.ObjectByDigest(t.Context(), "policy", c.Object.Digest); got != nil || err != nil {
			t.Errorf("returned %+v, %v", got, err)
		}
		if !heard.has("object "+c.Record.ID.String()) && len(heard.seen) != 1 {
			t.Errorf("heard %v", heard.seen)
		}
		if got := w.problems(""); !strings.Contains(got, "its bytes do not have its digest") {
			t.Errorf("problems: %s", got)
		}
	})
}

func wantForged(t *testing.T, w *world, heard *forgeries, name string) {
	t.Helper()
	if !heard.has(name) {
		t.Errorf("OnForged did not hear of %q, only of %v", name, heard.seen)
	}
	if got := w.problems(""); !strings.Contains(got, name+": ") {
		t.Errorf("the verification does not name %q:\n%s", name, got)
	}
}

// TestRestoredRights: rows with a good HMAC that were put back to an older state
// are found by the log.
func TestRestoredRights(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sql  string
		want string
	}{
		"node_enabled_again":   {`UPDATE node n SET status = o.status, ak_approved = o.ak_approved, mac = o.mac FROM old_node o`, "node"},
		"admission_unrevoked":  {`UPDATE admission a SET revoked = o.revoked, mac = o.mac FROM old_admission o`, "admission"},
		"token_unused":         {`UPDATE join_token SET used_by = NULL`, "join_token"},
		"node_deleted":         {`DELETE FROM node_state; DELETE FROM node`, "its row is missing"},
		"admission_deleted":    {`DELETE FROM admission`, "its row is missing"},
		"token_deleted":        {`DELETE FROM join_token`, "its row is missing"},
		"key_deleted":          {`DELETE FROM key`, "its row is missing"},
		"policy_deleted":       {`DELETE FROM object`, "its row is missing"},
		"nothing_else_touched": {`SELECT 1`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			jt := joinToken(t)
			w.append(tokenCommit(t, jt))
			w.append(keyCommit(t, "aa"))
			w.append(policyCommit(t, "zones"))
			n := testNode(1, 0, ledger.Admission{ID: jt.ID, Machine: jt.Machine, Groups: jt.Groups})
			n.AdmittedBy = ledger.AdmitJoinToken
			c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
			c.Node, c.JoinToken = &n, &jt.ID
			w.append(c)
			adm := admission(t, "m", [32]byte{1})
			w.append(admissionCommit(t, adm))
			w.db.Exec(t, `CREATE TABLE old_node AS TABLE node; CREATE TABLE old_admission AS TABLE admission`)
			snap, err := w.s.NodeByID(t.Context(), n.ID)
			if err != nil {
				t.Fatal(err)
			}
			snap.Node.Status = ledger.StatusDisabled
			w.append(grantCommit(t, ledger.TypeNodeDisabled, string(n.ID), ledger.Commit{BasedOn: 1, Node: &snap.Node, State: &snap.State}))
			adm.Revoked = true
			w.append(grantCommit(t, ledger.TypeAdmissionEnded, adm.ID.String(), ledger.Commit{Admission: &adm}))
			w.verify("")
			w.db.Exec(t, freely+tc.sql)
			got := w.problems("")
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("want %q among:\n%s", tc.want, got)
			}
		})
	}
}

func TestJoinTokenAdmitsOnce(t *testing.T) {
	w := newWorld(t)
	other := w.db.Open(t, nil)
	jt := joinToken(t)
	w.append(tokenCommit(t, jt))
	got, err := w.s.JoinTokenByHash(t.Context(), jt.SecretHash, time.Now())
	if err != nil || got == nil || cmp.Diff(jt, *got) != "" {
		t.Fatalf("token = %+v, %v", got, err)
	}
	if late, err := w.s.JoinTokenByHash(t.Context(), jt.SecretHash, jt.ExpiresAt); late != nil || err != nil {
		t.Errorf("an expired token was returned: %+v, %v", late, err)
	}
	winner := raceOneWinner(t, func(i int) (ledger.Commit, appender) {
		n := testNode(i, 0, ledger.Admission{ID: jt.ID, Machine: jt.Machine, Groups: jt.Groups})
		n.AdmittedBy = ledger.AdmitJoinToken
		c := attestation(t, ledger.Snapshot{Node: n}, ledger.VerdictAllow)
		c.Node, c.JoinToken = &n, &jt.ID
		return c, either(i, w.s, other)
	}, reason.ChallengeSpent)
	if used, err := w.s.JoinTokenByHash(t.Context(), jt.SecretHash, time.Now()); used != nil || err != nil {
		t.Errorf("a used token was returned: %+v, %v", used, err)
	}
	if n := query[int](t, w.db, `SELECT count(*) FROM node`); n != 1 {
		t.Errorf("%d nodes came of one token", n)
	}
	if used := query[string](t, w.db, `SELECT used_by FROM join_token`); used != string(winner.Node.ID) {
		t.Errorf("the token was used by %s", used)
	}
	w.verify("")
}

func TestAdmissionsFollowTheLog(t *testing.T) {
	w := newWorld(t)
	var want []ledger.Admission
	for i := range 5 {
		a := admission(t, "m", [32]byte{byte(i)}, [32]byte{byte(i), 1})
		w.append(admissionCommit(t, a))
		want = append(want, a)
	}
	first, cursor, err := w.s.AdmissionsSince(t.Context(), nil, 3)
	if err != nil {
		t.Fatal(err)
	}
	rest, end, err := w.s.AdmissionsSince(t.Context(), cursor, 3)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, append(first, rest...)); diff != "" {
		t.Error(diff)
	}
	want[1].Revoked = true
	w.append(grantCommit(t, ledger.TypeAdmissionEnded, want[1].ID.String(), ledger.Commit{Admission: &want[1]}))
	news, end2, err := w.s.AdmissionsSince(t.Context(), end, 10)
	if err != nil || len(news) != 1 || !news[0].Revoked || end2["main"] <= end["main"] {
		t.Errorf("the revocation is not news: %+v, %v, %v", news, end2, err)
	}
	got, err := w.s.AdmissionByEK(t.Context(), [32]byte{1, 1})
	if err != nil || got == nil || !got.Revoked {
		t.Errorf("admission = %+v, %v", got, err)
	}
	// Admitted again by another record: the newest counts.
	again := admission(t, "m", [32]byte{1, 1})
	w.append(admissionCommit(t, again))
	if got, err = w.s.AdmissionByEK(t.Context(), [32]byte{1, 1}); err != nil || got == nil || got.ID != again.ID {
		t.Errorf("admission = %+v, %v", got, err)
	}
	if none, err := w.s.AdmissionByEK(t.Context(), [32]byte{99}); none != nil || err != nil {
		t.Errorf("an EK that nobody admitted: %+v, %v", none, err)
	}
	w.verify("")
}

func TestKeysAndObjects(t *testing.T) {
	w := newWorld(t)
	k := keyCommit(t, "aa")
	w.append(k)
	keys, err := w.s.Keys(t.Context(), []string{"x509-ca"}, time.Now())
	if err != nil || cmp.Diff([]ledger.Key{*k.Key}, keys) != "" {
		t.Errorf("keys = %+v, %v", keys, err)
	}
	if late, err := w.s.Keys(t.Context(), []string{"x509-ca"}, k.Key.NotAfter); err != nil || len(late) != 0 {
		t.Errorf("an ended key: %+v, %v", late, err)
	}
	for i, text := range []string{"one", "two"} {
		c := policyCommit(t, text)
		if p := w.append(c); p.Version != int64(i+1) {
			t.Errorf("version of %s = %d", text, p.Version)
		}
		if p := w.append(policyCommit(t, text)); p.Version != int64(i+1) {
			t.Errorf("the same policy got version %d", p.Version)
		}
		o, err := w.s.ObjectByDigest(t.Context(), "policy", c.Object.Digest)
		if err != nil || o == nil || o.Version != int64(i+1) || string(o.Bytes) != text {
			t.Errorf("object = %+v, %v", o, err)
		}
	}
	if o, err := w.s.ObjectByDigest(t.Context(), "trust", sha256.Sum256([]byte("one"))); o != nil || err != nil {
		t.Errorf("another kind: %+v, %v", o, err)
	}
	w.verify("")
}

func keyCommit(t testing.TB, id string) ledger.Commit {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	k := ledger.Key{ID: id, Kind: "x509-ca", Replica: "r", DER: []byte("der"), NotBefore: now, NotAfter: now.Add(24 * time.Hour)}
	return grantCommit(t, ledger.TypeKeyPublished, id, ledger.Commit{Key: &k})
}

func joinToken(t testing.TB) ledger.JoinToken {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	id := recordID(t)
	return ledger.JoinToken{
		ID: id, SecretHash: sha256.Sum256(id[:]), Machine: "m", Groups: []string{"g"}, By: "uid:0", CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
}

func tokenCommit(t testing.TB, jt ledger.JoinToken) ledger.Commit {
	t.Helper()
	return grantCommit(t, ledger.TypeTokenCreated, jt.ID.String(), ledger.Commit{NewJoinToken: &jt})
}

func policyCommit(t testing.TB, text string) ledger.Commit {
	t.Helper()
	o := ledger.Object{Kind: "policy", Digest: sha256.Sum256([]byte(text)), Bytes: []byte(text)}
	return grantCommit(t, ledger.TypePolicyActivated, hexOf(o.Digest[:]), ledger.Commit{Object: &o})
}
