package store

import (
	"context"
	"encoding/base64"
	"encoding/json"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Unseen returns nodes without an accepted attestation since a time, ordered by
// node. What they are refused for again and again is counted by the hour and no
// record: whoever was refused in an hour that began since then is not silent.
func (r *Reader) Unseen(ctx context.Context, q ledger.UnseenQuery) ([]ledger.Unseen, ledger.AsOf, error) {
	var out []ledger.Unseen
	asOf, err := r.once(ctx, "unseen nodes", collect(unseenQuery(q), &out, func(row pgx.CollectableRow) (ledger.Unseen, error) {
		var u ledger.Unseen
		var ok, attempt pgtype.Timestamptz
		err := row.Scan((*string)(&u.Node), &u.Machine, &u.Zone, (*string)(&u.Status), &ok, &attempt, &u.Reason)
		u.LastOKAt, u.LastAttemptAt = timeOf(ok), timeOf(attempt)
		return u, err
	}))
	return out, asOf, err
}

func unseenQuery(q ledger.UnseenQuery) *statement {
	var s statement
	s.add(`SELECT s.node_id, n.machine, s.zone, n.status, s.last_ok_at, s.last_attempt_at, CASE WHEN s.verdict = 'deny' THEN s.reason ELSE '' END
		FROM node_state s JOIN node n ON n.node_id = s.node_id
		WHERE n.status <> 'disabled' AND (s.last_ok_at IS NULL OR s.last_ok_at < ?) AND s.node_id > ?`, q.Since, string(q.After))
	s.where(q.Zone != "", "s.zone = ?", q.Zone)
	s.where(q.Silent, `(s.last_attempt_at IS NULL OR s.last_attempt_at < ?)
		AND NOT EXISTS (SELECT 1 FROM refusal_hourly h WHERE h.node_id = s.node_id AND h.hour >= ?)`, q.Since, q.Since)
	s.add(` ORDER BY s.node_id LIMIT ?`, pageOf(q.Limit))
	return &s
}

// coverageAfter is the cursor of both lists of Coverage.
type coverageAfter struct {
	Machine      string `json:"m"`
	Node         string `json:"n"`
	MachinesDone bool   `json:"md"`
	NodesDone    bool   `json:"nd"`
}

func (a coverageAfter) text() (string, error) {
	if a.MachinesDone && a.NodesDone {
		return "", nil
	}
	raw, err := json.Marshal(a)
	return base64.RawURLEncoding.EncodeToString(raw), err
}

func parseCoverageAfter(text string) (a coverageAfter, err error) {
	if text == "" {
		return a, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, &a)
	}
	if err != nil {
		return a, reason.New(reason.RequestMalformed, "cursor: not one that a page of this list ended with")
	}
	return a, nil
}

// A node stands for a machine by its label or by its EK. Both sides are looked up
// as a whole: for each machine alone it would be two look-ups in three tables.
const (
	freshNodes = `(i.machine IN (SELECT n.machine FROM node n JOIN node_state s ON s.node_id = n.node_id WHERE n.status <> 'disabled' AND n.machine <> '' AND s.last_ok_at >= ?)
		OR COALESCE(i.ek_hash IN (SELECT n.root_hash FROM node n JOIN node_state s ON s.node_id = n.node_id WHERE n.status <> 'disabled' AND s.last_ok_at >= ?), false))`
	inInventory = `(n.machine IN (SELECT machine FROM inventory) OR n.root_hash IN (SELECT ek_hash FROM inventory WHERE ek_hash IS NOT NULL))`
)

// Coverage compares the inventory with what attests: how many of its machines
// have a fresh node, which have none, and which nodes no machine stands for. With
// a site, no unknown nodes are listed: they have none.
func (r *Reader) Coverage(ctx context.Context, q ledger.CoverageQuery) (ledger.Coverage, ledger.AsOf, error) {
	after, err := parseCoverageAfter(q.After)
	if err != nil {
		return ledger.Coverage{}, ledger.AsOf{}, err
	}
	after.NodesDone = after.NodesDone || q.Site != ""
	limit := pageOf(q.Limit)
	var out ledger.Coverage
	var counts [][2]int64
	questions := []asked{collect(coverageCounts(q), &counts, func(row pgx.CollectableRow) (n [2]int64, err error) {
		return n, row.Scan(&n[0], &n[1])
	})}
	if !after.MachinesDone {
		questions = append(questions, collect(missingQuery(q, after.Machine, limit), &out.Missing, scanCoverage))
	}
	if !after.NodesDone {
		questions = append(questions, collect(unknownQuery(after.Node, limit), &out.Unknown, scanCoverage))
	}
	asOf, err := r.once(ctx, "coverage", questions...)
	if err != nil {
		return ledger.Coverage{}, asOf, err
	}
	out.Machines, out.Fresh = counts[0][0], counts[0][1]
	if n := len(out.Missing); n > 0 {
		after.Machine = out.Missing[n-1].Machine
	}
	if n := len(out.Unknown); n > 0 {
		after.Node = string(out.Unknown[n-1].Node)
	}
	after.MachinesDone = len(out.Missing) < limit
	after.NodesDone = len(out.Unknown) < limit
	out.After, err = after.text()
	return out, asOf, err
}

func coverageCounts(q ledger.CoverageQuery) *statement {
	var s statement
	s.add(`SELECT count(*), count(*) FILTER (WHERE `+freshNodes+`) FROM inventory i WHERE true`, q.Fresh, q.Fresh)
	s.where(q.Site != "", "i.site = ?", q.Site)
	return &s
}

func missingQuery(q ledger.CoverageQuery, after string, limit int) *statement {
	var s statement
	s.add(`SELECT m.machine, m.model, m.site, COALESCE(f.node_id, ''), f.last_ok_at FROM (
		SELECT i.machine, i.model, i.site, i.ek_hash FROM inventory i WHERE i.machine > ? AND NOT `+freshNodes, after, q.Fresh, q.Fresh)
	s.where(q.Site != "", "i.site = ?", q.Site)
	s.add(` ORDER BY i.machine LIMIT ?) AS m LEFT JOIN LATERAL (
		SELECT n.node_id, s.last_ok_at FROM node n JOIN node_state s ON s.node_id = n.node_id
		WHERE n.status <> 'disabled' AND (n.machine = m.machine AND n.machine <> '' OR n.root_hash = m.ek_hash)
		ORDER BY s.last_ok_at DESC NULLS LAST LIMIT 1) AS f ON true ORDER BY m.machine`, limit)
	return &s
}

func unknownQuery(after string, limit int) *statement {
	var s statement
	s.add(`SELECT n.machine, n.tpm_model, '', n.node_id, s.last_ok_at FROM node n JOIN node_state s ON s.node_id = n.node_id
		WHERE n.status <> 'disabled' AND n.node_id > ? AND NOT `+inInventory+` ORDER BY n.node_id LIMIT ?`, after, limit)
	return &s
}

func scanCoverage(row pgx.CollectableRow) (ledger.CoverageRow, error) {
	var c ledger.CoverageRow
	var ok pgtype.Timestamptz
	err := row.Scan(&c.Machine, &c.Model, &c.Site, (*string)(&c.Node), &ok)
	c.LastOKAt = timeOf(ok)
	return c, err
}
