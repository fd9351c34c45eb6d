package server

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxClientChain bounds the certificates of a client chain: an SVID comes with
// no intermediates, a federated one with few.
const maxClientChain = 4

var nodeForm = regexp.MustCompile(`^[a-z2-7]{26}$`)

// peer is what a client certificate proved.
type peer struct {
	node string
	id   spiffeid.ID
}

// verifyPeer judges the client certificate of r against the bundle as it is
// now, on every request: a connection outlives the CA that was taken out of the
// bundle and the SVID that it began with. No certificate is a stranger, not an
// error; a bad one is reason.AuthInvalid.
func verifyPeer(r *http.Request, bundles x509bundle.Source, td spiffeid.TrustDomain, now time.Time) (peer, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return peer{}, nil
	}
	chain := r.TLS.PeerCertificates
	if len(chain) > maxClientChain {
		return peer{}, reason.New(reason.AuthInvalid, "too many client certificates")
	}
	id, err := x509svid.IDFromCert(chain[0])
	if err != nil {
		return peer{}, reason.Wrap(reason.AuthInvalid, "the client certificate has no SPIFFE ID", err)
	}
	// Before any signature is checked: other trust domains have no lane here.
	node, ok := nodeOf(id)
	if !ok || id.TrustDomain() != td {
		return peer{}, reason.New(reason.AuthInvalid, "the client certificate is not a node's of this trust domain")
	}
	_, _, err = x509svid.Verify(chain, bundles, x509svid.WithTime(now))
	if unready, ok := errors.AsType[*unreadableBundle](err); ok {
		return peer{}, unready.err // nobody can tell; that is no verdict on the caller
	}
	if err != nil {
		return peer{}, reason.Wrap(reason.AuthInvalid, "the client certificate does not verify against the bundle", err)
	}
	return peer{node: node, id: id}, nil
}

// nodeOf returns the node of a SPIFFE ID of design.md section 5:
// {zone,trial,exception}/<zone>/node/<node> or quarantine/node/<node>.
func nodeOf(id spiffeid.ID) (string, bool) {
	parts := strings.Split(strings.TrimPrefix(id.Path(), "/"), "/")
	switch {
	case len(parts) == 4 && (parts[0] == "zone" || parts[0] == "trial" || parts[0] == "exception"):
	case len(parts) == 3 && parts[0] == "quarantine":
	default:
		return "", false
	}
	node := parts[len(parts)-1]
	if parts[len(parts)-2] != "node" || !nodeForm.MatchString(node) {
		return "", false
	}
	return node, true
}

// brokerBundle reads the CAs out of the broker's own bundle document, and again
// whenever the document changes.
type brokerBundle struct {
	broker Broker
	td     spiffeid.TrustDomain

	mu     sync.Mutex
	doc    []byte             // by mu
	parsed *x509bundle.Bundle // of doc, by mu
}

// unreadableBundle is an error of the broker, not of the certificate.
type unreadableBundle struct{ err error }

// Error is that of the broker.
func (u *unreadableBundle) Error() string { return u.err.Error() }

// Unwrap shows it.
func (u *unreadableBundle) Unwrap() error { return u.err }

// GetX509BundleForTrustDomain implements x509bundle.Source.
func (b *brokerBundle) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	if td != b.td {
		return nil, errors.New("another trust domain")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	doc, err := b.broker.Bundle(ctx)
	if err != nil {
		return nil, &unreadableBundle{err}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parsed == nil || !bytes.Equal(doc, b.doc) {
		bundle, err := spiffebundle.Parse(b.td, doc)
		if err != nil {
			return nil, &unreadableBundle{err}
		}
		b.doc, b.parsed = bytes.Clone(doc), bundle.X509Bundle()
	}
	return b.parsed, nil
}
