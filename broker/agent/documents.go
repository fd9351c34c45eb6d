package agent

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
)

// documentTime bounds a single document. A challenge lives for a minute, and they
// are collected at once.
const documentTime = 40 * time.Second

// binding is what a document of format has to carry in this attestation.
func (r *run) binding(c *api.Challenge, nonce []byte, format string) [32]byte {
	return verifier.Binding(nonce, r.key.SPKI(), r.broker.Peer().TrustDomain().Name(), c.Purpose, format, nil)
}

// documents collects what names the node, which has to succeed, and what the
// challenge lists beside it. What of that cannot be made is told and left out:
// whether a zone can do without it, the broker knows.
func (r *run) documents(ctx context.Context, c *api.Challenge, nonce []byte) ([]api.Item, error) {
	var wanted []collect.Collector
	if named := r.roster.Find(r.format); named != nil {
		wanted = append(wanted, named)
	}
	first := len(wanted)
	wanted = append(wanted, r.roster.Beside(ctx, c.Evidence, r.format)...)
	if len(wanted) > api.MaxItems {
		for _, left := range wanted[api.MaxItems:] {
			r.cfg.Progress("left out " + left.Format() + ": an attestation takes no more documents")
		}
		wanted = wanted[:api.MaxItems]
	}
	primary := r.binding(c, nonce, r.format)
	items, faults := make([]*api.Item, len(wanted)), make([]error, len(wanted))
	var group errgroup.Group
	for i, source := range wanted {
		group.Go(func() error {
			bound := collect.Bound{Value: r.binding(c, nonce, source.Format()), Primary: primary, AK: r.akSPKI}
			items[i], faults[i] = document(ctx, source, bound)
			return nil
		})
	}
	_ = group.Wait() // faults has all of them
	var out []api.Item
	for i, item := range items {
		switch {
		case faults[i] == nil:
			out = append(out, *item)
		case i < first:
			return nil, evidenceFault("collect "+r.format, faults[i])
		default:
			r.cfg.Progress("left out " + wanted[i].Format() + ": " + faults[i].Error())
		}
	}
	if len(out) > 0 {
		r.cfg.Progress("collected " + formatsOf(out))
	}
	return out, nil
}

func formatsOf(items []api.Item) string {
	var names []string
	for _, item := range items {
		names = append(names, item.Format)
	}
	return strings.Join(names, ", ")
}

// document makes one and holds it against what the wire takes.
func document(ctx context.Context, source collect.Collector, bound collect.Bound) (*api.Item, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, documentTime, fmt.Errorf("not done within %s", documentTime))
	defer cancel()
	made, err := source.Collect(ctx, bound)
	if err != nil {
		return nil, err
	}
	if len(made.Document) > api.MaxDocument || len(made.Parts) > api.MaxItemParts {
		return nil, errors.New("it is larger than any document of an attestation")
	}
	item := &api.Item{Format: source.Format(), Document: made.Document}
	for name, part := range made.Parts {
		if len(part) > api.MaxItemPart {
			return nil, fmt.Errorf("its part %s is larger than any of an attestation", name)
		}
		if item.Parts == nil {
			item.Parts = map[string]api.Bytes{}
		}
		item.Parts[name] = part
	}
	return item, nil
}

// prove signs the challenge with the agent key, and asks for the SVID of a key in
// software.
func (r *run) prove(c *api.Challenge, nonce []byte) (*api.AgentProof, []byte, error) {
	digest := verifier.AgentDigest(r.binding(c, nonce, r.format))
	signature, err := r.agent.PrivateKey.Sign(rand.Reader, digest[:], nil)
	if err != nil {
		return nil, nil, fmt.Errorf("sign with the agent key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, r.key)
	if err != nil {
		return nil, nil, fmt.Errorf("ask for the SVID: %w", err)
	}
	return &api.AgentProof{Public: r.agent.SPKI(), Signature: signature}, csr, nil
}
