package agent

import (
	"encoding/json"
	"time"
)

// Newest shows the choice of checkpoints.
var Newest = newest

// RewriteState parses a state and writes it again.
func RewriteState(text []byte) ([]byte, bool) {
	s, err := parseState(text, "state")
	if err != nil {
		return nil, false
	}
	out, err := json.Marshal(s)
	return out, err == nil
}

// What the schedule is made of.
type (
	Outcome = outcome
	Pace    = pace
)

const (
	Accepted = accepted
	Denied   = denied
	Outage   = outage
	Silence  = silence
	Slice    = slice
)

var (
	First = first
	Judge = judge
)

func NewOutcome(v verdict, began time.Time, renewIn, maxAge, retryAfter time.Duration) Outcome {
	return outcome{verdict: v, began: began, renewIn: renewIn, maxAge: maxAge, retryAfter: retryAfter}
}

// RenewIn is how long an agent with this state waits after an attestation began.
func (s *State) RenewIn() time.Duration { return s.renewIn() }

func (o outcome) Verdict() verdict          { return o.verdict }
func (o outcome) RetryAfter() time.Duration { return o.retryAfter }
func NewPace(failures int) Pace             { return pace{failures: failures} }
func (p pace) Failures() int                { return p.failures }

func (p pace) Next(o Outcome, now time.Time, random float64) (time.Time, Pace) {
	return p.next(o, now, random)
}

// Sleepers are those who wait by the timer of an agent.
const (
	SleepLoop    = int(sleepLoop)
	SleepRefresh = int(sleepRefresh)
	SleepFlight  = int(sleepFlight)
)

// WaitBy replaces timer and randomness; before Run.
func (a *Agent) WaitBy(after func(who int, d time.Duration) <-chan time.Time, random func() float64) {
	a.after = func(who sleeper, d time.Duration) <-chan time.Time { return after(int(who), d) }
	a.random = random
}

// BePatient bounds one attempt; before Run.
func (a *Agent) BePatient(d time.Duration) { a.patience = d }
