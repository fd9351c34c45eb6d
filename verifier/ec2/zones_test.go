package ec2_test

import (
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestNamesOfZones: availability zones, local zones and both forms of wavelength
// zones are of their region; what only looks so is not (row 44; test key).
func TestNamesOfZones(t *testing.T) {
	now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	const region = "eu-west-3"
	pki := documenttest.NewEC2(region, now)
	trust, err := ec2.NewTrust(map[string][]byte{region: pki.CertificatePEM()})
	if err != nil {
		t.Fatal(err)
	}
	for zone, code := range map[string]reason.Code{
		region + "a":               "",
		region + "-lax-1a":         "",
		region + "-phl-12b":        "",
		region + "-wl1-bos-wlz-1":  "",
		region + "-cmn-wlz-1a":     "",
		region:                     reason.EC2Zone,
		region + "1a":              reason.EC2Zone,
		region + "A":               reason.EC2Zone,
		region + "ab":              reason.EC2Zone,
		region + "-cmn-wlz-1":      reason.EC2Zone,
		region + "-wlz-":           reason.EC2Zone,
		region + "-wl1-bos-wlz-1a": reason.EC2Zone,
		"eu-west-2a":               reason.EC2Zone,
		"eu-west-2-cmn-wlz-1a":     reason.EC2Zone,
		"x" + region + "a":         reason.EC2Zone,
	} {
		instance := documenttest.NewEC2Instance(region, now)
		instance.Zone = zone
		if _, err := ec2.Verify(pki.Document(instance), nil, trust, now); reason.Of(err) != code {
			t.Errorf("%s: %v, want %q", zone, err, code)
		}
	}
}
