package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
)

const (
	// attemptTime bounds one attestation with all its ways back.
	attemptTime = 2 * time.Minute
	// slice bounds a single wait. The kernel's monotonic clock stands still while a
	// host is suspended, so a timer alone would renew late by that time; and the
	// status file shows that the loop lives.
	slice = time.Minute
)

// sleeper says who waits.
type sleeper int

const (
	sleepLoop sleeper = iota
	sleepRefresh
	sleepFlight
)

// Agent keeps the zone of this host: it attests, renews, and serves what it
// earned to those who ask through the Workload API. Its methods may be called
// from several goroutines.
type Agent struct {
	cfg     Config
	started time.Time

	// Of the goroutine in Run.
	session *session
	pace    pace
	next    time.Time // of the next attestation
	hurried time.Time // begin of the attestation that something hurried the next of
	last    *Attempt

	wake    chan struct{} // somebody learnt that the zone is no longer the last one
	nudge   chan struct{} // there is more whose end is waited for
	refused chan refusal  // a later SVID was refused to this host
	after   func(sleeper, time.Duration) <-chan time.Time
	random  func() float64
	// patience is attemptTime.
	patience time.Duration

	mu      sync.Mutex // guards everything below
	closed  bool
	held    held
	changed chan struct{} // closed and replaced at each change of what is served
	status  Status

	identities map[string]*identity   // by name of the workload, those that were asked for
	tokens     map[flightKey]*token   // by workload and audience
	flights    map[flightKey]*flight  // what is being fetched
	failed     map[flightKey]*failure // what is not to be fetched for a while
	lane       *lane
	counted    string         // the attestation that idle was counted for
	work       sync.WaitGroup // of flights
	// background outlives those who ask: others wait for what one of them began.
	background context.Context
	stop       context.CancelFunc
	stale      chan struct{} // there is a new zone to fetch identities of
}

// New locks the state folder, reads it and checks the configuration; it talks
// to nobody. Errors are those that no waiting mends. An agent that is not run
// has to be closed.
func New(cfg Config) (*Agent, error) {
	if cfg.Spread == 0 {
		cfg.Spread = defaultSpread
	}
	a := &Agent{
		wake: make(chan struct{}, 1), nudge: make(chan struct{}, 1), refused: make(chan refusal, 1), stale: make(chan struct{}, 1), changed: make(chan struct{}), random: rand.Float64,
		identities: map[string]*identity{}, tokens: map[flightKey]*token{}, flights: map[flightKey]*flight{}, failed: map[flightKey]*failure{},
		patience: attemptTime,
		after:    func(_ sleeper, d time.Duration) <-chan time.Time { return time.NewTimer(d).C },
	}
	said := cfg.Progress
	cfg.Progress = a.step(said)
	session, err := newSession(cfg)
	if err != nil {
		return nil, err
	}
	a.session, a.cfg = session, session.cfg
	if a.cfg.Progress = said; said == nil {
		a.cfg.Progress = func(string) {}
	}
	a.started = a.cfg.Now()
	a.held.bundle, a.held.denied = session.bundle(), session.state.Denied
	a.background, a.stop = context.WithCancel(context.Background())
	return a, nil
}

// step shows the steps of an attestation while there is no zone: those of each
// renewal would hide what matters.
func (a *Agent) step(say func(string)) func(string) {
	return func(line string) {
		if say != nil && (a.current() == nil || a.pace.failures > 0) {
			say(line)
		}
	}
}

// Close frees TPM and state folder of an agent that is not run. Run does it by
// itself.
func (a *Agent) Close() error {
	a.mu.Lock()
	closed := a.closed
	a.closed = true
	a.mu.Unlock()
	if closed {
		return nil
	}
	a.stop()
	a.work.Wait()
	a.closeLane()
	return a.session.close()
}

// Run attests and renews until ctx ends, which is no error. It never ends
// because something expired, was refused or does not answer.
func (a *Agent) Run(ctx context.Context) error {
	var refresher sync.WaitGroup
	refresher.Go(func() { a.refresh(ctx) })
	a.start(ctx)
	for ctx.Err() == nil {
		a.sleep(ctx)
		_ = a.session.saveDenial() // told when it failed first; the next turn tries again
		if ctx.Err() != nil {
			break
		}
		a.expire()
		if a.due() {
			a.attempt(ctx)
		}
		a.report()
	}
	a.report()
	refresher.Wait()
	if err := a.Close(); err != nil {
		a.cfg.Progress(err.Error()) // a TPM that is gone; there is nothing to mend any more
	}
	return nil
}

// start opens the TPM, without which what is kept on the disk is of no use:
// with it, a host that starts again goes on with what is still valid. A TPM may
// take its time, so the status of the process before is replaced first.
func (a *Agent) start(ctx context.Context) {
	began := a.cfg.Now()
	a.next = began
	a.report()
	bounded, cancel := a.bounded(ctx, "opening the TPM")
	defer cancel()
	if err := a.session.open(bounded); err != nil {
		if ctx.Err() == nil {
			a.settle(began, Result{}, err)
			a.report()
		}
		return
	}
	z := a.session.zone()
	s := a.session.state
	a.next = first(outcome{began: s.Began, renewIn: s.renewIn(), maxAge: s.FreshUntil.Sub(s.AttestedAt)},
		z != nil, a.cfg.Spread, a.cfg.Now(), a.random())
	if z != nil {
		a.publish(z, "")
		a.cfg.Progress(fmt.Sprintf("still in zone %s until %s; renewing at %s", z.name, clock(z.expiresAt), clock(a.next)))
	}
	a.report()
}

