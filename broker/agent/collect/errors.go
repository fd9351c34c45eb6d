package collect

import "errors"

// ErrTooLarge is a source that gave more than any document of its kind has.
var ErrTooLarge = errors.New("too large")

// Error is a failure of a source with what a person can do about it. Texts hold no
// token, credential or nonce.
type Error struct {
	What string // the operation, lower case
	Why  string // one sentence
	Fix  string // one sentence, "" where nothing is known to help
	Err  error  // the cause, nil where there is none
}

// Error returns what and why.
func (e *Error) Error() string { return e.What + ": " + e.Why }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
