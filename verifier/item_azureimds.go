package verifier

import (
	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/document"
)

// judgeAzureIMDS judges an attested document. Part "azure_vm" is what Azure
// Resource Manager said.
func judgeAzureIMDS(in *itemInput, trust *Documents) (document.Facts, error) {
	a, err := azure.VerifyIMDS(in.Document, document.Base62(in.Bound), trust.AzureIMDS, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	if live, asked := in.Parts[azure.PartVM]; asked {
		if a, err = a.Live(live); err != nil {
			return document.Facts{}, err
		}
	}
	return a.Facts(), nil
}
