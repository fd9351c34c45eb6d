package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// oldLeaf makes the partitions of a week long ago and returns its leaf.
func (w *world) oldLeaf(class string) ledger.Leaf {
	w.t.Helper()
	from := ledger.Week(time.Now().Add(-60 * 24 * time.Hour))
	if err := store.EnsurePartitions(w.t.Context(), w.db.OwnerDSN, from.Add(30*time.Hour)); err != nil {
		w.t.Fatal(err)
	}
	l := w.leaf(class)
	l.Table, l.Week = l.Table[:len(l.Table)-len("20060102_k0")]+from.Format("20060102")+"_k0", from
	return l
}

// TestSweepLaundersNothing: the list of a sweep is signed, so that what a
// superuser makes of columns must not get onto it.
func TestSweepLaundersNothing(t *testing.T) {
	t.Parallel()
	// A revocation, the newest record but one.
	const revoked = `WHERE log_idx = (SELECT max(log_idx) FROM attestation WHERE type = 'admission.ended')`
	const some = `WHERE log_idx = (SELECT min(log_idx) FROM attestation WHERE type = 'attestation')`
	for name, tc := range map[string]struct {
		class, sql string
		old        bool
		want       string
	}{
		"another type":           {ledger.ClassDecisions, `UPDATE attestation SET type = 'history.read' ` + revoked, false, "column type differs"},
		"another type and week":  {ledger.ClassDecisions, `UPDATE attestation SET type = 'history.read', recorded_at = '%s' ` + revoked, true, "and it was recorded at"},
		"another week":           {ledger.ClassDecisions, `UPDATE attestation SET recorded_at = '%s' ` + some, true, "and it was recorded at"},
		"another time":           {ledger.ClassDecisions, `UPDATE attestation SET recorded_at = recorded_at + interval '1 microsecond' ` + some, false, "not the one that the log committed to"},
		"another zone":           {ledger.ClassDecisions, `UPDATE attestation SET zone = 'x' ` + some, false, "column zone differs"},
		"another index":          {ledger.ClassDecisions, `UPDATE attestation SET log_idx = 0 ` + some, false, "does not have one record"},
		"another body":           {ledger.ClassDecisions, `UPDATE attestation SET packed = '\x00' ` + some, false, "not one that a broker wrote"},
		"a group of its own":     {ledger.ClassEvidence, `UPDATE attestation SET keep = 3 ` + some, false, "another retention group"},
		"evidence of a week ago": {ledger.ClassEvidence, `UPDATE evidence_part SET recorded_at = '%s' ` + some, true, "and it was recorded at"},
		"an SVID of a week ago":  {ledger.ClassSVIDs, `UPDATE svid SET recorded_at = '%s' ` + some, true, "and it was recorded at"},
		"an SVID of no record":   {ledger.ClassSVIDs, `UPDATE svid SET log_idx = 100000 ` + some, false, "no entry for it"},
		"evidence of no record":  {ledger.ClassEvidence, `DELETE FROM attestation ` + some, false, "does not have one record"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.attested()
			adm := admission(t, "srv-lost", [32]byte{9})
			w.append(admissionCommit(t, adm))
			adm.Revoked = true
			w.append(grantCommit(t, ledger.TypeAdmissionEnded, adm.ID.String(), ledger.Commit{Admission: &adm}))
			w.append(event(t))
			leaf, sql := w.leaf(tc.class), tc.sql
			if tc.old {
				leaf = w.oldLeaf(tc.class)
				sql = fmt.Sprintf(sql, leaf.Week.Add(time.Hour).Format(time.RFC3339))
			}
			o := store.NewOwner(w.s, w.db.OwnerDSN)
			w.db.Exec(t, `SET session_replication_role = replica; `+sql)
			_, err := o.Plan(t.Context(), leaf, anyGroup)
			if reason.Of(err) != reason.StoreRowForged || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("planned with %q: %v", tc.want, err)
			}
		})
	}
}

// TestListOfAnotherWeekShows: a list that some other program had signed for a
// week that its records are not of.
func TestListOfAnotherWeekShows(t *testing.T) {
	t.Parallel()
	for _, class := range ledger.Classes {
		t.Run(class, func(t *testing.T) {
			w := newWorld(t)
			w.attested()
			m := w.plan(store.NewOwner(w.s, w.db.OwnerDSN), class).Missing
			m.Week = m.Week.AddDate(0, 0, -70)
			w.publish(ledger.ObjectDropped, "x", m, nil)
			wantProblem(t, w, "declared gone with the week of "+m.Week.Format(time.DateOnly))
		})
	}
}

// TestOneSweepAtATime: lists that two replicas made at once would differ, and the
// log would count the same changes twice.
func TestOneSweepAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, _ := w.attested()
	first, second := store.NewOwner(w.s, w.db.OwnerDSN), store.NewOwner(w.s, w.db.OwnerDSN)
	err := first.Alone(t.Context(), func(ctx context.Context) error {
		p := w.plan(first, ledger.ClassDecisions)
		w.renew(a, ledger.VerdictAllow)
		err := second.Alone(ctx, func(context.Context) error {
			t.Error("two replicas sweep at once")
			return nil
		})
		wantCode(t, err, reason.RequestOverloaded)
		w.publish(ledger.ObjectDropped, p.Table, p.Missing, nil)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = second.Alone(t.Context(), func(ctx context.Context) error {
		p := w.drop(second, ledger.ClassDecisions)
		if p.Missing.Rows == 0 || p.Missing.Rows >= p.Rows {
			t.Errorf("%d rows go, %d are listed anew", p.Rows, p.Missing.Rows)
		}
		return reason.New(reason.PolicyInvalid, "as it came")
	})
	wantCode(t, err, reason.PolicyInvalid)
	w.verify("")
}

// TestLostLockEndsTheSweep: whose connection is gone may not be alone any more.
func TestLostLockEndsTheSweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	err := o.Alone(t.Context(), func(ctx context.Context) error {
		w.db.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Minute):
			return nil
		}
	})
	wantCode(t, err, reason.StoreUnavailable)
}
