package gce

import (
	"context"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/verifier"
)

// TPM is what the certificate comes from.
type TPM interface {
	// AKCertificate returns nil where the TPM has none.
	AKCertificate(ctx context.Context) ([]byte, error)
}

// AKCert collects the certificate of the virtual TPM's attestation key; the quote
// by that key is taken apart from it.
type AKCert struct{ TPM TPM }

// Format is gce.akcert.
func (AKCert) Format() string { return verifier.FormatGCEAKCert }

// Detect looks for the index of the certificate.
func (c AKCert) Detect(ctx context.Context) collect.Finding {
	if _, err := c.certificate(ctx); err != nil {
		return collect.Missing(c.Format(), "A", err)
	}
	return collect.Yes(c.Format(), "A", "certificate of the virtual TPM's attestation key, and quote by that key")
}

// Collect returns what lies in the index.
func (c AKCert) Collect(ctx context.Context, _ collect.Bound) (verifier.Item, error) {
	certificate, err := c.certificate(ctx)
	return verifier.Item{Format: c.Format(), Document: certificate}, err
}

func (c AKCert) certificate(ctx context.Context) ([]byte, error) {
	certificate, err := c.TPM.AKCertificate(ctx)
	if err == nil && len(certificate) == 0 {
		err = &collect.Error{What: "read the AK certificate", Why: "the TPM has no certificate of Google"}
	}
	return certificate, err
}
