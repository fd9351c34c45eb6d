package broker

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// History returns a page of records, newest first.
func (b *Broker) History(ctx context.Context, c Caller, q api.HistoryQuery) (page api.HistoryPage, err error) {
	after, err := parseCursor(q.Cursor)
	if err != nil {
		return api.HistoryPage{}, err
	}
	limit := pageSize(q.Limit)
	if q.Since, err = b.window(q.Since, q.Until, defaultSpan); err != nil {
		return api.HistoryPage{}, err
	}
	asOf, err := b.reads(ctx, c, readHistory, filterOf(q))
	if err != nil {
		return api.HistoryPage{}, err
	}
	rows, err := b.cfg.Store.Records(ctx, ledger.Query{
		Node: ledger.NodeID(q.Node), Zone: q.Zone, Verdict: q.Verdict, Type: q.Type, Reason: q.Reason,
		Since: q.Since, Until: q.Until, After: after, Limit: limit,
	})
	if err != nil {
		return api.HistoryPage{}, err
	}
	page = api.HistoryPage{Since: q.Since, Entries: make([]api.Entry, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, r := range rows {
		page.Entries = append(page.Entries, wireEntry(r, false))
	}
	if len(rows) == limit {
		page.NextCursor = rows[len(rows)-1].Place().String()
	}
	return page, nil
}

// parseCursor reads the cursor of a list; one that no broker gave is
// request.malformed.
func parseCursor(text string) (ledger.Place, error) {
	p, err := ledger.ParsePlace(text)
	if err != nil {
		return p, reason.New(reason.RequestMalformed, "cursor: not one that a page of this list ended with")
	}
	return p, nil
}

// Entry returns one record with its body and drift.
func (b *Broker) Entry(ctx context.Context, c Caller, id string) (api.Entry, error) {
	r, asOf, err := b.readRecord(ctx, c, readRecord, id)
	if err != nil {
		return api.Entry{}, err
	}
	e, at := wireEntry(*r, true), wireAsOf(asOf)
	e.AsOf = &at
	return e, nil
}

// readRecord returns one record to somebody who asks for it, and records that.
func (b *Broker) readRecord(ctx context.Context, c Caller, what, id string) (*ledger.Stored, ledger.AsOf, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return nil, ledger.AsOf{}, reason.New(reason.RequestMalformed, "a record id is a UUID")
	}
	asOf, err := b.reads(ctx, c, what, map[string]string{"record": u.String()})
	if err != nil {
		return nil, ledger.AsOf{}, err
	}
	r, err := b.cfg.Store.Record(ctx, u)
	if err != nil {
		return nil, ledger.AsOf{}, err
	}
	if r == nil {
		return nil, ledger.AsOf{}, reason.New(reason.RequestNotFound, "no such record")
	}
	return r, asOf, nil
}

func wireEntry(r ledger.Stored, whole bool) api.Entry {
	e := api.Entry{
		Log: r.LogID, Index: r.Index, ID: r.ID.String(), Type: r.Type, RecordedAt: r.RecordedAt,
		Node: string(r.Node), Zone: r.Zone, Verdict: r.Verdict, Reason: r.Reason,
	}
	for _, d := range r.Drift {
		e.Drift = append(e.Drift, api.DriftChange{Kind: d.Kind, Before: d.Before, After: d.After})
	}
	if whole {
		e.Body = json.RawMessage(r.Body)
	}
	return e
}

const maxProblems = 100

// VerifyHistory recomputes the whole log and compares it with the records, the
// grants, the newest checkpoint and the anchor outside the database. Of a log
// that forked nothing can be recorded any more; then it is said in this replica's
// own log who verifies, because that is the way out.
func (b *Broker) VerifyHistory(ctx context.Context, c Caller) (api.Verification, error) {
	if _, err := b.reads(ctx, c, readVerify, nil); reason.Of(err) == reason.LedgerFork {
		b.cfg.Logger.WarnContext(ctx, "the history is verified, and the reading is not recorded", "by", c.Operator, "error", err)
	} else if err != nil {
		return api.Verification{}, err
	}
	if !b.forked.Load() {
		if err := b.signCheckpoint(ctx); err != nil && reason.Of(err) != reason.LedgerFork {
			return api.Verification{}, err
		}
	}
	anchor, err := b.cfg.Anchor()
	if err != nil {
		return api.Verification{}, err
	}
	v, err := b.cfg.Store.VerifyHistory(ctx, anchor, b.cfg.LogKey, nil)
	if err != nil {
		return api.Verification{}, err
	}
	out := api.Verification{
		OK: len(v.Problems) == 0, Size: v.Size, Root: hex.EncodeToString(v.Root[:]),
		Checkpoint: anchor, Records: v.Records, Dropped: v.Dropped, Grants: v.Grants, Problems: nonNil(v.Problems),
	}
	out.Logs = make([]api.LogSum, len(v.Logs))
	for i, l := range v.Logs {
		out.Logs[i] = api.LogSum{Log: l.Log, Size: l.Size, Root: hex.EncodeToString(l.Root[:])}
	}
	if n := len(out.Problems) - maxProblems; n > 0 {
		out.Problems = append(out.Problems[:maxProblems], "and "+strconv.Itoa(n)+" more")
	}
	return out, nil
}

// Reference returns what an accepted attestation of a node measured, from its
// recorded evidence.
func (b *Broker) Reference(ctx context.Context, c Caller, node, attestation string) (api.ReferenceMaterial, error) {
	if attestation == "" {
		n, err := b.Node(ctx, c, node)
		if err != nil {
			return api.ReferenceMaterial{}, err
		}
		if attestation = n.Last; attestation == "" {
			return api.ReferenceMaterial{}, reason.New(reason.RequestNotFound, "the node has no accepted attestation yet")
		}
	}
	r, _, err := b.readRecord(ctx, c, readLearn, attestation)
	if err != nil {
		return api.ReferenceMaterial{}, err
	}
	var body ledger.Attestation
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return api.ReferenceMaterial{}, err
	}
	if string(body.Node) != node || r.Type != ledger.TypeAttestation || body.Verdict != ledger.VerdictAllow {
		return api.ReferenceMaterial{}, reason.New(reason.RequestNotFound, "that record is no accepted attestation of this node")
	}
	if err := b.pinned(ctx, body); err != nil {
		return api.ReferenceMaterial{}, err
	}
	return b.material(ctx, body)
}

