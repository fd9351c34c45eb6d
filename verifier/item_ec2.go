package verifier

import (
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// judgeEC2IID judges an instance identity document. Part "document" is the plain
// document beside it, part "ec2_instance" what DescribeInstances said; a part
// "signature" is that of a form that is not taken.
func judgeEC2IID(in *itemInput, trust *Documents) (document.Facts, error) {
	if _, weak := in.Parts["signature"]; weak {
		return document.Facts{}, reason.New(reason.EC2Variant, "not the rsa2048 form of the identity document")
	}
	var beside []byte
	if plain, sent := in.Parts["document"]; sent {
		beside = append([]byte{}, plain...) // never nil: an empty one differs too
	}
	d, err := ec2.Verify(in.Document, beside, trust.EC2, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	if live, asked := in.Parts[ec2.PartInstance]; asked {
		if d, err = d.Live(live); err != nil {
			return document.Facts{}, err
		}
	}
	return d.Facts(), nil
}

// judgeEC2STS judges a signed GetCallerIdentity request with the answer that the
// broker recorded in part "answer".
func judgeEC2STS(in *itemInput, _ *Documents) (document.Facts, error) {
	r, err := ec2.ParseRequest(in.Document, in.Bound, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	p, err := r.Answered(in.Parts[ec2.PartAnswer])
	if err != nil {
		return document.Facts{}, err
	}
	return p.Facts(), nil
}
