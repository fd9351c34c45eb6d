package store_test

import (
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
)

// TestHoldKeepsDenials of a zone where nothing drifted: no column of theirs names
// the zone.
func TestHoldKeepsDenials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, _ := w.attested()
	a = w.renew(a, ledger.VerdictDeny)
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	since := query[time.Time](t, w.db, `SELECT max(recorded_at) + interval '1 microsecond' FROM attestation`)
	c := attestation(t, a, ledger.VerdictDeny)
	c.Record = changedBody(t, c.Record, func(a *ledger.Attestation) { a.Zone, a.NodeZone = "", "payments" })
	if w.append(c); c.Drift != nil || c.Record.Zone != "" {
		t.Fatalf("zone %q, drift %v", c.Record.Zone, c.Drift)
	}
	for zone, want := range map[string]bool{"payments": true, "web": false} {
		h := w.hold(ledger.Hold{Zone: zone, Since: since})
		for _, class := range ledger.Classes {
			if p := w.plan(o, class); len(p.Holds) == 1 != want {
				t.Errorf("%s: %s held by %v", zone, class, p.Holds)
			}
		}
		if plan, err := o.ErasurePlan(t.Context(), a.Node.ID); err != nil || len(plan.Holds) == 1 != want {
			t.Errorf("%s: erasure held by %v, %v", zone, plan.Holds, err)
		}
		h.Released = true
		w.hold(h)
	}
}
