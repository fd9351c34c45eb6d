package store

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	longestRates = 31 * 24 * time.Hour
	longestCheck = 7 * 24 * time.Hour
	// longestSummary bounds the drift that is read for one summary.
	longestSummary = 31 * 24 * time.Hour
	// maxRates bounds the rows behind one answer of Rates: 31 days of some 70 zones
	// and codes.
	maxRates = 50_000
)

// bothBounds demands both bounds, at most so far apart.
func bothBounds(since, until time.Time, most time.Duration) error {
	if since.IsZero() || until.IsZero() || !until.After(since) || until.Sub(since) > most {
		return reason.Newf(reason.RequestMalformed, "since, until: both are needed, at most %d days apart", most/(24*time.Hour))
	}
	return nil
}

// Detections returns drift with the time that it may have gone unseen, newest
// first. Rows of programs that did not note it are left out.
func (r *Reader) Detections(ctx context.Context, q ledger.DriftQuery) ([]ledger.Detection, ledger.AsOf, error) {
	var out []ledger.Detection
	asOf, err := r.once(ctx, "detections", collect(detectionsQuery(q), &out, func(row pgx.CollectableRow) (ledger.Detection, error) {
		var d ledger.Detection
		err := row.Scan(append(driftDest(&d.DriftRow), &d.LastGood)...)
		d.RecordedAt, d.LastGood = d.RecordedAt.UTC(), d.LastGood.UTC()
		d.Took = max(0, d.RecordedAt.Sub(d.LastGood))
		return d, err
	}))
	return out, asOf, err
}

func detectionsQuery(q ledger.DriftQuery) *statement {
	var s statement
	s.add(`SELECT log_id, log_idx, ord, record_id, recorded_at, node_id, zone, kind, before_value, after_value, last_good
		FROM drift_event WHERE last_good IS NOT NULL`)
	s.where(q.Node != "", "node_id = ?", string(q.Node))
	s.where(q.Kind != "", "kind = ?", q.Kind)
	s.where(q.Zone != "", "zone = ?", q.Zone)
	s.where(!q.Since.IsZero(), "recorded_at >= ?", q.Since)
	s.where(!q.Until.IsZero(), "recorded_at < ?", q.Until)
	p := q.After
	s.where(!p.IsZero(), afterWithin, p.RecordedAt, p.Index, p.LogID, p.RecordedAt, p.Index, p.LogID, p.Ord)
	s.add(` ORDER BY `+orderWithin+` LIMIT ?`, pageOf(q.Limit))
	return &s
}

// DetectionSummary sums the drift of a time up by kind: how often, and how long
// it may have gone unseen. Both bounds are required, at most 31 days apart.
func (r *Reader) DetectionSummary(ctx context.Context, zone string, since, until time.Time) ([]ledger.DetectionSummary, ledger.AsOf, error) {
	if err := bothBounds(since, until, longestSummary); err != nil {
		return nil, ledger.AsOf{}, err
	}
	var out []ledger.DetectionSummary
	asOf, err := r.once(ctx, "detection summary", collect(summaryQuery(zone, since, until), &out, func(row pgx.CollectableRow) (ledger.DetectionSummary, error) {
		var d ledger.DetectionSummary
		var p50, p99, longest float64
		err := row.Scan(&d.Kind, &d.Events, &p50, &p99, &longest)
		d.P50, d.P99, d.Max = seconds(p50), seconds(p99), seconds(longest)
		return d, err
	}))
	return out, asOf, err
}

func summaryQuery(zone string, since, until time.Time) *statement {
	var s statement
	s.add(`SELECT kind, count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY took), percentile_disc(0.99) WITHIN GROUP (ORDER BY took), max(took)
		FROM (SELECT kind, GREATEST(EXTRACT(epoch FROM recorded_at - last_good)::float8, 0) AS took FROM drift_event
			WHERE last_good IS NOT NULL AND recorded_at >= ? AND recorded_at < ?`, since, until)
	s.where(zone != "", "zone = ?", zone)
	s.add(`) AS seen GROUP BY kind ORDER BY kind LIMIT 500`)
	return &s
}

func seconds(s float64) time.Duration {
	return time.Duration(math.Round(s*1e6)) * time.Microsecond
}

