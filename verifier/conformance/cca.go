package conformance

import (
	"github.com/zonebroker/zonebroker/verifier/cca"
)

// judgeCCA judges a token of the Arm Confidential Compute Architecture under the
// platform keys that the row gives.
func judgeCCA(c *testcase) (facts, error) {
	raw, err := c.open(c.row.Path)
	if err != nil {
		return nil, err
	}
	keys, err := c.companions("keys")
	if err != nil {
		return nil, err
	}
	var objects []cca.Object
	for _, k := range keys {
		objects = append(objects, cca.Object{Name: "keys", Data: k})
	}
	trust, err := cca.NewTrust(objects...)
	if err != nil {
		return nil, bad("keys: %v", err)
	}
	// The lifecycle comes before the challenge, as debug does elsewhere.
	t, err := cca.Verify(raw, nil, trust)
	if err != nil {
		return nil, err
	}
	if err := refuseHazards(t.Facts()); err != nil {
		return nil, err
	}
	_, err = cca.Verify(raw, c.asked("nonce", "report_data", "qualifying"), trust)
	return nil, err
}
