package broker_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestKexecAndHibernation: from the zone's document to the denial, both codes at
// once, and back after a boot that rules them out.
func TestKexecAndHibernation(t *testing.T) {
	r := newRig(t, zoneLab+"requires: {boot: {kexec: denied, hibernation: denied}}\n")
	h := r.admitted()
	h.tpm.Boot(build.Machine{CommandLine: "root=/dev/vda1 ro"}.Log())
	out, err := h.tryEnrol()
	wantCode(t, out, err, reason.PolicyKexec)
	if reasons := r.lastAttestation(h.node).Reasons; len(reasons) != 2 || reasons[1].Code != string(reason.PolicyHibernation) {
		t.Errorf("%+v", reasons)
	}
	h.tpm.Boot(build.Machine{CommandLine: "root=/dev/vda1 ro lockdown=integrity"}.Log())
	h.enrol()
	h.renew()
}
