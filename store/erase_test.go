package store_test

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// part is a part of evidence with some text for its bytes.
func part(kind, text string) ledger.EvidencePart {
	return ledger.EvidencePart{Kind: kind, Digest: sha256.Sum256([]byte(text)), Bytes: []byte(text)}
}

// showParts is an attestation with parts in its evidence, and judged by an event
// log that it did not send where base is not "".
func (w *world) showParts(snap ledger.Snapshot, verdict, base string, parts ...ledger.EvidencePart) ledger.Snapshot {
	w.t.Helper()
	c := attestation(w.t, snap, verdict)
	c.Record = changedBody(w.t, c.Record, func(a *ledger.Attestation) {
		for _, p := range parts {
			a.Evidence = append(a.Evidence, ledger.EvidenceID{Kind: p.Kind, SHA256: hexOf(p.Digest[:])})
		}
		if base != "" {
			log := part(ledger.PartEventLog, base)
			a.Baseline = &ledger.Baseline{EventLog: hexOf(log.Digest[:]), Firmware: "1", Clock: ledger.Clock{Clock: "1"}}
			c.Evidence = append(c.Evidence, log)
		}
	})
	c.Evidence = append(c.Evidence, parts...)
	p := w.append(c)
	snap.State = *c.State
	snap.State.Version = p.Version
	return snap
}

func (w *world) erasurePlan(o *store.Owner, s ledger.Snapshot) ledger.ErasurePlan {
	w.t.Helper()
	plan, err := o.ErasurePlan(w.t.Context(), s.Node.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return plan
}

func (w *world) contents(text string) int {
	w.t.Helper()
	return query[int](w.t, w.db, fmt.Sprintf(`SELECT count(*) FROM evidence_content WHERE digest = sha256('%s')`, text))
}

// TestErasureLeavesWhatHostsShare: logs go with their week, whoever was first to
// show them, also between the plan, the record and the deletion, and after it.
func TestErasureLeavesWhatHostsShare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.attested()
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	a = w.showParts(a, ledger.VerdictAllow, "log of an earlier week", part(ledger.PartEventLog, "log of the fleet"),
		part(ledger.PartEventLog, "log of one"), part(ledger.PartIMALog, "list of one"), part(ledger.PartEKChain, "intermediate"),
		part(ledger.PartAKPublic, "ak of a"), part(ledger.PartEKPublic, "ek of a"), part(ledger.PartEKCertificate, "certificate of a"))
	b = w.showParts(b, ledger.VerdictAllow, "log of the fleet")
	plan := w.erasurePlan(o, a)
	if len(plan.Digests) != 3 {
		t.Errorf("%d digests: %x", len(plan.Digests), plan.Digests)
	}
	w.erase(a, plan)
	b = w.showParts(b, ledger.VerdictAllow, "", part(ledger.PartEventLog, "log of one"))
	w.verify("")
	if got, err := o.Erase(t.Context(), a.Node.ID); err != nil || got.Contents != 3 {
		t.Fatalf("erased %+v: %v", got, err)
	}
	w.verify("")
	b = w.showParts(b, ledger.VerdictAllow, "", part(ledger.PartEventLog, "log of one"), part(ledger.PartIMALog, "list of one"))
	// Who copied a certificate of the erased node makes no history that is not whole.
	w.showParts(b, ledger.VerdictDeny, "", part(ledger.PartEKCertificate, "certificate of a"))
	w.verify("")
	for text, want := range map[string]int{
		"log of an earlier week": 1, "log of the fleet": 1, "log of one": 1, "list of one": 1, "intermediate": 1,
		"ak of a": 0, "ek of a": 0, "certificate of a": 0,
	} {
		if n := w.contents(text); n != want {
			t.Errorf("%s: %d parts left, want %d", text, n, want)
		}
	}
	w.db.Exec(t, `SET session_replication_role = replica; UPDATE erasure SET mac = sha256('x')`)
	wantProblem(t, w, "it is missing")
}

