package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
)

// lintOf loads a zone that names nodes by formats, and returns what is wrong with it.
func lintOf(tier int, class, formats, rest string) string {
	zone := fmt.Sprintf(`apiVersion: zonebroker/v1
kind: Zone
name: promises
tier: %d
selectors: {any: [{group: web}]}
admit: [owner, inventory]
requires: {class: %s, format: [%s]%s}
evidence: {max_age: 5m}
issue: {grace: 0s}
`, tier, class, formats, rest)
	_, problems := policy.Load(files(zone))
	var out []string
	for _, p := range problems {
		out = append(out, p.Text)
	}
	return strings.Join(out, "; ")
}

// TestMeasuredByItsOwnFormat: from tier 2 on every format that may name a node is
// measured by what that format calls a measurement; the weakest of a list is what
// somebody without the right image would come with.
func TestMeasuredByItsOwnFormat(t *testing.T) {
	for name, c := range map[string]struct{ class, formats, rest, says string }{
		"snp":                     {"A", "snp", ", where: {snp.measurement: [aa]}", ""},
		"tdx":                     {"A", "tdx", ", where: {tdx.mrtd: [aa]}", ""},
		"nitro":                   {"A", "nitro", ", where: {nitro.pcr.0: [aa]}", ""},
		"nitro in two halves":     {"A", "nitro", ", where: {nitro.pcr.1: [aa], nitro.pcr.2: [bb]}", ""},
		"nitrotpm by its loader":  {"A", "nitrotpm", ", where: {nitrotpm.pcr.4: [aa]}", ""},
		"nitrotpm by Secure Boot": {"A", "nitrotpm", ", where: {nitrotpm.pcr.7: [aa]}", ""},
		"cca":                     {"A", "cca", ", where: {cca.rim: [aa]}", ""},
		"Google's word":           {"B", "gcp.confidential", ", where: {gcp.image_digest: [aa]}", "takes gcp.confidential has neither; it earns tier 1 at most"},
		"Microsoft's word":        {"B", "azure.maa", ", where: {azure.maa.launch_measurement: [aa]}", "takes azure.maa has neither; it earns tier 1 at most"},
		"a quote, or a word":      {"B", "tpm2, azure.maa", ", secure_boot: true, where: {azure.maa.launch_measurement: [aa]}", "takes azure.maa has neither"},
		"azure.cvm by its quote":  {"A", "azure.cvm", ", secure_boot: true", ""},
		"a TPM, and snp":          {"A", "tpm2, snp", ", secure_boot: true, where: {snp.measurement: [aa]}", ""},
		"another's measurement":   {"A", "snp", ", where: {tdx.mrtd: [aa]}", "snp must compare a measurement of it in requires.where: snp.measurement"},
		"a hash of the instance":  {"A", "nitro", ", where: {nitro.pcr.4: [aa]}", "nitro.pcr.0, or nitro.pcr.1 and nitro.pcr.2"},
		"a signer":                {"A", "nitro", ", where: {nitro.pcr.8: [aa]}", "must compare a measurement"},
		"half of an enclave":      {"A", "nitro", ", where: {nitro.pcr.2: [aa]}", "must compare a measurement"},
		"firmware of AWS":         {"A", "nitrotpm", ", where: {nitrotpm.pcr.0: [aa]}", "must compare a measurement"},
		"registers of a guest":    {"A", "tdx", ", where: {tdx.rtmr.1: [aa]}", "must compare a measurement"},
		"a realm's own word":      {"A", "cca", ", where: {cca.rem.0: [aa]}", "must compare a measurement"},
		"one of two":              {"A", "snp, tdx", ", where: {snp.measurement: [aa]}", "takes tdx must compare"},
		"a TPM, and snp without":  {"A", "tpm2, snp", ", secure_boot: true", "takes snp must compare"},
		"snp, and a TPM without":  {"A", "tpm2, snp", ", where: {snp.measurement: [aa]}", "references or secure_boot"},
		"a paravisor alone":       {"A", "azure.cvm", ", where: {azure.cvm.paravisor: [aa], snp.measurement: [aa]}", "references or secure_boot"},
		"a cloud's word":          {"B", "gce.identity", ", evidence: {any: [gcp.confidential]}, where: {gcp.image_digest: [aa]}", "it earns tier 1 at most"},
		"a measurement from afar": {"A", "snp", ", same_machine: false, where: {snp.measurement: [aa]}", "that of another machine"},
		"a paravisor of anybody":  {"A", "azure.cvm", ", secure_boot: true, allow: [azure.runtime_data]", "requires.where what it takes: azure.cvm.paravisor"},
		"a paravisor by its key":  {"A", "azure.cvm", ", secure_boot: true, where: {azure.cvm.paravisor: [aa]}, allow: [azure.runtime_data]", ""},
		"a debug guest at tier 2": {"A", "snp", ", where: {snp.measurement: [aa]}, allow: [snp.debug]", ""},
		"a quote and a cloud's":   {"A", "tpm2", ", secure_boot: true, same_machine: false, evidence: {any: [gce.identity]}", ""},
	} {
		got := lintOf(2, c.class, c.formats, c.rest)
		if (c.says == "") != (got == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
		if c.says != "" && c.says != "references or secure_boot" {
			if got := lintOf(1, c.class, c.formats, c.rest); got != "" {
				t.Errorf("%s at tier 1: %q", name, got)
			}
		}
	}
}

// TestNobodyLooksIntoTier4: what lets the host or the operator of a machine look
// into it cannot be allowed where the tier says that nobody does, and an old
// platform only by saying how old.
func TestNobodyLooksIntoTier4(t *testing.T) {
	for name, c := range map[string]struct{ format, rest, says string }{
		"a debug guest":             {"snp", "where: {snp.measurement: [aa]}, allow: [snp.debug]", "with snp.debug others may look into it"},
		"a debug TD":                {"tdx", "where: {tdx.mrtd: [aa]}, allow: [tdx.debug]", "tdx.debug"},
		"a debug enclave":           {"nitro", "where: {nitro.pcr.0: [aa]}, allow: [nitro.debug]", "nitro.debug"},
		"a platform being debugged": {"cca", "where: {cca.rim: [aa]}, allow: [cca.lifecycle]", "cca.lifecycle"},
		"Microsoft's claims":        {"azure.cvm", "secure_boot: true, evidence: {any: [azure.maa]}, allow: [azure.attestation_claims]", "azure.attestation_claims"},
		"a debug container":         {"tdx", "where: {tdx.mrtd: [aa]}, evidence: {any: [gcp.confidential]}, allow: [policy.measurement_mismatch]", "policy.measurement_mismatch"},
		"any old SNP firmware":      {"snp", "where: {snp.measurement: [aa]}, allow: [snp.tcb_low]", "requires.minimum what it takes: snp.tcb."},
		"a floor of nothing":        {"snp", "where: {snp.measurement: [aa]}, minimum: {snp.tcb.snp: 0}, allow: [snp.tcb_low]", "requires.minimum"},
		"a floor of one's own":      {"snp", "where: {snp.measurement: [aa]}, minimum: {snp.tcb.snp: 8}, allow: [snp.tcb_low]", ""},
		"any level of TDX":          {"tdx", "where: {tdx.mrtd: [aa]}, allow: [tdx.tcb_status]", "requires.where what it takes: tdx.tcb_status"},
		"a level of TDX":            {"tdx", "where: {tdx.mrtd: [aa], tdx.tcb_status: [UpToDate, SWHardeningNeeded]}, allow: [tdx.tcb_status]", ""},
		"under an SVSM":             {"snp", "where: {snp.measurement: [aa]}, allow: [snp.vmpl]", ""},
		"documents of elsewhere":    {"azure.cvm", "secure_boot: true, same_machine: false, evidence: {any: [azure.imds]}", "every document has to be about that machine"},
		"said out loud":             {"snp", "where: {snp.measurement: [aa]}, same_machine: true", ""},
	} {
		got := lintOf(4, "A", c.format, ", "+c.rest)
		if (c.says == "") != (got == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
}
