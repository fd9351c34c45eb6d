package verifier

import (
	"crypto/sha256"

	"github.com/zonebroker/zonebroker/verifier/celog"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// explain replays the log that was sent, or the kept one of the same boot, and
// behind it the log of systemd's userspace, which is never kept: it grows while a
// host is up. quoted is what IMA's list leaves to explain. A kept log that does
// not fit means that something changed since: the host has to send the log of now.
func (a *Appraisal) explain(e *TPM2Evidence, quoted map[int][]byte, base *Baseline) error {
	user, err := celog.Parse(e.UserspaceLog)
	if err != nil {
		return err
	}
	if len(e.EventLog) > 0 {
		explained, err := replay(e.EventLog, quoted, user)
		if err != nil {
			return err
		}
		a.log, a.hasLog, a.logBytes, a.logDigest = explained, true, e.EventLog, sha256.Sum256(e.EventLog)
		return nil
	}
	if base == nil || base.Log == nil || a.clock.ResetCount != base.Clock.ResetCount {
		return eventlog.Unlogged(quoted)
	}
	explained, err := base.Log.ExplainWith(quoted, bankOf(quoted), user)
	if err != nil {
		return reason.New(reason.EventLogMissing, "a quoted PCR changed since the last attestation; send the event log")
	}
	a.log, a.hasLog, a.logBytes, a.logDigest = explained, true, base.Log.Bytes(), base.Log.Digest()
	return nil
}

func replay(raw []byte, quoted map[int][]byte, user celog.Log) (eventlog.Explained, error) {
	log, err := eventlog.ParseBank(raw, bankOf(quoted))
	if err != nil {
		return eventlog.Explained{}, err
	}
	return log.ExplainWith(quoted, user)
}

// bankOf tells the bank by the length of its values, which the quote has checked:
// all are of the one bank that was asked for.
func bankOf(quoted map[int][]byte) eventlog.Bank {
	for _, v := range quoted {
		if len(v) == eventlog.SHA384.Size() {
			return eventlog.SHA384
		}
	}
	return eventlog.SHA256
}
