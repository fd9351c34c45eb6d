package store

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// compareAndSet moves the state of a known node on where its version is still
// the one that was judged. One statement a node, in the order of nodes: one for
// all of a batch would take its locks in the order of its plan, or read the rows
// once more before.
const compareAndSet = `UPDATE node_state SET version = version + 1, mac = $3, last = $4, confirmed = $5, rebaseline = $6,
	has_clock = $7, clock = $8, reset_count = $9, restart_count = $10, firmware = $11, pcrs = $12, event_log = $13, zone = $14,
	tier = $15, verdict = $16, reason = $17, policy_version = $18, attested_at = $19, fresh_until = $20, expires_at = $21,
	last_attempt_at = $22, last_ok_at = $23, repeats = $24, secure_boot = $25, seen = $26,
	reboot_until = $27, ima = $28,
	span_zone = $29, span_measured = $30, span_policy = $31, span_from = $32, span_first = $33, span_until = $34,
	span_expires = $35, span_last = $36, span_renewals = $37
WHERE node_id = $1 AND version = $2`

func compareAndSetArgs(it *item) []any {
	st := it.commit.State
	args := append([]any{string(st.Node), it.commit.BasedOn, it.macs.state}, stateRow(st).args()...)
	return append(args, spanRow(it.commit.Interval).args()...)
}

// nodeStateRow is a state in the types of its columns; version and id apart.
type nodeStateRow struct {
	last, confirmed                                            pgtype.UUID
	rebaseline, hasClock                                       bool
	clock, resetCount, restartCount, firmware                  int64
	pcrs                                                       pgtype.Text
	eventLog                                                   []byte
	zone                                                       string
	tier                                                       int32
	verdict, reason                                            string
	policyVersion                                              int64
	attestedAt, freshUntil, expiresAt, lastAttemptAt, lastOKAt pgtype.Timestamptz
	repeats                                                    int64
	secureBoot                                                 string
	seen                                                       pgtype.Text
	rebootUntil                                                pgtype.Timestamptz
	ima                                                        pgtype.Text
}

func stateRow(s *ledger.NodeState) *nodeStateRow {
	r := &nodeStateRow{
		last: uuidArg(s.Last), confirmed: uuidArg(s.Confirmed), rebaseline: s.Rebaseline, hasClock: s.HasClock,
		clock: int64(s.Clock), resetCount: int64(s.ResetCount), restartCount: int64(s.RestartCount), firmware: int64(s.Firmware),
		pcrs: pgtype.Text{String: string(s.PCRs), Valid: s.PCRs != nil},
		zone: s.Zone, tier: int32(s.Tier), verdict: s.Verdict, reason: s.Reason, policyVersion: s.PolicyVersion,
		attestedAt: timeArg(s.AttestedAt), freshUntil: timeArg(s.FreshUntil), expiresAt: timeArg(s.ExpiresAt),
		lastAttemptAt: timeArg(s.LastAttemptAt), lastOKAt: timeArg(s.LastOKAt), repeats: s.Repeats,
		secureBoot: s.SecureBoot, seen: pgtype.Text{String: string(s.Seen), Valid: s.Seen != nil},
		rebootUntil: timeArg(s.RebootUntil), ima: pgtype.Text{String: string(s.IMA), Valid: s.IMA != nil},
	}
	if s.EventLog != [32]byte{} {
		r.eventLog = s.EventLog[:]
	}
	return r
}

func timeArg(t time.Time) pgtype.Timestamptz {
	return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()}
}

func timeOf(t pgtype.Timestamptz) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return t.Time.UTC()
}

func (r *nodeStateRow) args() []any {
	return []any{
		r.last, r.confirmed, r.rebaseline, r.hasClock, r.clock, r.resetCount, r.restartCount, r.firmware, r.pcrs, r.eventLog,
		r.zone, r.tier, r.verdict, r.reason, r.policyVersion, r.attestedAt, r.freshUntil, r.expiresAt, r.lastAttemptAt,
		r.lastOKAt, r.repeats, r.secureBoot, r.seen, r.rebootUntil, r.ima,
	}
}

