package store_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// leaf is the partition that this week's rows of a class are in.
func (w *world) leaf(class string) ledger.Leaf {
	w.t.Helper()
	now := query[time.Time](w.t, w.db, `SELECT now()`).UTC()
	day := now.Truncate(24 * time.Hour)
	monday := day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
	table := map[string]string{ledger.ClassDecisions: "attestation", ledger.ClassEvidence: "evidence_part", ledger.ClassSVIDs: "svid"}[class]
	return ledger.Leaf{Class: class, Table: table + "_p" + monday.Format("20060102") + "_k0", Week: monday, Keep: -1}
}

// publish records what a list declares gone.
func (w *world) publish(kind, subject string, m ledger.Missing, fill func(*ledger.Commit, *ledger.Grant)) ledger.Position {
	w.t.Helper()
	raw, err := m.Bytes()
	if err != nil {
		w.t.Fatal(err)
	}
	o := ledger.Object{Kind: kind, Digest: sha256.Sum256(raw), Bytes: raw}
	c := ledger.Commit{Object: &o}
	g := ledger.Grant{Type: kind, ID: recordID(w.t), By: "uid:0", Subject: subject, At: time.Now().UnixMilli(), Object: hex.EncodeToString(o.Digest[:])}
	if fill != nil {
		fill(&c, &g)
	}
	if g.RowHash, err = ledger.GrantRowHash(c); err != nil {
		w.t.Fatal(err)
	}
	if c.Record, err = g.Record(salt()); err != nil {
		w.t.Fatal(err)
	}
	return w.append(c)
}

// anyGroup is of tests whose rows may have every group.
func anyGroup(string, time.Time, int16) bool { return true }

