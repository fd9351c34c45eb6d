package broker_test

import (
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func (r *rig) revoke(ek [32]byte, note string) api.Admission {
	r.t.Helper()
	adm, err := r.b.RevokeAdmission(r.t.Context(), operator, hexOf(ek), api.RevokeRequest{Note: note})
	r.must(err)
	return adm
}

// TestTPM67_RevokedAtEachAttestation: an admission that is taken back ends what
// the machine earns, until an operator admits it again.
func TestTPM67_RevokedAtEachAttestation(t *testing.T) {
	r := newRig(t)
	h := r.newHost()
	granted := r.admit(h, "m1", "g1")
	h.enrol()
	ek := h.tpm.EK.RootHash(t)
	r.wait(time.Minute)
	got := r.revoke(ek, "board sold")
	want := granted
	want.Revoked = true
	if got.ID != want.ID || !got.Revoked || got.By != "uid:0" || !got.CreatedAt.Equal(granted.CreatedAt) || got.Machine != "m1" {
		t.Errorf("%+v, want %+v", got, want)
	}
	g := r.grantOf(t)
	row, err := ledger.RowHash(r.store.admissions[0].Admission)
	r.must(err)
	if g.Type != ledger.TypeAdmissionEnded || g.Subject != granted.ID || g.Note != "board sold" || g.By != "uid:0" || g.RowHash != row {
		t.Errorf("record %+v", g)
	}
	records := len(r.store.records)
	if again := r.revoke(ek, "twice"); again.ID != got.ID || len(r.store.records) != records {
		t.Error("revoking twice is recorded twice")
	}
	for range 2 {
		c, err := h.askRenew()
		r.must(err)
		out, err := h.attest(h.answer(c))
		wantCode(t, out, err, reason.TPM2EKRevoked)
	}
	_, err = h.askEnrol()
	if reason.Of(err) != reason.TPM2EKRevoked {
		t.Errorf("enrolment: %v", err)
	}
	r.admit(h, "m1", "g1")
	h.renew()
}

// TestRevokedAccountEndsLaterSVIDs: what is written at each attestation holds
// between two of them too, and for the hosts of that account alone.
func TestRevokedAccountEndsLaterSVIDs(t *testing.T) {
	r, pki := cloudRig(t, []string{zoneEC2, zoneWork})
	r.must(r.b.StartTokens(t.Context(), oidcIssuer))
	h := r.instance(pki, 1)
	out := h.enrol()
	c := broker.Caller{NodeID: out.Node, SPIFFEID: out.SPIFFEID, Certificate: leaf(t, out.Chain)}
	tpm := r.admitted()
	other := tpm.callerOf(tpm.enrol())
	if _, err := r.jwt(c, "aud", ""); err != nil {
		t.Fatal(err)
	}
	account := document.Owner{Kind: document.OwnerAWSAccount, Value: "123456789012"}
	r.revoke(account.Hash(), "account closed")
	if _, err := r.jwt(c, "aud", ""); reason.Of(err) != reason.NodeDisabled {
		t.Errorf("a host of the account: %v", err)
	}
	if _, err := r.jwt(other, "payments-api", ""); err != nil {
		t.Errorf("a host of the inventory: %v", err)
	}
	_, err := r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{Owner: "aws.account=123456789012"})
	r.must(err)
	out = h.renew()
	c.Certificate = leaf(t, out.Chain)
	if _, err := r.jwt(c, "aud", ""); err != nil {
		t.Errorf("admitted anew: %v", err)
	}
}

// TestRevokeUnknown: an EK that nobody admitted by its hash can be refused too.
func TestRevokeUnknown(t *testing.T) {
	r := newRig(t)
	h := r.newHost()
	h.join = r.token(time.Hour)
	h.enrol()
	stolen := r.newHost()
	for _, host := range []*host{h, stolen} {
		adm := r.revoke(host.tpm.EK.RootHash(t), "")
		if !adm.Revoked || adm.Kind != ledger.AdmitInventory || adm.By != "uid:0" || len(adm.EKHashes) != 1 || !adm.CreatedAt.Equal(r.now()) {
			t.Errorf("%+v", adm)
		}
	}
	c, err := h.askRenew()
	r.must(err)
	out, err := h.attest(h.answer(c))
	wantCode(t, out, err, reason.TPM2EKRevoked)
	stolen.join = r.token(time.Hour)
	if _, err := stolen.askEnrol(); reason.Of(err) != reason.TPM2EKRevoked {
		t.Errorf("%v", err)
	}
}

func TestRevokeRefuses(t *testing.T) {
	r := newRig(t)
	for name, ask := range map[string][2]string{"hash": {"xy", ""}, "note": {hexOf([32]byte{1}), "a\x00b"}} {
		if _, err := r.b.RevokeAdmission(t.Context(), operator, ask[0], api.RevokeRequest{Note: ask[1]}); reason.Of(err) != reason.RequestMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
