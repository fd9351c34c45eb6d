package server

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// turns bounds what is computed at once. Judging and preparing are work for cores:
// what is begun beyond what they can do makes everything slower that is begun
// already, until hosts give up and ask again. So few requests have a turn, few
// more wait to begin, those first that lose most by waiting, and all others are
// sent away at once. How many may wait is a number, not a time: the slower the
// machine, the longer an answer takes with and without a crowd.
type turns struct {
	room int // for those who wait to begin

	mu        sync.Mutex
	free      int                  // by mu
	strangers int                  // by mu; of free, what strangers may have
	queues    [urgencies]list.List // by mu; of *waiter, longest waiting in front
}

// urgency orders who goes first.
type urgency int

const (
	nodeAttests     urgency = iota // its challenge is paid for, and its zone may end
	strangerAttests                // paid for too; one whose token is none of ours is refused cheaply
	nodeBegins                     // a challenge
	nodeIssues                     // a later SVID: the node's zone does not end with it
	strangerBegins                 // a new host can come later
	urgencies       = iota
)

const (
	// Strangers have at most this part of the turns: who holds theirs up keeps no
	// node out.
	strangersPart = 2
	// Nobody waits longer, for instance because the database stands still.
	maxWait = 3 * time.Second
)

// paid: an answered challenge cost the broker half the work, and an attestation
// that is turned away wastes it. It waits beside the room; how many do is bounded
// by the lane.
func (u urgency) paid() bool { return u == nodeAttests || u == strangerAttests }

func (u urgency) stranger() bool { return u == strangerAttests || u == strangerBegins }

// waiter is a request without a turn.
type waiter struct {
	urgency urgency
	place   *list.Element // by turns.mu; nil once it is out of its queue
	turn    chan bool     // gets true for its turn, false for none, when another takes it out
}

func newTurns(n, room int) *turns {
	return &turns{room: room, free: n, strangers: max(1, n/strangersPart)}
}

// take waits for a turn and returns how to end it. There is none where too many
// wait already, and after maxWait or ctx.
func (t *turns) take(ctx context.Context, u urgency) (end func(), err error) {
	end = func() { t.end(u) }
	w, ok := t.begin(u)
	if ok && w == nil {
		return end, nil
	}
	if ok && w.wait(ctx, t) {
		return end, nil
	}
	return nil, overloaded("turns", "the broker has more to do than it can; come back later")
}

func (w *waiter) wait(ctx context.Context, t *turns) (ok bool) {
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case ok = <-w.turn:
		return ok
	case <-timer.C:
	case <-ctx.Done():
	}
	if t.leave(w) {
		return false
	}
	return <-w.turn // decided at the last moment
}

// begin takes a free turn, or a place among those who wait.
func (t *turns) begin(u urgency) (w *waiter, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mayBegin(u) {
		t.count(u, -1)
		return nil, true
	}
	if !u.paid() && t.waiting() >= t.room && !t.displace(u) {
		return nil, false
	}
	w = &waiter{urgency: u, turn: make(chan bool, 1)}
	w.place = t.queues[u].PushBack(w)
	return w, true
}

func (t *turns) mayBegin(u urgency) bool { return t.free > 0 && (t.strangers > 0 || !u.stranger()) }

func (t *turns) count(u urgency, n int) {
	t.free += n
	if u.stranger() {
		t.strangers += n
	}
}

// waiting is how many wait to begin.
func (t *turns) waiting() (n int) {
	for u := range t.queues {
		if !urgency(u).paid() {
			n += t.queues[u].Len()
		}
	}
	return n
}

// displace makes room for u, which is not paid for: whoever is less urgent and
// came last goes.
func (t *turns) displace(u urgency) bool {
	for less := urgency(urgencies - 1); less > u; less-- {
		if last := t.queues[less].Back(); last != nil {
			t.decide(last.Value.(*waiter), false)
			return true
		}
	}
	return false
}

func (t *turns) decide(w *waiter, turn bool) {
	t.queues[w.urgency].Remove(w.place)
	w.place = nil
	w.turn <- turn
}

// leave reports whether w was still waiting.
func (t *turns) leave(w *waiter) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.place == nil {
		return false
	}
	t.queues[w.urgency].Remove(w.place)
	w.place = nil
	return true
}

// end gives the turn to the most urgent who may have it.
func (t *turns) end(u urgency) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(u, 1)
	for u := range urgency(urgencies) {
		if first := t.queues[u].Front(); first != nil && t.mayBegin(u) {
			t.count(u, -1)
			t.decide(first.Value.(*waiter), true)
			return
		}
	}
}