func (w *world) plan(o *store.Owner, class string) ledger.LeafPlan {
	w.t.Helper()
	p, err := o.Plan(w.t.Context(), w.leaf(class), anyGroup)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) drop(o *store.Owner, class string) ledger.LeafPlan {
	w.t.Helper()
	p := w.plan(o, class)
	w.publish(ledger.ObjectDropped, p.Table, p.Missing, nil)
	w.verify("") // what is published and still stands is no problem
	if err := o.Drop(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) renew(snap ledger.Snapshot, verdict string) ledger.Snapshot {
	w.t.Helper()
	c := attestation(w.t, snap, verdict)
	p := w.append(c)
	snap.State = *c.State
	snap.State.Version = p.Version
	return snap
}

// show is an accepted attestation with logs in its evidence.
func (w *world) show(snap ledger.Snapshot, logs ...string) ledger.Snapshot {
	w.t.Helper()
	c := attestation(w.t, snap, ledger.VerdictAllow)
	c.Record = changedBody(w.t, c.Record, func(a *ledger.Attestation) {
		for _, text := range logs {
			d := sha256.Sum256([]byte(text))
			a.Evidence = append(a.Evidence, ledger.EvidenceID{Kind: ledger.PartEventLog, SHA256: hexOf(d[:])})
			c.Evidence = append(c.Evidence, ledger.EvidencePart{Kind: ledger.PartEventLog, Digest: d, Bytes: []byte(text)})
		}
	})
	p := w.append(c)
	snap.State = *c.State
	snap.State.Version = p.Version
	return snap
}

// attested is a log with two nodes, one of which was denied in between.
func (w *world) attested() (a, b ledger.Snapshot) {
	w.t.Helper()
	a, b = w.enrol(1), w.enrol(2)
	for i := range 8 {
		a = w.renew(a, ledger.VerdictAllow)
		b = w.renew(b, map[bool]string{true: ledger.VerdictAllow, false: ledger.VerdictDeny}[i%3 != 1])
	}
	return a, b
}

func TestDropKeepsProofs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.attested()
	signer, _ := logKeys()
	anchor := &memoryAnchor{}
	if _, err := w.s.SignCheckpoint(t.Context(), signer, anchor); err != nil {
		t.Fatal(err)
	}
	before := w.verify(anchor.text)
	records, err := w.s.Records(t.Context(), ledger.Query{Type: ledger.TypeAttestation, Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	gone := int64(0)
	for _, class := range ledger.Classes {
		p := w.drop(o, class)
		if p.Rows == 0 || len(p.Holds) > 0 || p.Other != "" {
			t.Errorf("%s: %+v", class, p)
		}
		if class == ledger.ClassDecisions {
			gone = p.Rows
		}
	}
	after := w.verify(anchor.text)
	if after.Dropped != gone || after.Records != before.Records-gone+3 {
		t.Errorf("%d records before, %d after %d dropped: %+v", before.Records, after.Records, gone, after)
	}
	// What the rights of the nodes rest on stays: what each was last accepted by, and
	// the denial that came after one of them. Nothing else does.
	for table, want := range map[string]int{"attestation WHERE type = 'attestation'": 3, "evidence_part": 0, "svid": 0, "measurement_interval": 0, "evidence_content": 0} {
		if got := query[int](t, w.db, `SELECT count(*) FROM `+table); got != want {
			t.Errorf("%s: %d rows, want %d", table, got, want)
		}
	}
	if got := query[int](t, w.db, `SELECT count(*) FROM drift_event d WHERE NOT EXISTS (SELECT 1 FROM attestation a WHERE a.record_id = d.record_id)`); got != 0 {
		t.Errorf("%d drift rows of records that are gone", got)
	}
	// An auditor's copy of a record that is gone still proves itself.
	_, key := logKeys()
	cp, err := ledger.OpenCheckpoint(anchor.text, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		proof, err := w.s.Prove(t.Context(), cp.Size, 0, []int64{r.Index})
		if err != nil {
			t.Fatal(err)
		}
		var path tlog.RecordProof
		for _, h := range proof.Entries[0].Proof {
			path = append(path, h)
		}
		leaf := ledger.NewEntry(r.Record, r.RecordedAt).Leaf()
		if err := tlog.CheckRecord(path, cp.Size, cp.Root, r.Index, leaf); err != nil {
			t.Errorf("record %d: %v", r.Index, err)
		}
	}
	// The log goes on in what is left of the week.
	if _, err := w.s.Append(t.Context(), event(t)); err != nil {
		t.Fatal(err)
	}
}

// TestDropHidesNothingMore: what nobody declared is missed, be it a record, a part
// or an SVID.
func TestDropHidesNothingMore(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ class, sql, want string }{
		"record":   {ledger.ClassDecisions, `DELETE FROM attestation WHERE record_id = (SELECT last FROM node_state ORDER BY node_id LIMIT 1)`, "the record is missing"},
		"evidence": {ledger.ClassSVIDs, `DELETE FROM evidence_part WHERE log_idx = (SELECT min(log_idx) FROM evidence_part)`, "evidence parts are not those"},
		"svid":     {ledger.ClassEvidence, `DELETE FROM svid WHERE log_idx = (SELECT min(log_idx) FROM svid)`, "SVIDs are not those"},
		"list":     {ledger.ClassDecisions, `UPDATE object SET bytes = replace(encode(bytes, 'escape'), '"rows":', '"rows":1')::bytea WHERE kind = 'retention.dropped'`, "does not read"},
		"declared": {ledger.ClassDecisions, `DELETE FROM attestation WHERE type = 'retention.dropped'`, "the record is missing"},
		"state":    {ledger.ClassDecisions, `UPDATE node_state SET version = version - 1 WHERE node_id = (SELECT min(node_id) FROM node_state)`, "changes of it"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.attested()
			w.drop(store.NewOwner(w.s, w.db.OwnerDSN), tc.class)
			w.verify("")
			w.db.Exec(t, `SET session_replication_role = replica; `+tc.sql)
			wantProblem(t, w, tc.want)
		})
	}
}

