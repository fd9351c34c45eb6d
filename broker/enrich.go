package broker

import (
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// enrichTimeout bounds what all enrichers of one attestation take together, the
// essential ones and the others: a platform that does not answer must not hold a
// turn.
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

// appraiseEnriched judges documents with what their platforms say of them.
func (b *Broker) appraiseEnriched(ctx context.Context, a *attempt) error {
	asking, cancel := context.WithTimeout(ctx, enrichTimeout)
	defer cancel()
	if err := b.askEssential(asking, a); err != nil {
		return err
	}
	err := b.appraise(ctx, a)
	if err == nil && b.askOthers(asking, a) {
		err = b.appraise(ctx, a)
	}
	return err
}

// inquiry is one question about one document.
type inquiry struct {
	by   Enricher
	item *verifier.Item
}

// inquiries are the essential ones of an attempt, or the others. What no zone of
// the policy names could earn nothing by any answer.
func (b *Broker) inquiries(a *attempt, essential bool) []inquiry {
	var out []inquiry
	for _, e := range b.cfg.Enrichers {
		f := e.Format()
		if e.Essential() != essential {
			continue
		}
		for i := range a.evidence.Items {
			if a.evidence.Items[i].Format == f && (a.policy.set.Takes(f) || slices.Contains(a.policy.set.DocumentFormats(), f)) {
				out = append(out, inquiry{by: e, item: &a.evidence.Items[i]})
			}
		}
	}
	return out
}

// askEssential asks about documents that prove nothing without an answer. Before
// that only the author is known, so the author has to be: whoever sends a good
// token with rubbish beside it would have the broker call platforms for it. Where
// our own limits forbid the question the host is told to come again: its document
// would be refused for what is not its fault.
func (b *Broker) askEssential(ctx context.Context, a *attempt) error {
	ask := b.inquiries(a, true)
	if len(ask) == 0 {
		return nil
	}
	if err := verifier.AuthorHolds(a.evidence, a.want); err != nil {
		return err
	}
	for _, q := range ask {
		if _, asked := b.ask(ctx, a, q); !asked {
			return tooManyQuestions()
		}
	}
	return nil
}

// askOthers asks about documents that are genuine, and reports whether anything
// was added.
func (b *Broker) askOthers(ctx context.Context, a *attempt) (added bool) {
	for _, q := range b.inquiries(a, false) {
		one, asked := b.ask(ctx, a, q)
		added = added || one
		if !asked {
			a.unasked = append(a.unasked, q.item.Format)
		}
	}
	return added
}

// comesAgain tells a host to where nothing keeps it from its zone but questions that
// our own limits forbade: a denial would end what it has, and stand in its history.
func (a *attempt) comesAgain() error {
	wanted := a.verdict.policy.Unconfirmed
	asked := func(format string) bool { return !slices.Contains(a.unasked, format) }
	if len(wanted) == 0 || len(wanted) != len(a.verdict.reasons) || slices.ContainsFunc(wanted, asked) {
		return nil
	}
	return tooManyQuestions()
}

func tooManyQuestions() error {
	return reason.New(reason.RequestOverloaded, "platforms are asked as often as this broker may; try again in a second")
}

// warnUnconfirmed says at once which zones nobody will earn: a denial an hour later
// would look like an outage of the platform.
func (b *Broker) warnUnconfirmed(ctx context.Context, set *policy.Set) {
	for _, f := range set.Confirmed() {
		if !slices.ContainsFunc(b.cfg.Enrichers, func(e Enricher) bool { return e.Format() == f }) {
			b.cfg.Logger.WarnContext(ctx, "a zone wants documents confirmed by their platform, and this broker is not configured to ask it", "format", f)
		}
	}
}

// ask puts one question. It changes no document of the request: the parts are the
// broker's own copy.
func (b *Broker) ask(ctx context.Context, a *attempt, q inquiry) (added, asked bool) {
	done, ok := b.asking.enter(ctx, a)
	if !ok {
		b.cfg.Enriched(q.by.Name(), false)
		return false, false
	}
	defer done()
	bound := verifier.Binding(a.challenge.Nonce, a.evidence.SPKI, b.cfg.TrustDomain, a.challenge.Purpose, q.item.Format, nil)
	parts, err := q.by.Enrich(ctx, *q.item, bound)
	b.cfg.Enriched(q.by.Name(), err == nil)
	if err != nil {
		b.cfg.Logger.WarnContext(ctx, "a platform did not answer about a document", "enricher", q.by.Name(), "error", err)
		return false, true
	}
	own := maps.Clone(q.item.Parts)
	if own == nil {
		own = make(map[string][]byte, len(parts))
	}
	for name, raw := range parts {
		if verifier.RecordedPart(name) {
			own[name], added = raw, true
		}
	}
	q.item.Parts = own
	return added, true
}

// How many questions are on their way at once for hosts that this broker does not
// know, and for those it does, and how many a second may begin for the former.
const (
	enrichAtOnce = 8
	enrichRate   = 20
)

// enrichGate bounds what platforms are asked. Anybody can make an agent key and
// send a document with it, so hosts at first contact share one small rate; a known
// node has one of its own, and places that no stranger takes.
type enrichGate struct {
	strangers     *rate.Limiter
	nodes         nodeRates
	strange, ours chan struct{}
}

// newEnrichGate gives a node as many questions a minute as its attestations may
// have documents.
func newEnrichGate(attestations int) enrichGate {
	return enrichGate{
		strangers: rate.NewLimiter(enrichRate, enrichRate),
		nodes:     nodeRates{perMinute: attestations * verifier.MaxItems},
		strange:   make(chan struct{}, enrichAtOnce),
		ours:      make(chan struct{}, enrichAtOnce),
	}
}

// enter takes a place, for which a known node waits until ctx ends. The caller
// gives it back.
func (g *enrichGate) enter(ctx context.Context, a *attempt) (done func(), ok bool) {
	if a.snap.Found {
		if !g.nodes.allow(a.challenge.Node, a.now) {
			return nil, false
		}
		select {
		case g.ours <- struct{}{}:
			return func() { <-g.ours }, true
		case <-ctx.Done():
			return nil, false
		}
	}
	if !g.strangers.AllowN(a.now, 1) {
		return nil, false
	}
	select {
	case g.strange <- struct{}{}:
		return func() { <-g.strange }, true
	default:
		return nil, false
	}
}
