// Package reason holds the stable reason codes of Zonebroker and the error
// type that carries them. A code is what clients, policies, metrics and the
// history branch on; text is for people and may change.
//
// It is a leaf: standard library only, so that every room may import it.
package reason

import (
	"errors"
	"fmt"
)

// Code names one reason as "<area>.<subject>" in lower snake case. Codes are
// append-only.
type Code string

// Class says what a client can do about a code.
type Class string

const (
	// Deny is a verdict: the same request will be refused again.
	Deny Class = "deny"
	// Retry means that the same host may succeed with a later or fresh request.
	Retry Class = "retry"
	// Fault means that the broker could not judge; it never passes.
	Fault Class = "fault"
	// Event marks something worth recording about an accepted request.
	Event Class = "event"
)

// Info describes a code.
type Info struct {
	Code    Code
	Class   Class
	HTTP    int    // status of the problem document; 200 for events
	Meaning string // one sentence for people
}

var byCode = func() map[Code]Info {
	m := make(map[Code]Info, len(table))
	for _, i := range table {
		m[i.Code] = i
	}
	return m
}()

// Lookup returns what is known about c. An unknown code reads as Internal, so
// that a slip in a code can never turn into a success status.
func Lookup(c Code) Info {
	if i, ok := byCode[c]; ok {
		return i
	}
	return byCode[Internal]
}

// Known reports whether c is a registered code.
func Known(c Code) bool {
	_, ok := byCode[c]
	return ok
}

// All returns every registered code in alphabetical order. The slice is the
// caller's.
func All() []Info {
	return append([]Info(nil), table...)
}

// Error is a refusal: a code, a public detail, and a private cause. Only the
// code and the detail ever leave the process; the cause goes to the log.
type Error struct {
	Code   Code
	Detail string
	cause  error
}

// New returns a refusal with a detail that is safe to show to whoever asked:
// no secrets, no expected values that an attacker could replay.
func New(code Code, detail string) *Error {
	return &Error{Code: code, Detail: detail}
}

// Newf is New with a formatted detail.
func Newf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Wrap returns a refusal that keeps cause for the log and for errors.Is, and
// shows only code and detail to the outside.
func Wrap(code Code, detail string, cause error) *Error {
	return &Error{Code: code, Detail: detail, cause: cause}
}

// Error returns code and public detail. The private cause is left out on
// purpose: error texts end up in places that strangers read.
func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Code)
	}
	return string(e.Code) + ": " + e.Detail
}

// Unwrap returns the private cause.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, reason.New(code, "")) compare by code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Detail == ""
}

// Of returns the code that err carries, Internal for an error without one,
// and "" for nil.
func Of(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// Detail returns the public detail that err carries, "" where it has none.
func Detail(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Detail
	}
	return ""
}
