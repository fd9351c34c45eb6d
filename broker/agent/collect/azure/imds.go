// Package azure collects what a virtual machine of Azure can show: the attested
// document of its metadata service, a token of its managed identity, and, on a
// confidential one, the report of its paravisor with what vouches for it.
package azure

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadata"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
)

const (
	attestedPath    = "/metadata/attested/document"
	attestedVersion = "2025-04-07"
	maxAttested     = 32 << 10

	tokenPath    = "/metadata/identity/oauth2/token"
	tokenVersion = "2018-02-01"
	maxJWT       = 16 << 10
)

// DefaultResource is what a token of a managed identity is asked for. Never that
// of Azure's own management: who gets such a token may act for the machine.
const DefaultResource = "api://zonebroker"

// IMDS collects the attested document.
type IMDS struct{ Metadata *metadata.Service }

// Format is azure.imds.
func (IMDS) Format() string { return verifier.FormatAzureIMDS }

// Detect asks for the platform.
func (c IMDS) Detect(ctx context.Context) collect.Finding {
	if err := c.Metadata.Require(ctx, metadata.Azure); err != nil {
		return collect.Missing(c.Format(), "B", err)
	}
	return collect.Yes(c.Format(), "B", "attested document of the metadata service")
}

// Collect asks for a document with the challenge as its nonce.
func (c IMDS) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	if err := c.Metadata.Require(ctx, metadata.Azure); err != nil {
		return verifier.Item{}, err
	}
	text, err := c.Metadata.GetAzure(ctx, attestedPath, url.Values{
		"api-version": {attestedVersion}, "nonce": {document.Base62(bound.Value)},
	}, maxAttested)
	return verifier.Item{Format: c.Format(), Document: text}, err
}

// MSI collects a token of the machine's managed identity.
type MSI struct {
	Metadata *metadata.Service
	// Resource is the audience, which the broker has to be configured with; "" is
	// DefaultResource.
	Resource string
}

// Format is azure.msi.
func (MSI) Format() string { return verifier.FormatAzureMSI }

// Detect asks for the platform; whether there is an identity only a token tells.
func (c MSI) Detect(ctx context.Context) collect.Finding {
	if err := c.Metadata.Require(ctx, metadata.Azure); err != nil {
		return collect.Missing(c.Format(), "C", err)
	}
	return collect.Yes(c.Format(), "C", "token of the managed identity, where the machine has one")
}

// Collect asks for a token.
func (c MSI) Collect(ctx context.Context, _ collect.Bound) (verifier.Item, error) {
	if err := c.Metadata.Require(ctx, metadata.Azure); err != nil {
		return verifier.Item{}, err
	}
	resource := c.Resource
	if resource == "" {
		resource = DefaultResource
	}
	text, err := c.Metadata.GetAzure(ctx, tokenPath, url.Values{"api-version": {tokenVersion}, "resource": {resource}}, 2*maxJWT)
	if metadata.Status(err) == http.StatusBadRequest {
		return verifier.Item{}, &collect.Error{
			What: "get a token of the managed identity", Why: "the metadata service gives none for " + resource,
			Fix: "give the machine a system-assigned identity, and register the resource as an application", Err: err,
		}
	}
	if err != nil {
		return verifier.Item{}, err
	}
	var got struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(text, &got); err != nil || got.AccessToken == "" || len(got.AccessToken) > maxJWT {
		return verifier.Item{}, &collect.Error{What: "get a token of the managed identity", Why: "the answer of the metadata service holds none"}
	}
	return verifier.Item{Format: c.Format(), Document: bytes.TrimSpace([]byte(got.AccessToken))}, nil
}
