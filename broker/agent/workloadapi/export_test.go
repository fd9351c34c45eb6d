package workloadapi

import (
	"os"
	"time"
)

// Looked is what executable says of a process.
func Looked(uid uint32, pid int, pidfd *os.File) (string, error) {
	e := (&caller{uid: uid, pid: int32(pid), pidfd: pidfd}).executable()
	return e.path, e.err
}

// OpenPidfd pins a process as servers do before Linux 6.5.
var OpenPidfd = openPidfd

// The reasons why an executable cannot be told.
var (
	ErrGone      = errGone
	ErrMayNot    = errMayNot
	ErrDeleted   = errDeleted
	ErrElsewhere = errElsewhere
)

// Budget is a budget for tests.
type Budget struct{ b *budget }

// NewBudget makes one.
func NewBudget(burst int, every time.Duration, now func() time.Time) Budget {
	return Budget{newBudget(burst, every, now)}
}

// Take takes a token.
func (b Budget) Take(key string) bool { return b.b.take(key) }

// Give gives one back.
func (b Budget) Give(key string) { b.b.give(key) }

// Keys counts what it remembers.
func (b Budget) Keys() int { return len(b.b.buckets) }

// The bounds that tests go to.
const (
	MaxStreams    = maxStreams
	MaxBudgetKeys = maxBudgetKeys
)
