package server

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// verifiedChains remembers which client chains verified against the bundle in
// force: a node asks for months over certificates that live for an hour, and
// each request checks its certificate anew. What is remembered is signatures
// alone. Times are compared on every request, and a new bundle forgets all.
type verifiedChains struct {
	max int

	mu     sync.Mutex
	bundle *x509bundle.Bundle    // by mu; what was verified against
	by     map[[32]byte]validity // by mu; SHA-256 over the chain
}

// validity is when every certificate of a chain, its authority included, is
// valid.
type validity struct{ from, to time.Time }

func (v validity) covers(now time.Time) bool { return !now.Before(v.from) && !now.After(v.to) }

// verify is x509svid.Verify of a chain at now. The bundle must be one that never
// changes: a source that has a new one returns another pointer.
func (c *verifiedChains) verify(chain []*x509.Certificate, bundle *x509bundle.Bundle, now time.Time) error {
	h := sha256.New()
	for _, cert := range chain {
		h.Write(cert.Raw) // DER says its own length
	}
	key := [32]byte(h.Sum(nil))
	if v, ok := c.get(key, bundle); ok && v.covers(now) {
		return nil
	}
	_, verified, err := x509svid.Verify(chain, bundle, x509svid.WithTime(now))
	if err != nil {
		return err
	}
	c.put(key, bundle, validityOf(verified[0]))
	return nil
}

func validityOf(chain []*x509.Certificate) validity {
	v := validity{chain[0].NotBefore, chain[0].NotAfter}
	for _, c := range chain[1:] {
		if c.NotBefore.After(v.from) {
			v.from = c.NotBefore
		}
		if c.NotAfter.Before(v.to) {
			v.to = c.NotAfter
		}
	}
	return v
}

func (c *verifiedChains) get(key [32]byte, bundle *x509bundle.Bundle) (validity, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bundle != bundle {
		return validity{}, false
	}
	v, ok := c.by[key]
	return v, ok
}

// put forgets everything where the bundle is another one, or where there is no
// room: only chains that verified get here, so nobody else can fill it.
func (c *verifiedChains) put(key [32]byte, bundle *x509bundle.Bundle, v validity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bundle != bundle || len(c.by) >= c.max {
		c.bundle, c.by = bundle, make(map[[32]byte]validity)
	}
	c.by[key] = v
}

// remembering verifies against a broker's own bundle and remembers.
type remembering struct {
	*brokerBundle
	chains verifiedChains
}

// verifyChain verifies against a source, through what it remembers if it does. An
// SVID of ours comes alone. With other certificates behind it a node could make
// as many chains of its one SVID as it likes, and have all others forgotten.
func verifyChain(chain []*x509.Certificate, bundles x509bundle.Source, td spiffeid.TrustDomain, now time.Time) error {
	r, ok := bundles.(*remembering)
	if !ok || len(chain) > 1 {
		_, _, err := x509svid.Verify(chain, bundles, x509svid.WithTime(now))
		return err
	}
	bundle, err := r.GetX509BundleForTrustDomain(td)
	if err != nil {
		return err
	}
	return r.chains.verify(chain, bundle, now)
}
