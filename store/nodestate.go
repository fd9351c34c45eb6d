package store

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// compareAndSet moves the states of known nodes on, for those whose version is
// still the one that was judged. It locks in the order of nodes whatever the
// order of its input, which UPDATE … FROM unnest alone does not.
const compareAndSet = `WITH locked AS (
	SELECT n.node_id, i.* FROM node_state n
	JOIN unnest($1::text[], $2::bigint[], $3::uuid[], $4::uuid[], $5::boolean[], $6::boolean[], $7::bigint[], $8::bigint[],
		$9::bigint[], $10::bigint[], $11::text[], $12::bytea[], $13::text[], $14::integer[], $15::text[], $16::text[],
		$17::bigint[], $18::timestamptz[], $19::timestamptz[], $20::timestamptz[], $21::timestamptz[], $22::timestamptz[],
		$23::bigint[], $24::bytea[], $25::text[], $26::text[])
		AS i (id, based_on, last, confirmed, rebaseline, has_clock, clock, reset_count, restart_count, firmware, pcrs, event_log,
			zone, tier, verdict, reason, policy_version, attested_at, fresh_until, expires_at, last_attempt_at, last_ok_at, repeats, mac, secure_boot, seen)
	ON n.node_id = i.id AND n.version = i.based_on
	ORDER BY n.node_id FOR UPDATE OF n)
UPDATE node_state s SET version = s.version + 1, last = l.last, confirmed = l.confirmed, rebaseline = l.rebaseline,
	has_clock = l.has_clock, clock = l.clock, reset_count = l.reset_count, restart_count = l.restart_count,
	firmware = l.firmware, pcrs = l.pcrs, event_log = l.event_log, zone = l.zone, tier = l.tier, verdict = l.verdict,
	reason = l.reason, policy_version = l.policy_version, attested_at = l.attested_at, fresh_until = l.fresh_until,
	expires_at = l.expires_at, last_attempt_at = l.last_attempt_at, last_ok_at = l.last_ok_at, repeats = l.repeats, mac = l.mac,
	secure_boot = l.secure_boot, seen = l.seen
FROM locked l WHERE s.node_id = l.node_id RETURNING s.node_id`

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
		r.lastOKAt, r.repeats, r.secureBoot, r.seen,
	}
}

func (r *nodeStateRow) dest() []any {
	return []any{
		&r.last, &r.confirmed, &r.rebaseline, &r.hasClock, &r.clock, &r.resetCount, &r.restartCount, &r.firmware, &r.pcrs,
		&r.eventLog, &r.zone, &r.tier, &r.verdict, &r.reason, &r.policyVersion, &r.attestedAt, &r.freshUntil, &r.expiresAt,
		&r.lastAttemptAt, &r.lastOKAt, &r.repeats, &r.secureBoot, &r.seen,
	}
}

func (r *nodeStateRow) state(id ledger.NodeID, version int64) ledger.NodeState {
	s := ledger.NodeState{
		Node: id, Version: version, Last: r.last.Bytes, Confirmed: r.confirmed.Bytes, Rebaseline: r.rebaseline,
		HasClock: r.hasClock, Clock: uint64(r.clock), ResetCount: uint32(r.resetCount), RestartCount: uint32(r.restartCount),
		Firmware: uint64(r.firmware), Zone: r.zone, Tier: int(r.tier), Verdict: r.verdict, Reason: r.reason,
		PolicyVersion: r.policyVersion, AttestedAt: timeOf(r.attestedAt), FreshUntil: timeOf(r.freshUntil),
		ExpiresAt: timeOf(r.expiresAt), LastAttemptAt: timeOf(r.lastAttemptAt), LastOKAt: timeOf(r.lastOKAt), Repeats: r.repeats,
		SecureBoot: r.secureBoot,
	}
	if r.pcrs.Valid {
		s.PCRs = []byte(r.pcrs.String)
	}
	if r.seen.Valid {
		s.Seen = []byte(r.seen.String)
	}
	copy(s.EventLog[:], r.eventLog)
	return s
}

// compareAndSetArgs turns rows into columns.
func compareAndSetArgs(items []*item) []any {
	var ids []string
	var based, clock, resets, restarts, firmware, policy, repeats []int64
	var last, confirmed []pgtype.UUID
	var rebaseline, hasClock []bool
	var pcrs, seen []pgtype.Text
	var logs, macs [][]byte
	var zone, verdict, why, secureBoot []string
	var tier []int32
	var attested, fresh, expires, attempt, ok []pgtype.Timestamptz
	for _, it := range items {
		r := stateRow(it.commit.State)
		ids, based = append(ids, string(it.commit.State.Node)), append(based, it.commit.BasedOn)
		last, confirmed = append(last, r.last), append(confirmed, r.confirmed)
		rebaseline, hasClock = append(rebaseline, r.rebaseline), append(hasClock, r.hasClock)
		clock, resets, restarts = append(clock, r.clock), append(resets, r.resetCount), append(restarts, r.restartCount)
		firmware, pcrs, logs = append(firmware, r.firmware), append(pcrs, r.pcrs), append(logs, r.eventLog)
		zone, tier = append(zone, r.zone), append(tier, r.tier)
		verdict, why, policy = append(verdict, r.verdict), append(why, r.reason), append(policy, r.policyVersion)
		attested, fresh, expires = append(attested, r.attestedAt), append(fresh, r.freshUntil), append(expires, r.expiresAt)
		attempt, ok, repeats = append(attempt, r.lastAttemptAt), append(ok, r.lastOKAt), append(repeats, r.repeats)
		macs = append(macs, it.macs.state)
		secureBoot, seen = append(secureBoot, r.secureBoot), append(seen, r.seen)
	}
	return []any{
		ids, based, last, confirmed, rebaseline, hasClock, clock, resets, restarts, firmware, pcrs, logs,
		zone, tier, verdict, why, policy, attested, fresh, expires, attempt, ok, repeats, macs,
		secureBoot, seen,
	}
}
