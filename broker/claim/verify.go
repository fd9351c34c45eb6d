package claim

import (
	"crypto/x509"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Grace says what a checker makes of a claim past fresh_until whose
// certificate still lives (design section 5).
type Grace string

// Graces. A broker issues SVIDs that outlive fresh_until, so that an outage of
// brokers does not take the fleet down; how much of that to accept is the
// checker's choice.
const (
	GraceNever      Grace = "never"       // the default: fresh or refused
	GraceOutageOnly Grace = "outage_only" // only while the checker itself cannot reach the broker
	GraceAlways     Grace = "always"      // until the certificate ends
)

// Option changes how Verify judges.
type Option func(*settings)

type settings struct {
	grace    Grace
	outage   bool
	minEpoch int64
}

// WithGrace sets the grace; an unknown one reads as GraceNever.
func WithGrace(g Grace) Option { return func(s *settings) { s.grace = g } }

// WithOutage says whether the checker's own last fetch of bundle or epoch
// failed. It matters only for GraceOutageOnly.
func WithOutage(failing bool) Option { return func(s *settings) { s.outage = failing } }

// WithMinEpoch refuses claims of an older epoch of the zone.
func WithMinEpoch(epoch int64) Option { return func(s *settings) { s.minEpoch = epoch } }

// Verified is a claim that counted at the time of Verify. Only Verify makes one.
type Verified struct {
	id       spiffeid.ID
	claims   Claims
	notAfter time.Time
	stale    bool
}

// ID returns the SPIFFE ID.
func (v Verified) ID() spiffeid.ID { return v.id }

// Zone returns the name of the zone.
func (v Verified) Zone() string { return v.claims.Zone.Name }

// Tier returns the tier of the zone, 0 to 4.
func (v Verified) Tier() int { return v.claims.Zone.Tier }

// Node returns the id of the node that was attested, also for a workload.
func (v Verified) Node() string { return v.claims.Zone.Node }

// Claims returns a copy of the whole claims-set.
func (v Verified) Claims() Claims { return v.claims.clone() }

// AttestedAt returns when the challenge of the attestation was issued.
func (v Verified) AttestedAt() time.Time { return time.Unix(v.claims.Zone.AttestedAt, 0).UTC() }

// FreshUntil returns the end of the promise while all is well.
func (v Verified) FreshUntil() time.Time { return time.Unix(v.claims.Zone.FreshUntil, 0).UTC() }

// NotAfter returns the end of the certificate.
func (v Verified) NotAfter() time.Time { return v.notAfter }

// Stale reports that the claim counted only by grace.
func (v Verified) Stale() bool { return v.stale }

// Verify checks an X.509-SVID, leaf first, against the bundle of its trust
// domain at now, reads its zone claim, and checks that the claim belongs to the
// SPIFFE ID and is fresh. It returns auth.invalid for a chain, identity or
// claim that does not hold, and policy.evidence_age for a claim past
// fresh_until that the grace does not cover, or of an epoch that has ended.
//
// Only identities under /zone/ verify. What a broker issues under /trial/,
// /exception/ or /quarantine/ has not earned the zone.
func Verify(chain []*x509.Certificate, bundle x509bundle.Source, now time.Time, opts ...Option) (Verified, error) {
	s := settings{grace: GraceNever}
	for _, o := range opts {
		o(&s)
	}
	if err := usable(chain, bundle, now); err != nil {
		return Verified{}, err
	}
	id, _, err := x509svid.Verify(chain, bundle, x509svid.WithTime(now))
	if err != nil {
		return Verified{}, reason.Wrap(reason.AuthInvalid, "the certificate is not a valid X.509-SVID of the trust domain", err)
	}
	leaf := chain[0]
	c, err := FromCertificateInsecure(leaf)
	if err != nil {
		return Verified{}, err
	}
	if err := matches(id, c.Zone); err != nil {
		return Verified{}, err
	}
	v := Verified{id: id, claims: c, notAfter: leaf.NotAfter}
	if c.Expires != 0 && (leaf.NotAfter.Unix() > c.Expires || now.Unix() >= c.Expires) {
		return Verified{}, reason.New(reason.AuthInvalid, "the zone claim has ended")
	}
	if c.Zone.Epoch < s.minEpoch {
		return Verified{}, reason.New(reason.PolicyEvidenceAge, "the zone claim is of an epoch that has ended")
	}
	if v.stale = now.Unix() >= c.Zone.FreshUntil; v.stale && !s.tolerates() {
		return Verified{}, reason.New(reason.PolicyEvidenceAge, "the attestation behind the zone claim is no longer fresh")
	}
	return v, nil
}

// usable refuses what go-spiffe would panic on, and the zero time, which
// crypto/x509 takes to mean its own clock.
func usable(chain []*x509.Certificate, bundle x509bundle.Source, now time.Time) error {
	if bundle == nil || now.IsZero() || len(chain) == 0 {
		return reason.New(reason.AuthInvalid, "there is no certificate, bundle or time to verify with")
	}
	for _, c := range chain {
		if c == nil {
			return reason.New(reason.AuthInvalid, "the chain has a gap")
		}
	}
	return nil
}

func (s settings) tolerates() bool {
	return s.grace == GraceAlways || s.grace == GraceOutageOnly && s.outage
}

// matches compares the path of the SPIFFE ID with the claim. Checkers that read
// only the path and checkers that read only the claim must see the same zone.
func matches(id spiffeid.ID, z Zone) error {
	parts := strings.Split(id.Path(), "/")
	if len(parts) != 5 || parts[1] != "zone" || parts[2] != z.Name {
		return reason.New(reason.AuthInvalid, "the SPIFFE ID is not of the zone that the claim names")
	}
	switch {
	case parts[3] == "node" && parts[4] == z.Node:
	case parts[3] == "workload" && validSegment(parts[4]):
	default:
		return reason.New(reason.AuthInvalid, "the SPIFFE ID is not of the node that the claim names")
	}
	return nil
}
