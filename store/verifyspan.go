package store

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// endedRow is a row of measurement_interval.
type endedRow struct {
	recordedAt time.Time
	ledger.Interval
}

// addIntervals reads the intervals that the records of a window ended. One
// without its record would show an auditor a member that the history never had.
func (v *verification) addIntervals(ctx context.Context, a, b int64, out map[int64][]*row) error {
	const query = `SELECT log_idx, recorded_at, node_id, zone, measured, policy_version, valid_from, valid_until, expires_at,
		first_record, last_record, renewals, ended FROM measurement_interval
		WHERE log_id = $1 AND log_idx >= $2 AND log_idx < $3 ORDER BY log_idx`
	rows, err := v.tx.Query(ctx, query, v.id, a, b)
	if err != nil {
		return err
	}
	var idx int64
	var measured []byte
	var e endedRow
	dest := []any{
		&idx, &e.recordedAt, &e.Node, &e.Zone, &measured, &e.PolicyVersion, &e.From, &e.Until, &e.Expires,
		&e.First, &e.Last, &e.Renewals, &e.Ended,
	}
	_, err = pgx.ForEachRow(rows, dest, func() error {
		if len(out[idx]) == 0 && !v.missing.decisions.Has(idx) {
			v.problem("index %d: an interval of node %s that no record ended", idx, e.Node)
		}
		e.Measured = [32]byte(measured)
		for _, r := range out[idx] {
			r.ended = append(r.ended, e)
		}
		return nil
	})
	return err
}

// attested follows the interval of a node through an attestation, as the broker
// did, and compares what it ended.
func (v *verification) attested(r *row, a ledger.Attestation) {
	n, at := v.facts.node(a.Node), time.UnixMilli(a.JudgedAt).UTC()
	defer n.decided(a, at)
	if !r.packed {
		v.ended(r, nil) // programs of schema 3 know none
		return
	}
	if a.Verdict != ledger.VerdictAllow || len(a.SVIDs) == 0 {
		v.ended(r, ledger.Deny(n.open, &n.state, at))
		n.open = nil
		return
	}
	e := ledger.Earned{
		Node: a.Node, Zone: a.Zone, PolicyVersion: a.Policy.Version, At: at, FreshUntil: time.UnixMilli(a.FreshUntil).UTC(),
		Expires: time.Unix(a.SVIDs[0].NotAfter, 0).UTC(), Record: a.ID,
	}
	next, closed := ledger.Earn(n.open, &n.state, e)
	if closed == nil && n.open != nil && len(r.ended) > 0 && r.ended[0].Ended == ledger.EndedChanged {
		// What was measured is no member of the body: another set ends an interval too.
		e.Measured[0]++
		next, closed = ledger.Earn(n.open, &n.state, e)
		next.Measured = n.open.Measured
	}
	v.ended(r, closed)
	n.open = next
}

// granted follows an operator's change of a node.
func (v *verification) granted(r *row, g ledger.Grant) {
	if g.Type != ledger.TypeNodeDisabled || !r.packed {
		if g.Type != ledger.TypeErased {
			v.ended(r, nil)
		}
		return
	}
	n := v.facts.node(ledger.NodeID(g.Subject))
	v.ended(r, ledger.Deny(n.open, &n.state, time.UnixMilli(g.At).UTC()))
	n.open = nil
}

// decided keeps what of the state the next interval depends on.
func (n *nodeFacts) decided(a ledger.Attestation, at time.Time) {
	n.state.Verdict, n.state.LastAttemptAt = a.Verdict, at
	if a.Verdict == ledger.VerdictAllow {
		n.state.LastOKAt = at
	}
	n.state.Last = n.accepted
}

// ended compares the rows of intervals that a record ended with the one that it
// had to end, nil for none. Where records of the node are gone, the interval
// cannot be followed.
func (v *verification) ended(r *row, want *ledger.Interval) {
	if v.gone[r.Node] > 0 {
		return
	}
	var all []ledger.Interval
	if want != nil {
		all = append(all, *want)
	}
	same := slices.EqualFunc(all, r.ended, func(w ledger.Interval, e endedRow) bool {
		return e.recordedAt.Equal(r.RecordedAt) && sameInterval(w, e.Interval)
	})
	if !same {
		v.problem("index %d record %s: its intervals are not those of the records", r.Index, r.ID)
	}
}

// sameInterval compares all but what was measured, which no body says.
func sameInterval(a, b ledger.Interval) bool {
	times := a.From.Equal(b.From) && a.Until.Equal(b.Until) && a.Expires.Equal(b.Expires)
	a.From, a.Until, a.Expires, a.Measured = b.From, b.Until, b.Expires, b.Measured
	return times && a == b
}

// checkOpen compares the open interval of a node with its records.
func (v *verification) checkOpen(n *nodeRow, fact *nodeFacts) {
	if v.gone[n.Node.ID] > 0 || fact.erased {
		return
	}
	got, want := n.Open, fact.open
	if (got == nil) != (want == nil) || got != nil && !sameInterval(*want, *got) {
		v.problem("node_state %s: its open interval is not that of the records", n.Node.ID)
	}
}
