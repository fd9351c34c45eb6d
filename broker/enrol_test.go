package broker_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestInvariant6_FirstContact: genuine is not admitted. Each way of admission
// leaves its name in node and record.
func TestInvariant6_FirstContact(t *testing.T) {
	for _, tt := range []struct {
		name    string
		zone    string
		prepare func(r *rig, h *host)
		want    string // kind of admission
		refused reason.Code
	}{
		{"inventory", zoneLab, func(r *rig, h *host) { r.admit(h, "") }, ledger.AdmitInventory, ""},
		{"join token", zoneLab, func(r *rig, h *host) { h.join = r.token(time.Hour) }, ledger.AdmitJoinToken, ""},
		{"operator", zoneLab, func(r *rig, h *host) { r.approve(h) }, ledger.AdmitOperator, ""},
		{"any genuine machine", zoneOpen, func(*rig, *host) {}, ledger.AdmitAnyGenuine, ""},
		{"inventory before a token", zoneLab, func(r *rig, h *host) {
			r.admit(h, "")
			h.join = r.token(time.Hour)
		}, ledger.AdmitInventory, ""},
		{"a token before any genuine machine", zoneOpen, func(r *rig, h *host) { h.join = r.token(time.Hour) }, ledger.AdmitJoinToken, ""},
		{"nobody knows it, and a zone takes an operator's word", zoneLab, func(*rig, *host) {}, "", reason.NodeAdmissionPending},
		{"nobody knows it, and no zone takes an operator's word", strings.Replace(zoneLab, ", operator]", "]", 1), func(*rig, *host) {}, "", reason.NodeNotAdmitted},
		{"any genuine machine, without a certificate", zoneOpen, func(_ *rig, h *host) { h.tpm.EKCertificate = nil }, "", reason.NodeNotAdmitted},
		{"a token that nobody made", zoneLab, func(_ *rig, h *host) { h.join = "guess" }, "", reason.NodeNotAdmitted},
		{"a bad token is not saved by any_genuine", zoneOpen, func(_ *rig, h *host) { h.join = "guess" }, "", reason.NodeNotAdmitted},
		{"a token past its end", zoneLab, func(r *rig, h *host) {
			h.join = r.token(time.Minute)
			r.wait(time.Minute)
		}, "", reason.NodeNotAdmitted},
		{"revoked", zoneLab, func(r *rig, h *host) {
			r.admit(h, "")
			r.store.revoke(h.tpm.EK.RootHash(r.t))
			r.must(r.b.PollAdmissions(r.t.Context()))
		}, "", reason.TPM2EKRevoked},
		{"revoked, and a token besides", zoneLab, func(r *rig, h *host) {
			r.admit(h, "")
			r.store.revoke(h.tpm.EK.RootHash(r.t))
			r.must(r.b.PollAdmissions(r.t.Context()))
			h.join = r.token(time.Hour)
		}, "", reason.TPM2EKRevoked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.zone)
			h := r.newHost()
			tt.prepare(r, h)
			ch, err := h.askEnrol()
			if reason.Of(err) != tt.refused {
				t.Fatalf("challenge: %v, want %q", err, tt.refused)
			}
			if err != nil {
				expectStranger(t, r, h, err, tt.refused)
				return
			}
			if ch.Purpose != "enrol" || ch.Nonce != nil || ch.Credential == nil || !ch.ExpiresAt.Equal(r.now().Add(2*time.Minute)) {
				t.Errorf("challenge %+v", ch)
			}
			out, err := h.attest(h.answer(ch))
			r.must(err)
			h.prev = out.AttestationID
			body := r.lastAttestation(h.node)
			tokenOrChain := tt.want == ledger.AdmitJoinToken || tt.want == ledger.AdmitAnyGenuine
			if h.row().AdmittedBy != tt.want || body.AdmittedBy != tt.want || body.RequireGenuine != tokenOrChain {
				t.Errorf("node %s, record %s, genuine required %t", h.row().AdmittedBy, body.AdmittedBy, body.RequireGenuine)
			}
			if (body.Admission == "") != (tt.want == ledger.AdmitAnyGenuine) {
				t.Errorf("admission %q", body.Admission)
			}
			h.renew()
		})
	}
}

func expectStranger(t *testing.T, r *rig, h *host, err error, code reason.Code) {
	t.Helper()
	if !refusalOf(t, err).Stranger {
		t.Error("a stranger gets the details")
	}
	r.flush()
	if r.store.count(code, "") != 1 || len(r.attestations(h.node)) != 0 || r.store.snapshot(h.node).Found {
		t.Error("a stranger is counted once and leaves nothing else")
	}
}

