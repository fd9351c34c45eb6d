package agent

import (
	"errors"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

// Fault is a failure on this host, before or beside the broker, with what a
// person can do about it. It holds no secret.
type Fault struct {
	Kind FaultKind
	What string // the operation, lower case
	Why  string // one sentence
	Fix  string // one sentence, "" where nothing is known to help
	err  error
}

// FaultKind groups faults for scripts.
type FaultKind string

// The kinds of fault. They are no reason codes: they never travel.
const (
	FaultState    FaultKind = "agent.state"    // the state folder
	FaultTPM      FaultKind = "agent.tpm"      // the TPM
	FaultFile     FaultKind = "agent.file"     // a file that was named: join token, event log
	FaultAnswer   FaultKind = "agent.answer"   // what the broker sent does not verify
	FaultEvidence FaultKind = "agent.evidence" // documents beside or instead of a quote
)

// Error returns what and why.
func (f *Fault) Error() string { return f.What + ": " + f.Why }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.err }

// tpmFault keeps a refusal with a reason code as it is and turns the rest into
// a fault of the TPM.
func tpmFault(what string, err error) error {
	if e, ok := errors.AsType[*tpm2collect.Error](err); ok {
		return &Fault{Kind: FaultTPM, What: e.What, Why: e.Why, Fix: e.Fix, err: err}
	}
	return &Fault{Kind: FaultTPM, What: what, Why: err.Error(), err: err}
}

func answerFault(why string, err error) error {
	if err != nil {
		why += ": " + err.Error()
	}
	return &Fault{
		Kind: FaultAnswer, What: "check the broker's answer", Why: why,
		Fix: "nothing of the answer was kept; look at the broker with: zoneagent verify-broker", err: err,
	}
}
