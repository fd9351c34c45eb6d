package main

import (
	"errors"
	"io"
	"strings"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/agent/collect"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// usageError is a wrong command line.
type usageError struct{ why string }

func (e usageError) Error() string { return e.why }

// unproved ends a command whose data was printed already.
type unproved struct{ why string }

func (e unproved) Error() string { return e.why }

// fail prints err and returns the exit code.
func fail(w io.Writer, err error) int { return describe(err).Print(w) }

func describe(err error) terminal.Report {
	if e, ok := errors.AsType[usageError](err); ok {
		return terminal.Report{Code: "usage", What: "wrong command line", Why: e.why, Fix: "see zoneagent help", Exit: terminal.ExitUsage}
	}
	if e, ok := errors.AsType[unproved](err); ok {
		return terminal.Report{Code: "broker.untrusted", What: "this host would not trust the broker", Why: e.why, Fix: fixTrust, Exit: terminal.ExitUnproved}
	}
	if e, ok := errors.AsType[unhealthy](err); ok {
		return terminal.Report{Code: "agent.unhealthy", What: e.what, Why: e.why, Fix: "see zoneagent status", Exit: terminal.ExitError}
	}
	if e, ok := errors.AsType[*client.RefusedError](err); ok {
		return refused(e)
	}
	if e, ok := errors.AsType[*client.UntrustedError](err); ok {
		return terminal.Report{Code: "broker.untrusted", What: "the broker did not prove who it is; nothing was sent", Why: e.Error(), Fix: fixTrust, Exit: terminal.ExitUnproved}
	}
	if e, ok := errors.AsType[*client.UnreachableError](err); ok {
		return terminal.Report{
			Code: "broker.unreachable", What: "no answer from the broker", Why: e.Error(),
			Fix: "look at address and port in --server, and on the broker: zonebroker health", Exit: terminal.ExitUnreachable,
		}
	}
	if e, ok := errors.AsType[*client.AnswerError](err); ok {
		return terminal.Report{
			Code: "broker.answer", What: "the broker's answer is not of the contract", Why: e.Why, Request: e.RequestID,
			Fix: "look the request id up in the broker's log, and compare the versions of agent and broker", Exit: terminal.ExitError,
		}
	}
	if e, ok := errors.AsType[*workloadapi.ClientError](err); ok {
		return notFetched(e)
	}
	if e, ok := errors.AsType[*agent.Fault](err); ok {
		exit := terminal.ExitError
		if e.Kind == agent.FaultAnswer {
			exit = terminal.ExitUnproved
		}
		return terminal.Report{Code: string(e.Kind), What: e.What, Why: e.Why, Fix: e.Fix, Exit: exit}
	}
	if e, ok := errors.AsType[*collect.Error](err); ok {
		return terminal.Report{Code: string(agent.FaultEvidence), What: e.What, Why: e.Why, Fix: e.Fix, Exit: terminal.ExitError}
	}
	if e, ok := errors.AsType[*tpm2collect.Error](err); ok {
		return terminal.Report{Code: string(agent.FaultTPM), What: e.What, Why: e.Why, Fix: e.Fix, Exit: terminal.ExitError}
	}
	if e, ok := errors.AsType[*reason.Error](err); ok {
		return terminal.Report{Code: string(e.Code), What: reason.Lookup(e.Code).Meaning, Why: e.Detail, Fix: api.Remedy(e.Code), Exit: terminal.ExitError}
	}
	// Cobra has no type for an unknown command.
	if strings.HasPrefix(err.Error(), "unknown command") {
		return terminal.Report{Code: "usage", What: "wrong command line", Why: err.Error(), Fix: "see zoneagent help", Exit: terminal.ExitUsage}
	}
	return terminal.Report{Code: "error", What: err.Error(), Exit: terminal.ExitError}
}

const fixTrust = "compare anchor, pin or bundle with the operator's, and the clock of this host; look at what is there with: zoneagent verify-broker"

// refused describes a problem document. A broker that is older may know no
// remedy where this agent does, and to a host that it does not know yet every
// broker says the code alone: what that means is then told here.
func refused(e *client.RefusedError) terminal.Report {
	remedy := e.Remedy
	if remedy == "" {
		remedy = api.Remedy(e.Code)
	}
	r := terminal.Refusal("the broker refused", api.Problem{
		Code: string(e.Code), Status: e.Status, Detail: e.Detail, Reasons: e.Reasons, Remedy: remedy, RequestID: e.RequestID,
	}, e.RetryAfter)
	if r.Why == "" && reason.Known(e.Code) {
		r.Why = reason.Lookup(e.Code).Meaning
	}
	return r
}
