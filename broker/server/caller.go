package server

import (
	"net/http"
	"regexp"
	"strings"
	"time"

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
	if now.After(chain[0].NotAfter) {
		return peer{}, reason.New(reason.AuthInvalid, "the client certificate has expired")
	}
	if _, _, err := x509svid.Verify(chain, bundles, x509svid.WithTime(now)); err != nil {
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
