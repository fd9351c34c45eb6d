// Package ec2 collects what an instance of Amazon EC2 can show of itself through
// its metadata service: the instance identity document, and a GetCallerIdentity
// request signed with the role that the instance has.
//
// The secret key of the role signs here and goes nowhere. The session token of the
// role goes with the signed request, because AWS wants it; it alone signs nothing.
package ec2

import (
	"context"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadata"
	"github.com/zonebroker/zonebroker/verifier"
)

const (
	// signedIdentity has PKCS #7 by RSA-2048 with SHA-256; its siblings pkcs7 (DSA)
	// and signature (RSA-1024) are refused by every broker.
	signedIdentity = "/latest/dynamic/instance-identity/rsa2048"
	maxIdentity    = 16 << 10
)

// IID collects the instance identity document. It is the same bytes for the whole
// life of the instance, so it carries nothing of the challenge.
type IID struct{ Metadata *metadata.Service }

// Format is ec2.iid.
func (IID) Format() string { return verifier.FormatEC2IID }

// Detect asks for the platform.
func (c IID) Detect(ctx context.Context) collect.Finding {
	if err := c.Metadata.Require(ctx, metadata.AWS); err != nil {
		return collect.Missing(c.Format(), "C", err)
	}
	return collect.Yes(c.Format(), "C", "instance identity document of the metadata service")
}

// Collect returns the document as the service gives it: base64 without armour.
func (c IID) Collect(ctx context.Context, _ collect.Bound) (verifier.Item, error) {
	if err := c.Metadata.Require(ctx, metadata.AWS); err != nil {
		return verifier.Item{}, err
	}
	document, err := c.Metadata.GetAWS(ctx, signedIdentity, maxIdentity)
	return verifier.Item{Format: c.Format(), Document: document}, err
}
