package broker_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/evidencefile"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestWeakEKIsNeverEnrolled: no word of an operator makes an EK that can be
// factored a machine of ours, and no list has it wait for one.
func TestWeakEKIsNeverEnrolled(t *testing.T) {
	for name, prepare := range map[string]func(r *rig, h *host){
		"of the inventory, without a certificate": func(r *rig, h *host) {
			h.tpm.EKCertificate = nil
			r.admit(h, "")
		},
		"of the inventory, with one":   func(r *rig, h *host) { r.admit(h, "") },
		"that would wait for approval": func(*rig, *host) {},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			h := r.newHost()
			h.tpm.EK = evidencetest.FactorableEK(t)
			r.maker.Endorse(t, h.tpm)
			prepare(r, h)
			ch, err := h.askEnrol()
			if reason.Of(err) != reason.EKCertWeakKey || ch.Token != "" {
				t.Errorf("challenge: %v", err)
			}
			if waiting, err := r.b.Pending(t.Context(), operator); err != nil || len(waiting) > 0 {
				t.Errorf("waits for an operator: %v, %v", waiting, err)
			}
		})
	}
}

// flawed is a machine of the inventory with a chip whose firmware earns no tier
// (CVE-2017-15361), which its certificate proved once.
func flawed(r *rig) *host {
	r.t.Helper()
	h := r.admitted()
	h.tpm.EKCertificate = r.maker.CertificateOf(r.t, h.tpm.EK, "id:49465800")
	h.tpm.Firmware = 7<<48 | 61<<32
	out, err := h.tryEnrol()
	wantCode(r.t, out, err, reason.TPM2Advisory)
	if h.row().Manufacturer != "IFX" {
		r.t.Fatalf("pinned is maker %q", h.row().Manufacturer)
	}
	return h
}

// TestAdvisoriesAreNotDodged: what a certificate proved once stays known under
// the same EK, whatever an enrolment shows later, and judging again says the same.
func TestAdvisoriesAreNotDodged(t *testing.T) {
	for name, change := range map[string]func(h *host){
		"without the certificate":       func(h *host) { h.tpm.EKCertificate, h.tpm.EKChain = nil, nil },
		"with one that does not verify": func(h *host) { evidencetest.NewMaker(t).Endorse(t, h.tpm) },
		"with the same":                 func(*host) {},
		"without it, under another AK": func(h *host) {
			h.tpm.EKCertificate, h.tpm.EKChain, h.tpm.AK = nil, nil, evidencetest.NewAK(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			h := flawed(r)
			change(h)
			h.minute()
			out, err := h.tryEnrol()
			wantCode(t, out, err, reason.TPM2Advisory)
			if first := refusalOf(t, err).Reasons[0]; !strings.Contains(first.Detail, "CVE-2017-15361") || strings.Contains(first.Detail, "( TPM") {
				t.Errorf("%v", first)
			}
			bodies := r.attestations(h.node)
			if len(bodies) != 2 || h.row().Manufacturer != "IFX" {
				t.Fatalf("%d records, maker %q", len(bodies), h.row().Manufacturer)
			}
			for i, body := range bodies {
				j, err := r.b.JudgeAgain(t.Context(), body)
				if err != nil || !j.Same || len(j.Appraisal.Advisories()) != 2 {
					t.Errorf("record %d: same %t, %v, %v", i, j.Same, j.Appraisal.Advisories(), err)
				}
				if v, err := evidencefile.Judge(exported(t, r, body.ID.String())); err != nil || !v.Same {
					t.Errorf("record %d, exported: same %t, %v", i, v.Same, err)
				}
				if body.Reasons[0].Code != string(reason.TPM2Advisory) {
					t.Errorf("record %d: %v", i, body.Reasons)
				}
			}
			h.tpm.Firmware = 7<<48 | 85<<32
			h.minute()
			h.enrol()
		})
	}
}