// pinned demands that the record's AK is the node's: a record that somebody put
// into the database could be signed by an AK of their own.
func (b *Broker) pinned(ctx context.Context, body ledger.Attestation) error {
	snap, err := b.cfg.Store.NodeByID(ctx, body.Node)
	if err != nil {
		return err
	}
	if !snap.Found || hex.EncodeToString(snap.Node.AKName) != body.AKName {
		return reason.New(reason.RequestNotFound, "the record was signed by another AK than the node's; learn from a newer attestation")
	}
	return nil
}

func (b *Broker) material(ctx context.Context, body ledger.Attestation) (api.ReferenceMaterial, error) {
	// What becomes golden is not taken on the database's word: the stored evidence
	// has to earn the same appraisal once more, under the AK that is pinned.
	j, err := b.JudgeAgain(ctx, body)
	if err != nil {
		return api.ReferenceMaterial{}, err
	}
	if !j.Same || j.Refusal != nil {
		return api.ReferenceMaterial{}, reason.New(reason.StoreRowForged, "the stored evidence does not give the recorded appraisal; run zonebroker history verify")
	}
	out := api.ReferenceMaterial{
		Node: string(body.Node), AttestationID: body.ID.String(),
		PCRs: make(map[string]string), Events: make(map[string][]string),
	}
	for i, v := range j.Appraisal.PCRs() {
		key := strconv.Itoa(i)
		out.PCRs[key] = hex.EncodeToString(v)
		for _, d := range j.Appraisal.EventDigests(i) {
			out.Events[key] = append(out.Events[key], hex.EncodeToString(d))
		}
	}
	return out, nil
}

// Health tells whether this replica can do its job, part by part.
func (b *Broker) Health(ctx context.Context) api.Health {
	h := api.Health{Status: "ok"}
	check := func(name string, err error, ok, fix string) {
		c := api.HealthCheck{Name: name, OK: err == nil, Detail: ok}
		if err != nil {
			c.Detail, c.Fix, h.Status = err.Error(), fix, "failing"
		}
		h.Checks = append(h.Checks, c)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := b.cfg.Store.ClockSkew(ctx)
	check("database", err, "answers", "look at the database's log; issuing goes on by itself when it answers")
	check("clock", b.clockErr(), "within 2 s of the database's", "set the clocks by NTP")
	check("signer", b.cfg.Issuer.Ready(b.cfg.Now()), "a CA is active", "look at the log of this replica")
	err = nil
	if b.forked.Load() {
		err = reason.New(reason.LedgerFork, "the log does not extend its anchor")
	}
	check("ledger", err, "extends its anchor", "run zonebroker history verify, and restore the database that the anchor belongs to")
	err = nil
	if b.policy.Load() == nil {
		err = reason.New(reason.PolicyMissing, "no policy is active")
	}
	check("policy", err, "active", "zonebroker policy lint DIR, then reload by SIGHUP")
	check("partitions", b.roomErr(), "made for the coming weeks", "look at the log for partitions that were not made; the owner's role makes them daily")
	return h
}
