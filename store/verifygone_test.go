package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
)

// TestT60_AfterADrop: what nodes did before a drop is not followed; what they do
// after it is.
func TestT60_AfterADrop(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ sql, want string }{
		"nothing":         {`SELECT`, ""},
		"intervals":       {`DELETE FROM measurement_interval`, "intervals are not those"},
		"interval ends":   {`UPDATE measurement_interval SET valid_until = valid_until + interval '1 hour'`, "intervals are not those"},
		"interval begins": {`UPDATE measurement_interval SET valid_from = valid_from - interval '1 hour', first_record = gen_random_uuid()`, "intervals are not those"},
		"open":            {`UPDATE node_state SET span_zone = 'web' WHERE span_zone IS NOT NULL`, "its open interval is not"},
		"open for longer": {`UPDATE node_state SET span_from = span_from - interval '1 hour' WHERE span_zone IS NOT NULL`, "its open interval is not"},
		"open ends":       {`UPDATE node_state SET span_until = span_until + interval '1 hour' WHERE span_zone IS NOT NULL`, "its open interval is not"},
		"last good":       {`UPDATE drift_event SET last_good = now() - interval '1 year'`, "names another attestation before it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a, b := w.attested()
			c := w.enrol(3)
			o := store.NewOwner(w.s, w.db.OwnerDSN)
			w.drop(o, ledger.ClassDecisions)
			if err := store.EnsurePartitions(t.Context(), w.db.OwnerDSN, time.Now()); err != nil {
				t.Fatal(err) // of a week that has ended nothing is written any more
			}
			for _, verdict := range []string{ledger.VerdictAllow, ledger.VerdictDeny, ledger.VerdictAllow, ledger.VerdictAllow, ledger.VerdictDeny, ledger.VerdictAllow} {
				a = w.renew(a, verdict)
			}
			for _, verdict := range []string{ledger.VerdictDeny, ledger.VerdictAllow} {
				b = w.renew(b, verdict)
			}
			w.renew(c, ledger.VerdictAllow) // its interval goes on
			w.verify("")
			w.db.Exec(t, freely+tc.sql)
			got := w.problems("")
			if !strings.Contains(got, tc.want) || (tc.want == "") != (got == "") {
				t.Errorf("%q is not among the problems:\n%s", tc.want, got)
			}
		})
	}
}