// TestErasureOfTwoLogs: the node's records of another log are declared by a
// record there, which changes nothing but the list. In between they stand, without
// what is gone already.
func TestErasureOfTwoLogs(t *testing.T) {
	t.Parallel()
	l := newTwoLogs(t)
	worlds := []*world{l.world, l.other}
	a, ak := l.enrol(1), part(ledger.PartAKPublic, "ak of a")
	for i := range 6 {
		now, err := worlds[i%2].s.NodeByID(t.Context(), a.Node.ID)
		if err != nil {
			t.Fatal(err)
		}
		worlds[i%2].showParts(now, ledger.VerdictAllow, "", ak)
	}
	l.verifyBoth()
	for i, want := range []int64{4, 3} {
		w := worlds[i]
		o := store.NewOwner(w.s, w.db.OwnerDSN)
		now, err := w.s.NodeByID(t.Context(), a.Node.ID)
		if err != nil {
			t.Fatal(err)
		}
		plan := w.erasurePlan(o, now)
		if plan.Missing.Rows != want {
			t.Errorf("log %d: %d rows planned, want %d", i, plan.Missing.Rows, want)
		}
		if i == 0 {
			w.erase(now, plan)
		} else {
			w.publish(ledger.ObjectErased, string(a.Node.ID), plan.Missing, nil)
		}
		l.verifyBoth()
		if got, err := o.Erase(t.Context(), a.Node.ID); err != nil || got.Records != want || got.Contents != 1-int64(i) {
			t.Fatalf("log %d: erased %+v: %v", i, got, err)
		}
		l.verifyBoth()
	}
}

// TestErasureFence: of what is kept by content, the owner may delete a TPM's own
// parts that an erasure names, and nothing that its list names by mistake.
func TestErasureFence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, _ := w.attested()
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	a = w.showParts(a, ledger.VerdictAllow, "", part(ledger.PartEventLog, "log"), part(ledger.PartAKPublic, "ak"), part(ledger.PartEKPublic, "ek"))
	plan := w.erasurePlan(o, a)
	plan.Digests = [][32]byte{sha256.Sum256([]byte("log")), sha256.Sum256([]byte("ak"))}
	w.erase(a, plan)
	for text, want := range map[string]string{"log": "55000", "ak": "", "ek": "55000"} {
		sql := fmt.Sprintf(`SET ROLE zb_owner; DELETE FROM evidence_content WHERE digest = sha256('%s')`, text)
		if got := pgState(w.tryExec(w.db.OwnerDSN, sql)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestErasureTakesNothingAlong: a superuser moves the record of a revocation to
// the node that is about to be erased, before the plan or after it.
func TestErasureTakesNothingAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, _ := w.attested()
	o := store.NewOwner(w.s, w.db.OwnerDSN)
	adm := admission(t, "srv-lost", [32]byte{9})
	w.append(admissionCommit(t, adm))
	adm.Revoked = true
	p := w.append(grantCommit(t, ledger.TypeAdmissionEnded, adm.ID.String(), ledger.Commit{Admission: &adm}))
	move := func(to ledger.NodeID) {
		w.db.Exec(t, fmt.Sprintf(`SET session_replication_role = replica; UPDATE attestation SET node_id = '%s' WHERE log_idx = %d`, to, p.Index))
	}
	move(a.Node.ID)
	_, err := o.ErasurePlan(t.Context(), a.Node.ID)
	wantCode(t, err, reason.StoreRowForged)
	move("")
	plan := w.erasurePlan(o, a)
	w.erase(a, plan)
	move(a.Node.ID)
	_, err = o.Erase(t.Context(), a.Node.ID)
	wantCode(t, err, reason.RequestOverloaded)
	move("")
	if got, err := o.Erase(t.Context(), a.Node.ID); err != nil || got.Records != 9 {
		t.Fatalf("erased %+v: %v", got, err)
	}
	w.verify("")
}
