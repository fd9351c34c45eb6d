package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	// firstSlice is the time that is searched first for SVIDs under a measurement or
	// a policy of manySpans spans; with fewer it is longer, and each further one is
	// sliceGrowth times as long. So a fact that all nodes share needs no list of all
	// that it covers, and one that few had is found in a few steps.
	firstSlice  = 2 * time.Minute
	sliceGrowth = 4
	manySpans   = 2000
	// maxScanned bounds the records that one page of SVIDs reads to find those with
	// one piece of evidence.
	maxScanned = 20_000
	// afterDecision is how long after it was decided a record may be written, at
	// most: queue, retries and clocks.
	afterDecision = 15 * time.Minute
)

// Issued returns SVIDs with the records that authorised them, newest first. What
// an SVID says stands in the record's body. Evidence is found by the measurement
// that it explains, or by reading the records of the time: a page that would have
// to read more than 20 000 of them is request.malformed, and has to name a node
// or less time.
func (r *Reader) Issued(ctx context.Context, q ledger.IssuedQuery) ([]ledger.Issued, ledger.AsOf, error) {
	after, err := ledger.ParsePlace(q.After)
	if err != nil {
		return nil, ledger.AsOf{}, reason.New(reason.RequestMalformed, "cursor: not one that a page of this list ended with")
	}
	if q.Serial == "" && q.Since.IsZero() {
		return nil, ledger.AsOf{}, reason.New(reason.RequestMalformed, "since: SVIDs are listed from a time on")
	}
	var s *search
	asOf, err := r.within(ctx, "issued SVIDs", func(ctx context.Context, t *turn) error {
		s = &search{IssuedQuery: q, t: t, place: after}
		s.Limit = pageOf(q.Limit)
		if err := s.run(ctx); err != nil {
			return err
		}
		return t.end(ctx)
	})
	if err != nil {
		return nil, asOf, err
	}
	return s.found, asOf, nil
}

// search is one page of SVIDs on its way.
type search struct {
	ledger.IssuedQuery
	t       *turn
	place   ledger.Place // of the last SVID that was looked at
	now     time.Time    // of the snapshot, for what is still valid
	facts   map[string]ledger.Wanted
	scan    bool // evidence that no measurement names
	found   []ledger.Issued
	scanned int
}

func (s *search) run(ctx context.Context) error {
	if s.Serial != "" {
		return s.bySerial(ctx)
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	if s.DeniedNow {
		if oldest := s.now.Add(-longestSVID - time.Hour); s.Since.Before(oldest) {
			s.Since = oldest
		}
		return s.pages(ctx, func() *statement { return s.ofRefused() })
	}
	if len(s.facts) > 0 || s.PolicyVersion != 0 {
		return s.slices(ctx)
	}
	return s.pages(ctx, func() *statement {
		var st statement
		st.add(selectRecord + `WHERE true`)
		s.narrow(&st, s.Since, s.Until)
		return &st
	})
}

// begin reads the time of the snapshot, and whether the evidence is the event log
// of some measurement.
func (s *search) begin(ctx context.Context) error {
	s.facts = make(map[string]ledger.Wanted)
	maps.Copy(s.facts, s.Reference)
	if allowed, both := s.Reference[s.Fact]; both && !slices.Contains(allowed, s.Value) {
		s.facts[s.Fact] = nil // no measurement has two values
	} else if s.Fact != "" {
		s.facts[s.Fact] = ledger.Wanted{s.Value}
	}
	var digest string
	if s.Evidence != nil {
		digest = hex.EncodeToString(s.Evidence[:])
	}
	var st statement
	st.add(`SELECT now(), EXISTS (SELECT 1 FROM measurement_fact WHERE name = 'event_log' AND value = ?)`, digest)
	var known bool
	err := s.t.ask(ctx, false, asked{sql: st.text.String(), args: st.args, take: func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&s.now, &known}, func() error { return nil })
		return err
	}})
	switch {
	case known && s.facts[ledger.DriftEventLog] == nil:
		s.facts[ledger.DriftEventLog] = ledger.Wanted{digest}
	case s.Evidence != nil:
		s.scan = true
	}
	return err
}

// narrow appends what every list of records filters, and its order.
func (s *search) narrow(st *statement, since, until time.Time) {
	st.where(true, "type IN ('attestation', 'svid.issued') AND type <> 'history.read' AND verdict <> 'deny'")
	st.where(s.Node != "", "node_id = ? AND node_id <> ''", string(s.Node))
	st.where(s.Zone != "", "zone = ? AND zone <> ''", s.Zone)
	st.where(true, "recorded_at >= ?", since)
	st.where(!until.IsZero(), "recorded_at < ?", until)
	// A page may end within a record that has several.
	p := s.place
	st.where(!p.IsZero(), "(recorded_at, log_idx, log_id) <= (?, ?, ?)", p.RecordedAt, p.Index, p.LogID)
	st.add(` ORDER BY recorded_at DESC, log_idx DESC, log_id DESC LIMIT ?`, s.Limit+1)
}

