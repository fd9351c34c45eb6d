package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/zonebroker/zonebroker/broker/agent"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitDenied      = 3
	exitUnreachable = 4
	exitUnproved    = 5
)

// usageError is a wrong command line.
type usageError struct{ why string }

func (e usageError) Error() string { return e.why }

// unproved ends a command whose data was printed already.
type unproved struct{ why string }

func (e unproved) Error() string { return e.why }

// report is an error as a person reads it.
type report struct {
	code, what, why, fix, request string
	more                          []string // further reasons
	exit                          int
}

// fail prints err and returns the exit code.
func fail(w io.Writer, err error) int {
	r := describe(err)
	fmt.Fprintf(w, "error: %s: %s\n", r.code, r.what)
	for _, line := range []struct{ name, text string }{{"why", r.why}, {"fix", r.fix}, {"request id", r.request}} {
		if line.text != "" {
			fmt.Fprintf(w, "  %s: %s\n", line.name, plain(line.text))
		}
	}
	for _, m := range r.more {
		fmt.Fprintf(w, "  also: %s\n", plain(m))
	}
	return r.exit
}

// plain keeps text from the network from moving the cursor or forging lines.
func plain(text string) string {
	return strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' {
			return ' '
		}
		if c < ' ' || c == 0x7f || c >= 0x80 && c <= 0x9f {
			return -1
		}
		return c
	}, text)
}

func describe(err error) report {
	if e, ok := errors.AsType[usageError](err); ok {
		return report{code: "usage", what: "wrong command line", why: e.why, fix: "see zoneagent help", exit: exitUsage}
	}
	if e, ok := errors.AsType[unproved](err); ok {
		return report{code: "broker.untrusted", what: "this host would not trust the broker", why: e.why, fix: fixTrust, exit: exitUnproved}
	}
	if e, ok := errors.AsType[*client.RefusedError](err); ok {
		return refused(e)
	}
	if e, ok := errors.AsType[*client.UntrustedError](err); ok {
		return report{code: "broker.untrusted", what: "the broker did not prove who it is; nothing was sent", why: e.Error(), fix: fixTrust, exit: exitUnproved}
	}
	if e, ok := errors.AsType[*client.UnreachableError](err); ok {
		return report{
			code: "broker.unreachable", what: "no answer from the broker", why: e.Error(),
			fix: "look at address and port in --server, and on the broker: zonebroker health", exit: exitUnreachable,
		}
	}
	if e, ok := errors.AsType[*client.AnswerError](err); ok {
		return report{
			code: "broker.answer", what: "the broker's answer is not of the contract", why: e.Why, request: e.RequestID,
			fix: "look the request id up in the broker's log, and compare the versions of agent and broker", exit: exitError,
		}
	}
	if e, ok := errors.AsType[*agent.Fault](err); ok {
		exit := exitError
		if e.Kind == agent.FaultAnswer {
			exit = exitUnproved
		}
		return report{code: string(e.Kind), what: e.What, why: e.Why, fix: e.Fix, exit: exit}
	}
	if e, ok := errors.AsType[*tpm2collect.Error](err); ok {
		return report{code: string(agent.FaultTPM), what: e.What, why: e.Why, fix: e.Fix, exit: exitError}
	}
	if e, ok := errors.AsType[*reason.Error](err); ok {
		return report{code: string(e.Code), what: reason.Lookup(e.Code).Meaning, why: e.Detail, fix: api.Remedy(e.Code), exit: exitError}
	}
	// Cobra has no type for an unknown command.
	if strings.HasPrefix(err.Error(), "unknown command") {
		return report{code: "usage", what: "wrong command line", why: err.Error(), fix: "see zoneagent help", exit: exitUsage}
	}
	return report{code: "error", what: err.Error(), exit: exitError}
}

const fixTrust = "compare anchor, pin or bundle with the operator's, and the clock of this host; look at what is there with: zoneagent verify-broker"

// refused describes a problem document. Only a verdict is "denied by policy":
// a broker that could not judge, or is busy, has denied nothing.
func refused(e *client.RefusedError) report {
	r := report{
		code: string(e.Code), what: "the broker refused", why: e.Detail, fix: e.Remedy, request: e.RequestID, exit: exitError,
	}
	if r.fix == "" {
		r.fix = api.Remedy(e.Code)
	}
	if e.RetryAfter > 0 {
		r.fix = strings.TrimSpace(r.fix + fmt.Sprintf(" Try again in %s.", e.RetryAfter))
	}
	if e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized {
		r.exit = exitDenied
	}
	for _, also := range e.Reasons {
		if also.Code != string(e.Code) || also.Detail != e.Detail {
			r.more = append(r.more, strings.TrimSuffix(also.Code+": "+also.Detail, ": "))
		}
	}
	return r
}
