package store_test

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// TestPartsAreForgottenWithTheConnection: what is known to be stored is not sent
// again, until the connection that stored it is gone: the database behind the
// next one may be an earlier state.
func TestPartsAreForgottenWithTheConnection(t *testing.T) {
	w := newWorld(t)
	snap := w.enrol(1)
	pcrs := []byte(`{"0":"aa","1":"bb"}`)
	digest := sha256.Sum256(pcrs)
	attest := func() {
		c := attestation(t, snap, ledger.VerdictAllow)
		c.Record = changedBody(t, c.Record, func(a *ledger.Attestation) {
			a.Evidence = append(a.Evidence, ledger.EvidenceID{Kind: ledger.PartPCRs, SHA256: hexOf(digest[:])})
		})
		c.Evidence = append(c.Evidence, ledger.EvidencePart{Kind: ledger.PartPCRs, Digest: digest, Bytes: pcrs})
		c.State.Version = w.append(c).Version
		snap.State = *c.State
	}
	stored := func() int {
		return query[int](t, w.db, fmt.Sprintf(`SELECT count(*) FROM evidence_content WHERE digest = '\x%x'`, digest))
	}
	attest()
	attest()
	if n := stored(); n != 1 {
		t.Errorf("the part stands %d times", n)
	}
	w.verify("")
	w.db.Exec(t, freely+fmt.Sprintf(`DELETE FROM evidence_content WHERE digest = '\x%x'`, digest))
	attest()
	if n := stored(); n != 0 {
		t.Errorf("a part that was stored was sent again: it stands %d times", n)
	}
	w.db.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	attest()
	if n := stored(); n != 1 {
		t.Errorf("after a new connection the part stands %d times", n)
	}
}
