// Package gce collects what a virtual machine of Google Cloud can show: its
// identity token, the certificate of its virtual TPM's attestation key, and the
// token of a Confidential Space workload.
package gce

import (
	"bytes"
	"context"
	"net/url"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadata"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
)

const (
	accountPath  = "/computeMetadata/v1/instance/service-accounts/default/email"
	identityPath = "/computeMetadata/v1/instance/service-accounts/default/identity"
	maxSmall     = 4 << 10
	maxJWT       = 16 << 10
)

// Identity collects the identity token of the instance's service account.
type Identity struct{ Metadata *metadata.Service }

// Format is gce.identity.
func (Identity) Format() string { return verifier.FormatGCEIdentity }

// Detect asks whether the instance has a service account.
func (c Identity) Detect(ctx context.Context) collect.Finding {
	err := c.Metadata.Require(ctx, metadata.Google)
	if err == nil {
		_, err = c.Metadata.GetGoogle(ctx, accountPath, nil, maxSmall)
	}
	if metadata.Status(err) != 0 {
		return collect.No(c.Format(), "B", "this instance has no service account", "give it one; the account needs no role")
	}
	if err != nil {
		return collect.Missing(c.Format(), "B", err)
	}
	return collect.Yes(c.Format(), "B", "identity token of the metadata service")
}

// Collect asks for a token of the full format, the only one that names the
// instance, with the challenge as its audience.
func (c Identity) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	if err := c.Metadata.Require(ctx, metadata.Google); err != nil {
		return verifier.Item{}, err
	}
	token, err := c.Metadata.GetGoogle(ctx, identityPath, url.Values{
		"audience": {document.Audience(bound.Value)}, "format": {"full"}, "licenses": {"TRUE"},
	}, maxJWT)
	return verifier.Item{Format: c.Format(), Document: bytes.TrimSpace(token)}, err
}
