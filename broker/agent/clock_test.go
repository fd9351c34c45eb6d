package agent_test

import (
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
)

// clock moves only when a test moves it. Each of those who wait has one timer,
// the last that it asked for; after a timer rang, the clock stands until who
// waited for it waits again, so that a test of hours is the same each time.
type clock struct {
	t testing.TB

	mu     sync.Mutex
	now    time.Time
	timers map[int]timer
	asked  map[int]int
	random float64
	// flights lets fetches wait for an attestation that is on its way.
	flights bool
}

type timer struct {
	at time.Time
	c  chan time.Time
}

func newClock(t testing.TB) *clock {
	return &clock{t: t, now: time.Now().Round(0), timers: map[int]timer{}, asked: map[int]int{}, random: 0.5}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) rand() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random
}

func (c *clock) after(who int, d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := timer{at: c.now.Add(d), c: make(chan time.Time, 1)}
	if who == agent.SleepFlight && !c.flights { // those who ask wait in the test itself
		t.c <- c.now
		return t.c
	}
	c.timers[who] = t
	c.asked[who]++
	return t.c
}

// forward moves the clock by d and lets everybody act on the way.
func (c *clock) forward(d time.Duration) {
	c.t.Helper()
	target := c.Now().Add(d)
	for {
		c.mu.Lock()
		who, at := -1, target
		for w, t := range c.timers {
			if !t.at.After(at) {
				who, at = w, t.at
			}
		}
		if c.now.Before(at) {
			c.now = at
		}
		if who < 0 {
			c.mu.Unlock()
			return
		}
		asked := c.asked[who]
		c.timers[who].c <- c.now
		delete(c.timers, who)
		c.mu.Unlock()
		if who == agent.SleepFlight {
			continue // a fetch waits once
		}
		c.wait("nobody waits again", func() bool { return c.asked[who] > asked })
	}
}

// idle waits until the loop waits for the first time.
func (c *clock) idle() {
	c.t.Helper()
	c.wait("the loop does not wait", func() bool { return c.asked[agent.SleepLoop] > 0 && c.asked[agent.SleepRefresh] > 0 })
}

func (c *clock) wait(what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		done := ok()
		c.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatal(what)
		}
	}
}

// jump moves the wall clock without waking anybody: a host that was suspended,
// or a clock that was set.
func (c *clock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for who, t := range c.timers {
		t.at = t.at.Add(d)
		c.timers[who] = t
	}
}

// startAt runs the agent of h by a clock, and returns when it is idle.
func (h *host) startAt(t testing.TB, c *clock) *running {
	t.Helper()
	h.cfg.Now = c.Now
	a, err := agent.New(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	clear(c.timers)
	clear(c.asked)
	c.mu.Unlock()
	a.WaitBy(c.after, c.rand)
	r := runAgent(t, a)
	c.idle()
	return r
}
