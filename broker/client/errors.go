package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// RefusedError is a problem document of the broker. errors.Is compares it by
// code: errors.Is(err, reason.New(reason.NodeDisabled, "")). A code that this
// build does not know is kept as it came.
type RefusedError struct {
	Status     int
	Code       reason.Code
	Detail     string
	Reasons    []api.Reason
	Remedy     string
	RequestID  string
	RetryAfter time.Duration  // 0 where the broker did not say
	Challenge  *api.Challenge // a fresh one, with challenge.spent
}

// Error returns code and detail.
func (e *RefusedError) Error() string {
	if e.Detail == "" {
		return "broker: " + string(e.Code)
	}
	return "broker: " + string(e.Code) + ": " + e.Detail
}

// Unwrap makes reason.Of see the code.
func (e *RefusedError) Unwrap() error { return reason.New(e.Code, e.Detail) }

// UntrustedError says that somebody answered at the broker's address who could
// not prove to be a broker that is trusted. Nothing was sent to them.
type UntrustedError struct {
	Server string
	err    error
}

// Error returns server and reason.
func (e *UntrustedError) Error() string {
	return fmt.Sprintf("%s is not a trusted broker: %v", e.Server, e.err)
}

// Unwrap returns why.
func (e *UntrustedError) Unwrap() error { return e.err }

// UnreachableError says that no answer came: no connection, a handshake that
// the other side ended, a deadline.
type UnreachableError struct {
	Server string
	err    error
}

// Error returns server and reason.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s did not answer: %v", e.Server, e.err)
}

// Unwrap returns why.
func (e *UnreachableError) Unwrap() error { return e.err }

// AnswerError says that a trusted broker answered with something that is not in
// the contract: too large, another content type, not the JSON of the route.
type AnswerError struct {
	Status    int
	Why       string
	RequestID string
}

// Error returns status and reason.
func (e *AnswerError) Error() string {
	return fmt.Sprintf("broker: answer %d: %s", e.Status, e.Why)
}

// maxRetryAfter bounds what a broker may ask an agent to wait: a slip there
// must not silence a fleet for a day.
const maxRetryAfter = 10 * time.Minute

// retryAfter reads both forms of RFC 9110, 10.2.3; nonsense is 0.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// refusal turns a problem document into an error. Members that this build does
// not know are ignored: a newer broker may say more.
func refusal(status int, header http.Header, body []byte, now time.Time) error {
	var p api.Problem
	if err := json.Unmarshal(body, &p); err != nil || p.Code == "" {
		return &AnswerError{Status: status, Why: "not a problem document", RequestID: header.Get("X-Request-Id")}
	}
	return &RefusedError{
		Status: status, Code: reason.Code(p.Code), Detail: p.Detail, Reasons: p.Reasons, Remedy: p.Remedy,
		RequestID: p.RequestID, RetryAfter: retryAfter(header, now), Challenge: p.Challenge,
	}
}
