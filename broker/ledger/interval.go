package ledger

import (
	"time"

	"github.com/google/uuid"
)

// Interval is a span in which a node earned one zone, with one measurement,
// under one policy version, without a gap: each attestation came before the one
// before it had gone stale. It grants nothing and can be made again from the
// records.
type Interval struct {
	Node          NodeID
	Zone          string
	Measured      [32]byte // digest of the Measurement
	PolicyVersion int64
	From          time.Time // decision of the first attestation
	Until         time.Time // FreshUntil of the last one, or when it was ended before that
	Expires       time.Time // latest notAfter of the SVIDs issued in it to the node
	First, Last   uuid.UUID // records
	Renewals      int64     // attestations after the first
	Ended         string    // an Ended constant, "" while it is open
}

// Why an interval ended.
const (
	EndedChanged = "changed" // the next attestation earned another zone, or showed or was judged by something else
	EndedDenied  = "denied"  // the next attestation was refused
	EndedLapsed  = "lapsed"  // no attestation came in time
	EndedSplit   = "split"   // the week ended: no interval is longer than one
)

// Measurement is what a machine measured, as facts by name: "pcr.4" (hex; not PCR
// 10, which the kernel extends with every file that it runs), "event_log" (digest
// of the log, hex), "secure_boot", "firmware" (of the TPM, decimal), and the boot
// facts that its log proves ("boot.kernel" and others). Equal machines share one.
type Measurement struct {
	Digest [32]byte // SHA-256 of Facts
	Facts  []byte   // RFC 8785 object of strings
}

// MaxInterval bounds an interval: the next attestation after a week's end begins
// another one. It may outlive the bound by the freshness of its last attestation.
const MaxInterval = 7 * 24 * time.Hour

// Earned is what an accepted attestation gives a node.
type Earned struct {
	Node          NodeID
	Zone          string
	Measured      [32]byte
	PolicyVersion int64
	At            time.Time // of the decision
	FreshUntil    time.Time
	Expires       time.Time // notAfter of the SVID that it gave the node
	Record        uuid.UUID
}

// Earn returns the interval that stands after an accepted attestation, and the
// one that it ends, nil for none. State is what it found.
func Earn(open *Interval, state *NodeState, e Earned) (next, closed *Interval) {
	next = &Interval{
		Node: e.Node, Zone: e.Zone, Measured: e.Measured, PolicyVersion: e.PolicyVersion,
		From: e.At, Until: e.FreshUntil, Expires: e.Expires, First: e.Record, Last: e.Record,
	}
	switch {
	case open == nil:
	case overtaken(open, state):
		closed = afterOvertaken(open, state)
	case e.At.After(open.Until):
		closed = open.ended(EndedLapsed, e.At)
	case open.Zone != e.Zone || open.Measured != e.Measured || open.PolicyVersion != e.PolicyVersion:
		closed = open.ended(EndedChanged, e.At)
	case !Week(open.From).Equal(Week(e.At)):
		closed = open.ended(EndedSplit, e.At)
	default:
		next.From, next.First, next.Renewals = open.From, open.First, open.Renewals+1
		if open.Expires.After(next.Expires) {
			next.Expires = open.Expires
		}
	}
	return next, closed
}

// Deny returns the interval that ends because the node was refused or disabled
// at a time, nil where none was open.
func Deny(open *Interval, state *NodeState, at time.Time) *Interval {
	switch {
	case open == nil:
		return nil
	case overtaken(open, state):
		return afterOvertaken(open, state)
	case at.After(open.Until):
		return open.ended(EndedLapsed, at)
	}
	return open.ended(EndedDenied, at)
}

// overtaken reports whether a program that knows no intervals decided something
// about the node after the last attestation of this one.
func overtaken(open *Interval, state *NodeState) bool {
	return open.Last != state.Last || state.Verdict == VerdictDeny
}

// afterOvertaken ends an interval where the state says that it ended. What came
// between then and now stands in the records alone.
func afterOvertaken(open *Interval, state *NodeState) *Interval {
	why, at := EndedChanged, state.LastOKAt
	if open.Last == state.Last {
		why, at = EndedDenied, state.LastAttemptAt
	}
	if at.After(open.Until) {
		why = EndedLapsed
	}
	return open.ended(why, at)
}

// ended never lets a clock that was put back end an interval before it began.
func (i *Interval) ended(why string, at time.Time) *Interval {
	out := *i
	out.Ended = why
	if at.Before(out.Until) {
		out.Until = at
	}
	if out.Until.Before(out.From) {
		out.Until = out.From
	}
	return &out
}

// Week returns the Monday, 00:00 UTC, of the week of t: the unit in which the
// history is split and dropped.
func Week(t time.Time) time.Time {
	day := t.UTC().Truncate(24 * time.Hour)
	return day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
}
