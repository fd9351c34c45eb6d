package workloadapi

import (
	"net"
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

// Left looks for one.
func (b Budget) Left(key string) bool { return b.b.left(key) }

// Keys counts what it remembers.
func (b Budget) Keys() int { return len(b.b.buckets) }

// Listen opens a bounded listener and returns how many places are taken.
func Listen(path string) (net.Listener, func() int, error) {
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	l := &listener{UnixListener: u, max: 8, maxPerUID: 8, byUID: map[uint32]int{}}
	return l, func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.all
	}, nil
}

// PidfdOf returns what pins the caller of an accepted connection.
func PidfdOf(c net.Conn) *os.File { return c.(*peerConn).caller.pidfd }

// AskAgainAfter sets how soon a server that has not begun asks a Source again.
func AskAgainAfter(s *Server, d time.Duration) { s.again = d }

// The bounds that tests go to.
const (
	MaxStreams    = maxStreams
	MaxBudgetKeys = maxBudgetKeys
)
