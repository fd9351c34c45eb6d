package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxFlights bounds what local callers make this host ask for at once. A zone's
// workloads are few; audiences are chosen by the callers.
const maxFlights = 16

type flightKind int

const (
	flightX509 flightKind = iota
	flightJWT
)

// flightKey says what is fetched: one at a time, and all who ask wait for it.
type flightKey struct {
	kind     flightKind
	workload string
	audience string // of a JWT
}

// flight is a fetch in work. Its results are read after done is closed.
type flight struct {
	done     chan struct{}
	identity workloadapi.Identity
	token    workloadapi.Token
	err      error
}

// wait returns how the fetch ended, or that the caller gave up.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// failure holds the next fetch back. For tokens it counts for the workload, not
// for the audience: a workload that invents audiences must not use up the rate
// that the broker grants this host.
type failure struct {
	pace     pace
	until    time.Time
	audience string
	err      error
}

func (k flightKey) failureKey() flightKey { return flightKey{kind: k.kind, workload: k.workload} }

// zoneFor returns the zone if it lists the workload; a.mu is held.
func (a *Agent) zoneFor(workload string, now time.Time) (*zone, error) {
	z := a.zoneAt(now)
	switch {
	case z == nil && a.held.denied != "":
		return nil, reason.New(reason.Code(a.held.denied), "the broker refuses this host")
	case z == nil:
		return nil, errNoZone
	case !z.lists(workload):
		return nil, reason.New(reason.PolicyIdentityInvalid, "the zone lists no such workload for this host")
	}
	return z, nil
}

// fly joins the fetch of key or starts it; a.mu is held.
func (a *Agent) fly(key flightKey, z *zone, now time.Time) (*flight, error) {
	if f := a.flights[key]; f != nil {
		return f, nil
	}
	if e := a.failed[key.failureKey()]; e != nil && now.Before(e.until) {
		if e.audience != key.audience {
			return nil, reason.New(reason.RequestRateLimited, "this workload has just been refused another token")
		}
		return nil, e.err
	}
	if a.closed || len(a.flights) >= maxFlights {
		return nil, reason.New(reason.RequestOverloaded, "this host asks for too much at once")
	}
	f := &flight{done: make(chan struct{})}
	a.flights[key] = f
	a.work.Go(func() { a.run(key, f, z) })
	return f, nil
}

// run fetches, keeps what came, and lets all who wait go on.
func (a *Agent) run(key flightKey, f *flight, z *zone) {
	ctx, cancel := context.WithTimeoutCause(a.background, client.DefaultTimeout, errors.New("the broker did not answer in time"))
	defer cancel()
	for {
		c, err := a.laneTo(z)
		if err == nil {
			switch key.kind {
			case flightX509:
				f.identity, err = a.fetchIdentity(ctx, c, z, key.workload)
			case flightJWT:
				f.token, err = a.fetchToken(ctx, c, z, key.workload, key.audience)
			}
			a.leave(c)
		}
		f.err = err
		// An attestation may have been accepted meanwhile; the broker takes only the
		// SVID of the last one.
		if err != nil && ctx.Err() == nil {
			if newer := a.newerThan(ctx, z, err); newer != nil {
				z = newer
				continue
			}
		}
		break
	}
	switch {
	case refusesHost(f.err):
		select {
		case a.refused <- refusal{zone: z, err: f.err}:
		default: // one is on its way
		}
	case wantsAttestation(f.err):
		signal(a.wake)
	}
	a.land(key, f, z)
}

// onItsWay is how long an answer of the broker to an attestation can lag behind
// what the broker says of it to others.
const onItsWay = 2 * time.Second

