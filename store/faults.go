package store

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	lockNotAvailable = "55P03"
	uniqueViolation  = "23505"
	checkViolation   = "23514"
)

// fault says what to do about a failed transaction.
type fault int

const (
	passing  fault = iota // try again
	poisoned              // an item is at fault: find it
	broken                // nothing of the batch can be written
)

// classify works by SQLSTATE alone. Errors without one come from the way to the
// server and pass.
func classify(err error) fault {
	if _, ok := errors.AsType[*unresolved](err); ok {
		return broken
	}
	if e, ok := errors.AsType[*reason.Error](err); ok && e.Code == reason.LedgerFork {
		return broken
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return passing
	}
	switch {
	case e.Code == "40001", e.Code == "40P01", e.Code == lockNotAvailable, e.Code == "57014",
		strings.HasPrefix(e.Code, "08"), strings.HasPrefix(e.Code, "57P0"), strings.HasPrefix(e.Code, "53"), e.Code == "25P03":
		return passing
	case e.Code == checkViolation && e.ConstraintName == "":
		return broken // no partition for this time: no item is to blame
	case strings.HasPrefix(e.Code, "22"), strings.HasPrefix(e.Code, "23"), e.Code == "55000", e.Code == "54000":
		return poisoned
	default:
		return broken
	}
}

// refusal is the answer to a single item that the database refuses.
func refusal(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.ConstraintName {
		case "node_root", "node_ak", "node_pkey", "node_identity":
			return errIdentity()
		case "node_admission_active":
			return reason.New(reason.NodeIdentityConflict, "another node of this admission is active; disable it first")
		case "node_admission_token":
			return errSpent()
		}
	}
	return reason.Wrap(reason.Internal, "", err)
}

func errSpent() error {
	return reason.New(reason.ChallengeSpent, "the token was used already, or the node changed since it was issued")
}

func errIdentity() error {
	return reason.New(reason.NodeIdentityConflict, "the root of trust or the AK belongs to another node")
}

// itemError names the item that cannot be part of the transaction.
type itemError struct {
	item *item
	err  error
}

// Error describes the refusal for the log.
func (e *itemError) Error() string { return "item refused: " + e.err.Error() }

// unresolved means that nobody could say whether a batch was committed.
type unresolved struct{ cause error }

// Error describes the state for the log.
func (e *unresolved) Error() string { return "commit unresolved: " + e.cause.Error() }

// Unwrap returns why it could not be resolved.
func (e *unresolved) Unwrap() error { return e.cause }
