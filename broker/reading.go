package broker

import (
	"context"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// What was asked, as a reading names it. Auditors search for these words, so they
// never change their meaning.
const (
	readHistory  = "history.list"
	readRecord   = "history.show"
	readExplain  = "history.explain"
	readEvidence = "history.evidence"
	readVerify   = "history.verify"
	readDrift    = "drift.list"
	readTimeline = "node.timeline"
	readLearn    = "reference.learn"
)

// reads records that somebody asks, and what, before anything is answered: what
// cannot be recorded is not answered. The returned AsOf is the log right after the
// reading, which is how fresh an answer of the main database is at least.
func (b *Broker) reads(ctx context.Context, c Caller, what string, filter map[string]string) (ledger.AsOf, error) {
	if b.forked.Load() {
		return ledger.AsOf{}, reason.New(reason.LedgerFork, "the log does not extend its anchor; a reading cannot be recorded")
	}
	now := b.cfg.Now()
	id, err := ledger.NewRecordID(now, b.cfg.Rand)
	if err != nil {
		return ledger.AsOf{}, err
	}
	salt, err := b.salt()
	if err != nil {
		return ledger.AsOf{}, err
	}
	rec, err := ledger.Reading{
		Type: ledger.TypeHistoryRead, ID: id, By: c.Operator, Role: string(c.Role), What: what, Filter: filter, At: now.UnixMilli(),
	}.Record(salt)
	if err != nil {
		return ledger.AsOf{}, reason.Wrap(reason.RequestMalformed, "the question is too long to be recorded", err)
	}
	pos, err := b.cfg.Store.Append(ctx, ledger.Commit{Record: rec})
	if err != nil {
		return ledger.AsOf{}, err
	}
	return ledger.AsOf{LogID: b.cfg.LogID, Size: pos.Size, RecordedAt: pos.RecordedAt}, nil
}

// filterOf names the filters of a query as its route does, with more than the
// query holds: what stands in the path, given as pairs.
func filterOf(query any, more ...string) map[string]string {
	out := map[string]string{}
	for name, values := range api.Values(query) {
		out[name] = values[0]
	}
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

// Spans that a question reaches back where it does not say. Every question has a
// bound in time: without one its cost grows with the history.
const (
	defaultSpan = 24 * time.Hour
	nodeSpan    = 7 * 24 * time.Hour // of one node: a few thousand records
)

// window gives a question its bounds: since is span before until where it is not
// given. until may stay zero: up to now, and what is recorded meanwhile.
func (b *Broker) window(since, until time.Time, span time.Duration) (time.Time, error) {
	now := b.cfg.Now()
	if err := notAhead("since", since, now); err != nil {
		return since, err
	}
	if since.IsZero() {
		if since = now.Add(-span); !until.IsZero() {
			since = until.Add(-span)
		}
	}
	if !until.IsZero() && !since.Before(until) {
		return since, reason.New(reason.RequestMalformed, "since: not before until")
	}
	return since.UTC(), nil
}

// moment is the time of a question, now where it does not say.
func (b *Broker) moment(at time.Time) (time.Time, error) {
	now := b.cfg.Now()
	if err := notAhead("at", at, now); err != nil {
		return at, err
	}
	if at.IsZero() || at.After(now) {
		at = now
	}
	return at.UTC(), nil
}

// notAhead refuses what nobody can know yet, but for the difference of clocks.
func notAhead(name string, t, now time.Time) error {
	if t.After(now.Add(maxSkew)) {
		return reason.New(reason.RequestMalformed, name+": lies in the future; the history answers for the past")
	}
	return nil
}

func wireAsOf(a ledger.AsOf) api.AsOf {
	return api.AsOf{Log: a.LogID, Size: a.Size, RecordedAt: a.RecordedAt.UTC(), Replica: a.Replica}
}
