package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
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
}

func (e found) Error() string { return e.why }

// unreachable says that no broker answered at a socket.
type unreachable struct {
	socket string
	cause  error
}

func (e *unreachable) Error() string { return e.socket + ": " + e.cause.Error() }

func (e *unreachable) Unwrap() error { return e.cause }

// refused is a problem document of the broker.
type refused struct {
	api.Problem
	retryAfter time.Duration
}

func (e *refused) Error() string { return e.Code + ": " + e.Detail }

// report is an error as a person reads it.
type report struct {
	code, what, why, fix, request string
	more                          []string // further reasons
	exit                          int
}

// fail prints err and returns the exit code.
func fail(w io.Writer, err error) int {
	r := describe(err)
	what := plainLines(r.what)
	if r.code != "" {
		what = plain(r.code) + ": " + what
	}
	fmt.Fprintf(w, "error: %s\n", what)
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

func describe(err error) report {
	if e, ok := errors.AsType[usageError](err); ok {
		return report{code: "usage", what: "wrong command line", why: e.why, fix: "see zonebroker help", exit: exitUsage}
	}
	if e, ok := errors.AsType[unproved](err); ok {
		r := report{code: "unproved", what: "the proof does not verify", why: e.why, exit: exitUnproved}
		if e.code != "" {
			r.code, r.fix = string(e.code), api.Remedy(e.code)
		}
		return r
	}
	if e, ok := errors.AsType[found](err); ok {
		return report{code: string(e.code), what: e.why, exit: exitError}
	}
	if e, ok := errors.AsType[*unreachable](err); ok {
		return report{
			code: "broker.unreachable", what: "no broker answers", why: e.Error(),
			fix:  "start it with zonebroker serve, or name another one with --server unix:PATH or ZONEBROKER_DIR",
			exit: exitUnreachable,
		}
	}
	if e, ok := errors.AsType[*refused](err); ok {
		return describeRefused(e)
	}
	if e, ok := errors.AsType[*reason.Error](err); ok {
		return report{code: string(e.Code), what: reason.Lookup(e.Code).Meaning, why: err.Error(), fix: api.Remedy(e.Code), exit: exitError}
	}
	return report{what: err.Error(), exit: exitError}
}

// describeRefused: only a verdict about who asks or who is asked about is
// "denied"; a wrong id or a busy broker has denied nothing.
func describeRefused(e *refused) report {
	r := report{code: e.Code, what: e.Title, why: e.Detail, fix: e.Remedy, request: e.RequestID, exit: exitError}
	if e.retryAfter > 0 {
		r.fix = strings.TrimSpace(fmt.Sprintf("%s Try again in %s.", r.fix, e.retryAfter))
	}
	if e.Status == 401 || e.Status == 403 {
		r.exit = exitDenied
	}
	for _, also := range e.Reasons {
		if also.Code != e.Code || also.Detail != e.Detail {
			r.more = append(r.more, strings.TrimSuffix(also.Code+": "+also.Detail, ": "))
		}
	}
	return r
}
