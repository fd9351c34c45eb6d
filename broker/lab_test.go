package broker_test

import (
	"encoding/hex"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const zoneLoad = `apiVersion: zonebroker/v1
kind: Zone
name: load
tier: 0
lab: true
selectors: {any: [{format: tpm2.lab}]}
admit: [lab]
`

// admitLab makes a machine whose keys are admitted as software.
func (r *rig) admitLab() *host {
	r.t.Helper()
	h := r.newHost()
	ek := h.tpm.EK.RootHash(r.t)
	adm, err := r.b.AdmitNode(r.t.Context(), operator, api.AdmitRequest{EKHashes: []string{hex.EncodeToString(ek[:])}, Lab: true})
	r.must(err)
	if adm.Kind != ledger.AdmitLab {
		r.t.Fatalf("admitted as %q", adm.Kind)
	}
	return h
}

// TestLab: software keys earn a lab zone and nothing else, whatever they call
// themselves; hardware is no lab.
func TestLab(t *testing.T) {
	refused := func(t *testing.T, err error) {
		t.Helper()
		if reason.Of(err) != reason.NodeNotAdmitted {
			t.Errorf("%v", err)
		}
	}
	t.Run("earns a lab zone, as software", func(t *testing.T) {
		r := newRig(t, zoneLab, zoneLoad)
		h := r.admitLab()
		h.format = "tpm2.lab"
		if got := h.enrol(); got.Zone != "load" || got.Tier != 0 {
			t.Errorf("zone %s, tier %d", got.Zone, got.Tier)
		}
		body := r.lastAttestation(h.node)
		if body.Format != "tpm2.lab" || body.SVIDs[0].Key != "software" || body.Manufacturer != "" {
			t.Errorf("recorded as %s, key %s, manufacturer %q", body.Format, body.SVIDs[0].Key, body.Manufacturer)
		}
		h.renew()
	})
	t.Run("software that calls itself tpm2", func(t *testing.T) {
		r := newRig(t, zoneLab, zoneLoad)
		_, err := r.admitLab().askEnrol()
		refused(t, err)
	})
	t.Run("a node of the lab that renews as tpm2", func(t *testing.T) {
		r := newRig(t, zoneLab, zoneLoad)
		h := r.admitLab()
		h.format = "tpm2.lab"
		h.enrol()
		h.format = ""
		_, err := h.askRenew()
		refused(t, err)
	})
	t.Run("hardware that calls itself lab", func(t *testing.T) {
		r := newRig(t, zoneLab, zoneLoad)
		h := r.admitted()
		h.format = "tpm2.lab"
		_, err := h.askEnrol()
		refused(t, err)
	})
	t.Run("a quote bound to the other format", func(t *testing.T) {
		r := newRig(t, zoneLab, zoneLoad)
		h := r.admitLab()
		h.format = "tpm2.lab"
		ch, err := h.askEnrol()
		r.must(err)
		h.format = ""
		if _, err := h.attest(h.answer(ch)); reason.Of(err) != reason.TPM2AKActivationFailed {
			t.Errorf("%v", err)
		}
	})
}