// newerThan returns the zone that replaced z, nil where there is none. After a
// refusal that says so it waits for the answer that brings it.
func (a *Agent) newerThan(ctx context.Context, z *zone, err error) *zone {
	var late <-chan time.Time
	for {
		changed := a.Changed()
		newer := a.current()
		switch {
		case newer != z:
			return newer
		case !isOutdated(err):
			return nil
		}
		if late == nil {
			late = a.after(sleepFlight, onItsWay)
		}
		select {
		case <-changed:
		case <-late:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// land keeps the result of a flight. What was fetched for a zone that was
// withdrawn or left meanwhile is given to nobody.
func (a *Agent) land(key flightKey, f *flight, z *zone) {
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.flights, key)
	if current := a.zoneAt(now); f.err == nil && (current == nil || !current.succeeds(z)) {
		f.err = errNoZone
	}
	if f.err != nil {
		e := a.failed[key.failureKey()]
		if e == nil {
			e = &failure{}
			a.failed[key.failureKey()] = e
		}
		e.until, e.pace = e.pace.next(failed(f.err, z), now, a.random())
		if isOutdated(f.err) { // no denial of the workload: it shall ask again
			f.err = fmt.Errorf("this host has to attest again first: %v", f.err)
		}
		e.err, e.audience = f.err, key.audience
		close(f.done)
		return
	}
	delete(a.failed, key.failureKey())
	if key.kind == flightX509 {
		kept := &identity{identity: f.identity, attestationID: z.attestationID}
		if before := a.identities[key.workload]; before != nil {
			kept.idle = before.idle
		}
		a.identities[key.workload] = kept
		signal(a.nudge) // its end is a time to wake at
	} else {
		a.keepToken(key, f.token, now)
	}
	close(f.done)
}

func failed(err error, z *zone) outcome {
	o := judge(err)
	o.maxAge = z.freshUntil.Sub(z.attestedAt)
	return o
}

// waitFor says how long a fetch is held back after its last failure.
func (a *Agent) waitFor(key flightKey) time.Duration {
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.failed[key.failureKey()]; e != nil {
		return e.until.Sub(now)
	}
	return 0
}

// refusal is what the broker said of this host when asked for a later SVID.
type refusal struct {
	zone *zone // that the SVID which was shown is of
	err  error
}

// refusesHost lists denials that are about this host, whatever it asks for.
func refusesHost(err error) bool {
	code := reason.Of(err)
	return judge(err).verdict == denied && (code == reason.NodeDisabled || code == reason.NodeForkSuspected)
}

// wantsAttestation lists refusals that another attestation answers: with the
// last SVID again, or with the denial that this host has to know of.
func wantsAttestation(err error) bool {
	switch reason.Of(err) {
	case reason.NodeAdmissionPending, reason.PolicyNoZone:
		return err != nil
	}
	return isOutdated(err)
}

// isOutdated lists those that say nothing about the workload that asks: only
// that the SVID of this host is not the one that it should be by now.
func isOutdated(err error) bool {
	switch reason.Of(err) {
	case reason.AuthInvalid, reason.AuthRequired, reason.PolicyEvidenceAge:
		return err != nil
	}
	return false
}

// lane is the connection that shows the SVID of the last attestation, as the
// broker wants it for identities of workloads. The one for attestations may be
// older; it is kept.
type lane struct {
	client     *client.Client
	credential *tls.Certificate
}

func (a *Agent) laneTo(z *zone) (*client.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lane != nil && a.lane.credential == z.credential {
		return a.lane.client, nil
	}
	c, err := client.New(client.Config{
		Server: a.cfg.Server, Trust: z.trust, TrustDomain: z.spiffeID.TrustDomain().Name(), UserAgent: a.cfg.UserAgent, Now: a.cfg.Now,
		ClientCertificate: func() (*tls.Certificate, error) { return z.credential, nil },
	})
	if err != nil {
		return nil, err
	}
	if a.lane != nil {
		a.lane.client.Close()
	}
	a.lane = &lane{client: c, credential: z.credential}
	return c, nil
}

// leave closes a connection that somebody still used when it was replaced.
func (a *Agent) leave(c *client.Client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lane == nil || a.lane.client != c {
		c.Close()
	}
}

func (a *Agent) closeLane() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lane != nil {
		a.lane.client.Close()
		a.lane = nil
	}
}

// fetchBundle takes the bundle over an authenticated connection.
func (a *Agent) fetchBundle(ctx context.Context, c *client.Client) error {
	document, err := c.Bundle(ctx)
	if err != nil {
		return err
	}
	b, err := spiffebundle.Parse(c.Peer().TrustDomain(), document)
	if err != nil {
		return answerFault("the bundle does not parse", err)
	}
	a.trustBundle(b)
	return nil
}

const defaultRefreshHint = 5 * time.Minute

// refreshBundle fetches the bundle again when its refresh hint has passed since
// it came: taking a CA out of it is what ends a stolen one. It returns after what
// time to come again.
func (a *Agent) refreshBundle(ctx context.Context) time.Duration {
	now := a.cfg.Now()
	a.mu.Lock()
	z, bundle, came := a.zoneAt(now), a.held.bundle, a.held.bundleAt
	a.mu.Unlock()
	hint := defaultRefreshHint
	if bundle != nil {
		if given, ok := bundle.RefreshHint(); ok && given > 0 {
			hint = given
		}
	}
	rest := came.Add(hint).Sub(now)
	switch {
	case z == nil:
		return hint // the next zone ends the pause
	case rest > 0:
		return max(min(hint, rest), firstBackoff)
	}
	c, err := a.laneTo(z)
	if err == nil {
		err = a.fetchBundle(ctx, c)
		a.leave(c)
	}
	if err != nil {
		return hint / 4 // it stays good; the next attestation brings one too
	}
	return hint
}
