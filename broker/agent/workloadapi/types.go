package workloadapi

import (
	"context"
	"crypto"
	"crypto/x509"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/api"
)

// Identity is an X.509-SVID of a workload with its key. It is shared between
// callers and never changed once given out.
type Identity struct {
	SPIFFEID string
	Chain    []*x509.Certificate // leaf first, without the root
	// Key is the leaf's: *ecdsa.PrivateKey, *rsa.PrivateKey or ed25519.PrivateKey,
	// because the protocol hands it to the workload as PKCS#8.
	Key        crypto.Signer
	ExpiresAt  time.Time // end of the certificate
	FreshUntil time.Time // end of the evidence that it stands on
}

// Token is a JWT-SVID of a workload for one audience.
type Token struct {
	SPIFFEID  string
	Audience  string
	Token     string // compact JWS; a bearer credential
	ExpiresAt time.Time
}

// Source is where a Server takes identities from. Its methods are called by
// many goroutines at once, once for each stream and change: the methods with a
// context have to answer from a cache where they can, and join concurrent
// requests for the same thing.
//
// Errors whose reason.Code is of class deny become PermissionDenied, all others
// Unavailable: a caller is told the code and its public detail, nothing else.
type Source interface {
	// Changed returns a channel that is closed at the next change of anything
	// below, an expiry included. It is asked for before the state is read, so
	// that no change is missed.
	Changed() <-chan struct{}
	// Workloads returns the rules of the node's zone in document order: nil while
	// the node has no zone, empty where the zone has no workloads. The slice is
	// not changed by either side.
	Workloads() []api.Workload
	// X509SVID returns the identity of the workload of that name.
	X509SVID(ctx context.Context, workload string) (Identity, error)
	// JWTSVID returns a token of the workload of that name for one audience.
	JWTSVID(ctx context.Context, workload, audience string) (Token, error)
	// TrustBundle returns the bundle of the trust domain, nil before the first.
	// It is not changed by either side.
	TrustBundle() *spiffebundle.Bundle
	// TrustDomain returns the node's trust domain, the zero value before it is known.
	TrustDomain() spiffeid.TrustDomain
}
