package client

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Trust says who may vouch for a broker: the trust anchor (its certificate or
// its pin), the X.509 authorities of a SPIFFE bundle, or both. The zero value
// trusts nobody and makes no client.
type Trust struct {
	anchors     []*x509.Certificate
	pins        [][sha256.Size]byte
	authorities []*x509.Certificate
}

// maxTrustFile bounds an anchor or bundle before it is parsed.
const maxTrustFile = 1 << 20

// Anchor trusts the anchor certificate in text: exactly one PEM block of type
// CERTIFICATE that is a CA. Not secret, but trusted: whoever can change the
// file chooses whom the host talks to.
func Anchor(text []byte) (Trust, error) {
	block, rest := pem.Decode(text)
	switch {
	case len(text) > maxTrustFile:
		return Trust{}, errors.New("trust anchor: larger than 1 MiB")
	case block == nil || block.Type != "CERTIFICATE":
		return Trust{}, errors.New("trust anchor: no PEM block of type CERTIFICATE")
	case len(strings.TrimSpace(string(rest))) != 0:
		return Trust{}, errors.New("trust anchor: more than one certificate, or text behind it")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Trust{}, fmt.Errorf("trust anchor: %w", err)
	}
	if err := mayIssue(c); err != nil {
		return Trust{}, fmt.Errorf("trust anchor: %w", err)
	}
	return Trust{anchors: []*x509.Certificate{c}}, nil
}

// Pin trusts the anchor whose key has this digest: "sha256:" and 64 hex digits
// of the SHA-256 of its SubjectPublicKeyInfo. The broker sends the anchor
// certificate in its handshake.
func Pin(text string) (Trust, error) {
	digits, ok := strings.CutPrefix(text, "sha256:")
	digest, err := hex.DecodeString(digits)
	if !ok || err != nil || len(digest) != sha256.Size {
		return Trust{}, errors.New(`pin: want "sha256:" and 64 hex digits`)
	}
	return Trust{pins: [][sha256.Size]byte{[sha256.Size]byte(digest)}}, nil
}

// Bundle trusts the X.509 authorities of a SPIFFE bundle document. Such a
// document does not name its trust domain; Config.TrustDomain does, or the
// broker's verified certificate.
func Bundle(document []byte) (Trust, error) {
	if len(document) > maxTrustFile {
		return Trust{}, errors.New("bundle: larger than 1 MiB")
	}
	// The trust domain is only a label of the parsed value here.
	b, err := spiffebundle.Parse(spiffeid.RequireTrustDomainFromString("unnamed"), document)
	if err != nil {
		return Trust{}, fmt.Errorf("bundle: %w", err)
	}
	if len(b.X509Authorities()) == 0 {
		return Trust{}, errors.New("bundle: no X.509 authority")
	}
	return Trust{authorities: b.X509Authorities()}, nil
}

// And returns a trust that accepts what either accepts. An agent joins its
// anchor and its last bundle, so that a host that was off for longer than any
// replica's CA finds its way back.
func (t Trust) And(other Trust) Trust {
	return Trust{
		anchors:     append(t.anchors[:len(t.anchors):len(t.anchors)], other.anchors...),
		pins:        append(t.pins[:len(t.pins):len(t.pins)], other.pins...),
		authorities: append(t.authorities[:len(t.authorities):len(t.authorities)], other.authorities...),
	}
}

// Empty reports whether t trusts nobody.
func (t Trust) Empty() bool {
	return len(t.anchors) == 0 && len(t.pins) == 0 && len(t.authorities) == 0
}

// PinOf returns the pin of a certificate's key: "sha256:" and hex.
func PinOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Ways in which a broker proved who it is.
const (
	ByAnchor = "anchor"
	ByPin    = "pin"
	ByBundle = "bundle"
)

// Peer is an authenticated broker.
type Peer struct {
	id  spiffeid.ID
	way string
	pin string
}

// ID returns spiffe://<trust domain>/broker.
func (p Peer) ID() spiffeid.ID { return p.id }

// TrustDomain returns the broker's trust domain.
func (p Peer) TrustDomain() spiffeid.TrustDomain { return p.id.TrustDomain() }

// Way returns ByAnchor, ByPin or ByBundle.
func (p Peer) Way() string { return p.way }

// Pin returns the pin of the anchor or authority that vouched.
func (p Peer) Pin() string { return p.pin }

// Verify judges the chain that a broker presented, leaf first. The leaf must be
// a server certificate of exactly spiffe://<td>/broker, signed directly by a
// trusted anchor or bundle authority, all of them valid at now. A zero td takes
// the leaf's own trust domain; the caller then pins it. Names of hosts play no
// part: a broker is who it is at any address.
func (t Trust) Verify(chain []*x509.Certificate, td spiffeid.TrustDomain, now time.Time) (Peer, error) {
	if len(chain) == 0 {
		return Peer{}, errors.New("the server sent no certificate")
	}
	leaf := chain[0]
	id, err := brokerID(leaf, td)
	if err != nil {
		return Peer{}, err
	}
	issuers := t.issuers(chain[1:])
	if len(issuers) == 0 {
		if t.Empty() {
			return Peer{}, errors.New("nothing is trusted yet: no anchor, pin or bundle was given")
		}
		return Peer{}, errors.New("no certificate of the chain has the pinned key")
	}
	var why error
	for _, issuer := range issuers {
		err := signedBy(leaf, issuer.cert, now)
		if err == nil {
			return Peer{id: id, way: issuer.way, pin: PinOf(issuer.cert)}, nil
		}
		why = errors.Join(why, fmt.Errorf("%s %s: %w", issuer.way, PinOf(issuer.cert), err))
	}
	return Peer{}, why
}

// brokerID requires exactly the SPIFFE ID of a broker: a node's or a workload's
// SVID of the same trust domain must not be able to pose as one.
func brokerID(leaf *x509.Certificate, td spiffeid.TrustDomain) (spiffeid.ID, error) {
	if len(leaf.URIs) != 1 {
		return spiffeid.ID{}, fmt.Errorf("the server's certificate has %d URI names, want exactly one", len(leaf.URIs))
	}
	id, err := spiffeid.FromURI(leaf.URIs[0])
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("the server's certificate has no SPIFFE ID: %w", err)
	}
	if id.Path() != "/broker" {
		return spiffeid.ID{}, fmt.Errorf("the server is %s, not a broker", id)
	}
	if !td.IsZero() && id.TrustDomain() != td {
		return spiffeid.ID{}, fmt.Errorf("the server is a broker of trust domain %s, not of %s", id.TrustDomain(), td)
	}
	return id, nil
}

