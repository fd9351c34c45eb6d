package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxClientChain bounds the certificates of a client chain: an SVID comes with
// no intermediates, a federated one with few.
const maxClientChain = 4

var nodeForm = regexp.MustCompile(`^[a-z2-7]{26}$`)

// peer is what a client certificate proved: a node or an operator, never both.
type peer struct {
	node string
	id   spiffeid.ID
	cert *x509.Certificate // of the node

	operator string // name of a role certificate
	role     broker.Role
}

// verifyPeer judges the client certificate of r against bundle and operators as
// they are now, on every request: a connection outlives the CA that was taken out
// of the bundle, the SVID that it began with and the role that was revoked. No certificate is a stranger, not an
// error; a bad one is reason.AuthInvalid.
func (s *Server) verifyPeer(r *http.Request, now time.Time) (peer, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return peer{}, nil
	}
	chain := r.TLS.PeerCertificates
	if len(chain) > maxClientChain {
		return peer{}, reason.New(reason.AuthInvalid, "too many client certificates")
	}
	if len(chain[0].URIs) == 0 && s.cfg.Operator != nil {
		return verifyOperator(r, chain, s.cfg.Operator, now)
	}
	return verifyNode(chain, s.cfg.Bundles, s.td, now)
}

func verifyNode(chain []*x509.Certificate, bundles x509bundle.Source, td spiffeid.TrustDomain, now time.Time) (peer, error) {
	id, err := x509svid.IDFromCert(chain[0])
	if err != nil {
		return peer{}, reason.Wrap(reason.AuthInvalid, "the client certificate has no SPIFFE ID", err)
	}
	// Before any signature is checked: other trust domains have no lane here.
	node, ok := nodeOf(id)
	if !ok || id.TrustDomain() != td {
		return peer{}, reason.New(reason.AuthInvalid, "the client certificate is not a node's of this trust domain")
	}
	err = verifyChain(chain, bundles, td, now)
	if unready, ok := errors.AsType[*unreadableBundle](err); ok {
		return peer{}, unready.err // nobody can tell; that is no verdict on the caller
	}
	if err != nil {
		return peer{}, reason.Wrap(reason.AuthInvalid, "the client certificate does not verify against the bundle", err)
	}
	return peer{node: node, id: id, cert: chain[0]}, nil
}

// verifyOperator judges a role certificate. It is self-signed: what counts is
// its key, which the handshake proved and the broker's table knows. The table is
// asked first, from memory, so that a stranger's certificate costs a hash.
func verifyOperator(r *http.Request, chain []*x509.Certificate, table Operator, now time.Time) (peer, error) {
	cert := chain[0]
	name, role, err := table.OperatorByKey(sha256.Sum256(cert.RawSubjectPublicKeyInfo))
	if err != nil {
		return peer{}, err
	}
	switch {
	case len(chain) != 1, cert.IsCA, len(cert.UnhandledCriticalExtensions) > 0,
		!slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return peer{}, reason.New(reason.AuthInvalid, "the client certificate is not one of zonebroker operator add")
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return peer{}, reason.New(reason.AuthInvalid, "the client certificate is not valid now")
	case role != broker.RoleAuditor && role != broker.RoleOperator:
		return peer{}, reason.New(reason.AuthInvalid, "the client certificate has no role")
	case fromAnotherSite(r):
		return peer{}, reason.New(reason.AuthForbidden, "requests that pages of other sites make are not answered")
	}
	return peer{operator: name, role: role}, nil
}

// fromAnotherSite: a browser that holds a role certificate shows it to us for
// every page that asks it to. No page of another site acts for an operator; the
// command line sends neither header.
func fromAnotherSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return true
	}
	origin := r.Header.Get("Origin")
	return origin != "" && origin != "https://"+r.Host
}

// authorize compares who asks with whom the route is for. A route that the
// listener does not have is not found before; everybody else learns which of
// the two is missing, a certificate or the right one.
func authorize(c Caller, who role) error {
	var ok bool
	switch who {
	case anyone:
		return nil
	case agents:
		ok = c.Role == broker.RoleNone
	case node:
		ok = c.NodeID != ""
	case auditor:
		ok = c.Role != broker.RoleNone
	case operator:
		ok = c.Role == broker.RoleOperator || c.Role == broker.RoleAdmin
	case admin:
		ok = c.Role == broker.RoleAdmin
	}
	switch {
	case ok:
		return nil
	case c.NodeID != "" || c.Role != broker.RoleNone:
		return reason.New(reason.AuthForbidden, "this certificate may not ask for this")
	case who == node:
		return reason.New(reason.AuthRequired, "the node's SVID is needed as client certificate")
	}
	return reason.New(reason.AuthRequired, "a role certificate is needed; see zonebroker operator add")
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
