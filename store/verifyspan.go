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
		if len(out[idx]) == 0 { // it goes with its record, declared gone or not
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
	past := v.past(a.Node)
	n.sure = past && (n.sure || a.Verdict == ledger.VerdictAllow)
	if !r.packed {
		v.ended(r, n, nil) // programs of schema 3 know none
		return
	}
	if a.Verdict != ledger.VerdictAllow || len(a.SVIDs) == 0 {
		v.stopped(r, n, at, past)
		return
	}
	e := ledger.Earned{
		Node: a.Node, Zone: a.Zone, PolicyVersion: a.Policy.Version, At: at, FreshUntil: time.UnixMilli(a.FreshUntil).UTC(),
		Expires: time.Unix(a.SVIDs[0].NotAfter, 0).UTC(), Record: a.ID,
	}
	if v.gone[a.Node] > 0 && n.span == lost {
		if n.open, _ = ledger.Earn(nil, &n.state, e); past {
			// One that ended here was followed by a new one. Else the one that stands
			// began in this week at an unknown time: it would have been split.
			n.span = map[bool]followed{true: whole, false: tail}[len(r.ended) > 0]
		}
		return
	}
	next, closed := ledger.Earn(n.open, &n.state, e)
	if closed == nil && n.open != nil && len(r.ended) > 0 && r.ended[0].Ended == ledger.EndedChanged {
		// What was measured is no member of the body: another set ends an interval too.
		e.Measured[0]++
		next, closed = ledger.Earn(n.open, &n.state, e)
		next.Measured = n.open.Measured
	}
	v.ended(r, n, closed)
	if n.open = next; closed != nil {
		n.span = whole
	}
}

// stopped ends the interval of a node that was refused or disabled.
func (v *verification) stopped(r *row, n *nodeFacts, at time.Time, past bool) {
	if v.gone[r.Node] == 0 || n.span != lost {
		v.ended(r, n, ledger.Deny(n.open, &n.state, at))
	}
	if n.open = nil; past {
		n.span = whole
	}
}

// past reports whether no record of a node is declared gone from the indices at
// hand on. From there it can be followed again.
func (v *verification) past(node ledger.NodeID) bool {
	if v.gone[node] == 0 {
		return true
	}
	for _, l := range v.logs {
		if l.next < l.missing.until[node] {
			return false
		}
	}
	return true
}

// followed is how much is known of the open interval of a node of which records
// are declared gone.
type followed uint8

const (
	lost  followed = iota // nothing: some of them come still, or no record after them
	tail                  // all but when it began
	whole                 // all
)

// granted follows an operator's change of a node.
func (v *verification) granted(r *row, g ledger.Grant) {
	if g.Type != ledger.TypeNodeDisabled || !r.packed {
		if g.Type != ledger.TypeErased {
			v.ended(r, &nodeFacts{}, nil)
		}
		return
	}
	node := ledger.NodeID(g.Subject)
	v.stopped(r, v.facts.node(node), time.UnixMilli(g.At).UTC(), v.past(node))
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
// had to end, nil for none.
func (v *verification) ended(r *row, n *nodeFacts, want *ledger.Interval) {
	// What stays of a leaf stays without the intervals that it ended.
	if len(r.ended) == 0 && r.Index < v.missing.leaves[leafKey{ledger.Week(r.RecordedAt).Unix(), r.keep}] {
		return
	}
	var all []ledger.Interval
	if want != nil {
		all = append(all, *want)
	}
	same := slices.EqualFunc(all, r.ended, func(w ledger.Interval, e endedRow) bool {
		return e.recordedAt.Equal(r.RecordedAt) && sameInterval(w, e.Interval, n.span == tail)
	})
	if !same {
		v.problem("index %d record %s: its intervals are not those of the records", r.Index, r.ID)
	}
}

// sameInterval compares all but what was measured, which no body says, and, of the
// tail of an interval, all but what its beginning says.
func sameInterval(a, b ledger.Interval, tail bool) bool {
	if tail {
		if !a.Until.After(a.From) {
			a.Until = b.Until // a clock that was put back: it ends where it began
		}
		if b.Expires.After(a.Expires) {
			a.Expires = b.Expires
		}
		a.From, a.First, a.Renewals = b.From, b.First, b.Renewals
	}
	times := a.From.Equal(b.From) && a.Until.Equal(b.Until) && a.Expires.Equal(b.Expires)
	a.From, a.Until, a.Expires, a.Measured = b.From, b.Until, b.Expires, b.Measured
	return times && a == b
}

// checkOpen compares the open interval of a node with its records.
func (v *verification) checkOpen(n *nodeRow, fact *nodeFacts) {
	if v.gone[n.Node.ID] > 0 && fact.span == lost || fact.erased {
		return
	}
	got, want := n.Open, fact.open
	if (got == nil) != (want == nil) || got != nil && !sameInterval(*want, *got, fact.span == tail) {
		v.problem("node_state %s: its open interval is not that of the records", n.Node.ID)
	}
}
