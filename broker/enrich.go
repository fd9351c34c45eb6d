package broker

import (
	"context"
	"maps"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// enrichTimeout bounds what all enrichers of one attestation take together: a
// platform that does not answer must not hold a turn.
const enrichTimeout = 5 * time.Second

// refuseRecorded keeps agents from answering for the platform.
func refuseRecorded(items []verifier.Item) error {
	for i := range items {
		for name := range items[i].Parts {
			if verifier.RecordedPart(name) {
				return reason.Newf(reason.RequestMalformed, "part %s of %s is the broker's to add", name, items[i].Format)
			}
		}
	}
	return nil
}

// enrich asks the platforms about the documents, the essential ones or the others,
// and reports whether anything was added. It changes no document of the request:
// the parts are the broker's own copy.
func (b *Broker) enrich(ctx context.Context, a *attempt, essential bool) bool {
	ctx, cancel := context.WithTimeout(ctx, enrichTimeout)
	defer cancel()
	added := false
	for _, e := range b.cfg.Enrichers {
		if e.Essential() != essential {
			continue
		}
		for i := range a.evidence.Items {
			item := &a.evidence.Items[i]
			if item.Format != e.Format() {
				continue
			}
			bound := verifier.Binding(a.challenge.Nonce, a.evidence.SPKI, b.cfg.TrustDomain, a.challenge.Purpose, item.Format, nil)
			parts, err := e.Enrich(ctx, *item, bound)
			if err != nil {
				b.cfg.Logger.WarnContext(ctx, "a platform did not answer about a document", "enricher", e.Name(), "error", err)
				b.cfg.Enriched(e.Name(), false)
				continue
			}
			b.cfg.Enriched(e.Name(), true)
			own := maps.Clone(item.Parts)
			if own == nil {
				own = make(map[string][]byte, len(parts))
			}
			for name, raw := range parts {
				if verifier.RecordedPart(name) {
					own[name], added = raw, true
				}
			}
			item.Parts = own
		}
	}
	return added
}