func (r *nodeStateRow) dest() []any {
	return []any{
		&r.last, &r.confirmed, &r.rebaseline, &r.hasClock, &r.clock, &r.resetCount, &r.restartCount, &r.firmware, &r.pcrs,
		&r.eventLog, &r.zone, &r.tier, &r.verdict, &r.reason, &r.policyVersion, &r.attestedAt, &r.freshUntil, &r.expiresAt,
		&r.lastAttemptAt, &r.lastOKAt, &r.repeats, &r.secureBoot, &r.seen, &r.rebootUntil, &r.ima,
	}
}

func (r *nodeStateRow) state(id ledger.NodeID, version int64) ledger.NodeState {
	s := ledger.NodeState{
		Node: id, Version: version, Last: r.last.Bytes, Confirmed: r.confirmed.Bytes, Rebaseline: r.rebaseline,
		HasClock: r.hasClock, Clock: uint64(r.clock), ResetCount: uint32(r.resetCount), RestartCount: uint32(r.restartCount),
		Firmware: uint64(r.firmware), Zone: r.zone, Tier: int(r.tier), Verdict: r.verdict, Reason: r.reason,
		PolicyVersion: r.policyVersion, AttestedAt: timeOf(r.attestedAt), FreshUntil: timeOf(r.freshUntil),
		ExpiresAt: timeOf(r.expiresAt), LastAttemptAt: timeOf(r.lastAttemptAt), LastOKAt: timeOf(r.lastOKAt), Repeats: r.repeats,
		SecureBoot: r.secureBoot, RebootUntil: timeOf(r.rebootUntil),
	}
	if r.pcrs.Valid {
		s.PCRs = []byte(r.pcrs.String)
	}
	if r.seen.Valid {
		s.Seen = []byte(r.seen.String)
	}
	if r.ima.Valid {
		s.IMA = []byte(r.ima.String)
	}
	copy(s.EventLog[:], r.eventLog)
	return s
}

// spanColumns are the open interval in the types of its columns: NULL for none.
type spanColumns struct {
	zone           pgtype.Text
	measured       []byte
	policy         pgtype.Int8
	from           pgtype.Timestamptz
	first          pgtype.UUID
	until, expires pgtype.Timestamptz
	last           pgtype.UUID
	renewals       pgtype.Int8
}

func spanRow(i *ledger.Interval) *spanColumns {
	if i == nil {
		return &spanColumns{}
	}
	return &spanColumns{
		zone: pgtype.Text{String: i.Zone, Valid: true}, measured: i.Measured[:], policy: pgtype.Int8{Int64: i.PolicyVersion, Valid: true},
		from: timeArg(i.From), first: uuidArg(i.First), until: timeArg(i.Until), expires: timeArg(i.Expires), last: uuidArg(i.Last),
		renewals: pgtype.Int8{Int64: i.Renewals, Valid: true},
	}
}

func (c *spanColumns) args() []any {
	return []any{c.zone, c.measured, c.policy, c.from, c.first, c.until, c.expires, c.last, c.renewals}
}

func (c *spanColumns) dest() []any {
	return []any{&c.zone, &c.measured, &c.policy, &c.from, &c.first, &c.until, &c.expires, &c.last, &c.renewals}
}

// interval is nil where none is open, or where somebody wrote half of one.
func (c *spanColumns) interval(node ledger.NodeID) *ledger.Interval {
	if !c.zone.Valid || len(c.measured) != len(ledger.Interval{}.Measured) || !c.from.Valid || !c.until.Valid {
		return nil
	}
	return &ledger.Interval{
		Node: node, Zone: c.zone.String, Measured: [32]byte(c.measured), PolicyVersion: c.policy.Int64,
		From: timeOf(c.from), Until: timeOf(c.until), Expires: timeOf(c.expires), First: c.first.Bytes, Last: c.last.Bytes,
		Renewals: c.renewals.Int64,
	}
}