// token makes a join token and returns its secret.
func (r *rig) token(ttl time.Duration) string {
	r.t.Helper()
	jt, err := r.b.CreateToken(r.t.Context(), operator, api.TokenRequest{Machine: "joined", Groups: []string{"guests"}, TTL: int(ttl / time.Second)})
	r.must(err)
	return jt.Secret
}

// approve admits a machine that waits.
func (r *rig) approve(h *host) {
	r.t.Helper()
	if _, err := h.askEnrol(); reason.Of(err) != reason.NodeAdmissionPending {
		r.t.Fatalf("the machine does not wait: %v", err)
	}
	waiting, err := r.b.Pending(r.t.Context(), operator)
	r.must(err)
	ek := h.tpm.EK.RootHash(r.t)
	if len(waiting) != 1 || waiting[0].EKHash != hex.EncodeToString(ek[:]) || !waiting[0].FirstSeen.Equal(r.now()) {
		r.t.Fatalf("pending: %+v", waiting)
	}
	out, err := r.b.Approve(r.t.Context(), operator, waiting[0].EKHash, api.ApproveRequest{Groups: []string{"new"}})
	r.must(err)
	if out.Admission == nil || out.Admission.Kind != ledger.AdmitOperator || out.Admission.By != "uid:0" {
		r.t.Fatalf("approval: %+v", out)
	}
	if waiting, err = r.b.Pending(r.t.Context(), operator); err != nil || len(waiting) > 0 {
		r.t.Fatalf("still pending: %v, %v", waiting, err)
	}
}

// TestJoinTokenAdmitsOneMachineOnce: a race is decided in the store.
func TestJoinTokenAdmitsOneMachineOnce(t *testing.T) {
	r := newRig(t)
	first, second := r.newHost(), r.newHost()
	first.join = r.token(time.Hour)
	second.join = first.join
	early, err := second.askEnrol()
	r.must(err)
	first.enrol()
	if n := first.row(); n.Machine != "joined" || !slices.Equal(n.Groups, []string{"guests"}) {
		t.Errorf("the token's labels are %s %v", n.Machine, n.Groups)
	}
	out, err := second.attest(second.answer(early))
	wantCode(t, out, err, reason.ChallengeSpent)
	if refusalOf(t, err).Challenge != nil {
		t.Error("a machine without a node got a challenge of one")
	}
	if _, err := second.askEnrol(); reason.Of(err) != reason.NodeNotAdmitted {
		t.Errorf("the token admits a second machine: %v", err)
	}
}

// TestT14_CredentialOfAnotherTPM: only the TPM that owns both keys learns the
// nonce, and a failed try is a stranger's.
func TestT14_T19_ActivationFails(t *testing.T) {
	r := newRig(t)
	h := r.admitted()
	ch, err := h.askEnrol()
	r.must(err)
	if _, err := r.newHost().tpm.EK.Activate(h.tpm.AK.Name(), ch.Credential.Blob, ch.Credential.Secret); err == nil {
		t.Error("another EK opens the credential")
	}
	out, err := h.attest(h.quote(ch, make([]byte, 32)))
	wantCode(t, out, err, reason.TPM2AKActivationFailed)
	if !refusalOf(t, err).Stranger || r.store.snapshot(h.node).Found {
		t.Error("a failed activation made something")
	}
}

// TestEnrolmentMaterial: what the machine shows with the quote is what the
// credential was made for.
func TestEnrolmentMaterial(t *testing.T) {
	for name, change := range map[string]func(r *rig, req *api.AttestRequest){
		"another EK": func(r *rig, req *api.AttestRequest) { req.TPM2.EKPublic = evidencetest.NewEK(r.t).Public },
		"another certificate of the same EK": func(r *rig, req *api.AttestRequest) {
			req.TPM2.EKCertificate = append(bytes.Clone(req.TPM2.EKCertificate), 0xff)
		},
		"no certificate":    func(_ *rig, req *api.AttestRequest) { req.TPM2.EKCertificate = nil },
		"another chain":     func(_ *rig, req *api.AttestRequest) { req.TPM2.EKChain = nil },
		"no evidence":       func(_ *rig, req *api.AttestRequest) { req.TPM2 = nil },
		"another AK's name": nil,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			h := r.admitted()
			ch, err := h.askEnrol()
			r.must(err)
			req, want := h.answer(ch), reason.ChallengeWrongNode
			switch {
			case change == nil:
				h.tpm.AK = evidencetest.NewAK(t)
				req = h.quote(ch, make([]byte, 32))
			default:
				change(r, &req)
			}
			if req.TPM2 == nil {
				want = reason.RequestMalformed
			}
			out, err := h.attest(req)
			wantCode(t, out, err, want)
			if r.store.snapshot(h.node).Found {
				t.Error("a node was made")
			}
		})
	}
	a, b := []byte("a"), []byte("b")
	seen := map[[32]byte]bool{}
	for _, h := range [][32]byte{
		broker.MaterialHash(a, b), broker.MaterialHash(b, a), broker.MaterialHash(append(a, b...), nil), broker.MaterialHash(nil, append(a, b...)),
		broker.MaterialHash(a, nil, b), broker.MaterialHash(a, b, a), broker.MaterialHash(a, b, b), broker.MaterialHash(a, b, a, b),
	} {
		if seen[h] {
			t.Error("two materials have one hash")
		}
		seen[h] = true
	}
}

