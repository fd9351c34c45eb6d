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
		g := ledger.Grant{Type: ledger.TypeInventoryImport, ID: c.Record.ID, By: "uid:0", Subject: "00", Machines: int64(len(list)), At: time.Now().UnixMilli()}
		if c.Record, err = g.Record(salt()); err != nil {
			t.Fatal(err)
		}
		c.Inventory = &ledger.Inventory{Machines: list}
		w.append(c)
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
