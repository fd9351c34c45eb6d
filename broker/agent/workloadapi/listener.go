package workloadapi

import (
	"log/slog"
	"net"
	"sync"
)

// listener accepts connections within bounds and notes who made them. A
// connection above a bound is closed at once: clients of the Workload API come
// back with a backoff, and a queue would let one user starve the others.
type listener struct {
	*net.UnixListener
	max, maxPerUID int
	log            *slog.Logger
	quiet          *budget // of log lines

	mu    sync.Mutex
	all   int
	byUID map[uint32]int // only those above zero
}

// Accept waits for the next connection that is within the bounds.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		who, err := callerAt(c)
		if err != nil {
			c.Close()
			continue
		}
		if !l.enter(who.uid) {
			c.Close()
			who.close()
			if l.quiet.take("connections") {
				l.log.Warn("workload api: too many connections", "uid", who.uid, "max", l.max, "max_per_uid", l.maxPerUID)
			}
			continue
		}
		return &peerConn{UnixConn: c, caller: who, leave: func() { l.leave(who.uid); who.close() }}, nil
	}
}

func (l *listener) enter(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.max || l.byUID[uid] >= l.maxPerUID {
		return false
	}
	l.all++
	l.byUID[uid]++
	return true
}

func (l *listener) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.byUID[uid]--; l.byUID[uid] <= 0 {
		delete(l.byUID, uid)
	}
}

// peerConn is a connection whose caller is known.
type peerConn struct {
	*net.UnixConn
	caller *caller
	leave  func()
	once   sync.Once
}

// Close closes the connection once and gives its place back.
func (c *peerConn) Close() error {
	err := c.UnixConn.Close()
	c.once.Do(c.leave)
	return err
}
