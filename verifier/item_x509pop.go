package verifier

import (
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/x509pop"
)

// judgeX509PoP judges a certificate with the signature of its key over the bound
// value in part "signature", and issuers in part "chain".
func judgeX509PoP(in *itemInput, trust *Documents) (document.Facts, error) {
	e := x509pop.Evidence{Certificate: in.Document, Issuers: in.Parts["chain"], Signature: in.Parts["signature"]}
	p, err := x509pop.Verify(e, in.Bound, trust.X509PoP, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	return p.Facts(), nil
}
