package store_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestT60_HoldsAgainstTheWriter: what the writer's role may do to the rows of
// holds, and the owner of the database, stops every deletion instead of one that
// was held.
func TestT60_HoldsAgainstTheWriter(t *testing.T) {
	t.Parallel()
	const junk = `INSERT INTO legal_hold (hold_id, node_id, zone, reason, granted_by, released, created_at, mac)
		SELECT gen_random_uuid(), '', 'x', '', '', false, now() + interval '1 hour', sha256('x') FROM generate_series(1, 500)`
	for name, tc := range map[string]struct {
		owner     bool
		sql, want string
	}{
		"released by the writer": {false, `UPDATE legal_hold SET released = true`, "no broker wrote the row of the legal hold"},
		"500 rows ahead":         {false, junk, "no broker wrote the row of the legal hold"},
		"taken away":             {true, freely + `DELETE FROM legal_hold`, "its row is gone or released"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a, _ := w.attested()
			o := store.NewOwner(w.s, w.db.OwnerDSN)
			planned := w.plan(o, ledger.ClassEvidence)
			erasing, err := o.ErasurePlan(t.Context(), a.Node.ID)
			if err != nil {
				t.Fatal(err)
			}
			w.erase(a, erasing)
			h := w.hold(ledger.Hold{Zone: "payments"})
			dsn := w.db.WriterDSN
			if tc.owner {
				dsn = w.db.OwnerDSN
			}
			if err := w.tryExec(dsn, tc.sql); err != nil {
				t.Fatal(err)
			}
			_, plan := o.Plan(t.Context(), w.leaf(ledger.ClassEvidence), anyGroup)
			_, toErase := o.ErasurePlan(t.Context(), a.Node.ID)
			_, erase := o.Erase(t.Context(), a.Node.ID)
			for what, err := range map[string]error{"plan": plan, "drop": o.Drop(t.Context(), planned), "erasure plan": toErase, "erase": erase} {
				if reason.Of(err) != reason.StoreRowForged || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%s: %v", what, err)
				}
			}
			holds, err := w.s.Holds(t.Context(), false)
			if want := name == "500 rows ahead"; err != nil || (len(holds) == 1 && holds[0].ID == h.ID) != want {
				t.Errorf("listed: %v, %v", holds, err)
			}
		})
	}
}
