package broker_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// stm33 is what the EK certificates of the tests' maker say.
var stm33 = ledger.TPM{Model: "ST33", Version: "id:00490004"}

func leaf(t testing.TB, chain []api.Bytes) *x509.Certificate {
	t.Helper()
	if len(chain) == 0 {
		t.Fatal("no SVID")
	}
	cert, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestAttestEnrolment(t *testing.T) {
	r := newRig(t)
	h := r.newHost()
	adm := r.admit(h, "rack7-host1", "rack-7")
	out := h.enrol()
	issued := evidencetest.Noon

	if out.Node != h.node || out.Zone != "lab" || out.Tier != 1 || out.SPIFFEID != "spiffe://example.org/zone/lab/node/"+h.node {
		t.Errorf("answer: node %s, zone %s, tier %d, id %s", out.Node, out.Zone, out.Tier, out.SPIFFEID)
	}
	if !out.AttestedAt.Equal(issued) || !out.FreshUntil.Equal(issued.Add(5*time.Minute)) || !out.RenewAt.Equal(issued.Add(150*time.Second)) {
		t.Errorf("attested %s, fresh until %s, renew at %s", out.AttestedAt, out.FreshUntil, out.RenewAt)
	}
	if len(out.Bundle) == 0 || out.Log.Origin != "example.org/zonebroker/main" || out.Log.Size != out.Log.Index+1 || out.Log.Checkpoint == "" {
		t.Errorf("bundle of %d bytes, log %+v", len(out.Bundle), out.Log)
	}

	cert := leaf(t, out.Chain)
	claims, err := claim.FromCertificateInsecure(cert)
	r.must(err)
	body := r.lastAttestation(h.node)
	wantZone := claim.Zone{
		Name: "lab", Tier: 1, Epoch: 1, Node: h.node, AttestationID: out.AttestationID, AttestedAt: issued.Unix(),
		FreshUntil: out.FreshUntil.Unix(), Evidence: ledger.EvidenceDigest(body.Evidence),
		Policy: claim.Policy{Version: 1, Hash: body.Policy.Hash, Mode: claim.ModeEnforce}, Key: "tpm",
	}
	if diff := cmp.Diff(wantZone, claims.Zone); diff != "" {
		t.Errorf("claim (-want +got):\n%s", diff)
	}
	if claims.IssuedAt != issued.Unix() || claims.Expires != cert.NotAfter.Unix() || !cert.NotAfter.Equal(issued.Add(30*time.Minute)) {
		t.Errorf("iat %d, exp %d, certificate ends %s", claims.IssuedAt, claims.Expires, cert.NotAfter)
	}
	spki := sha256.Sum256(h.key.SPKI(t))
	want := ledger.Attestation{
		Type: ledger.TypeAttestation, ID: uuid.MustParse(out.AttestationID), Node: ledger.NodeID(h.node), RootKind: "ek",
		RootHash: hexOf(h.tpm.EK.RootHash(t)), Verdict: ledger.VerdictAllow, Reasons: []ledger.Reason{}, Events: []string{},
		Zone: "lab", Tier: 1, Purpose: "enrol", Format: "tpm2", TrustDomain: testDomain, Select: "ff0000",
		SPKISHA256: hex.EncodeToString(spki[:]), IssuedAt: issued.UnixMilli(), AttestedAt: issued.UnixMilli(),
		FreshUntil: out.FreshUntil.UnixMilli(), JudgedAt: r.now().UnixMilli(), TrustRoots: "sha256:" + hexOf(r.cfg.Trust.Digest),
		AKName: hex.EncodeToString(h.tpm.AK.Name()), Manufacturer: "STM", TPM: stm33,
		Clock:    ledger.Clock{Clock: "100000", ResetCount: 3, Safe: true},
		Firmware: "2312897626142815798", AdmittedBy: "inventory", Admission: adm.ID, NodeStatus: "active", Replica: "a",
		Policy: ledger.PolicyRef{Version: 1, Hash: body.Policy.Hash},
		// What the pipeline draws or derives is checked apart.
		Nonce: body.Nonce, Evidence: body.Evidence, Appraisal: body.Appraisal, SVIDs: body.SVIDs,
	}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	expectNode(t, r, h, adm)
	expectState(t, r, h, out)
}

func hexOf(b [32]byte) string { return hex.EncodeToString(b[:]) }

func expectNode(t *testing.T, r *rig, h *host, adm api.Admission) {
	t.Helper()
	want := ledger.Node{
		ID: ledger.NodeID(h.node), RootKind: "ek", RootHash: h.tpm.EK.RootHash(t), EKPublic: h.tpm.EK.Public,
		AKPublic: h.tpm.AK.Public, AKName: h.tpm.AK.Name(), Manufacturer: "STM", TPM: stm33, AdmittedBy: "inventory",
		Admission: uuid.MustParse(adm.ID), Machine: "rack7-host1", Groups: []string{"rack-7"}, Status: ledger.StatusActive,
		AKApproved: true, CreatedAt: r.now(),
	}
	if diff := cmp.Diff(want, h.row()); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
}

func expectState(t *testing.T, r *rig, h *host, out api.AttestResponse) {
	t.Helper()
	st := h.state()
	if len(st.PCRs) == 0 || !bytes.Contains(st.PCRs, []byte(hexOf(h.tpm.PCRs[4]))) {
		t.Errorf("state holds PCRs %s", st.PCRs)
	}
	want := ledger.NodeState{
		Node: ledger.NodeID(h.node), Version: 1, Last: uuid.MustParse(out.AttestationID), HasClock: true,
		Clock: h.tpm.Clock.Millis, ResetCount: h.tpm.Clock.ResetCount, RestartCount: h.tpm.Clock.RestartCount,
		Firmware: h.tpm.Firmware, PCRs: st.PCRs, EventLog: sha256.Sum256(h.tpm.EventLog), SecureBoot: "on", Zone: "lab", Tier: 1,
		Verdict: ledger.VerdictAllow, PolicyVersion: 1, AttestedAt: out.AttestedAt, FreshUntil: out.FreshUntil,
		ExpiresAt: leaf(t, out.Chain).NotAfter, LastAttemptAt: r.now(), LastOKAt: r.now(),
	}
	if diff := cmp.Diff(want, st); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

// TestAttestRecordsEverySentPart: what was judged is kept by content, in the
// order in which judging again reads it.
func TestAttestRecordsEverySentPart(t *testing.T) {
	r := newRig(t)
	h := r.admitted()
	h.enrol()
	h.software = true
	h.renew()
	for i, want := range [][]string{
		{
			ledger.PartQuote, ledger.PartSignature, ledger.PartPCRs, ledger.PartAKPublic, ledger.PartEKPublic, ledger.PartEKCertificate,
			ledger.PartEKChain, ledger.PartEventLog, ledger.PartCertify, ledger.PartSPKI,
		},
		{ledger.PartQuote, ledger.PartSignature, ledger.PartPCRs, ledger.PartAKPublic, ledger.PartEventLog, ledger.PartSPKI, ledger.PartCSR},
	} {
		var got []string
		for _, e := range r.attestations(h.node)[i].Evidence {
			got = append(got, e.Kind)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("parts of record %d (-want +got):\n%s", i, diff)
		}
	}
	if h.state().Version != 2 || r.lastAttestation(h.node).SVIDs[0].Key != "software" {
		t.Error("the renewal with a software key is not recorded as such")
	}
}

// TestAttestRenewalSendsNoLog: the log of the same boot is kept and replayed.
func TestAttestRenewalSendsNoLog(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.withoutLog = true
	h.renew()
	body := r.lastAttestation(h.node)
	log := sha256.Sum256(h.tpm.EventLog)
	want := &ledger.Baseline{
		Clock: ledger.Clock{Clock: "100000", ResetCount: 3, Safe: true}, At: evidencetest.Noon.UnixMilli(),
		Firmware: "2312897626142815798", EventLog: hex.EncodeToString(log[:]),
	}
	if diff := cmp.Diff(want, body.Baseline); diff != "" {
		t.Errorf("baseline (-want +got):\n%s", diff)
	}
	if h.state().EventLog != log {
		t.Error("the kept log was forgotten")
	}
	if r.store.reads["Evidence"] != 1 {
		t.Errorf("the kept log was read %d times", r.store.reads["Evidence"])
	}
	h.renew()
	if r.store.reads["Evidence"] != 1 {
		t.Error("a cached log was read again")
	}
	t.Run("another boot without its log", func(t *testing.T) {
		h.tpm.Boot(build.Machine{KernelVersion: "6.9"}.Log())
		out, err := h.tryRenew()
		wantCode(t, out, err, reason.EventLogMissing)
	})
	t.Run("and with it", func(t *testing.T) {
		h.withoutLog = false
		out := h.renew()
		if !slices.Contains(out.Events, string(reason.TPM2Rebooted)) {
			t.Errorf("events %v", out.Events)
		}
		var kinds []string
		for _, d := range r.store.records[len(r.store.records)-1].Drift {
			kinds = append(kinds, d.Kind)
		}
		if !slices.Contains(kinds, "event_log") || !slices.Contains(kinds, "verdict") {
			t.Errorf("drift %v", kinds)
		}
	})
}

// TestAttestBaseline: a renewal is compared with all that the last acceptance
// left behind, and with nothing that it did not ask for.
func TestAttestBaseline(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.renew()
	if b := r.lastAttestation(h.node).Baseline; b.EventLog != "" || r.store.reads["Evidence"] != 0 {
		t.Error("the kept log was read although one was sent")
	}
	h.tpm.Clock.RestartCount++
	if out := h.renew(); !slices.Equal(out.Events, []string{string(reason.TPM2Resumed)}) {
		t.Errorf("events %v", out.Events)
	}
	if out := h.renew(); len(out.Events) > 0 {
		t.Errorf("the resume is told again: %v", out.Events)
	}
	t.Run("a machine without a log has none to keep", func(t *testing.T) {
		h := r.admitted()
		h.tpm.PCRs, h.tpm.EventLog = [24][32]byte{}, nil
		h.enrol()
		h.renew()
		if h.state().EventLog != [32]byte{} || r.store.reads["Evidence"] != 0 {
			t.Error("a log was looked for")
		}
	})
}

// TestAttestKeptLogIsGone: evidence may be erased; then the host has to send it.
func TestAttestKeptLogIsGone(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.withoutLog = true
	clear(r.store.evidence)
	out, err := h.tryRenew()
	wantCode(t, out, err, reason.EventLogMissing)
	h.withoutLog = false
	h.renew()
	r.store.failing("Evidence", reason.New(reason.StoreUnavailable, "away"))
	r.store.change(h.node, func(s *ledger.Snapshot) { s.State.EventLog = [32]byte{9} })
	h.withoutLog = true
	out, err = h.tryRenew()
	wantCode(t, out, err, reason.StoreUnavailable)
}