// TestRevokedBetweenChallengeAndAttest: a withdrawal counts at once, for a new
// machine and for a node.
func TestT54_RevokedBetweenChallengeAndAttest(t *testing.T) {
	r := newRig(t)
	h := r.admitted()
	enrolment, err := h.askEnrol()
	r.must(err)
	h.enrol()
	renewal, err := h.askRenew()
	r.must(err)
	req := h.answer(renewal)
	late := r.admitted()
	lateChallenge, err := late.askEnrol()
	r.must(err)

	r.store.revoke(late.tpm.EK.RootHash(t))
	r.store.revoke(h.tpm.EK.RootHash(t))
	r.must(r.b.PollAdmissions(t.Context()))
	out, err := late.attest(late.answer(lateChallenge))
	wantCode(t, out, err, reason.TPM2EKRevoked)
	if !refusalOf(t, err).Stranger || r.store.snapshot(late.node).Found {
		t.Error("a revoked machine became a node")
	}
	before := h.state()
	out, err = h.attest(req)
	wantCode(t, out, err, reason.TPM2EKRevoked)
	if h.state().Version != before.Version+1 || h.state().Reason != string(reason.TPM2EKRevoked) {
		t.Error("the refusal of a node is not recorded")
	}
	out, err = h.attest(h.answer(enrolment))
	wantCode(t, out, err, reason.ChallengeSpent)
}

// TestAdmissionCannotBeRead: a machine whose admission cannot be looked up again
// is not enrolled on the word of an old token.
func TestAdmissionCannotBeRead(t *testing.T) {
	r := newRig(t)
	h := r.newHost()
	h.join = r.token(time.Hour)
	ch, err := h.askEnrol()
	r.must(err)
	r.store.failing("AdmissionByEK", reason.New(reason.StoreUnavailable, "away"))
	out, err := h.attest(h.answer(ch))
	wantCode(t, out, err, reason.StoreUnavailable)
}

// TestAKChange: the same TPM with another AK, proved by activation, is the same
// node; higher tiers want an operator.
func TestAKChange(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	old := h.tpm.AK
	h.tpm.AK = evidencetest.NewAK(t)
	if _, err := h.askRenew(); reason.Of(err) != reason.NodeNotAdmitted {
		t.Errorf("an unknown AK got a challenge: %v", err)
	}
	h.minute()
	out := h.enrol()
	n := h.row()
	if !slices.Contains(out.Events, string(reason.NodeAKChanged)) || n.AKApproved || !bytes.Equal(n.AKName, h.tpm.AK.Name()) || !bytes.Equal(n.AKPublic, h.tpm.AK.Public) {
		t.Errorf("events %v, approved %t", out.Events, n.AKApproved)
	}
	if body := r.lastAttestation(h.node); body.AKName != hex.EncodeToString(h.tpm.AK.Name()) || body.Baseline == nil {
		t.Error("the record names another AK, or forgot the baseline of the TPM")
	}
	if out := h.renew(); slices.Contains(out.Events, string(reason.NodeAKChanged)) || h.row().AKApproved {
		t.Error("a renewal says the change again, or approved it")
	}
	h.tpm.AK, old = old, h.tpm.AK
	if _, err := h.askRenew(); reason.Of(err) != reason.NodeNotAdmitted {
		t.Errorf("the AK of before still gets challenges: %v", err)
	}
	h.tpm.AK = old
	if _, err := r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{}); err != nil || !h.row().AKApproved {
		t.Errorf("approval: %v", err)
	}
}

