package verifier

import (
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/nitro"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// judgeNitro wants the binding as the nonce of an enclave's document.
func judgeNitro(in *itemInput, trust *Documents) (document.Facts, error) {
	return judgeNitroAs(nitro.Enclave, in, trust)
}

// judgeNitroTPM wants it as the nonce of an instance's document.
func judgeNitroTPM(in *itemInput, trust *Documents) (document.Facts, error) {
	return judgeNitroAs(nitro.Instance, in, trust)
}

func judgeNitroAs(kind nitro.Type, in *itemInput, trust *Documents) (document.Facts, error) {
	if len(in.Parts) > 0 {
		return document.Facts{}, reason.New(reason.RequestMalformed, "a Nitro document has no parts")
	}
	d, err := nitro.Verify(in.Document, nitro.Expectation{Type: kind, Nonce: in.Bound[:]}, trust.Nitro, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	return d.Facts(), nil
}
