package main

import (
	"errors"
	"io"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// usageError is a wrong command line.
type usageError struct{ why string }

func (e usageError) Error() string { return e.why }

// unproved ends a command that checked a proof and found it wanting.
type unproved struct {
	code reason.Code // "" where the proof has none
	why  string
}

func (e unproved) Error() string { return e.why }

// found ends a command whose findings are printed already.
type found struct {
	code reason.Code
	why  string
	fix  string
}

func (e found) Error() string { return e.why }

// turnedDown ends a command whose verdict about evidence is no.
type turnedDown struct {
	code      reason.Code // "" where several are printed already
	what, fix string
}

func (e turnedDown) Error() string { return e.what }

// unreachable says that no broker answered at a socket or address.
type unreachable struct {
	place string
	cause error
}

func (e *unreachable) Error() string { return e.place + ": " + e.cause.Error() }

func (e *unreachable) Unwrap() error { return e.cause }

// refused is a problem document of the broker.
type refused struct {
	api.Problem
	retryAfter time.Duration
}

func (e *refused) Error() string { return e.Code + ": " + e.Detail }

// fail prints err and returns the exit code.
func fail(w io.Writer, err error) int { return describe(err).Print(w) }

func describe(err error) terminal.Report {
	if e, ok := errors.AsType[usageError](err); ok {
		return terminal.Report{Code: "usage", What: "wrong command line", Why: e.why, Fix: "see zonebroker help", Exit: terminal.ExitUsage}
	}
	if e, ok := errors.AsType[unproved](err); ok {
		r := terminal.Report{Code: "unproved", What: "the proof does not verify", Why: e.why, Exit: terminal.ExitUnproved}
		if e.code != "" {
			r.Code, r.Fix = string(e.code), api.Remedy(e.code)
		}
		return r
	}
	if e, ok := errors.AsType[found](err); ok {
		return terminal.Report{Code: string(e.code), What: e.why, Fix: e.fix, Exit: terminal.ExitError}
	}
	if e, ok := errors.AsType[turnedDown](err); ok {
		return terminal.Report{Code: string(e.code), What: e.what, Fix: e.fix, Exit: terminal.ExitDenied}
	}
	if e, ok := errors.AsType[*unreachable](err); ok {
		return terminal.Report{
			Code: "broker.unreachable", What: "no broker answers", Why: e.Error(),
			Fix:  "start it with zonebroker serve, or name another one with --server, --credential or ZONEBROKER_DIR",
			Exit: terminal.ExitUnreachable,
		}
	}
	if e, ok := errors.AsType[*refused](err); ok {
		return terminal.Refusal(e.Title, e.Problem, e.retryAfter)
	}
	if e, ok := errors.AsType[*reason.Error](err); ok {
		return terminal.Report{Code: string(e.Code), What: reason.Lookup(e.Code).Meaning, Why: err.Error(), Fix: api.Remedy(e.Code), Exit: terminal.ExitError}
	}
	return terminal.Report{What: err.Error(), Exit: terminal.ExitError}
}
