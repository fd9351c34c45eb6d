package tdx

import (
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// ReplayLog compares a guest's CCEL with the RTMRs that a quote claims. Of an
// unverified quote it proves nothing; Verify does the same behind all signatures.
// Errors: request.too_large and those of eventlog.ParseCC and Log.ExplainCC,
// eventlog.replay_mismatch among them.
func (q *Claimed) ReplayLog(raw []byte) (secureBoot string, err error) {
	if len(raw) > MaxEventLog {
		return "", errLogTooLarge(len(raw))
	}
	log, err := eventlog.ParseCC(raw)
	if err != nil {
		return "", err
	}
	var rtmrs [RTMRs][]byte
	for i := range rtmrs {
		rtmrs[i] = q.body.rtmr(i)
	}
	return log.ExplainCC(rtmrs)
}

func errLogTooLarge(n int) error {
	return reason.Newf(reason.RequestTooLarge, "an event log of %d bytes, at most %d are read", n, MaxEventLog)
}
