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

// TestT60_Stray: rows at indices whose record is gone, or that no record has.
func TestT60_Stray(t *testing.T) {
	t.Parallel()
	const gone = `(SELECT min(i) FROM generate_series(1, 20) i WHERE NOT EXISTS (SELECT 1 FROM attestation a WHERE a.log_idx = i))`
	for name, tc := range map[string]struct{ sql, want string }{
		"drift": {`INSERT INTO drift_event (recorded_at, log_id, log_idx, ord, record_id, node_id, zone, kind, before_value, after_value, keep)
			SELECT now(), 'main', ` + gone + `, 0, gen_random_uuid(), (SELECT min(node_id) FROM node), 'payments', 'pcr.7', 'a', 'b', 0`, "drift of node"},
		"interval": {`INSERT INTO measurement_interval (recorded_at, log_id, log_idx, keep, node_id, zone, measured, policy_version, valid_from, valid_until,
			expires_at, first_record, last_record, renewals, ended) SELECT now(), 'main', ` + gone + `, 0, node_id, 'payments', digest, 1, now(), now(), now(),
			gen_random_uuid(), gen_random_uuid(), 0, 'denied' FROM node, measurement_set LIMIT 1`, "an interval of node"},
		"evidence": {`INSERT INTO evidence_part (recorded_at, log_id, log_idx, ord, kind, digest, packed, keep)
			SELECT now(), 'main', 100000, 0, 'inline', '', '', 0`, "its evidence stands behind the head"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.attested()
			w.drop(store.NewOwner(w.s, w.db.OwnerDSN), ledger.ClassDecisions)
			if err := store.EnsurePartitions(t.Context(), w.db.OwnerDSN, time.Now()); err != nil {
				t.Fatal(err)
			}
			w.verify("")
			w.db.Exec(t, freely+tc.sql)
			wantProblem(t, w, tc.want)
		})
	}
}