// issuer is a certificate that may vouch for a broker.
type issuer struct {
	cert *x509.Certificate
	way  string
}

// issuers lists who may have signed the leaf: anchors, what the server sent of
// pinned anchors, and the authorities of the bundle.
func (t Trust) issuers(sent []*x509.Certificate) []issuer {
	var out []issuer
	for _, c := range t.anchors {
		out = append(out, issuer{c, ByAnchor})
	}
	for _, c := range sent {
		digest := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		for _, pin := range t.pins {
			if digest == pin {
				out = append(out, issuer{c, ByPin})
			}
		}
	}
	for _, c := range t.authorities {
		out = append(out, issuer{c, ByBundle})
	}
	return out
}

// mayIssue: an anchor is a CA that may sign certificates. A server certificate
// that is configured as anchor would otherwise vouch for itself.
func mayIssue(c *x509.Certificate) error {
	if !c.BasicConstraintsValid || !c.IsCA {
		return errors.New("not a CA certificate")
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("its key may not sign certificates")
	}
	return nil
}

// signedBy checks one link and no longer chain: an anchor signs replicas'
// certificates itself, and whatever stands between would be a stranger.
func signedBy(leaf, by *x509.Certificate, now time.Time) error {
	if err := mayIssue(by); err != nil {
		return err
	}
	if leaf.IsCA {
		return errors.New("the server's certificate is a CA")
	}
	roots := x509.NewCertPool()
	roots.AddCert(by)
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}
