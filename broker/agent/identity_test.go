package agent_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func x509For(t *testing.T, r *running, name string) workloadapi.Identity {
	t.Helper()
	id, err := r.X509SVID(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestIdentitiesAreFetchedOnce: at the first use, by one request for all who ask
// at once, and from then on out of memory.
func TestIdentitiesAreFetchedOnce(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	if n := b.askedLater(); n != 0 {
		t.Errorf("%d requests before anybody asked", n)
	}
	var group sync.WaitGroup
	got := make([]workloadapi.Identity, 50)
	for i := range got {
		group.Go(func() { got[i] = x509For(t, r, "checkout") })
	}
	group.Wait()
	c.forward(time.Minute)
	id := x509For(t, r, "checkout")
	for _, other := range got {
		if other.Chain[0] != id.Chain[0] {
			t.Fatal("callers got different identities")
		}
	}
	if n := b.askedLater(); n != 1 {
		t.Errorf("%d requests for 51 callers", n)
	}
	if want := "spiffe://" + trustDomain + "/zone/lab/workload/checkout"; id.SPIFFEID != want || id.Chain[0].URIs[0].String() != want {
		t.Errorf("identity %s", id.SPIFFEID)
	}
	key, ok := id.Key.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(id.Chain[0].PublicKey) || !id.ExpiresAt.Equal(id.Chain[0].NotAfter) || id.FreshUntil.Unix() != r.Status().FreshUntil.Unix() {
		t.Errorf("%T, %s, %s", id.Key, id.ExpiresAt, id.FreshUntil)
	}
}

// TestIdentitiesFollowAttestations: another key and another end after each, told
// by Changed, as long as somebody asks.
func TestIdentitiesFollowAttestations(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	before := x509For(t, r, "checkout")
	changed := r.Changed()
	c.forward(151 * time.Second)
	r.until("another identity", func() bool { return x509For(t, r, "checkout").Chain[0] != before.Chain[0] })
	after := x509For(t, r, "checkout")
	if after.Key.Public().(*ecdsa.PublicKey).Equal(before.Key.Public()) || !after.FreshUntil.After(before.FreshUntil) {
		t.Error("the same key, or the same age")
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	// Nobody asks any more.
	c.forward(15 * time.Minute)
	asked := b.askedLater()
	c.forward(15 * time.Minute)
	if n := b.askedLater(); n != asked || asked > 5 {
		t.Errorf("%d requests, then %d, for an identity that nobody uses", asked, n)
	}
}

func TestNoSuchWorkload(t *testing.T) {
	b, _, _, r := fleetOfOne(t)
	if _, err := r.X509SVID(t.Context(), "billing"); reason.Of(err) != reason.PolicyIdentityInvalid {
		t.Errorf("got %v", err)
	}
	if _, err := r.JWTSVID(t.Context(), "billing", "api"); reason.Of(err) != reason.PolicyIdentityInvalid {
		t.Errorf("got %v", err)
	}
	if b.askedLater() != 0 {
		t.Error("the broker was asked")
	}
}

// TestWorkloadTakenOutOfTheZone: its identity goes with the next attestation.
func TestWorkloadTakenOutOfTheZone(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	x509For(t, r, "checkout")
	b.with(func() { b.workloads = []api.Workload{{Name: "billing"}} })
	c.forward(151 * time.Second)
	if _, err := r.X509SVID(t.Context(), "checkout"); reason.Of(err) != reason.PolicyIdentityInvalid {
		t.Errorf("got %v", err)
	}
	x509For(t, r, "billing")
}

// TestSpoiltIdentities: nothing is served that is not what was asked for, however
// much the connection is trusted.
func TestSpoiltIdentities(t *testing.T) {
	for name, spoil := range map[string]func(*broker, *api.SVIDResponse){
		"no chain":     func(_ *broker, a *api.SVIDResponse) { a.Chain = nil },
		"no DER":       func(_ *broker, a *api.SVIDResponse) { a.Chain = []api.Bytes{{1, 2, 3}} },
		"a stranger's": func(b *broker, a *api.SVIDResponse) { a.Chain = []api.Bytes{b.anchor.cert.Raw} },
		"another key": func(b *broker, a *api.SVIDResponse) {
			other, err := x509.ParseCertificate(a.Chain[0])
			if err != nil {
				b.t.Error(err)
			}
			a.Chain = []api.Bytes{b.again(other, a.SPIFFEID, func(*zoneOf) {}, b.anchor.key.Public()).Raw}
		},
		"another name": func(b *broker, a *api.SVIDResponse) {
			a.Chain = []api.Bytes{b.same(a.Chain[0], "spiffe://"+trustDomain+"/zone/lab/workload/billing", func(*zoneOf) {}).Raw}
		},
		"another zone": func(b *broker, a *api.SVIDResponse) {
			a.Chain = []api.Bytes{b.same(a.Chain[0], a.SPIFFEID, func(z *zoneOf) { z.Name = "payments" }).Raw}
		},
		"another attestation": func(b *broker, a *api.SVIDResponse) {
			a.Chain = []api.Bytes{b.same(a.Chain[0], a.SPIFFEID, func(z *zoneOf) { z.AttestationID = "01970000-0000-7000-8000-000000000000" }).Raw}
		},
		"another node": func(b *broker, a *api.SVIDResponse) {
			a.Chain = []api.Bytes{b.same(a.Chain[0], a.SPIFFEID, func(z *zoneOf) { z.Node = "aaaaaaaaaaaaaaaaaaaaaaaaaa" }).Raw}
		},
		"another tier": func(b *broker, a *api.SVIDResponse) {
			a.Chain = []api.Bytes{b.same(a.Chain[0], a.SPIFFEID, func(z *zoneOf) { z.Tier = 3 }).Raw}
		},
		"fresh for longer": func(b *broker, a *api.SVIDResponse) {
			a.Chain = []api.Bytes{b.same(a.Chain[0], a.SPIFFEID, func(z *zoneOf) { z.FreshUntil += 60 }).Raw}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, _, _, r := fleetOfOne(t)
			b.with(func() { b.spoilLater = func(s *api.SVIDResponse, _ *api.JWTResponse) { spoil(b, s) } })
			if _, err := r.X509SVID(t.Context(), "checkout"); !isFault(err, agent.FaultAnswer) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestReplicaWithANewCA: the last bundle does not know it; the agent fetches the
// bundle before it doubts the answer.
func TestReplicaWithANewCA(t *testing.T) {
	b, _, _, r := fleetOfOne(t)
	old := b.clientCAs
	b.rotateCA()
	b.with(func() { b.clientCAs = old }) // the old SVIDs are still taken
	x509For(t, r, "checkout")
	if _, err := r.JWTSVID(t.Context(), "checkout", "api"); err != nil {
		t.Error(err)
	}
	b.with(func() {
		if b.bundles == 0 {
			t.Error("the bundle was not asked for")
		}
	})
}

// TestNotTheLastAttestation: somebody attested with this host's keys beside the
// agent; it renews instead of asking again and again.
func TestNotTheLastAttestation(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	b.with(func() {
		for _, n := range b.nodes {
			n.last = "01970000-0000-7000-8000-000000000000"
		}
	})
	if _, err := r.X509SVID(t.Context(), "checkout"); err == nil || reason.Lookup(reason.Of(err)).Class == reason.Deny {
		t.Fatalf("got %v; a denial would be about the workload", err)
	}
	c.wait("the loop does not hurry", func() bool { return c.timers[agent.SleepLoop].at.Before(c.now.Add(46 * time.Second)) })
	c.forward(46 * time.Second)
	if n := b.accepted(); n != 2 {
		t.Errorf("%d attestations", n)
	}
	x509For(t, r, "checkout")
}

// TestAnswerOnItsWay: the broker has accepted an attestation whose answer is not
// here yet; who asks meanwhile gets an identity, not an error.
func TestAnswerOnItsWay(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	c.flights = true
	hold := make(chan struct{})
	b.slowAnswer.Store(&hold)
	var group sync.WaitGroup
	group.Go(func() { c.forward(151 * time.Second) })
	r.until("the attestation is accepted", func() bool { return b.accepted() == 2 })
	group.Go(func() {
		if _, err := r.X509SVID(t.Context(), "checkout"); err != nil {
			t.Errorf("got %v", err)
		}
	})
	c.wait("the fetch does not wait", func() bool { return c.asked[agent.SleepFlight] > 0 })
	close(hold)
	group.Wait()
}

// TestDeniedDuringAFetch: what comes after the denial is given to nobody.
func TestDeniedDuringAFetch(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	hold := make(chan struct{})
	b.slowLater.Store(&hold)
	var group sync.WaitGroup
	group.Go(func() {
		if id, err := r.X509SVID(t.Context(), "checkout"); err == nil {
			t.Errorf("got %s", id.SPIFFEID)
		}
	})
	r.until("the broker signs", func() bool { return b.askedLater() == 1 })
	b.with(func() { b.refuseAttest = func(int) error { return reason.New(reason.NodeDisabled, "disabled") } })
	c.forward(151 * time.Second)
	r.phase(agent.PhaseDenied)
	close(hold)
	group.Wait()
}

// TestFetchesAreBounded: callers choose audiences, so they do not choose how much
// is in work.
func TestFetchesAreBounded(t *testing.T) {
	b, _, _, r := fleetOfOne(t)
	hold := make(chan struct{})
	b.slowLater.Store(&hold)
	var group sync.WaitGroup
	var busy atomic.Int32
	for i := range 40 {
		group.Go(func() {
			if _, err := r.JWTSVID(t.Context(), "checkout", fmt.Sprintf("nobody-%d", i)); reason.Of(err) == reason.RequestOverloaded {
				busy.Add(1)
			}
		})
	}
	r.until("most are turned away", func() bool { return busy.Load() == 24 && b.askedLater() == 16 })
	close(hold)
	group.Wait()
}

// TestHurryIsBounded: a broker that never takes the last SVID does not make its
// hosts attest without end.
func TestHurryIsBounded(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	b.with(func() { b.refuseLater = func(any) error { return reason.New(reason.AuthInvalid, "no") } })
	for range 600 {
		_, _ = r.X509SVID(t.Context(), "checkout")
		c.forward(time.Second)
	}
	if n := b.accepted(); n < 10 || n > 22 {
		t.Errorf("%d attestations in ten minutes", n)
	}
}

// TestRefusedFetchesAreHeldBack: local callers cannot use up what the broker
// grants this host.
func TestRefusedFetchesAreHeldBack(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	b.with(func() { b.refuseLater = func(any) error { return reason.New(reason.RequestOverloaded, "busy") } })
	for range 300 {
		if _, err := r.X509SVID(t.Context(), "checkout"); reason.Of(err) != reason.RequestOverloaded {
			t.Fatalf("got %v", err)
		}
		c.forward(200 * time.Millisecond)
	}
	if n := b.askedLater(); n > 15 {
		t.Errorf("%d requests in a minute", n)
	}
	b.with(func() { b.refuseLater = nil })
	c.forward(time.Minute)
	x509For(t, r, "checkout")
}

func TestCallerGivesUp(t *testing.T) {
	b, _, _, r := fleetOfOne(t)
	b.mu.Lock() // the broker does not answer
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("the caller left"))
	defer cancel()
	if _, err := r.X509SVID(ctx, "checkout"); err == nil || err.Error() != "the caller left" {
		t.Errorf("got %v", err)
	}
	b.mu.Unlock()
	r.until("the fetch goes on for the others", func() bool { return b.askedLater() == 1 })
	x509For(t, r, "checkout")
	if b.askedLater() != 1 {
		t.Error("it was asked for twice")
	}
}

func TestTokens(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	get := func(audience string) workloadapi.Token {
		t.Helper()
		token, err := r.JWTSVID(t.Context(), "checkout", audience)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	first := get("api")
	if first.Audience != "api" || first.SPIFFEID != "spiffe://"+trustDomain+"/zone/lab/workload/checkout" || first.ExpiresAt.After(r.Status().FreshUntil) {
		t.Errorf("%+v", first)
	}
	if again := get("api"); again != first {
		t.Error("fetched again at once")
	}
	if other := get("other"); other.Token == first.Token {
		t.Error("one token for two audiences")
	}
	if n := b.askedLater(); n != 2 {
		t.Errorf("%d requests", n)
	}
	c.forward(first.ExpiresAt.Sub(c.Now())/2 + 2*time.Second)
	if later := get("api"); later.Token == first.Token {
		t.Error("the same token after half of its life")
	}
}

// TestTokensInAnOutage: the kept one serves to its end, and not longer.
func TestTokensInAnOutage(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	first, err := r.JWTSVID(t.Context(), "checkout", "api")
	if err != nil {
		t.Fatal(err)
	}
	b.leave()
	c.forward(4 * time.Minute)
	if again, err := r.JWTSVID(t.Context(), "checkout", "api"); err != nil || again != first {
		t.Errorf("%v, %v", again, err)
	}
	c.forward(time.Minute)
	if _, err := r.JWTSVID(t.Context(), "checkout", "api"); err == nil {
		t.Error("a token that has ended is served")
	}
	if _, err := r.JWTSVID(t.Context(), "checkout", "other"); err == nil {
		t.Error("a token out of nothing")
	}
}

// TestTokenRefusedLater: a refusal is no outage; the kept token is not served
// against it.
func TestTokenRefusedLater(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	if _, err := r.JWTSVID(t.Context(), "checkout", "api"); err != nil {
		t.Fatal(err)
	}
	c.forward(2 * time.Minute)
	b.with(func() { b.refuseLater = func(any) error { return reason.New(reason.PolicyAudience, "no longer") } })
	c.forward(40 * time.Second)
	if _, err := r.JWTSVID(t.Context(), "checkout", "api"); reason.Of(err) != reason.PolicyAudience {
		t.Errorf("got %v", err)
	}
}

// TestInventedAudiences: a workload that asks for one audience after another
// costs the host nothing of its rate, and others nothing at all.
func TestInventedAudiences(t *testing.T) {
	b, _, c, r := fleetOfOne(t)
	b.with(func() { b.workloads = append(b.workloads, api.Workload{Name: "billing"}) })
	c.forward(151 * time.Second)
	if _, err := r.JWTSVID(t.Context(), "checkout", "nobody-0"); reason.Of(err) != reason.PolicyAudience {
		t.Errorf("got %v", err)
	}
	for i := range 600 {
		if _, err := r.JWTSVID(t.Context(), "checkout", fmt.Sprintf("nobody-%d", i+1)); err == nil {
			t.Fatal("a token for an invented audience")
		}
		c.forward(100 * time.Millisecond)
	}
	if n := b.askedLater(); n > 15 {
		t.Errorf("%d requests in a minute", n)
	}
	if _, err := r.JWTSVID(t.Context(), "billing", "api"); err != nil {
		t.Errorf("another workload waits: %v", err)
	}
}

func TestSpoiltTokens(t *testing.T) {
	for name, spoil := range map[string]func(*broker, *api.JWTResponse){
		"no token": func(_ *broker, a *api.JWTResponse) { a.Token = "" },
		"altered":  func(_ *broker, a *api.JWTResponse) { a.Token = a.Token[:len(a.Token)-8] + "AAAAAAAA" },
		"another workload": func(b *broker, a *api.JWTResponse) {
			b.spoilLater = nil
			b.workloads = append(b.workloads, api.Workload{Name: "billing"})
			other, err := b.giveJWT(api.JWTRequest{Audience: "api", Workload: "billing"}, b.lastCaller, b.lastZone)
			if err != nil {
				b.t.Error(err)
			}
			a.Token = other.Token
		},
		"another key": func(b *broker, a *api.JWTResponse) { b.jwtKey = authority(b.t, "other"); b.resign(a) },
	} {
		t.Run(name, func(t *testing.T) {
			b, _, _, r := fleetOfOne(t)
			b.with(func() { b.spoilLater = func(_ *api.SVIDResponse, j *api.JWTResponse) { spoil(b, j) } })
			token, err := r.JWTSVID(t.Context(), "checkout", "api")
			if name == "another key" {
				// It is in the bundle by the time that the agent asks again.
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if !isFault(err, agent.FaultAnswer) || token.Token != "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestBundleIsRefreshed: a CA that was taken out is gone within the hint, also
// where attestations are rare.
func TestBundleIsRefreshed(t *testing.T) {
	b, c := newBroker(t), newClock(t)
	b.now, b.maxAge, b.grace = c.Now, 24*time.Hour, time.Hour
	h := newHost(t, b)
	h.cfg.Spread = -1
	r := h.startAt(t, c)
	c.forward(time.Second)
	before := r.TrustBundle()
	old := b.clientCAs
	b.rotateCA()
	b.with(func() { b.clientCAs = old })
	changed := r.Changed()
	c.forward(6 * time.Minute)
	if after := r.TrustBundle(); after.Equal(before) || bytes.Equal(after.X509Authorities()[0].Raw, before.X509Authorities()[0].Raw) {
		t.Error("the bundle of before")
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	if b.accepted() != 1 {
		t.Errorf("%d attestations", b.accepted())
	}
}
