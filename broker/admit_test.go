package broker_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestNotGenuineIsNotOurs: where nobody vouched for the EK by its hash, a chain
// that does not verify leaves no record and no node.
func TestNotGenuineIsNotOurs(t *testing.T) {
	for _, tt := range []struct{ name, zone string }{{"join token", zoneLab}, {"any genuine", zoneOpen}} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.zone)
			h := r.newHost()
			evidencetest.NewMaker(t).Endorse(t, h.tpm)
			if tt.name == "join token" {
				h.join = r.token(time.Hour)
			}
			before := r.records()
			out, err := h.tryEnrol()
			wantCode(t, out, err, reason.EKCertUntrusted)
			if !refusalOf(t, err).Stranger {
				t.Error("a machine that is not ours gets the details")
			}
			r.flush()
			if r.records() != before || r.store.snapshot(h.node).Found || r.store.count(reason.EKCertUntrusted, "") != 1 {
				t.Error("a machine that is not ours is counted once and leaves nothing else")
			}
		})
	}
	t.Run("in the inventory it is a note", func(t *testing.T) {
		r := newRig(t)
		h := r.admitted()
		evidencetest.NewMaker(t).Endorse(t, h.tpm)
		h.enrol()
		if h.row().Manufacturer != "" {
			t.Error("the node is genuine by a chain that did not verify")
		}
		// Once it verifies, the node is genuine from then on.
		r.maker.Endorse(t, h.tpm)
		h.minute()
		h.enrol()
		if h.row().Manufacturer != "STM" {
			t.Error("a chain that verifies did not count at the next enrolment")
		}
		evidencetest.NewMaker(t).Endorse(t, h.tpm)
		h.minute()
		h.enrol()
		if h.row().Manufacturer != "STM" {
			t.Error("a note took the manufacturer back")
		}
	})
}

// TestOursWithoutAZone: a machine that is ours and earns nothing is recorded
// and becomes a node, whoever vouched for it; its first SVID has no history.
func TestOursWithoutAZone(t *testing.T) {
	nothing := strings.Replace(zoneLab, "{format: tpm2}", "{group: nobody}", 1)
	for name, prepare := range map[string]func(r *rig, h *host){
		"inventory, not genuine": func(r *rig, h *host) {
			h.tpm.EKCertificate = nil
			r.admit(h, "")
		},
		"join token, genuine": func(r *rig, h *host) { h.join = r.token(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nothing)
			h := r.newHost()
			prepare(r, h)
			out, err := h.tryEnrol()
			wantCode(t, out, err, reason.PolicyNoZone)
			if refusalOf(t, err).Stranger || len(r.attestations(h.node)) != 1 || h.row().Status != ledger.StatusActive {
				t.Error("treated like a stranger")
			}
			r.activate()
			got := h.renew()
			if len(got.Events) > 0 {
				t.Errorf("events %v, and there was nothing to lose", got.Events)
			}
		})
	}
	t.Run("a second EK without a certificate waits as well", func(t *testing.T) {
		r := newRig(t)
		first, second := r.newHost(), r.newHost()
		second.tpm.EKCertificate = nil
		_, err := r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{EKHashes: []string{
			hexOf(first.tpm.EK.RootHash(t)), hexOf(second.tpm.EK.RootHash(t)),
		}})
		r.must(err)
		first.enrol()
		out, err := second.tryEnrol()
		wantCode(t, out, err, reason.NodeAdmissionPending)
	})
}

// TestMachinesWithoutAnAdmission are not one machine.
func TestMachinesWithoutAnAdmission(t *testing.T) {
	r := newRig(t, zoneOpen)
	r.newHost().enrol()
	r.newHost().enrol()
}

// TestLaterAdmissions: an operator's or the inventory's takes a known node over,
// a join token does not and stays unused.
func TestLaterAdmissions(t *testing.T) {
	r := newRig(t)
	h := r.newHost()
	h.join = r.token(time.Hour)
	h.enrol()
	first := h.row()
	spare := r.token(time.Hour)
	h.join = spare
	h.minute()
	h.enrol()
	if diff := cmp.Diff(first, h.row()); diff != "" {
		t.Errorf("a second token changed the node (-want +got):\n%s", diff)
	}
	other := r.newHost()
	other.join = spare
	other.enrol()

	ek := h.tpm.EK.RootHash(t)
	adm, err := r.b.Approve(t.Context(), operator, hexOf(ek), api.ApproveRequest{Machine: "m", Groups: []string{"g"}})
	r.must(err)
	h.minute()
	h.enrol()
	if n := h.row(); n.AdmittedBy != ledger.AdmitOperator || n.Admission.String() != adm.Admission.ID || n.Machine != "m" || !slices.Equal(n.Groups, []string{"g"}) {
		t.Errorf("after the approval: %+v", n)
	}
	inventory := r.admit(h, "m2")
	h.minute()
	h.enrol()
	if n := h.row(); n.AdmittedBy != ledger.AdmitInventory || n.Admission.String() != inventory.ID || n.Machine != "m2" || len(n.Groups) != 0 {
		t.Errorf("after the inventory: %+v", n)
	}
}