// Rates returns attestations by hour and zone, oldest first. The hours that the
// bounds touch are whole.
func (r *Reader) Rates(ctx context.Context, q ledger.RateQuery) ([]ledger.Rate, ledger.AsOf, error) {
	if err := bothBounds(q.Since, q.Until, longestRates); err != nil {
		return nil, ledger.AsOf{}, err
	}
	var rows []hourly
	asOf, err := r.once(ctx, "rates", collect(ratesQuery(q), &rows, scanHourly))
	if err == nil && len(rows) > maxRates {
		err = reason.New(reason.RequestMalformed, "since, until: more hours, zones and codes than one answer holds; narrow the time or name a zone")
	}
	if err != nil {
		return nil, asOf, err
	}
	var out []ledger.Rate
	for _, h := range rows {
		if n := len(out); n == 0 || !out[n-1].Hour.Equal(h.hour) || out[n-1].Zone != h.zone {
			out = append(out, ledger.Rate{Hour: h.hour, Zone: h.zone, Reasons: make(map[string]int64)})
		}
		rate := &out[len(out)-1]
		if h.verdict == ledger.VerdictDeny {
			rate.Denied += h.n
			rate.Reasons[h.reason] += h.n
		} else {
			rate.Accepted += h.n
		}
	}
	return out, asOf, nil
}

// hourly is a count that the writers kept.
type hourly struct {
	hour                  time.Time
	zone, verdict, reason string
	n                     int64
}

func scanHourly(row pgx.CollectableRow) (h hourly, err error) {
	err = row.Scan(&h.hour, &h.zone, &h.verdict, &h.reason, &h.n)
	h.hour = h.hour.UTC()
	return h, err
}

func ratesQuery(q ledger.RateQuery) *statement {
	var s statement
	s.add(`SELECT hour, zone, verdict, reason, sum(n)::bigint FROM attest_hourly WHERE hour >= ? AND hour < ?`, q.Since.UTC().Truncate(time.Hour), q.Until)
	s.where(q.Zone != "", "zone = ?", q.Zone)
	s.add(` GROUP BY hour, zone, verdict, reason ORDER BY hour, zone, verdict, reason LIMIT ?`, maxRates+1)
	return &s
}

// CrossCheck counts the attestations of whole hours again and returns where the
// count that the writers kept is another one. It reads every row of the time, at
// most seven days, an hour at a time. Rows that retention dropped are missing.
func (r *Reader) CrossCheck(ctx context.Context, since, until time.Time) ([]ledger.CrossCheck, ledger.AsOf, error) {
	if err := bothBounds(since, until, longestCheck); err != nil {
		return nil, ledger.AsOf{}, err
	}
	var out []ledger.CrossCheck
	asOf, err := r.patient(ctx, "cross-check", checkTimeout, func(ctx context.Context, t *turn) error {
		out = nil
		for hour := since.UTC().Truncate(time.Hour); hour.Before(until) && len(out) < maxPage; hour = hour.Add(time.Hour) {
			var found []ledger.CrossCheck
			err := t.ask(ctx, false, collect(crossCheckQuery(hour), &found, func(row pgx.CollectableRow) (ledger.CrossCheck, error) {
				c := ledger.CrossCheck{Hour: hour}
				return c, row.Scan(&c.Zone, &c.Verdict, &c.Reason, &c.Counted, &c.Rows)
			}))
			if err != nil {
				return err
			}
			out = append(out, found...)
		}
		return t.end(ctx)
	})
	return out, asOf, err
}

// checkTimeout bounds a check of counts: seven days of a large fleet are many rows.
const checkTimeout = 2 * time.Minute

func crossCheckQuery(hour time.Time) *statement {
	var s statement
	s.add(`SELECT zone, verdict, reason, COALESCE(c.n, 0)::bigint, COALESCE(r.n, 0)::bigint
		FROM (SELECT zone, verdict, reason, sum(n) AS n FROM attest_hourly WHERE hour = ? GROUP BY zone, verdict, reason) AS c
		FULL JOIN (SELECT zone, verdict, reason, count(*) AS n FROM attestation WHERE recorded_at >= ? AND recorded_at < ?
			AND type = 'attestation' GROUP BY zone, verdict, reason) AS r USING (zone, verdict, reason)
		WHERE c.n IS DISTINCT FROM r.n ORDER BY zone, verdict, reason LIMIT 500`, hour, hour, hour.Add(time.Hour))
	return &s
}
