package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
)

// TestInventoryIsReplaced as a whole, with its record: what was in the list
// before and is not any more is missing from no coverage.
func TestInventoryIsReplaced(t *testing.T) {
	w := newWorld(t)
	r, err := store.OpenReader(t.Context(), store.ReaderConfig{DSN: w.db.ReaderDSN, LogID: "main"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	ek := [32]byte{7}
	for _, list := range [][]ledger.InventoryMachine{
		{{Machine: "a"}, {Machine: "b", Model: "m", Site: "s", EKHash: &ek}, {Machine: "c"}},
		{{Machine: "b", Site: "t", EKHash: &ek}},
		{},
	} {
		c := event(t)
		g := ledger.Grant{Type: ledger.TypeInventoryImport, ID: c.Record.ID, By: "uid:0", Subject: ledger.Inventory{Machines: list}.Digest(), Machines: int64(len(list)), At: time.Now().UnixMilli()}
		if c.Record, err = g.Record(salt()); err != nil {
			t.Fatal(err)
		}
		c.Inventory = &ledger.Inventory{Machines: list}
		w.append(c)
		w.verify("")
		got, asOf, err := r.Coverage(t.Context(), ledger.CoverageQuery{Fresh: time.Now(), Limit: 10})
		if err != nil || got.Machines != int64(len(list)) || got.Fresh != 0 || asOf.Size == 0 {
			t.Fatalf("%+v, %+v, %v", got, asOf, err)
		}
		want := []ledger.CoverageRow{}
		for _, m := range list {
			want = append(want, ledger.CoverageRow{Machine: m.Machine, Model: m.Model, Site: m.Site})
		}
		if diff := cmp.Diff(want, got.Missing); diff != "" {
			t.Errorf("(-list +missing):\n%s", diff)
		}
	}
}

// TestT60_Inventory: the list is the one of the newest import.
func TestT60_Inventory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.db.Exec(t, `INSERT INTO inventory VALUES ('x', '', '', NULL, gen_random_uuid())`)
	wantProblem(t, w, "no record of the log imports it")
	c, list := event(t), ledger.Inventory{Machines: []ledger.InventoryMachine{{Machine: "b", EKHash: &[32]byte{7}}, {Machine: "a"}}}
	g := ledger.Grant{
		Type: ledger.TypeInventoryImport, ID: c.Record.ID, By: "uid:0", Subject: list.Digest(),
		Machines: int64(len(list.Machines)), At: time.Now().UnixMilli(),
	}
	var err error
	if c.Record, err = g.Record(salt()); err != nil {
		t.Fatal(err)
	}
	c.Inventory = &list
	w.append(c)
	w.verify("")
	for _, sql := range []string{
		`UPDATE inventory SET ek_hash = NULL WHERE machine = 'b'`, `DELETE FROM inventory WHERE machine = 'a'`,
		`INSERT INTO inventory SELECT 'c', '', '', NULL, import FROM inventory`, `DELETE FROM inventory`,
	} {
		w.db.Exec(t, sql)
		wantProblem(t, w, "it is not the list that record "+g.ID.String())
	}
}
