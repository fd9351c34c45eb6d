package policy_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
)

// TestAllow: a zone may take what a document says of itself and default policy
// fears, each by its code, and nothing that makes evidence false or old.
func TestAllow(t *testing.T) {
	const zone = `apiVersion: zonebroker/v1
kind: Zone
name: lab
tier: 1
selectors: {any: [{format: gce.identity}]}
admit: [operator]
requires: {format: [gce.identity], allow: [CODE]}
`
	for code, taken := range map[string]bool{
		"azure.attestation_claims": true, "cca.lifecycle": true, "ear.status": true, "ec2.marketplace": true, "nitro.debug": true,
		"nvidia.rim_missing": true, "policy.measurement_mismatch": true, "snp.debug": true, "snp.tcb_low": true, "snp.vmpl": true,
		"tdx.debug": true, "tdx.tcb_status": true,
		"ec2.pending_time": false, "jwt.audience": false, "jwt.signature": false, "k8s.revoked": false, "snp.report_data": false, "fine": false,
	} {
		set, problems := policy.Load(files(strings.Replace(zone, "CODE", code, 1)))
		if (set != nil) != taken || (len(problems) == 0) != taken {
			t.Errorf("%s: %v", code, problems)
		}
	}
}
