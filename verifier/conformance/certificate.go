package conformance

import (
	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// roots reads the anchors and intermediates of a row.
func (c *testcase) roots() (x509chain.Roots, error) {
	bundles, err := c.companions("roots")
	if err != nil {
		return x509chain.Roots{}, err
	}
	return anchored(x509chain.NewRoots(bundles...))
}

// judgeEKCertificate judges what was offered as an EK certificate. Captures come
// without the EK itself: unless the row gives it, the certificate is judged for
// its own key.
func judgeEKCertificate(c *testcase) (facts, error) {
	raw, at, err := c.dated()
	if err != nil {
		return nil, err
	}
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	der, chain := derOf(raw)
	key, err := c.ekKey(der)
	if err != nil {
		return nil, err
	}
	_, err = ekcert.Verify(der, chain, key, roots, ekcert.Options{}, at)
	return nil, err
}

// ekKey returns the key that an EK certificate has to be for, its own unless the
// row gives one: a TPMT_PUBLIC with or without size, or a SubjectPublicKeyInfo.
func (c *testcase) ekKey(der []byte) ([]byte, error) {
	if !c.has("pub") {
		return ekcert.SubjectKey(der)
	}
	raw, err := c.open(c.get("pub"))
	if err != nil {
		return nil, err
	}
	k, err := readAK(raw)
	if reason.Of(err) == reason.TPM2AKEncoding {
		return nil, reason.New(reason.TPM2EKEncoding, reason.Detail(err))
	}
	if err != nil || k.key != nil {
		return k.key, err
	}
	ek, err := tpm2.ParseEK(k.public)
	return ek.SPKI(), err
}

// judgeAKCertificateRow judges what was offered as an AK certificate, for its
// own key unless the row gives an AK.
func judgeAKCertificateRow(c *testcase) (facts, error) {
	raw, err := c.open(c.row.Path)
	if err != nil {
		return nil, err
	}
	der, chain := derOf(raw)
	key, err := akcert.SubjectKey(der)
	if err != nil {
		return nil, err
	}
	if c.has("ak") {
		k, err := c.ak()
		if err != nil {
			return nil, err
		}
		if key = k.key; key == nil {
			return nil, bad("ak has to be a public key in PEM or DER here")
		}
	}
	got, err := c.akCertificate(der, chain, key)
	if err == nil && c.row.Verdict == Reject {
		err = c.admitted(got)
	}
	return got, err
}

// admitted judges the instance that a certificate names where the row wants a
// refusal: what an accepted row states as facts is then what was admitted.
func (c *testcase) admitted(got facts) error {
	if want := c.get("project"); want != "" && want != got["project"] {
		return reason.New(reason.NodeNotAdmitted, "another project than the admitted one")
	}
	for _, key := range []string{"zone", "instance_id", "instance_name"} {
		if want := c.get(key); want != "" && want != got[key] {
			return reason.New(reason.GCEAKCertInstance, "the certificate names another instance")
		}
	}
	return nil
}

// judgeAKCertificate judges the certificate that the AK of a quote was given as.
// Without roots nothing is asked of it: it is then only the form of a key.
func (c *testcase) judgeAKCertificate(k attestationKey) error {
	if k.cert == nil || !c.has("roots") {
		return nil
	}
	_, err := c.akCertificate(k.cert, k.chain, k.key)
	return err
}

func (c *testcase) akCertificate(der []byte, chain [][]byte, key []byte) (facts, error) {
	at, err := c.time()
	if err != nil {
		return nil, err
	}
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	cert, err := akcert.Verify(der, chain, key, roots, akcert.Options{}, at)
	i := cert.Instance()
	return facts{"zone": i.Zone, "project": i.Project, "instance_id": i.ID, "instance_name": i.Name}, err
}
