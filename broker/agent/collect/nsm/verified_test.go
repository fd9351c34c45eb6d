package nsm_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/collecttest"
	"github.com/zonebroker/zonebroker/broker/agent/collect/nsm"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// hypervisor is a Nitro Security Module that reads the request as its API has it and
// signs a document with what stands in that.
type hypervisor struct {
	t        *testing.T
	pki      *documenttest.NitroPKI
	instance bool
}

func (h *hypervisor) Ask(_ context.Context, question []byte) ([]byte, error) {
	var asked struct {
		Attestation struct {
			UserData  []byte `cbor:"user_data"`
			Nonce     []byte `cbor:"nonce"`
			PublicKey []byte `cbor:"public_key"`
		}
	}
	if err := cbor.Unmarshal(question, &asked); err != nil {
		h.t.Error(err)
	}
	a := asked.Attestation
	document, err := h.pki.Document(documenttest.NitroFields{Instance: h.instance, Nonce: a.Nonce, UserData: a.UserData, PublicKey: a.PublicKey})
	if err != nil {
		return nil, err
	}
	answer, err := cbor.Marshal(map[string]any{"Attestation": map[string]any{"document": document}})
	return append(answer, bytes.Repeat([]byte{0xff}, 64)...), err
}

// TestDocumentsVerifyUnderTestPKI: what the module signs for the request that the
// collectors make is, to the verifier, made for the challenge, and an enclave's
// document is no instance's.
func TestDocumentsVerifyUnderTestPKI(t *testing.T) {
	pki, err := documenttest.NewNitroPKI(collecttest.Noon)
	if err != nil {
		t.Fatal(err)
	}
	trust := verifier.TrustObject{Kind: verifier.TrustNitro, Name: "test", Raw: pki.RootPEM()}
	for _, instance := range []bool{false, true} {
		module := &hypervisor{t, pki, instance}
		c, other := collect.Collector(nsm.Enclave{Module: module, Root: enclave(t)}), verifier.FormatNitroTPM
		if instance {
			vendor := func(context.Context) (string, error) { return "NitroTPM", nil }
			c, other = nsm.Instance{Module: module, Vendor: vendor}, verifier.FormatNitro
		}
		h := collecttest.NewHost(t, c.Format(), "now")
		item := h.Collect(t, c)
		h.Proves(t, item, trust)
		if _, err := collecttest.NewHost(t, c.Format(), "then").Judge(t, item, trust); reason.Of(err) != reason.NitroNonceMismatch {
			t.Errorf("%s for another challenge: %v", c.Format(), err)
		}
		item.Format = other
		if _, err := collecttest.NewHost(t, other, "now").Judge(t, item, trust); reason.Of(err) != reason.NitroType {
			t.Errorf("%s as %s: %v", c.Format(), other, err)
		}
	}
}