// TestReEnrolment: the same EK and AK is the same node, and no event.
func TestReEnrolment(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.minute()
	out := h.enrol()
	if len(out.Events) > 0 || h.state().Version != 2 || !h.row().AKApproved || h.row().CreatedAt != evidencetest.Noon {
		t.Errorf("events %v, version %d, node %+v", out.Events, h.state().Version, h.row())
	}
	if c := r.store.commits[len(r.store.commits)-1]; c.Node != nil || c.EndPending != nil || c.JoinToken != nil {
		t.Error("a re-enrolment that changes nothing rewrites the node")
	}
	t.Run("after TPM2_Clear it waits for an operator", func(t *testing.T) {
		h.tpm.Clock.ResetCount = 0
		out, err := h.tryEnrol()
		wantCode(t, out, err, reason.TPM2RolledBack)
		if _, err := r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{}); err != nil {
			t.Fatal(err)
		}
		h.enrol()
	})
	t.Run("admitted again with other groups", func(t *testing.T) {
		r.admit(h, "renamed", "rack-9")
		h.minute()
		h.enrol()
		if n := h.row(); n.Machine != "renamed" || !slices.Equal(n.Groups, []string{"rack-9"}) {
			t.Errorf("machine %q, groups %v", n.Machine, n.Groups)
		}
	})
	t.Run("a join token does not take a node of the inventory over", func(t *testing.T) {
		h.join = r.token(time.Hour)
		h.minute()
		h.enrol()
		if n := h.row(); n.Machine != "renamed" || n.AdmittedBy != ledger.AdmitInventory {
			t.Errorf("machine %q, admitted by %s", n.Machine, n.AdmittedBy)
		}
	})
}

// TestInvariant6_OtherEKOfOneMachine: one admission is one node; a second EK of
// it waits for an operator.
func TestInvariant6_OtherEKOfOneMachine(t *testing.T) {
	r := newRig(t)
	first, second := r.newHost(), r.newHost()
	one, two := first.tpm.EK.RootHash(t), second.tpm.EK.RootHash(t)
	_, err := r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{hexOf(one), hexOf(two)}, Machine: "m"})
	r.must(err)
	first.enrol()
	out, err := second.tryEnrol()
	wantCode(t, out, err, reason.NodeAdmissionPending)
	if second.row().Status != ledger.StatusPending || r.lastAttestation(second.node).NodeStatus != "pending" {
		t.Errorf("the second EK is %s", second.row().Status)
	}
	r.store.failing("NodesByAdmission", reason.New(reason.StoreUnavailable, "away"))
	if _, err := r.b.Approve(t.Context(), operator, second.node, api.ApproveRequest{}); err != nil {
		t.Fatal(err)
	}
	second.enrol()
	third := r.admitted()
	out, err = third.tryEnrol()
	wantCode(t, out, err, reason.StoreUnavailable)
}

// TestT16_TwoMachinesNeverShareAnAK: the store finds it, and nothing is issued.
func TestT16_TwoMachinesNeverShareAnAK(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	other := r.admitted()
	other.tpm.AK = h.tpm.AK
	out, err := other.tryEnrol()
	wantCode(t, out, err, reason.NodeIdentityConflict)
	if r.store.snapshot(other.node).Found {
		t.Error("the node was made")
	}
}

// TestGroupsComeFromTheAdmission and nothing that the agent says.
func TestGroupsComeFromTheAdmission(t *testing.T) {
	r := newRig(t, strings.Replace(zoneLab, "{format: tpm2}", "{group: rack-7}", 1))
	in, out := r.admitted("rack-7"), r.admitted("rack-8")
	in.enrol()
	got, err := out.tryEnrol()
	wantCode(t, got, err, reason.PolicyNoZone)
	if sum := sha256.Sum256(out.tpm.EK.SPKI(t)); out.row().RootHash != sum || r.lastAttestation(out.node).Verdict != ledger.VerdictDeny {
		t.Error("a machine of ours that earns no zone is recorded as a node")
	}
}

// TestZoneOfOneNode: a zone may select by the id that the root of trust gives.
func TestZoneOfOneNode(t *testing.T) {
	r := newRig(t)
	h := r.admitted()
	r.activate(strings.Replace(zoneLab, "{format: tpm2}", "{node: "+h.node+"}", 1))
	h.enrol()
	out, err := r.admitted().tryEnrol()
	wantCode(t, out, err, reason.PolicyNoZone)
}

// TestAttestOfARebootedEnrolment: enrolment compares with the baseline too.
func TestAttestOfARebootedEnrolment(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.minute()
	h.tpm.Boot(build.Machine{}.Log())
	h.tpm.Firmware++
	if out := h.enrol(); !slices.Equal(out.Events, []string{string(reason.TPM2Rebooted), string(reason.TPM2FirmwareChanged)}) {
		t.Errorf("events %v", out.Events)
	}
}
