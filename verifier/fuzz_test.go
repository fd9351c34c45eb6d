package verifier_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// fields lists everything that a host sends, and whether its bytes are bound:
// a change of bound bytes never passes. The others may be written in more than
// one way without meaning anything else (data of events that no digest covers,
// fill behind an EK certificate).
func fields(ev *verifier.Evidence) []struct {
	name  string
	at    *[]byte
	bound bool
} {
	e := ev.TPM2
	pcr := e.PCRs[4]
	e.PCRs[4] = nil
	return []struct {
		name  string
		at    *[]byte
		bound bool
	}{
		{"quote", &e.Quote, true},
		{"signature", &e.Signature, true},
		{"ak_public", &e.AKPublic, true},
		{"spki", &ev.SPKI, true},
		{"certify.public", &e.Certify.Public, true},
		{"certify.attest", &e.Certify.Attest, true},
		{"certify.signature", &e.Certify.Signature, true},
		{"pcr 4", &pcr, true},
		{"event_log", &e.EventLog, false},
		{"ek_public", &e.EKPublic, false},
		{"ek_certificate", &e.EKCertificate, false},
		{"ek_chain", &e.EKChain[0], false},
	}
}

// FuzzAppraise changes one field of honest evidence. A change is refused, or it
// changes no fact: the bytes that a signature or a digest covers cannot change
// at all, and the others cannot make the host look otherwise than it is.
func FuzzAppraise(f *testing.F) {
	honest := newEnrol(f)
	facts := mustAppraise(f, honest)
	for i := range 12 {
		f.Add(uint8(i), uint16(3), byte(1), []byte(nil))
		f.Add(uint8(i), uint16(70), byte(0x80), []byte{0})
	}
	f.Add(uint8(8), uint16(0xffff), byte(0), []byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, field uint8, at uint16, mask byte, insert []byte) {
		a := *honest
		tpmEvidence, certify := *honest.ev.TPM2, *honest.ev.TPM2.Certify
		tpmEvidence.Certify, tpmEvidence.PCRs = &certify, honest.tpm.Values(evidencetest.Selection)
		tpmEvidence.EKChain = [][]byte{honest.tpm.EKChain[0]}
		a.ev.TPM2 = &tpmEvidence
		list := fields(&a.ev)
		target := list[int(field)%len(list)]
		before := *target.at
		i := int(at) % (len(before) + 1)
		changed := append(append(bytes.Clone(before[:i]), insert...), before[i:]...)
		if i < len(changed) {
			changed[i] ^= mask
		}
		*target.at = changed
		tpmEvidence.PCRs[4] = *list[7].at

		got, err := a.appraise()
		same := bytes.Equal(before, changed)
		switch {
		case err != nil && same:
			t.Errorf("honest evidence was refused: %v", err)
		case err == nil && !same && target.bound:
			t.Errorf("%s changed at %d and was accepted", target.name, i)
		case err == nil:
			expectSameFacts(t, facts, got)
		}
	})
}

func expectSameFacts(t *testing.T, want, got verifier.Appraisal) {
	t.Helper()
	if diff := cmp.Diff(want.PCRs(), got.PCRs()); diff != "" {
		t.Errorf("PCRs (-want +got):\n%s", diff)
	}
	for pcr := range 24 {
		if diff := cmp.Diff(want.EventDigests(pcr), got.EventDigests(pcr)); diff != "" {
			t.Errorf("events of PCR %d (-want +got):\n%s", pcr, diff)
		}
	}
	if boot := got.SecureBoot(); boot != want.SecureBoot() && boot != "unknown" {
		t.Errorf("secure boot became %q", boot)
	}
	if got.Genuine() && got.Manufacturer() != want.Manufacturer() {
		t.Errorf("the maker became %q", got.Manufacturer())
	}
	if got.Clock() != want.Clock() || got.Clock() == (tpm2.Clock{}) || got.FirmwareVersion() != want.FirmwareVersion() || got.KeyResidency() != want.KeyResidency() {
		t.Error("clock, firmware version or residency changed")
	}
}
