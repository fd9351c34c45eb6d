package agent

import (
	"errors"
	"net/http"
	"time"

	"github.com/zonebroker/zonebroker/broker/client"
)

const (
	firstBackoff  = time.Second
	longestWait   = 60 * time.Second // of a backoff
	longestSpread = 30 * time.Second // of an overdue renewal after a restart
	defaultSpread = 2 * time.Second
	renewJitter   = 0.1 // of the time to the renewal, in both directions
)

// verdict is what an attestation came to, as far as the next one depends on it.
type verdict int

const (
	accepted verdict = iota
	denied           // the broker refuses this host: what it holds is withdrawn
	outage           // nobody decided: what it holds is good until its own end
)

// outcome is what the schedule knows of the attestation before.
type outcome struct {
	verdict    verdict
	began      time.Time     // accepted: by this host's clock
	renewIn    time.Duration // accepted: State.renewIn
	maxAge     time.Duration // of the last zone; 0 where there was none
	retryAfter time.Duration // failed: what the broker asked for
}

// pace counts failures in a row.
type pace struct{ failures int }

// next says when the next attestation begins. random is in [0, 1).
//
// After a success that is half of what was left of max_age ± 10 %, counted from the begin of the
// last one by the clock of this host: the broker's clock may be another, and
// times of it would make a host whose clock is ahead renew without a pause.
//
// After a failure it is exponential backoff with full jitter, so that hosts that
// lost a broker together do not come back together. A Retry-After is a window:
// nobody comes earlier, and not all of them when it ends. Outages are tried
// again at least each tenth of max_age, so that a host comes back well before
// what it holds ends.
func (p pace) next(o outcome, now time.Time, random float64) (time.Time, pace) {
	if o.verdict == accepted {
		at := o.began.Add(o.renewIn + jitter(o.renewIn, random))
		if soonest := now.Add(min(firstBackoff, o.renewIn)); at.Before(soonest) {
			at = soonest
		}
		return at, pace{}
	}
	ceiling := backoff(p.failures, longest(o))
	p.failures++
	if o.retryAfter > 0 {
		window := max(ceiling, o.retryAfter/2)
		return now.Add(o.retryAfter + part(window, random)), p
	}
	return now.Add(part(ceiling, random)), p
}

// longest bounds the backoff.
func longest(o outcome) time.Duration {
	if o.verdict == denied || o.maxAge <= 0 {
		return longestWait
	}
	return min(longestWait, max(firstBackoff, o.maxAge/10))
}

// backoff doubles with each failure.
func backoff(failures int, ceiling time.Duration) time.Duration {
	d := firstBackoff
	for i := 0; i < failures && d < ceiling; i++ {
		d *= 2
	}
	return min(d, ceiling)
}

func part(d time.Duration, random float64) time.Duration { return time.Duration(random * float64(d)) }

func jitter(d time.Duration, random float64) time.Duration {
	return time.Duration((2*random - 1) * renewJitter * float64(d))
}

// first says when an agent that starts attests: one with a valid zone when its
// renewal is due, the others within spread. A clock that went back since the
// last attestation does not make it wait for longer than a whole turn.
func first(last outcome, valid bool, spread time.Duration, now time.Time, random float64) time.Time {
	if !valid || last.began.IsZero() {
		return now.Add(part(max(spread, 0), random))
	}
	began := last.began
	if began.After(now) {
		began = now
	}
	if at := began.Add(last.renewIn + jitter(last.renewIn, random)); at.After(now) {
		return at
	}
	return now.Add(part(min(last.maxAge/10, longestSpread), random))
}

// judge reads what an attempt came to. Only a problem document with 403, which
// an authenticated broker sent about this host, is a denial; whatever else went
// wrong says nothing about the host. Somebody between host and broker can make
// outages, but cannot withdraw anything.
func judge(err error) outcome {
	refused, ok := errors.AsType[*client.RefusedError](err)
	switch {
	case err == nil:
		return outcome{verdict: accepted}
	case !ok:
		return outcome{verdict: outage}
	case refused.Status == http.StatusForbidden:
		return outcome{verdict: denied, retryAfter: refused.RetryAfter}
	}
	return outcome{verdict: outage, retryAfter: refused.RetryAfter}
}
