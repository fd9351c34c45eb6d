package tpm2collect

import (
	"context"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Kinds of attestation keys that a cloud has made and vouches for. They are no
// kinds of endorsement keys.
const (
	// GCE is the key of Google's certificate; its template lies in NV beside it.
	GCE Kind = "gce"
	// AzureHCL is the key that the paravisor of an Azure confidential VM lists in
	// its report.
	AzureHCL Kind = "azure-hcl"
)

// Where Google keeps certificate and template: RSA first, which every shielded VM
// has (go-tpm-tools, client/handles.go).
var gceKeys = []struct{ certificate, template uint32 }{
	{0x01c10000, 0x01c10001}, // RSA
	{0x01c10002, 0x01c10003}, // P-256
}

// hclHandle is the persistent handle of the key of Azure's paravisor.
const hclHandle tpm2.TPMHandle = 0x81000003

const maxTemplate = 1 << 10 // bytes of a TPMT_PUBLIC

// AKCertificate returns the certificate of Google's attestation key as it lies in
// NV, nil where there is none.
func (t *TPM) AKCertificate(ctx context.Context) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(); err != nil {
		return nil, err
	}
	certificate, _, err := t.gceKey(ctx)
	return certificate, explain("read the AK certificate", err)
}

// gceKey returns certificate and template of the first key that has both.
func (t *TPM) gceKey(ctx context.Context) (certificate, template []byte, err error) {
	for _, at := range gceKeys {
		certificate, err := t.readNV(ctx, at.certificate, maxCertificate)
		if err != nil {
			return nil, nil, err
		}
		template, err := t.readNV(ctx, at.template, maxTemplate)
		if err != nil {
			return nil, nil, err
		}
		if len(certificate) > 0 && len(template) > 0 {
			return certificate, template, nil
		}
	}
	return nil, nil, nil
}

// loadCloudAK returns the key that a cloud vouches for.
func (t *TPM) loadCloudAK(ctx context.Context) (*object, error) {
	if t.cfg.AK == AzureHCL {
		rsp, err := tpm2.ReadPublic{ObjectHandle: hclHandle}.Execute(t.commands(ctx))
		if err != nil {
			return nil, err
		}
		return &object{handle: hclHandle, name: rsp.Name, public: rsp.OutPublic.Bytes(), persistent: true}, nil
	}
	_, template, err := t.gceKey(ctx)
	if err != nil {
		return nil, err
	}
	if template == nil {
		return nil, &Error{What: "make the attestation key", Why: "this TPM has no key that Google certified", Fix: "use --ak p256: the key is then proved by credential activation"}
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](template)
	if err != nil {
		return nil, fmt.Errorf("read the template of the AK: %w", err)
	}
	return t.create(ctx, tpm2.TPMRHEndorsement, *public)
}