// pages reads records until the page is full or there are no more.
func (s *search) pages(ctx context.Context, query func() *statement) error {
	for len(s.found) < s.Limit {
		var records []ledger.Stored
		if err := s.t.ask(ctx, false, collect(query(), &records, scanRecord)); err != nil {
			return err
		}
		if err := s.take(records); err != nil {
			return err
		}
		if len(records) <= s.Limit {
			return nil
		}
		if s.scanned += len(records); s.scan && s.scanned > maxScanned {
			return reason.New(reason.RequestMalformed, "evidence: no measurement names it, and too many records would have to be read; name a node or less time")
		}
	}
	return nil
}

// slices searches the time from the end, in steps that grow.
func (s *search) slices(ctx context.Context) error {
	high := s.Until
	if high.IsZero() || high.After(s.now) {
		high = s.now.Add(time.Minute) // what a log whose clock was ahead has recorded
	}
	if !s.place.IsZero() && s.place.RecordedAt.Before(high) {
		high = s.place.RecordedAt.Add(time.Microsecond)
	}
	low, high, length, err := s.outline(ctx, high)
	if err != nil {
		return err
	}
	for len(s.found) < s.Limit && high.After(low) {
		from := high.Add(-length)
		if from.Before(low) {
			from = low
		}
		if err := s.pages(ctx, func() *statement { return s.underSpans(from, high) }); err != nil {
			return err
		}
		high, length = from, length*sliceGrowth
	}
	return nil
}

// outline counts the spans, up to manySpans, and returns the time in which their
// records lie and the length of the first step: the fewer there are, the longer.
func (s *search) outline(ctx context.Context, until time.Time) (low, high time.Time, length time.Duration, err error) {
	var st statement
	st.add(`SELECT count(*), min(valid_from), max(valid_until) FROM (SELECT valid_from, valid_until FROM (`)
	addSpans(&st, s.spans(s.Since, until))
	st.add(`) AS spans LIMIT ?) AS few`, manySpans)
	var n int64
	var first, last pgtype.Timestamptz
	err = s.t.ask(ctx, false, asked{sql: st.text.String(), args: st.args, take: func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&n, &first, &last}, func() error { return nil })
		return err
	}})
	low, high, length = s.Since, until, firstSlice
	switch {
	case n == 0:
		high = low
	case n < manySpans:
		if from := first.Time.Add(-time.Minute); from.After(low) {
			low = from
		}
		if end := last.Time.Add(afterDecision); end.Before(high) {
			high = end
		}
		length *= time.Duration(manySpans / n)
	}
	return low, high, length, err
}

// spans are those whose records may lie between two times: a record is written
// after the decision that dates the span.
func (s *search) spans(low, high time.Time) spanQuery {
	return spanQuery{from: low.Add(-afterDecision), to: high.Add(time.Minute), node: s.Node, policy: s.PolicyVersion, facts: s.facts}
}

// underSpans are the records of spans of the wanted measurements and policy. An
// SVID that was issued later belongs to the span of the attestation that it rests
// on, which its time names.
func (s *search) underSpans(low, high time.Time) *statement {
	var st statement
	st.add(selectRecord + `JOIN (SELECT node_id AS span_node, valid_from AS span_from, valid_until AS span_until,
		first_record AS span_first, last_record AS span_last FROM (`)
	addSpans(&st, spanQuery{from: low.Add(-afterDecision), to: high.Add(time.Minute), node: s.Node, policy: s.PolicyVersion, facts: s.facts})
	st.add(`) AS spans) AS span ON node_id = span_node
			AND recorded_at >= span_from - interval '1 minute' AND recorded_at < span_until + interval '15 minutes'
		WHERE node_id <> '' AND (type = 'attestation' AND record_id >= span_first AND record_id <= span_last OR type = 'svid.issued' AND EXISTS (
			SELECT 1 FROM attestation AS base WHERE base.node_id = span_node AND base.node_id <> '' AND base.attested_at = attestation.attested_at
			AND base.type = 'attestation' AND base.record_id >= span_first AND base.record_id <= span_last
			AND base.recorded_at >= attestation.attested_at - interval '1 minute' AND base.recorded_at < attestation.attested_at + interval '15 minutes'))`)
	s.narrow(&st, low, high)
	return &st
}

// ofRefused are the records of nodes that may not have an SVID any more, as far as
// an SVID of them may be valid still: bodies are read of those alone.
func (s *search) ofRefused() *statement {
	var st statement
	st.add(selectRecord+`JOIN (SELECT node_id AS refused FROM node_state WHERE verdict = 'deny'
		UNION SELECT node_id FROM node WHERE status <> 'active') AS refused ON node_id = refused WHERE node_id <> '' AND fresh_until > ?`,
		s.now.Add(-longestGrace))
	s.narrow(&st, s.Since, s.Until)
	return &st
}

