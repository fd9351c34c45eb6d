package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/client"
)

// identity is an X.509-SVID of a workload that was asked for.
type identity struct {
	identity      workloadapi.Identity
	attestationID string // the attestation that it stands on
	idle          int    // attestations since it was asked for
}

// maxIdle is how many attestations long an identity is fetched that nobody asks
// for. Each costs a record at the broker.
const maxIdle = 2

// X509SVID returns the identity of a workload that the zone lists. The first
// call fetches it; from then on it is fetched after each attestation, with a new
// key, and the one before serves until the next is here. Errors of the broker
// carry its reason code; one without says that this host has no zone, or that
// the broker does not answer.
func (a *Agent) X509SVID(ctx context.Context, workload string) (workloadapi.Identity, error) {
	now := a.cfg.Now()
	a.mu.Lock()
	z, err := a.zoneFor(workload, now)
	if err != nil {
		a.mu.Unlock()
		return workloadapi.Identity{}, err
	}
	if e := a.identities[workload]; e != nil && now.Before(e.identity.ExpiresAt) {
		e.idle = 0
		defer a.mu.Unlock()
		return e.identity, nil
	}
	f, err := a.fly(flightKey{kind: flightX509, workload: workload}, z, now)
	a.mu.Unlock()
	if err != nil {
		return workloadapi.Identity{}, err
	}
	if err := f.wait(ctx); err != nil {
		return workloadapi.Identity{}, err
	}
	return f.identity, nil
}

// fetchIdentity asks for an X.509-SVID over a new key, which stays in memory.
func (a *Agent) fetchIdentity(ctx context.Context, c *client.Client, z *zone, workload string) (workloadapi.Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return workloadapi.Identity{}, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return workloadapi.Identity{}, err
	}
	answer, err := c.SVID(ctx, api.SVIDRequest{Workload: workload, CSR: csr})
	if err != nil {
		return workloadapi.Identity{}, err
	}
	var chain []*x509.Certificate
	for _, der := range answer.Chain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return workloadapi.Identity{}, answerFault("a certificate of the workload's SVID does not parse", err)
		}
		chain = append(chain, certificate)
	}
	if id, err := a.checkIdentity(chain, z, workload, key); err == nil {
		return id, nil
	}
	// A replica that is new has a CA that the last bundle does not know.
	if err := a.fetchBundle(ctx, c); err != nil {
		return workloadapi.Identity{}, err
	}
	return a.checkIdentity(chain, z, workload, key)
}

// checkIdentity: what a workload is given must be what it asked for, verify
// under the bundle that it is given with it, and stand on the attestation that
// this host knows of.
func (a *Agent) checkIdentity(chain []*x509.Certificate, z *zone, workload string, key *ecdsa.PrivateKey) (workloadapi.Identity, error) {
	var none workloadapi.Identity
	bundle := a.TrustBundle()
	if bundle == nil {
		return none, answerFault("there is no bundle to verify the workload's SVID with", nil)
	}
	id, _, err := x509svid.Verify(chain, bundle, x509svid.WithTime(a.cfg.Now()))
	if err != nil {
		return none, answerFault("the workload's SVID does not verify under the bundle", err)
	}
	if !key.PublicKey.Equal(chain[0].PublicKey) {
		return none, answerFault("the workload's SVID is for another key than was asked for", nil)
	}
	if id.String() != z.workloadID(workload) {
		return none, answerFault("the workload's SVID has another SPIFFE ID than the zone and the name give", nil)
	}
	claims, err := claim.FromCertificateInsecure(chain[0]) // verified above
	if err != nil {
		return none, answerFault("the workload's SVID carries no zone claim", err)
	}
	if c := claims.Zone; c.Name != z.name || c.Tier != z.tier || c.Node != z.node || c.AttestationID != z.attestationID || c.FreshUntil > z.freshUntil.Unix() {
		return none, answerFault("the claim in the workload's SVID is not that of this host's zone", nil)
	}
	return workloadapi.Identity{
		SPIFFEID: id.String(), Chain: chain, Key: key, ExpiresAt: chain[0].NotAfter, FreshUntil: time.Unix(claims.Zone.FreshUntil, 0),
	}, nil
}

// refresh fetches the identities in use again after each attestation, and the
// bundle when it got old, until ctx ends.
func (a *Agent) refresh(ctx context.Context) {
	for {
		pause := a.refreshBundle(ctx)
		if failed := a.refreshIdentities(ctx); failed > 0 {
			pause = min(pause, failed)
		}
		select {
		case <-ctx.Done():
			return
		case <-a.stale:
		case <-a.after(sleepRefresh, pause):
		}
	}
}

// refreshIdentities fetches one after the other, which bounds what one host asks
// for at once. It returns after what time to come again, 0 where all came.
func (a *Agent) refreshIdentities(ctx context.Context) time.Duration {
	changed, again := false, time.Duration(0)
	for _, workload := range a.staleIdentities() {
		now := a.cfg.Now()
		a.mu.Lock()
		z, err := a.zoneFor(workload, now)
		var f *flight
		if err == nil {
			f, err = a.fly(flightKey{kind: flightX509, workload: workload}, z, now)
		}
		a.mu.Unlock()
		if err == nil {
			err = f.wait(ctx)
		}
		if ctx.Err() != nil {
			return 0
		}
		changed = changed || err == nil
		if wait := a.waitFor(flightKey{kind: flightX509, workload: workload}); err != nil && (again == 0 || wait < again) {
			again = max(wait, firstBackoff)
		}
	}
	if changed {
		a.mu.Lock()
		a.announce()
		a.mu.Unlock()
	}
	return again
}

// staleIdentities lists what stands on an earlier attestation and is in use, and
// drops what nobody asks for any more or the zone no longer lists.
func (a *Agent) staleIdentities() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	z := a.held.zone
	if z == nil {
		return nil
	}
	counted := a.counted != z.attestationID
	a.counted = z.attestationID
	var out []string
	for name, e := range a.identities {
		if e.attestationID == z.attestationID {
			continue
		}
		if counted {
			e.idle++
		}
		if e.idle > maxIdle || !z.lists(name) {
			delete(a.identities, name)
			continue
		}
		out = append(out, name)
	}
	return out
}

// errNoZone is for callers that ask between two changes.
var errNoZone = errors.New("this host has no zone now")
