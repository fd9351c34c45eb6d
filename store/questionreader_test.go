package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestReaderOnlyReads, whatever its login role might do, and says when it cannot
// work.
func TestReaderOnlyReads(t *testing.T) {
	w := newWorld(t)
	for name, dsn := range map[string]string{"reader": w.db.ReaderDSN, "writer": w.db.WriterDSN, "owner": w.db.OwnerDSN} {
		r, err := store.OpenReader(t.Context(), store.ReaderConfig{DSN: dsn, LogID: "main"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer r.Close()
		if err := r.Try(t.Context(), `DELETE FROM pending`); pgState(err) != "25006" && pgState(err) != "42501" {
			t.Errorf("%s deletes: %v", name, err)
		}
		asOf, err := r.AsOf(t.Context())
		if err != nil || asOf.Size != 0 || !asOf.RecordedAt.IsZero() || asOf.LogID != "main" {
			t.Errorf("%s: an empty log is %+v, %v", name, asOf, err)
		}
	}
	w.db.Exec(t, `CREATE ROLE stranger LOGIN`)
	t.Cleanup(func() { w.db.Exec(t, `DROP ROLE stranger`) })
	stranger := strings.Replace(w.db.ReaderDSN, store.ReaderRole, "stranger", 1)
	if _, err := store.OpenReader(t.Context(), store.ReaderConfig{DSN: stranger, LogID: "main"}); err == nil || !strings.Contains(err.Error(), store.ReaderRole) {
		t.Errorf("a stranger becomes the reader: %v", err)
	}
	for name, cfg := range map[string]store.ReaderConfig{
		"no_log": {DSN: w.db.ReaderDSN}, "no_dsn": {LogID: "main"}, "bad_dsn": {DSN: "postgres://a b", LogID: "main"},
	} {
		if _, err := store.OpenReader(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	_, err := store.OpenReader(t.Context(), store.ReaderConfig{DSN: "postgres://127.0.0.1:1/x?user=zb_reader", LogID: "main"})
	wantCode(t, err, reason.StoreUnavailable)
	// A question that the database does not answer is no answer of nothing.
	r := w.reader()
	r.Close()
	if rows, _, err := r.Members(t.Context(), ledger.MembersQuery{Zone: "payments", At: time.Now()}); rows != nil || reason.Of(err) != reason.StoreUnavailable {
		t.Errorf("%v, %v", rows, err)
	}
}

// TestReaderBehindAPooler: sessions of a pooler know neither SET ROLE nor
// prepared statements; questions are asked all the same.
func TestReaderBehindAPooler(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	p := startPooler(t, w.db.ReaderDSN, "transaction", 2)
	r, err := store.OpenReader(t.Context(), store.ReaderConfig{DSN: p.dsn, LogID: "main", Pooler: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 3 {
		got, asOf, err := r.NodeAt(t.Context(), snap.Node.ID, time.Now().Add(time.Minute))
		if err != nil || got.Record == nil || asOf.Size != 2 {
			t.Errorf("%+v, %+v, %v", got, asOf, err)
		}
		rows, _, err := r.Issued(t.Context(), ledger.IssuedQuery{Node: snap.Node.ID, Since: time.Now().Add(-time.Hour)})
		if err != nil || len(rows) != 1 {
			t.Errorf("%+v, %v", rows, err)
		}
	}
}