// take adds the SVIDs of records that pass what only a body tells.
func (s *search) take(records []ledger.Stored) error {
	for _, rec := range records {
		body, err := parseIssuing(rec)
		if err != nil {
			return err
		}
		place, done := rec.Place(), -1
		if place.Ord = s.place.Ord; place == s.place {
			done = s.place.Ord // the record in which the page before ended
		}
		for place.Ord = done + 1; place.Ord < len(body.SVIDs) && len(s.found) < s.Limit; place.Ord++ {
			if v := body.SVIDs[place.Ord]; s.passes(body, v) {
				s.found = append(s.found, issued(rec, body, v, place))
			}
		}
		place.Ord = math.MaxInt16
		s.place = place
	}
	return nil
}

func (s *search) passes(body issuing, v ledger.IssuedSVID) bool {
	if s.DeniedNow && !time.Unix(v.NotAfter, 0).After(s.now) {
		return false
	}
	if s.scan {
		want := hex.EncodeToString(s.Evidence[:])
		return slices.ContainsFunc(body.Evidence, func(e ledger.EvidenceID) bool { return e.SHA256 == want })
	}
	return true
}

// issuing is what the bodies of attestations and issuances say of SVIDs.
type issuing struct {
	Attestation string              `json:"attestation"` // of an issuance
	Policy      ledger.PolicyRef    `json:"policy"`
	Evidence    []ledger.EvidenceID `json:"evidence"` // of an attestation
	SVIDs       []ledger.IssuedSVID `json:"svids"`
}

func parseIssuing(rec ledger.Stored) (body issuing, err error) {
	if err := json.Unmarshal(rec.Body, &body); err != nil {
		return body, reason.Wrap(reason.StoreRowForged, "a record does not parse; run zonebroker history verify", err)
	}
	return body, nil
}

func issued(rec ledger.Stored, body issuing, v ledger.IssuedSVID, place ledger.Place) ledger.Issued {
	out := ledger.Issued{
		IssuedSVID: v, Node: rec.Node, Record: rec.ID, LogID: rec.LogID, Index: rec.Index, RecordedAt: rec.RecordedAt,
		Attestation: rec.ID, Zone: rec.Zone, PolicyVersion: rec.PolicyVersion, Cursor: place.String(),
	}
	if rec.Type == ledger.TypeIssuance {
		out.Attestation, _ = uuid.Parse(body.Attestation) // nil where the body names none
	}
	return out
}

const svidBySerial = `SELECT recorded_at, log_id, log_idx, ord, node_id, profile, serial, spiffe_id, not_before, not_after,
	tbs_sha256, ca_key_id, key, audience FROM svid WHERE serial = $1 ORDER BY recorded_at, log_idx, ord LIMIT 2`

const recordAt = selectRecord + `WHERE recorded_at = $1 AND log_idx = $2 AND log_id = $3 LIMIT 1`

// bySerial finds the SVID's row, and its record where that is still kept.
func (s *search) bySerial(ctx context.Context) error {
	err := s.t.ask(ctx, false, asked{sql: svidBySerial, args: []any{s.Serial}, take: func(rows pgx.Rows) (err error) {
		s.found, err = pgx.CollectRows(rows, scanIssued)
		return err
	}})
	if err != nil || len(s.found) == 0 {
		return err
	}
	s.found = s.found[:min(len(s.found), s.Limit)]
	for i := range s.found {
		row := &s.found[i]
		var records []ledger.Stored
		err := s.t.ask(ctx, false, asked{sql: recordAt, args: []any{row.RecordedAt, row.Index, row.LogID}, take: func(rows pgx.Rows) (err error) {
			records, err = pgx.CollectRows(rows, scanRecord)
			return err
		}})
		if err != nil {
			return err
		}
		if len(records) == 0 {
			continue
		}
		body, err := parseIssuing(records[0])
		if err != nil {
			return err
		}
		at := slices.IndexFunc(body.SVIDs, func(v ledger.IssuedSVID) bool { return v.Serial == s.Serial })
		if at < 0 || records[0].Node != row.Node {
			return reason.New(reason.StoreRowForged, "the SVID's row is not that of its record; run zonebroker history verify")
		}
		place := records[0].Place()
		place.Ord = at
		*row = issued(records[0], body, body.SVIDs[at], place)
	}
	return nil
}

func scanIssued(row pgx.CollectableRow) (ledger.Issued, error) {
	var i ledger.Issued
	var ord int
	var from, to time.Time
	err := row.Scan(&i.RecordedAt, &i.LogID, &i.Index, &ord, (*string)(&i.Node), &i.Profile, &i.Serial, &i.SPIFFEID, &from, &to,
		&i.TBSSHA256, &i.CAKeyID, &i.Key, &i.Audience)
	i.RecordedAt, i.NotBefore, i.NotAfter = i.RecordedAt.UTC(), from.Unix(), to.Unix()
	i.Cursor = ledger.Place{RecordedAt: i.RecordedAt, Index: i.Index, LogID: i.LogID, Ord: ord}.String()
	return i, err
}
