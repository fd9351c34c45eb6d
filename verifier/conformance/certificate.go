package conformance

import (
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// judgeEKCertificate judges what was offered as an EK certificate. Captures come
// without the EK itself: unless the row gives it, the certificate is judged for
// its own key.
func judgeEKCertificate(c *testcase) (facts, error) {
	at, err := c.time()
	if err != nil {
		return nil, err
	}
	raw, err := c.open(c.row.Path)
	if err != nil {
		return nil, err
	}
	bundles, err := c.companions("roots")
	if err != nil {
		return nil, err
	}
	roots, err := ekcert.NewRoots(bundles...)
	if err != nil {
		return nil, bad("roots: %v", err)
	}
	der, chain := derOf(raw)
	key := ekcert.SubjectKey(der)
	if c.has("pub") {
		if key, err = c.ekKey(); err != nil {
			return nil, err
		}
	}
	_, err = ekcert.Verify(der, chain, key, roots, ekcert.Options{}, at)
	return nil, err
}

// ekKey reads the EK that a certificate has to be for: a TPMT_PUBLIC with or
// without size, or a SubjectPublicKeyInfo.
func (c *testcase) ekKey() ([]byte, error) {
	raw, err := c.open(c.get("pub"))
	if err != nil {
		return nil, err
	}
	k, err := readAK(raw)
	if err != nil || k.key != nil {
		return k.key, err
	}
	ek, err := tpm2.ParseEK(k.public)
	return ek.SPKI(), err
}

// judgeAKCertificate judges the certificate of an AK that a quote's row brings.
func (c *testcase) judgeAKCertificate(k attestationKey) error {
	if k.cert == nil || !c.has("roots") {
		return nil
	}
	return notImplemented{"AK certificates"}
}
