package tpm2collect_test

import (
	"context"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/zonebroker/zonebroker/broker/agent/collect/collecttest"
	"github.com/zonebroker/zonebroker/broker/agent/collect/nsm"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// TestNitroTPMDocumentVerifiesUnderTestPKI: request and document go through NV
// indices in several commands, and what comes out is, to the verifier, a document for
// the challenge.
func TestNitroTPMDocumentVerifiesUnderTestPKI(t *testing.T) {
	pki, err := documenttest.NewNitroPKI(collecttest.Noon)
	if err != nil {
		t.Fatal(err)
	}
	n, device := startNitroTPM(t)
	n.module = func(request []byte) []byte {
		var asked struct {
			Attestation struct {
				Nonce []byte `cbor:"nonce"`
			}
		}
		if _, err := cbor.UnmarshalFirst(request, &asked); err != nil {
			t.Error(err)
		}
		document, err := pki.Document(documenttest.NitroFields{Instance: true, Nonce: asked.Attestation.Nonce})
		if err != nil {
			t.Error(err)
		}
		answer, err := cbor.Marshal(map[string]any{"Attestation": map[string]any{"document": document}})
		if err != nil {
			t.Error(err)
		}
		return answer
	}
	h := collecttest.NewHost(t, verifier.FormatNitroTPM, "now")
	item := h.Collect(t, nsm.Instance{
		Module: nsm.TPM{Device: device},
		Vendor: func(ctx context.Context) (string, error) { return tpm2collect.Vendor(ctx, device) },
	})
	h.Proves(t, item, verifier.TrustObject{Kind: verifier.TrustNitro, Name: "test", Raw: pki.RootPEM()})
}
