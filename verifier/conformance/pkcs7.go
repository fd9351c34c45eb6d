package conformance

import (
	"encoding/hex"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
	"github.com/zonebroker/zonebroker/verifier/x509pop"
)

// judgeEC2IID judges an identity document as that of a first registration. The
// file is the message or, where the row names a message (pkcs7) or a bare
// signature (sig), the plain document beside it.
func judgeEC2IID(c *testcase) (facts, error) {
	raw, at, err := c.dated()
	if err != nil {
		return nil, err
	}
	if c.has("sig") {
		return nil, reason.New(reason.EC2Variant, "a document with a bare signature")
	}
	if form := c.get("form"); form != "" && form != "rsa2048" {
		return nil, reason.New(reason.EC2Variant, "another form than rsa2048")
	}
	var beside []byte
	if c.has("pkcs7") {
		beside = raw
		if raw, err = c.companion("pkcs7"); err != nil {
			return nil, err
		}
	}
	trust, err := c.regions()
	if err != nil {
		return nil, err
	}
	d, err := ec2.Verify(raw, beside, trust, at)
	if err != nil {
		return nil, err
	}
	f := d.Facts()
	if at.Sub(f.Launched) > ec2.FirstUse {
		return nil, reason.New(reason.EC2PendingTime, "launched too long ago for a first registration")
	}
	if err := refuseHazards(f); err != nil {
		return nil, err
	}
	out := facts{"instance_id": strings.Join(f.Values("ec2.instance_id"), ""), "zone": strings.Join(f.Values("ec2.availability_zone"), "")}
	return out, c.admits(f)
}

// regions reads the certificates of the row's region. Such that sign for no
// region (DSA, RSA-1024) are a case like any other: nothing is signed under them.
func (c *testcase) regions() (ec2.Trust, error) {
	bundles, err := c.companions("roots")
	if err != nil {
		return ec2.Trust{}, err
	}
	pinned := map[string][]byte{}
	for _, b := range bundles {
		for region, certificates := range regionTable(b, c.get("region")) {
			pinned[region] = append(append(pinned[region], certificates...), '\n')
		}
	}
	trust, err := ec2.NewTrust(pinned)
	if err != nil {
		return ec2.Trust{}, nil //nolint:nilerr // see above
	}
	return trust, nil
}

// regionTable reads a file of certificates: PEM, which is that of the region, or a
// JSON object of PEM by region, of which that of the region counts.
func regionTable(raw []byte, region string) map[string][]byte {
	var table map[string]string
	if strictjson.Unmarshal(raw, &table) != nil {
		return map[string][]byte{region: raw}
	}
	if text, ok := table[region]; ok {
		return map[string][]byte{region: []byte(text)}
	}
	return nil
}

// judgeEC2STS judges the pieces of a signed request and, where the row names one,
// the recorded answer (report). nonce is what the challenge header has to carry,
// 32 bytes in hex.
func judgeEC2STS(c *testcase) (facts, error) {
	raw, at, err := c.dated()
	if err != nil {
		return nil, err
	}
	bound, err := c.challenge()
	if err != nil {
		return nil, err
	}
	r, err := ec2.ParseRequest(raw, bound, at)
	if err != nil || !c.has("report") {
		return nil, err
	}
	answer, err := c.companion("report")
	if err != nil {
		return nil, err
	}
	p, err := r.Answered(answer)
	if err != nil {
		return nil, err
	}
	f := p.Facts()
	if err := c.admits(f); err != nil {
		return nil, err
	}
	return nil, refuseHazards(f)
}

// judgeAzureIMDS judges an attested document.
func judgeAzureIMDS(c *testcase) (facts, error) {
	raw, at, err := c.dated()
	if err != nil {
		return nil, err
	}
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	a, err := azure.VerifyIMDS(raw, c.get("nonce"), roots, at)
	if err != nil {
		return nil, err
	}
	f := a.Facts()
	if err := c.admits(f); err != nil {
		return nil, err
	}
	return facts{"instance_id": a.VM()}, refuseHazards(f)
}

// judgeX509PoP judges a certificate with its signature (sig) over nonce, 32 bytes
// in hex; keys names issuers.
func judgeX509PoP(c *testcase) (facts, error) {
	raw, at, err := c.dated()
	if err != nil {
		return nil, err
	}
	bound, err := c.challenge()
	if err != nil {
		return nil, err
	}
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	e := x509pop.Evidence{Certificate: raw}
	if e.Signature, err = c.companion("sig"); err != nil {
		return nil, err
	}
	if e.Issuers, err = c.companion("keys"); err != nil {
		return nil, err
	}
	p, err := x509pop.Verify(e, bound, x509pop.Trust{Roots: roots}, at)
	if err != nil {
		return nil, err
	}
	return nil, refuseHazards(p.Facts())
}

// challenge reads the nonce of a row whose evidence carries a bound value.
func (c *testcase) challenge() ([32]byte, error) {
	raw, err := hex.DecodeString(c.get("nonce"))
	if err != nil || len(raw) != 32 {
		return [32]byte{}, bad("nonce is not 32 bytes in hex")
	}
	return [32]byte(raw), nil
}
