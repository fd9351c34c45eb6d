package broker

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	readDetection = "drift.detection"
	readSummary   = "drift.summary"
	readBaseline  = "drift.baseline"
	readRates     = "history.rates"
	readCross     = "history.crosscheck"
)

// Questions by the hour are bounded; comparing counts reads every row of the time.
const (
	maxRateSpan  = 31 * 24 * time.Hour
	maxCheckSpan = 7 * 24 * time.Hour
)

// Detections returns a page of drift with the time that it may have gone unseen,
// newest first.
func (b *Broker) Detections(ctx context.Context, c Caller, q api.DetectionQuery) (page api.DetectionPage, err error) {
	after, err := parseCursor(q.Cursor)
	if err != nil {
		return page, err
	}
	if q.Since, err = b.window(q.Since, q.Until, defaultSpan); err != nil {
		return page, err
	}
	ask, err := b.asks(ctx, c, readDetection, filterOf(q))
	if err != nil {
		return page, err
	}
	limit := pageSize(q.Limit)
	rows, asOf, err := ask.Detections(ctx, ledger.DriftQuery{
		Node: ledger.NodeID(q.Node), Kind: q.Kind, Zone: q.Zone, Since: q.Since, Until: b.endOf(q.Until), After: after, Limit: limit,
	})
	if err != nil {
		return page, err
	}
	page = api.DetectionPage{Since: q.Since, Detections: make([]api.Detection, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, d := range rows {
		page.Detections = append(page.Detections, api.Detection{
			ID: d.Record.String(), RecordedAt: d.RecordedAt.UTC(), Node: string(d.Node), Zone: d.Zone, Kind: d.Kind, Before: d.Before, After: d.After,
			LastGood: d.LastGood.UTC(), TookMS: d.Took.Milliseconds(),
		})
	}
	if len(rows) == limit {
		page.NextCursor = rows[limit-1].Place.String()
	}
	return page, nil
}

// DetectionSummary sums up the times to detect by kind of drift.
func (b *Broker) DetectionSummary(ctx context.Context, c Caller, q api.SummaryQuery) (out api.DetectionSummary, err error) {
	since, until, err := b.hours(q.Since, q.Until, maxRateSpan)
	if err != nil {
		return out, err
	}
	q.Since = since
	ask, err := b.asks(ctx, c, readSummary, filterOf(q))
	if err != nil {
		return out, err
	}
	rows, asOf, err := ask.DetectionSummary(ctx, q.Zone, since, until)
	if err != nil {
		return out, err
	}
	out = api.DetectionSummary{Since: since, Until: until, Kinds: make([]api.KindDetection, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, k := range rows {
		out.Kinds = append(out.Kinds, api.KindDetection{
			Kind: k.Kind, Events: k.Events, P50MS: k.P50.Milliseconds(), P99MS: k.P99.Milliseconds(), MaxMS: k.Max.Milliseconds(),
		})
	}
	return out, nil
}

// hours bounds a question that is answered by the hour, or over all of a time.
func (b *Broker) hours(since, until time.Time, most time.Duration) (time.Time, time.Time, error) {
	since, err := b.window(since, until, defaultSpan)
	until = b.endOf(until)
	if d := until.Sub(since); err == nil && d > most+maxSkew {
		err = reason.Newf(reason.RequestMalformed, "since: more than %d days before until", most/(24*time.Hour))
	} else if d > most {
		until = since.Add(most)
	}
	return since, until, err
}

// Baseline returns a page of nodes that differ from their fleet, by node.
func (b *Broker) Baseline(ctx context.Context, c Caller, q api.BaselineQuery) (page api.BaselinePage, err error) {
	limit := pageSize(q.Limit)
	query := ledger.BaselineQuery{By: q.By, Name: q.Name, Zone: q.Zone, After: ledger.NodeID(q.Cursor), Limit: limit}
	switch q.By {
	case api.BaselineModel, api.BaselineGroup:
	case api.BaselineReference:
		if query.Want, err = b.wanted(q.Name); err != nil {
			return page, err
		}
	default:
		return page, reason.New(reason.RequestMalformed, "by: want reference, model or group")
	}
	ask, err := b.asks(ctx, c, readBaseline, filterOf(q))
	if err != nil {
		return page, err
	}
	rows, asOf, err := ask.Baseline(ctx, query)
	if err != nil {
		return page, err
	}
	page = api.BaselinePage{By: q.By, Deviations: make([]api.Deviation, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, d := range rows {
		out := api.Deviation{
			Node: string(d.Node), Machine: d.Machine, Zone: d.Zone, Cohort: d.Cohort, Nodes: d.Nodes, LastOKAt: d.LastOKAt.UTC(),
			Facts: make([]api.FactDifference, 0, len(d.Facts)),
		}
		for _, f := range d.Facts {
			out.Facts = append(out.Facts, api.FactDifference{Name: f.Name, Expected: nonNil(f.Expected), Seen: f.Seen})
		}
		page.Deviations = append(page.Deviations, out)
	}
	if len(rows) == limit {
		page.NextCursor = string(rows[limit-1].Node)
	}
	return page, nil
}

// wanted are the values that a reference set of the policy in force allows. What
// it says by events alone has no value to compare a measurement with: whether a
// node still matches it is what attestations judge.
func (b *Broker) wanted(name string) (map[string]ledger.Wanted, error) {
	p := b.policy.Load()
	if p == nil {
		return nil, reason.New(reason.PolicyMissing, "no policy is active")
	}
	set, found := p.set.Reference(name)
	if !found {
		return nil, reason.New(reason.RequestNotFound, "the policy in force has no reference set of that name")
	}
	out := make(map[string]ledger.Wanted, len(set.PCRs))
	for pcr, values := range set.PCRs {
		out[ledger.DriftPCR+strconv.Itoa(pcr)] = slices.Clone(values)
	}
	if len(out) == 0 {
		return nil, reason.New(reason.RequestMalformed, "name: the reference set allows no values; it names events alone")
	}
	return out, nil
}

// Rates returns attestations by hour and zone, oldest first.
func (b *Broker) Rates(ctx context.Context, c Caller, q api.RateQuery) (out api.RateList, err error) {
	since, until, err := b.hours(q.Since, q.Until, maxRateSpan)
	if err != nil {
		return out, err
	}
	q.Since = since
	ask, err := b.asks(ctx, c, readRates, filterOf(q))
	if err != nil {
		return out, err
	}
	rows, asOf, err := ask.Rates(ctx, ledger.RateQuery{Zone: q.Zone, Since: since, Until: until})
	if err != nil {
		return out, err
	}
	out = api.RateList{Since: since, Until: until, Rates: make([]api.Rate, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, r := range rows {
		rate := api.Rate{Hour: r.Hour.UTC(), Zone: r.Zone, Accepted: r.Accepted, Denied: r.Denied, Reasons: r.Reasons}
		if rate.Reasons == nil {
			rate.Reasons = map[string]int64{}
		}
		if all := r.Accepted + r.Denied; all > 0 {
			rate.Success = r.Accepted * 1000 / all
		}
		out.Rates = append(out.Rates, rate)
	}
	return out, nil
}

// CrossCheck compares the hourly counts with the rows that stand.
func (b *Broker) CrossCheck(ctx context.Context, c Caller, q api.CrossCheckQuery) (out api.CrossCheck, err error) {
	since, until, err := b.hours(q.Since, q.Until, maxCheckSpan)
	if err != nil {
		return out, err
	}
	q.Since = since
	ask, err := b.asks(ctx, c, readCross, filterOf(q))
	if err != nil {
		return out, err
	}
	rows, asOf, err := ask.CrossCheck(ctx, since, until)
	if err != nil {
		return out, err
	}
	out = api.CrossCheck{OK: len(rows) == 0, Since: since, Until: until, Differences: make([]api.CountDifference, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, d := range rows {
		out.Differences = append(out.Differences, api.CountDifference{
			Hour: d.Hour.UTC(), Zone: d.Zone, Verdict: d.Verdict, Reason: d.Reason, Counted: d.Counted, Rows: d.Rows,
		})
	}
	return out, nil
}
