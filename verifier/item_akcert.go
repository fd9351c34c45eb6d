package verifier

import (
	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// partChain is the issuers of a certificate: DER, one behind the other.
const partChain = "chain"

// judgeAKCertificate wants the certificate to be for the key whose quote carries
// the binding. A certificate alone lies in public: it says what an instance is, and
// not who sent it.
func judgeAKCertificate(in *itemInput, trust *Documents) (document.Facts, error) {
	if len(in.AK) == 0 {
		return document.Facts{}, errWithoutQuote
	}
	c, err := akcert.VerifyInstance(in.Document, in.Parts[partChain], in.AK, trust.GCEAK, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	return quoted(c.Facts()), nil
}

var errWithoutQuote = reason.New(reason.RequestMalformed, "documents of this format come with a quote by the key that they vouch for")

// quoted raises what a document for an attestation key proves: that key signed the
// binding, which holds nonce and key.
func quoted(f document.Facts) document.Facts {
	f.Class, f.NonceBound, f.KeyBound = document.ClassA, true, true
	return f
}
