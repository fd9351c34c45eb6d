package tpm2

import (
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Clock is TPMS_CLOCK_INFO. It is a hint about history, never about freshness:
// the owner of a TPM can set its Clock forward and change its rate.
type Clock struct {
	Millis       uint64 // milliseconds that the TPM was powered since TPM2_Clear, as far as it tells
	ResetCount   uint32 // TPM resets since TPM2_Clear
	RestartCount uint32 // TPM restarts and resumes since the last reset
	Safe         bool   // no: a smaller Millis may have been reported before
}

// clockSlack is how far two quotes may lie from the issue times of their
// challenges, which stand for them: the life of a token.
const clockSlack = 60 * time.Second

// CompareClock compares the clock of a quote made under a fresh nonce with the
// one before. prevAt and curAt are the issue times of the two challenges, by the
// broker's clock. It is for AKs of the endorsement hierarchy, whose counters are
// true; elsewhere they carry a secret offset.
//
// Events: tpm2.rebooted or tpm2.resumed, then tpm2.clock_unsafe, then
// tpm2.clock_set if Clock ran ahead of wall time by more than a quarter (and by
// more than a minute: a quote is made up to a minute after its challenge).
// The only error is tpm2.rolled_back: resetCount went back, restartCount went
// back in the same boot, or Clock went back with both equal. Equal clocks are
// two quotes within a millisecond and pass.
func CompareClock(prev Clock, prevAt time.Time, cur Clock, curAt time.Time) ([]reason.Code, error) {
	sameBoot := cur.ResetCount == prev.ResetCount
	sameRun := sameBoot && cur.RestartCount == prev.RestartCount
	switch {
	case cur.ResetCount < prev.ResetCount:
		return nil, reason.New(reason.TPM2RolledBack, "resetCount went back")
	case sameBoot && cur.RestartCount < prev.RestartCount:
		return nil, reason.New(reason.TPM2RolledBack, "restartCount went back without a reset")
	case sameRun && cur.Millis < prev.Millis:
		return nil, reason.New(reason.TPM2RolledBack, "Clock went back without a reset")
	}
	var events []reason.Code
	switch {
	case !sameBoot:
		events = append(events, reason.TPM2Rebooted)
	case !sameRun:
		events = append(events, reason.TPM2Resumed)
	}
	if !cur.Safe {
		events = append(events, reason.TPM2ClockUnsafe)
	}
	if clockAhead(prev.Millis, cur.Millis, curAt.Sub(prevAt)) {
		events = append(events, reason.TPM2ClockSet)
	}
	return events, nil
}

// clockAhead: a Clock stands still while the TPM has no power, so it may lag
// without limit, and lead only by its drift.
func clockAhead(prev, cur uint64, elapsed time.Duration) bool {
	if cur <= prev {
		return false
	}
	elapsed = max(elapsed, 0)
	allowed := elapsed.Milliseconds() + max(elapsed/4, clockSlack).Milliseconds()
	return cur-prev > uint64(allowed)
}
