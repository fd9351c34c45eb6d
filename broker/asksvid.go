package broker

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	readSVIDs = "svid.list"
	readSVID  = "svid.show"
)

// SVIDs returns a page of issued SVIDs with the records that authorised them,
// newest first.
func (b *Broker) SVIDs(ctx context.Context, c Caller, q api.SVIDQuery) (page api.SVIDPage, err error) {
	if (q.Fact == "") != (q.Value == "") {
		return page, reason.New(reason.RequestMalformed, "fact: goes with a value")
	}
	if q.Fact != "" {
		if err := checkFact(q.Fact); err != nil {
			return page, err
		}
	}
	if q.Since, err = b.window(q.Since, q.Until, defaultSpan); err != nil {
		return page, err
	}
	until := b.endOf(q.Until)
	ask := ledger.IssuedQuery{
		Node: ledger.NodeID(q.Node), Zone: q.Zone, Fact: q.Fact, Value: q.Value, PolicyVersion: q.Policy, DeniedNow: q.DeniedNow,
		Since: q.Since, Until: until, After: q.Cursor, Limit: pageSize(q.Limit),
	}
	if q.Evidence != "" {
		d, err := parsePart(q.Evidence)
		if err != nil {
			return page, err
		}
		ask.Evidence = &d
	}
	store, err := b.asks(ctx, c, readSVIDs, filterOf(q))
	if err != nil {
		return page, err
	}
	rows, asOf, err := store.Issued(ctx, ask)
	if err != nil {
		return page, err
	}
	page = api.SVIDPage{Since: q.Since, Until: until, SVIDs: make([]api.SVID, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, r := range rows {
		page.SVIDs = append(page.SVIDs, wireSVID(r))
	}
	if len(rows) == ask.Limit {
		page.NextCursor = rows[len(rows)-1].Cursor
	}
	return page, nil
}

func parsePart(text string) ([32]byte, error) {
	d, err := parseDigest(text)
	if err != nil {
		err = reason.New(reason.RequestMalformed, "evidence: want the SHA-256 of a part, 64 hex digits")
	}
	return d, err
}

// endOf is the end of a window, now where the question does not say.
func (b *Broker) endOf(until time.Time) time.Time {
	if until.IsZero() {
		until = b.cfg.Now().Add(maxSkew) // what the database's clock has recorded meanwhile
	}
	return until.UTC()
}

func wireSVID(i ledger.Issued) api.SVID {
	return api.SVID{
		Serial: i.Serial, Profile: i.Profile, Node: string(i.Node), Zone: i.Zone, SPIFFEID: i.SPIFFEID, Key: i.Key, Audience: i.Audience,
		NotBefore: time.Unix(i.NotBefore, 0).UTC(), NotAfter: time.Unix(i.NotAfter, 0).UTC(), PolicyVersion: i.PolicyVersion,
		Index: i.Index, Record: idOrEmpty(i.Record), Attestation: idOrEmpty(i.Attestation), RecordedAt: i.RecordedAt.UTC(),
	}
}

// FindSVID leads from a serial number to the decision behind it and to its evidence.
// A serial that no kept record names is request.not_found.
func (b *Broker) FindSVID(ctx context.Context, c Caller, serial string) (out api.SVIDTrail, err error) {
	ask, err := b.asks(ctx, c, readSVID, map[string]string{"serial": serial})
	if err != nil {
		return out, err
	}
	rows, asOf, err := ask.Issued(ctx, ledger.IssuedQuery{Serial: serial, Limit: 1})
	if err != nil {
		return out, err
	}
	if len(rows) == 0 {
		return out, reason.New(reason.RequestNotFound, "no kept record names an SVID of that serial")
	}
	found := rows[0]
	out = api.SVIDTrail{SVID: wireSVID(found), Evidence: []api.EvidencePart{}, AsOf: wireAsOf(asOf)}
	by, err := b.cfg.Store.Record(ctx, found.Record)
	if err != nil {
		return out, err
	}
	out.SVID.SPIFFEID = spiffeIDOf(by, serial)
	decision := by
	if found.Attestation != uuid.Nil && found.Attestation != found.Record {
		if decision, err = b.cfg.Store.Record(ctx, found.Attestation); err != nil {
			return out, err
		}
	}
	if decision == nil {
		return out, nil // retention took it; the SVID's own row outlives it
	}
	e := wireEntry(*decision, false)
	out.Decision = &e
	var body ledger.Attestation
	if err := json.Unmarshal(decision.Body, &body); err != nil {
		return out, reason.Wrap(reason.StoreRowForged, "the record does not parse; run zonebroker history verify", err)
	}
	for _, p := range body.Evidence {
		out.Evidence = append(out.Evidence, api.EvidencePart{Kind: p.Kind, SHA256: p.SHA256})
	}
	return out, nil
}

// spiffeIDOf reads the name out of the record that authorised the SVID, "" where
// it is no longer kept.
func spiffeIDOf(r *ledger.Stored, serial string) string {
	var body struct {
		SVIDs []ledger.IssuedSVID `json:"svids"`
	}
	if r == nil || json.Unmarshal(r.Body, &body) != nil {
		return ""
	}
	for _, s := range body.SVIDs {
		if s.Serial == serial {
			return s.SPIFFEID
		}
	}
	return ""
}