func (w *world) hold(h ledger.Hold) ledger.Hold {
	w.t.Helper()
	if h.ID == uuid.Nil {
		h.ID, h.By, h.Reason, h.CreatedAt = recordID(w.t), "uid:0", "case 12", time.Now().UTC().Truncate(time.Microsecond)
	}
	kind := ledger.TypeHoldPlaced
	if h.Released {
		kind = ledger.TypeHoldReleased
	}
	w.append(grantCommit(w.t, kind, h.ID.String(), ledger.Commit{Hold: &h}))
	return h
}

func TestHoldStopsADrop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, _ := w.attested()
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	now := time.Now()
	for name, tc := range map[string]struct {
		hold ledger.Hold
		want bool
	}{
		"node":            {ledger.Hold{Node: a.Node.ID}, true},
		"another node":    {ledger.Hold{Node: "abcdefghijklmnopqrstuvwxyz"}, false},
		"zone":            {ledger.Hold{Zone: "payments"}, true},
		"another zone":    {ledger.Hold{Zone: "web"}, false},
		"period":          {ledger.Hold{Since: now.Add(-time.Hour), Until: now.Add(time.Hour)}, true},
		"earlier period":  {ledger.Hold{Until: now.AddDate(-1, 0, 0)}, false},
		"later period":    {ledger.Hold{Since: now.AddDate(1, 0, 0)}, false},
		"node and period": {ledger.Hold{Node: a.Node.ID, Until: now.Add(-time.Hour)}, false},
	} {
		h := w.hold(tc.hold)
		for _, class := range ledger.Classes {
			p := w.plan(o, class)
			if got := len(p.Holds) == 1 && p.Holds[0].ID == h.ID; got != tc.want {
				t.Errorf("%s, %s: held = %v", name, class, got)
			}
		}
		h.Released = true
		w.hold(h)
	}
	p := w.plan(o, ledger.ClassEvidence)
	h := w.hold(ledger.Hold{Zone: "payments"})
	err := o.Drop(t.Context(), p)
	if reason.Of(err) != reason.RequestOverloaded || !strings.Contains(err.Error(), h.ID.String()) {
		t.Errorf("dropped under a hold of the last moment: %v", err)
	}
	// Who owns the database can take a hold away; that shows.
	w.verify("")
	w.db.Exec(t, `SET session_replication_role = replica; UPDATE legal_hold SET released = true WHERE NOT released`)
	wantProblem(t, w, "legal_hold "+h.ID.String())
}

func TestErasure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.attested()
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	if _, err := o.Erase(t.Context(), a.Node.ID); reason.Of(err) != reason.RequestNotFound {
		t.Errorf("erased without an erasure: %v", err)
	}
	a = w.showParts(a, ledger.VerdictAllow, "", part(ledger.PartAKPublic, "ak of one"), part(ledger.PartEventLog, "log of both"))
	w.show(b, "log of both")
	hold := w.hold(ledger.Hold{Zone: "payments"})
	plan, err := o.ErasurePlan(t.Context(), a.Node.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Holds) != 1 || plan.Holds[0].ID != hold.ID || plan.Missing.Rows != 10 || plan.Missing.Changes[a.Node.ID] != 10 ||
		len(plan.Digests) != 1 || plan.Digests[0] != sha256.Sum256([]byte("ak of one")) {
		t.Errorf("plan: %+v", plan)
	}
	w.erase(a, plan)
	if _, err := o.Erase(t.Context(), a.Node.ID); err == nil || !strings.Contains(err.Error(), hold.ID.String()) {
		t.Errorf("erased under a hold: %v", err)
	}
	w.verify("")
	hold.Released = true
	w.hold(hold)
	got, err := o.Erase(t.Context(), a.Node.ID)
	if err != nil || got.Records != 10 || got.Evidence == 0 || got.Contents != 1 || got.SVIDs == 0 {
		t.Fatalf("erased %+v: %v", got, err)
	}
	if again, err := o.Erase(t.Context(), a.Node.ID); err != nil || again != (ledger.Erased{}) {
		t.Errorf("a second time: %+v, %v", again, err)
	}
	w.verify("")
	for _, table := range []string{"attestation", "svid", "drift_event", "measurement_interval"} {
		sql := fmt.Sprintf(`SELECT count(*) FROM %s WHERE node_id = '%s'`, table, a.Node.ID)
		if table == "attestation" {
			sql += ` AND type <> 'node.erased'`
		}
		if n := query[int](t, w.db, sql); n != 0 {
			t.Errorf("%d rows of the node in %s", n, table)
		}
	}
	if snap, err := w.s.NodeByID(t.Context(), b.Node.ID); err != nil || !snap.Found {
		t.Errorf("the other node: %v", err)
	}
	w.db.Exec(t, `SET session_replication_role = replica; DELETE FROM erasure`)
	wantProblem(t, w, "erasure "+string(a.Node.ID)+": the log grants it")
}

