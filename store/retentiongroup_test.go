package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// showIn is an accepted attestation of a retention group, with a log.
func (w *world) showIn(snap ledger.Snapshot, keep int16, text string) {
	w.t.Helper()
	c := attestation(w.t, snap, ledger.VerdictAllow)
	c.Record = changedBody(w.t, c.Record, func(a *ledger.Attestation) {
		d := sha256.Sum256([]byte(text))
		a.Evidence = append(a.Evidence, ledger.EvidenceID{Kind: ledger.PartEventLog, SHA256: hexOf(d[:])})
		c.Evidence = append(c.Evidence, ledger.EvidencePart{Kind: ledger.PartEventLog, Digest: d, Bytes: []byte(text)})
	})
	c.Keep = keep
	w.append(c)
}

// TestGroupsOfAWeekAreMadeTogether: with a table in use, a group has leaves in none,
// so that its records and what belongs to them go together.
func TestGroupsOfAWeekAreMadeTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.attested()
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	conn, err := pgx.Connect(t.Context(), w.db.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	l := w.leaf(ledger.ClassEvidence)
	week := l.Table[len("evidence_part") : len(l.Table)-len("_k0")]
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT count(*) FROM evidence_content`+week+`_k0`); err != nil {
		t.Fatal(err)
	}
	if err := o.MakeGroups(t.Context(), 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"attestation", "evidence_part", "evidence_content", "svid", "drift_event", "measurement_interval"} {
		if query[bool](t, w.db, fmt.Sprintf(`SELECT to_regclass('%s%s_k1') IS NOT NULL`, table, week)) {
			t.Errorf("%s alone has a leaf of group 1", table)
		}
	}
	w.showIn(a, 0, "log of a")
	w.showIn(b, 1, "log of b")
	w.verify("")
	if p := w.plan(o, ledger.ClassEvidence); !slices.Equal(p.Keeps, []int16{0, 1}) {
		t.Errorf("the leaf has groups %v", p.Keeps)
	}
}

// TestLeafGoesByAllTables: a leaf is of every group that a table of the class has
// rows of there, and nothing comes in unseen before it goes.
func TestLeafGoesByAllTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.attested()
	w.showIn(a, 0, "log of a")
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	l := w.leaf(ledger.ClassEvidence)
	parent := l.Table[:len(l.Table)-len("_k0")]
	early := w.plan(o, ledger.ClassEvidence)
	// As releases did where one table was in use.
	w.db.Exec(t, fmt.Sprintf(`SET ROLE zb_owner; CREATE TABLE %[1]s_k1 PARTITION OF %[1]s FOR VALUES IN (1)`, parent))
	w.showIn(b, 1, "log of b")
	p := w.plan(o, ledger.ClassEvidence)
	if !slices.Equal(p.Keeps, []int16{0, 1}) || !slices.Equal(early.Keeps, []int16{0}) {
		t.Errorf("the leaf has groups %v, after %v", p.Keeps, early.Keeps)
	}
	wantCode(t, o.Drop(t.Context(), early), reason.RequestOverloaded)
	w.verify("")
	// A leaf without rows in any table goes at once.
	old := w.oldLeaf(ledger.ClassEvidence)
	p, err := o.Plan(t.Context(), old, anyGroup)
	if err != nil || len(p.Keeps) != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := o.Drop(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, w.db, `SELECT count(*) FROM pg_class WHERE relname ~ 'evidence_(part|content)_p`+old.Week.Format("20060102")+`'`); n != 0 {
		t.Errorf("%d tables of the week are left", n)
	}
}

// TestGroupOfARowIsHeldAgainstItsZone: keep stands in no body, and decides when a
// row goes.
func TestGroupOfARowIsHeldAgainstItsZone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, b := w.attested()
	w.showIn(b, 1, "log of b")
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	from := query[time.Time](t, w.db, `SELECT max(recorded_at) FROM attestation`)
	since := func(zone string, at time.Time, keep int16) bool {
		if zone != "payments" {
			t.Errorf("asked of zone %q", zone)
		}
		return keep == map[bool]int16{true: 0, false: 1}[at.Before(from)]
	}
	if _, err := o.Plan(t.Context(), w.leaf(ledger.ClassDecisions), since); err != nil {
		t.Fatal(err)
	}
	w.db.Exec(t, `SET session_replication_role = replica; UPDATE attestation SET keep = 0; UPDATE evidence_part SET keep = 0; UPDATE svid SET keep = 0`)
	for _, class := range []string{ledger.ClassEvidence, ledger.ClassSVIDs} {
		_, err := o.Plan(t.Context(), w.leaf(class), since)
		if reason.Of(err) != reason.StoreRowForged || !strings.Contains(err.Error(), "gave it group 0") {
			t.Errorf("%s: %v", class, err)
		}
	}
}
