package agent

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/client"
)

// held is what an agent serves. A zone is replaced, never changed.
type held struct {
	zone   *zone // nil: never attested, denied, expired
	denied string
	bundle *spiffebundle.Bundle // nil before the first answer
	// bundleAt is when the bundle came, zero for one from the disk.
	bundleAt time.Time
}

// zone is an earned zone with the SVID that shows it.
type zone struct {
	name          string
	tier          int
	node          string
	spiffeID      spiffeid.ID
	attestationID string
	attestedAt    time.Time
	freshUntil    time.Time
	expiresAt     time.Time // of the node's SVID
	credential    *tls.Certificate
	trust         client.Trust // who may be the broker
	workloads     []api.Workload
}

// lists says whether the zone has a workload of that name.
func (z *zone) lists(name string) bool {
	return slices.ContainsFunc(z.workloads, func(w api.Workload) bool { return w.Name == name })
}

// workloadID is the only SPIFFE ID that a workload of the zone can have: beside
// the node's, whatever stands before it.
func (z *zone) workloadID(name string) string {
	return strings.TrimSuffix(z.spiffeID.String(), "/node/"+z.node) + "/workload/" + name
}

// succeeds says whether what stands on the zone before says the same of this
// host as what stands on z does, its age apart.
func (z *zone) succeeds(before *zone) bool {
	return z.spiffeID == before.spiffeID && z.tier == before.tier
}

// zone reads the last answer. It is nil where that is of no use any more: the
// broker denied this host since, it expired, or the TPM has another key.
func (s *session) zone() *zone {
	if s.state.Denied != "" {
		return nil
	}
	credential := s.clientCertificate()
	if credential == nil || len(credential.Leaf.URIs) != 1 {
		return nil
	}
	// It was verified when it came; the state folder is trusted (see State).
	claims, err := claim.FromCertificateInsecure(credential.Leaf)
	if err != nil {
		return nil
	}
	id, err := spiffeid.FromURI(credential.Leaf.URIs[0])
	if err != nil {
		return nil
	}
	rules := s.state.Workloads
	if rules == nil {
		rules = []api.Workload{}
	}
	return &zone{
		name: claims.Zone.Name, tier: claims.Zone.Tier, node: s.state.Node, spiffeID: id, attestationID: s.state.Prev,
		attestedAt: s.state.AttestedAt, freshUntil: s.state.FreshUntil, expiresAt: credential.Leaf.NotAfter,
		credential: credential, trust: s.trust(), workloads: rules,
	}
}

// bundle reads the last bundle; nil where there is none.
func (s *session) bundle() *spiffebundle.Bundle {
	td, err := spiffeid.TrustDomainFromString(s.state.TrustDomain)
	if err != nil || len(s.state.Bundle) == 0 {
		return nil
	}
	b, err := spiffebundle.Parse(td, s.state.Bundle)
	if err != nil {
		return nil
	}
	return b
}

// publish replaces the zone and tells everybody who waits for a change. Without
// a zone, or in another one, every key and token is forgotten: the host is no
// longer what they say. Those of the same zone are fetched again after each
// attestation and serve meanwhile.
func (a *Agent) publish(z *zone, code string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.held.zone
	a.held.zone, a.held.denied = z, code
	if z == nil || before != nil && !z.succeeds(before) {
		clear(a.identities)
		clear(a.tokens)
	}
	clear(a.failed)
	a.announce()
	signal(a.stale)
}

// trustBundle takes over a bundle that came over an authenticated connection.
func (a *Agent) trustBundle(b *spiffebundle.Bundle) {
	if b == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	changed := a.held.bundle == nil || !a.held.bundle.Equal(b)
	a.held.bundle, a.held.bundleAt = b, a.cfg.Now()
	if changed {
		a.announce()
	}
}

// signal leaves a note in a channel of one place.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// announce wakes those who wait; a.mu is held.
func (a *Agent) announce() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// current returns the zone while it has something to serve.
func (a *Agent) current() *zone {
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.zoneAt(now)
}

// zoneAt is the zone until the last SVID of it has ended; a.mu is held.
func (a *Agent) zoneAt(now time.Time) *zone {
	z := a.held.zone
	if z == nil || now.Before(z.expiresAt) {
		return z
	}
	for _, e := range a.identities {
		if now.Before(e.identity.ExpiresAt) {
			return z
		}
	}
	return nil
}

// nextEnd is when the next thing ends that is served now; the zero time where
// nothing is.
func (a *Agent) nextEnd() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held.zone == nil {
		return time.Time{}
	}
	end := a.held.zone.expiresAt
	now := a.cfg.Now()
	if !now.Before(end) {
		end = time.Time{}
	}
	for _, e := range a.identities {
		if at := e.identity.ExpiresAt; at.Before(end) || end.IsZero() {
			end = at
		}
	}
	return end
}

// expire lets go of what has ended.
func (a *Agent) expire() {
	if a.letGo(a.cfg.Now()) {
		a.cfg.Progress("what was earned has expired; nothing is served any more")
	}
}

// letGo reports whether nothing is left to serve that was served before.
func (a *Agent) letGo(now time.Time) (last bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ended := false
	for name, e := range a.identities {
		if !now.Before(e.identity.ExpiresAt) {
			delete(a.identities, name)
			ended = true
		}
	}
	if a.held.zone != nil && a.zoneAt(now) == nil {
		a.held.zone = nil
		clear(a.tokens)
		ended, last = true, true
	}
	if ended {
		a.announce()
	}
	return last
}

// Changed returns a channel that is closed at the next change of rules,
// identities or bundle. Ask for it before reading them.
func (a *Agent) Changed() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// TrustBundle returns the last SPIFFE bundle, nil before the first. The caller
// must not change it.
func (a *Agent) TrustBundle() *spiffebundle.Bundle {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held.bundle
}

// TrustDomain returns the trust domain of this host, the zero value before the
// first answer.
func (a *Agent) TrustDomain() spiffeid.TrustDomain {
	if b := a.TrustBundle(); b != nil {
		return b.TrustDomain()
	}
	return spiffeid.TrustDomain{}
}
