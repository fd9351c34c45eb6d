// Package nsm collects the signed documents of Amazon's Nitro hypervisor: in an
// enclave from the Nitro Security Module itself, on an instance through the
// NitroTPM. Request and answer are the same CBOR on both ways.
package nsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/verifier"
)

const (
	// Device is the module in an enclave.
	Device = "/dev/nsm"
	// nitroVendor is the vendor string of a NitroTPM.
	nitroVendor = "NitroTPM"

	maxAnswer   = 12 << 10 // NSM_RESPONSE_MAX_SIZE of aws-nitro-enclaves-nsm-api: 0x3000
	maxDocument = 16 << 10
)

// Module hands one request to a Nitro Security Module and returns its answer,
// which may have fill behind it.
type Module interface {
	Ask(ctx context.Context, request []byte) ([]byte, error)
}

// Enclave collects the document of a Nitro Enclave.
type Enclave struct {
	Module Module
	// Root is put before Device; "" is the running system.
	Root string
}

// Format is nitro.
func (Enclave) Format() string { return verifier.FormatNitro }

// Detect looks for the device.
func (c Enclave) Detect(context.Context) collect.Finding {
	if !collect.Exists(collect.File(c.Root, Device)) {
		return collect.No(c.Format(), "A", "this is no Nitro Enclave: there is no "+Device, "")
	}
	return collect.Yes(c.Format(), "A", "document of the Nitro Security Module")
}

// Collect asks for a document with the challenge as its nonce.
func (c Enclave) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	document, err := attestation(ctx, c.Module, bound.Value)
	return verifier.Item{Format: c.Format(), Document: document}, err
}

// Instance collects the document of an EC2 instance with a NitroTPM.
type Instance struct {
	Module Module
	// Vendor returns the vendor's name for the TPM.
	Vendor func(ctx context.Context) (string, error)
}

// Format is nitrotpm.
func (Instance) Format() string { return verifier.FormatNitroTPM }

// Detect asks the TPM who made it.
func (c Instance) Detect(ctx context.Context) collect.Finding {
	vendor, err := c.Vendor(ctx)
	if err != nil {
		if e, ok := errors.AsType[*tpm2collect.Error](err); ok {
			return collect.No(c.Format(), "A", e.Why, "")
		}
		return collect.Missing(c.Format(), "A", err)
	}
	if vendor != nitroVendor {
		return collect.No(c.Format(), "A", fmt.Sprintf("the TPM is no NitroTPM: its vendor string is %q", vendor), "")
	}
	return collect.Yes(c.Format(), "A", "document of the Nitro hypervisor through the NitroTPM")
}

// Collect asks for a document with the challenge as its nonce.
func (c Instance) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	document, err := attestation(ctx, c.Module, bound.Value)
	return verifier.Item{Format: c.Format(), Document: document}, err
}

// TPM is the module behind a NitroTPM.
type TPM struct {
	// Device as in tpm2collect.Config.
	Device string
}

// Ask sends the vendor's command.
func (m TPM) Ask(ctx context.Context, request []byte) ([]byte, error) {
	return tpm2collect.NSM(ctx, m.Device, request)
}

// request is the one question that is asked; user_data and public_key stay null,
// because the nonce binds the key already.
type request struct {
	Attestation struct {
		UserData  []byte `cbor:"user_data"`
		Nonce     []byte `cbor:"nonce"`
		PublicKey []byte `cbor:"public_key"`
	}
}

func attestation(ctx context.Context, m Module, nonce [32]byte) ([]byte, error) {
	var q request
	q.Attestation.Nonce = nonce[:]
	question, err := cbor.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("ask the Nitro Security Module: %w", err)
	}
	answer, err := m.Ask(ctx, question)
	if err != nil {
		return nil, err
	}
	document, err := documentIn(answer)
	if err != nil {
		return nil, &collect.Error{What: "ask the Nitro Security Module", Why: err.Error(), Err: err}
	}
	return document, nil
}

// documentIn reads {"Attestation": {"document": …}} or {"Error": …}. What stands
// behind it is fill.
func documentIn(answer []byte) ([]byte, error) {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 4, MaxMapPairs: 16, MaxArrayElements: 16,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		return nil, err
	}
	var got struct {
		Attestation *struct {
			Document []byte `cbor:"document"`
		}
		Error string
	}
	if _, err := mode.UnmarshalFirst(answer, &got); err != nil {
		return nil, fmt.Errorf("its answer is not of the known form: %w", err)
	}
	switch {
	case got.Error != "":
		return nil, fmt.Errorf("it answered %q", got.Error)
	case got.Attestation == nil || len(got.Attestation.Document) == 0:
		return nil, errors.New("its answer holds no document")
	case len(got.Attestation.Document) > maxDocument:
		return nil, fmt.Errorf("its document has %d bytes", len(got.Attestation.Document))
	}
	return got.Attestation.Document, nil
}
