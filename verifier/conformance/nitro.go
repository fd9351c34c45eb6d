package conformance

import (
	"encoding/hex"

	"github.com/zonebroker/zonebroker/verifier/nitro"
)

// judgeNitro judges an attestation document of AWS Nitro: an enclave's unless the
// row says type=instance.
func judgeNitro(c *testcase) (facts, error) {
	kind, err := c.choice("type", "", "enclave", "instance")
	if err != nil {
		return nil, err
	}
	if kind == "instance" {
		return c.nitro(nitro.Instance)
	}
	return c.nitro(nitro.Enclave)
}

// judgeNitroTPM judges one of an instance: kind nitro with type=instance.
func judgeNitroTPM(c *testcase) (facts, error) {
	if _, err := c.choice("type", "", "instance"); err != nil {
		return nil, err
	}
	return c.nitro(nitro.Instance)
}

func (c *testcase) nitro(kind nitro.Type) (facts, error) {
	want := nitro.Expectation{Type: kind, Nonce: c.asked("nonce")}
	raw, at, err := c.dated()
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
	// A debug enclave is refused before its nonce is compared: the rows have that
	// order, and a broker needs none.
	bearer := want
	bearer.Nonce = nil
	d, err := nitro.Verify(raw, bearer, trust, at)
	if err != nil {
		return nil, err
	}
	if err := refuseHazards(d.Facts()); err != nil {
		return nil, err
	}
	if _, err := nitro.Verify(raw, want, trust, at); err != nil {
		return nil, err
	}
	return facts{"instance_id": d.InstanceID()}, nil
}

// asked returns the bytes that a document has to carry, by the first of the keys
// that the context has; nil where the row asks for none. What is not hex stands
// for itself: a word that no document carries.
func (c *testcase) asked(keys ...string) []byte {
	for _, key := range keys {
		if !c.has(key) {
			continue
		}
		if b, err := hex.DecodeString(c.get(key)); err == nil {
			return b
		}
		return []byte(c.get(key))
	}
	return nil
}