// erase records the erasure of a node as planned.
func (w *world) erase(s ledger.Snapshot, plan ledger.ErasurePlan) {
	w.t.Helper()
	node, state := s.Node.Blank(), s.State.Blank()
	w.publish(ledger.ObjectErased, string(s.Node.ID), plan.Missing, func(c *ledger.Commit, _ *ledger.Grant) {
		c.Node, c.State, c.BasedOn = &node, &state, s.State.Version
		c.Erasure = &ledger.Erasure{
			Node: s.Node.ID, Object: c.Object.Digest, Reason: "request 7", By: "uid:0",
			CreatedAt: time.Now().UTC().Truncate(time.Microsecond), Digests: plan.Digests,
		}
	})
}

// TestOnlyAnErasureDeletes: of a row that no erasure names, neither triggers nor
// grants let anybody take anything, whole tables and leaves included.
func TestOnlyAnErasureDeletes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.attested()
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	plan, err := o.ErasurePlan(t.Context(), a.Node.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.erase(a, plan)
	const asOwner, appendOnly, forbidden = `SET ROLE zb_owner; `, "55000", "42501"
	other := fmt.Sprintf(`node_id = '%s'`, b.Node.ID)
	own := fmt.Sprintf(`node_id = '%s'`, a.Node.ID)
	part := `evidence_part p USING attestation a WHERE a.log_idx = p.log_idx AND a.`
	for _, tc := range []struct{ dsn, sql, want string }{
		{w.db.OwnerDSN, asOwner + `DELETE FROM attestation WHERE ` + other, appendOnly},
		{w.db.OwnerDSN, asOwner + `DELETE FROM attestation WHERE type = 'node.erased'`, appendOnly},
		{w.db.OwnerDSN, asOwner + `DELETE FROM attestation WHERE type = 'admission.granted'`, appendOnly},
		{w.db.OwnerDSN, asOwner + `DELETE FROM svid WHERE ` + other, appendOnly},
		{w.db.OwnerDSN, asOwner + `DELETE FROM drift_event WHERE ` + other, appendOnly},
		{w.db.OwnerDSN, asOwner + `DELETE FROM ` + part + other, appendOnly},
		{w.db.OwnerDSN, asOwner + `UPDATE attestation SET zone = '' WHERE ` + own, appendOnly},
		{w.db.OwnerDSN, `DELETE FROM attestation WHERE ` + own, appendOnly},
		{w.db.WriterDSN, `DELETE FROM attestation WHERE ` + own, forbidden},
		{w.db.WriterDSN, `DELETE FROM svid WHERE ` + own, forbidden},
		{w.db.ReaderDSN, `DELETE FROM attestation WHERE ` + own, forbidden},
		{w.db.OwnerDSN, asOwner + `DELETE FROM ` + part + own, ""},
		{w.db.OwnerDSN, asOwner + `DELETE FROM svid WHERE ` + own, ""},
		{w.db.OwnerDSN, asOwner + `DELETE FROM attestation WHERE type <> 'node.erased' AND ` + own, ""},
	} {
		if got := pgState(w.tryExec(tc.dsn, tc.sql)); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.sql, got, tc.want)
		}
	}
}

func TestRetentionVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	document := []byte("kind: Retention\n")
	activate := func(version int64, groups ...string) error {
		r := ledger.Retention{Version: version, Document: sha256.Sum256(document), Groups: groups, By: "uid:0", CreatedAt: time.Now().UTC().Truncate(time.Microsecond)}
		c := ledger.Commit{Retention: &r, Object: &ledger.Object{Kind: ledger.ObjectRetention, Digest: r.Document, Bytes: document}}
		hash, err := ledger.GrantRowHash(c)
		if err != nil {
			return err
		}
		g := ledger.Grant{Type: ledger.TypeRetention, ID: recordID(t), By: "uid:0", Subject: fmt.Sprint(version), RowHash: hash, Object: hex.EncodeToString(r.Document[:])}
		if c.Record, err = g.Record(salt()); err != nil {
			return err
		}
		_, err = w.s.Append(t.Context(), c)
		return err
	}
	if r, err := w.s.Retention(t.Context()); r != nil || err != nil {
		t.Errorf("before the first: %v, %v", r, err)
	}
	for v, groups := range [][]string{{"cards"}, {"cards", "lab"}} {
		if err := activate(int64(v+1), groups...); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, activate(2, "other"), reason.RequestOverloaded)
	r, err := w.s.Retention(t.Context())
	if err != nil || r.Version != 2 || len(r.Groups) != 2 {
		t.Errorf("in force: %+v, %v", r, err)
	}
	w.verify("")
	// A version that nobody with the key wrote is not in force.
	w.db.Exec(t, `INSERT INTO retention SELECT 3, document, '{x}', granted_by, created_at, mac FROM retention WHERE version = 2`)
	if r, err := w.s.Retention(t.Context()); err != nil || r.Version != 2 {
		t.Errorf("in force: %+v, %v", r, err)
	}
	wantProblem(t, w, "retention 3: its HMAC does not hold")
	w.db.Exec(t, `SET session_replication_role = replica; DELETE FROM retention WHERE version >= 2`)
	wantProblem(t, w, "retention 2: the log grants it, and its row is missing")
}

// TestGroupLeaves: a group's rows of the coming weeks have leaves of their own.
func TestGroupLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	for range 2 {
		if err := o.MakeGroups(t.Context(), 2, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	weeks := query[int](t, w.db, `SELECT count(*) FROM pg_class WHERE relname ~ '^attestation_p[0-9]{8}_k0$'`)
	for _, table := range []string{"attestation", "evidence_part", "evidence_content", "svid", "drift_event", "measurement_interval"} {
		for keep := range 4 {
			got := query[int](t, w.db, fmt.Sprintf(`SELECT count(*) FROM pg_class WHERE relname ~ '^%s_p[0-9]{8}_k%d$'`, table, keep))
			// The first week has ended, where yesterday was a Sunday.
			if want := map[bool]int{true: weeks, false: 0}[keep <= 2]; got != want && (got != want-1 || keep == 0) {
				t.Errorf("%s: %d leaves of group %d, want %d", table, got, keep, want)
			}
		}
	}
	if n, err := w.s.PartitionsAhead(t.Context(), time.Now()); err != nil || n < 2 {
		t.Errorf("%d weeks ahead, %v", n, err)
	}
	if n, err := w.s.PartitionsAhead(t.Context(), time.Now().AddDate(0, 0, 14)); err != nil || n > 1 {
		t.Errorf("%d weeks ahead in a fortnight, %v", n, err)
	}
}
