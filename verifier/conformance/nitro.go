package conformance

import (
	"encoding/hex"

	"github.com/zonebroker/zonebroker/verifier/nitro"
)

// judgeNitro judges an attestation document of AWS Nitro: an enclave's unless the
// row says type=instance.
func judgeNitro(c *testcase) (facts, error) {
	want := nitro.Expectation{Type: nitro.Enclave, Nonce: c.asked("nonce")}
	if c.has("type") {
		kind, err := c.choice("type", "enclave", "instance")
		if err != nil {
			return nil, err
		}
		if kind == "instance" {
			want.Type = nitro.Instance
		}
	}
	at, err := c.time()
	if err != nil {
		return nil, err
	}
	raw, err := c.open(c.row.Path)
	if err != nil {
		return nil, err
	}
	roots, err := c.companions("roots")
	if err != nil {
		return nil, err
	}
	trust, err := nitro.NewTrust(roots...)
	if err != nil {
		return nil, bad("roots: %v", err)
	}
	d, err := nitro.Verify(raw, want, trust, at)
	if err != nil {
		return nil, err
	}
	return facts{"instance_id": d.InstanceID()}, refuseHazards(d.Facts())
}

// asked returns the bytes that a document has to carry, nil where the row
// asks for none. What is not hex stands for itself: a word that no document
// carries.
func (c *testcase) asked(key string) []byte {
	if b, err := hex.DecodeString(c.get(key)); err == nil {
		return b
	}
	return []byte(c.get(key))
}