// due compares by both clocks: by the monotonic one a step back of the wall
// clock does not delay a renewal, by the wall clock a suspended host does not.
func (a *Agent) due() bool {
	now := a.cfg.Now()
	return !now.Before(a.next) || !now.Round(0).Before(a.next.Round(0))
}

// sleep waits for the next attestation, for the end of what is held, for a
// reason to hurry, or for a slice.
func (a *Agent) sleep(ctx context.Context) {
	now := a.cfg.Now()
	d := min(a.next.Sub(now), slice)
	if end := a.nextEnd(); !end.IsZero() {
		d = min(d, end.Sub(now))
	}
	if d <= 0 {
		return
	}
	select {
	case <-a.after(sleepLoop, d):
	case <-ctx.Done():
	case <-a.nudge:
	case r := <-a.refused:
		a.refusedLater(r)
	case <-a.wake:
		a.hurry()
	}
}

// hurry brings the next attestation forward, but not behind failures, which have
// a pace of their own, and not more often than outages would be tried again. Once
// for each attestation: hosts that the same thing hurries are spread by one random
// value each, and the least of many would be none.
func (a *Agent) hurry() {
	z, began := a.current(), a.session.state.Began
	if z == nil || a.pace.failures > 0 || a.hurried.Equal(began) {
		return
	}
	a.hurried = began
	turn := max(firstBackoff, z.freshUntil.Sub(z.attestedAt)/10)
	soonest := began.Add(turn + part(turn, a.random()))
	if now := a.cfg.Now(); soonest.Before(now) {
		soonest = now
	}
	if soonest.Before(a.next) {
		a.next = soonest
	}
}

func (a *Agent) bounded(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, a.patience, errors.New(what+" took more than "+a.patience.String()))
}

func (a *Agent) attempt(ctx context.Context) {
	began := a.cfg.Now()
	bounded, cancel := a.bounded(ctx, "the attestation")
	defer cancel()
	result, err := a.session.attest(bounded, 0)
	if ctx.Err() != nil && err != nil {
		return // the agent was told to end; that is no failure
	}
	a.settle(began, result, err)
}

// settle keeps or withdraws, and decides when to come again.
func (a *Agent) settle(began time.Time, r Result, err error) {
	o := judge(err)
	s := a.session.state
	o.began, o.renewIn, o.maxAge = began, s.renewIn(), s.FreshUntil.Sub(s.AttestedAt)
	a.next, a.pace = a.pace.next(o, a.cfg.Now(), a.random())
	a.last = attempted(began, a.cfg.Now(), err)
	switch o.verdict {
	case accepted:
		a.trustBundle(a.session.bundle())
		a.publish(a.session.zone(), "")
		a.cfg.Progress(fmt.Sprintf("zone %s (tier %d) as %s until %s; renewing at %s", r.Zone, r.Tier, r.SPIFFEID, clock(r.ExpiresAt), clock(a.next)))
	case denied:
		a.withdraw(err)
	case outage:
		// The TPM may have come back only now: what the disk holds is valid still.
		if z := a.session.zone(); z != nil && a.current() == nil {
			a.publish(z, "")
		}
		a.cfg.Progress(fmt.Sprintf("%v; %s; trying again at %s", err, a.outlook(), clock(a.next)))
	}
}

// refusedLater withdraws at once what a denied attestation would. One that is
// about a zone which was replaced meanwhile is older than what the broker said last.
func (a *Agent) refusedLater(r refusal) {
	if a.current() != r.zone {
		return
	}
	a.next, a.pace = a.pace.next(judge(r.err), a.cfg.Now(), a.random())
	a.withdraw(r.err)
}

// withdraw takes back what was earned: the broker says that this host is not
// what it was. The disk says so too, so that a restart does not bring it back.
func (a *Agent) withdraw(err error) {
	refused, _ := errors.AsType[*client.RefusedError](err)
	a.publish(nil, string(refused.Code))
	a.cfg.Progress(fmt.Sprintf("%v; nothing is served any more; trying again at %s", err, clock(a.next)))
	if remedy := refused.Remedy; remedy != "" {
		a.cfg.Progress("what to do: " + remedy)
	}
	a.session.deny(refused.Code)
}

func (a *Agent) outlook() string {
	if z := a.current(); z != nil {
		return "serving zone " + z.name + " until " + clock(z.expiresAt)
	}
	return "nothing to serve"
}

func clock(t time.Time) string { return t.Local().Format(time.TimeOnly) }

// Workloads returns the zone's rules in document order: which local caller may
// have which workload SVID. It is nil while this host has no zone: denied,
// expired, never attested. The caller must not change it.
func (a *Agent) Workloads() []api.Workload {
	z := a.current()
	if z == nil {
		return nil
	}
	return z.workloads
}
