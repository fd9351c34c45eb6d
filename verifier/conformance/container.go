package conformance

import (
	"encoding/json"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// goAttestation is the JSON of go-attestation's test dumps (attest.Dump): one
// machine's keys, quote and log.
type goAttestation struct {
	Static struct{ TPMVersion int }
	AK     struct{ Public []byte }
	Quote  struct{ Quote, Signature []byte }
	Log    struct {
		PCRs []struct {
			Index     int
			Digest    []byte
			DigestAlg int
		}
		Raw []byte
	}
}

// tpmVersion12 is go-attestation's TPMVersion12.
const tpmVersion12 = 1

func (c *testcase) goAttestation() (goAttestation, error) {
	var d goAttestation
	if _, err := c.choice("container", "go-attestation"); err != nil {
		return d, err
	}
	raw, err := c.open(c.row.Path)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, bad("%s is not the JSON of go-attestation: %v", c.row.Path, err)
	}
	return d, nil
}

// quote returns what of a dump is judged as a quote.
func (d goAttestation) quote() (capture, error) {
	if d.Static.TPMVersion == tpmVersion12 {
		return capture{}, reason.New(reason.TPM2Version, "the evidence is of a TPM 1.2")
	}
	public, err := unsized(d.AK.Public)
	return capture{ak: attestationKey{public: public}, attest: d.Quote.Quote, signature: d.Quote.Signature}, err
}

// pcrs returns the values of one bank. Dumps name the bank by crypto.Hash, or
// not at all: the length tells.
func (d goAttestation) pcrs(bank tpm2.Bank) map[int][]byte {
	out := map[int][]byte{}
	for _, p := range d.Log.PCRs {
		if p.Index >= 0 && p.Index < tpm2.PCRs && len(p.Digest) == digestSize(bank) {
			out[p.Index] = p.Digest
		}
	}
	return out
}
