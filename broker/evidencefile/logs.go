package evidencefile

import (
	"fmt"
	"maps"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/celog"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// imaPCR is the PCR that only the kernel's measurement list explains.
const imaPCR = 10

// logs explains the quoted values of a capture by the logs that came along.
func (v *Verdict) logs(e *api.TPM2Evidence, quote tpm2.Quote) {
	if len(v.PCRs) == 0 || len(e.EventLog) == 0 && IMA(e) == nil {
		v.add(reason.Finding{Check: "eventlog", Outcome: reason.Unchecked, Detail: "no event log: nothing says what led to the PCR values"})
		return
	}
	rest := maps.Clone(v.PCRs)
	if seg := IMA(e); seg != nil {
		clock := quote.Clock()
		boot := ima.Boot{Resets: clock.ResetCount, Restarts: clock.RestartCount}
		at, err := ima.Attest(*seg, ima.State{}, boot, ima.Quoted{Bank: ima.Bank(quote.Bank().String()), PCRs: v.PCRs})
		if err != nil {
			v.refuse("ima", "ima_log", err)
			return
		}
		v.add(reason.Finding{Check: "ima", Detail: fmt.Sprintf("PCR 10 is explained by %d entries", at.Entries()), Part: "ima_log"})
		delete(rest, imaPCR)
	}
	explained, err := explain(e, quote, rest)
	if err != nil {
		v.refuse("eventlog", "event_log", err)
		return
	}
	v.add(reason.Finding{Check: "eventlog", Detail: "every quoted PCR is explained", Part: "event_log"})
	v.Findings, v.Boot = append(v.Findings, explained.Findings()...), explained.Boot()
}

func explain(e *api.TPM2Evidence, quote tpm2.Quote, quoted map[int][]byte) (eventlog.Explained, error) {
	if len(e.EventLog) == 0 {
		return eventlog.Explained{}, eventlog.Unlogged(quoted)
	}
	user, err := celog.Parse(e.UserspaceLog)
	if err != nil {
		return eventlog.Explained{}, err
	}
	log, err := eventlog.ParseBank(e.EventLog, eventlog.Bank(quote.Bank()))
	if err != nil {
		return eventlog.Explained{}, err
	}
	return log.ExplainWith(quoted, user)
}
