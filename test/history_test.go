package test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestDenialIsExplained: an operator who sees a denial learns from the commands
// alone which event of the boot log it was, what stood there before, what
// drifted, and what the life of the host was until then.
func TestDenialIsExplained(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	first := h.mustAttest(p)
	learnReferences(t, p, first.Node, first.AttestationID)
	accepted := h.mustAttest(p)

	const version = "6.12.1-evil"
	log := build.Machine{KernelVersion: version, SecureBootOff: true}.Log()
	h.boot(log)
	_, err := h.attest(p)
	wantCode(t, err, reason.PolicyPCRMismatch)

	var denials []api.Entry
	p.ctl(t, &denials, "history", "list", "--reason", string(reason.PolicyPCRMismatch), "--node", first.Node, "--since", "1h")
	if len(denials) != 1 {
		t.Fatalf("denials: %+v", denials)
	}
	var x api.Explanation
	p.ctl(t, &x, "history", "explain", denials[0].ID)
	if x.Code != string(reason.PolicyPCRMismatch) || x.Remedy == "" || x.Zone != "lab" || x.Node != first.Node {
		t.Errorf("explanation %+v", x)
	}
	for pcr, description := range map[int]string{4: "/boot/vmlinuz-" + version, 7: "variable SecureBoot"} {
		i := slices.IndexFunc(x.Mismatches, func(m api.Mismatch) bool { return m.PCR == pcr })
		if i < 0 || x.Mismatches[i].Event == nil {
			t.Errorf("PCR %d is not explained: %+v", pcr, x.Mismatches)
			continue
		}
		e, number := x.Mismatches[i].Event, eventNumber(t, log, pcr, description)
		if e.Number != number || e.Description != description || e.Against != accepted.AttestationID || e.Digest == "" || e.Before == "" || e.Digest == e.Before {
			t.Errorf("PCR %d: event %+v, want number %d, %s, against %s", pcr, e, number, description, accepted.AttestationID)
		}
	}

	var changes []api.Drift
	p.ctl(t, &changes, "drift", "list", "--node", first.Node, "--kind", "secure_boot")
	if len(changes) != 1 || changes[0].Before != "on" || changes[0].After != "off" || changes[0].ID != denials[0].ID || changes[0].Zone != "lab" {
		t.Errorf("drift %+v", changes)
	}
	text := c.rig.run(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "node", "timeline", first.Node)
	for _, want := range []string{"attested", "rebooted", "secure_boot: on -> off", "verdict: allow -> deny", "denied", "history explain " + denials[0].ID} {
		if !strings.Contains(text, want) {
			t.Errorf("the timeline does not tell %q:\n%s", want, text)
		}
	}

	// Whoever hides the drift in the database is found.
	if _, err := c.super.Exec(t.Context(), `SET session_replication_role = replica; DELETE FROM drift_event WHERE kind = 'secure_boot'`); err != nil {
		t.Fatal(err)
	}
	stdout, _, code := c.rig.try(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "history", "verify")
	if code != 5 || !strings.Contains(stdout, "its drift is not that of the body") {
		t.Errorf("history verify exits %d:\n%s", code, stdout)
	}
}

// learnReferences makes the boot of an attestation what zone lab demands.
func learnReferences(t *testing.T, p *replica, node, boot string) {
	t.Helper()
	file := filepath.Join(p.dir, "zones", "learnt.yaml")
	p.cluster.rig.run(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "reference", "learn", "--node", node, "--boot", boot, "-o", file)
	must(t, os.Chmod(file, 0o600))
	zone := strings.NewReplacer("tier: 1", "tier: 2", "format: [tpm2]}", "format: [tpm2], references: [learnt]}").Replace(labZone)
	must(t, os.WriteFile(filepath.Join(p.dir, "zones", "z0.yaml"), []byte(zone), 0o600))
	p.hangup(t)
}

// eventNumber finds an event by what it says of itself; the Spec ID record is 0.
func eventNumber(t *testing.T, b *build.Builder, pcr int, description string) int {
	t.Helper()
	log, err := eventlog.Parse(b.Bytes())
	must(t, err)
	for _, e := range log.Events() {
		if e.PCR == pcr && e.Describe() == description {
			return e.Index
		}
	}
	t.Fatalf("the log has no event %q in PCR %d", description, pcr)
	return 0
}
