package nitro

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Limits of what a document carries. NSM bounds a certificate by 1024 bytes
// (aws-nitro-enclaves-nsm-api, nsm.h), and real bundles hold four.
const (
	maxCertificate = 2048
	maxBundle      = 8
	maxRoots       = 16
)

// oidNameConstraints (RFC 5280, 4.2.1.10). No certificate of this PKI has them,
// and this package does not read them.
const oidNameConstraints = "2.5.29.30"

// Trust is the configured roots. The zero value trusts nobody.
type Trust struct{ roots []*x509.Certificate }

// NewTrust reads root certificates, each argument PEM blocks of type CERTIFICATE
// and nothing else. A root has to be a CA with a P-384 key. AWS publishes one for
// its commercial regions (SHA-256 of the DER 641a0321…79bb5b); which ones are
// trusted is the operator's part.
func NewTrust(bundles ...[]byte) (Trust, error) {
	var t Trust
	for _, b := range bundles {
		for rest := bytes.TrimSpace(b); len(rest) > 0; rest = bytes.TrimSpace(rest) {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
				return Trust{}, fmt.Errorf("nitro root: not PEM certificates alone")
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return Trust{}, fmt.Errorf("nitro root: %w", err)
			}
			if !issues(c) || !isP384(c) {
				return Trust{}, fmt.Errorf("nitro root %q: not a CA with a P-384 key", c.Subject.CommonName)
			}
			t.roots = append(t.roots, c)
		}
	}
	if len(t.roots) > maxRoots {
		return Trust{}, fmt.Errorf("nitro roots: more than %d", maxRoots)
	}
	return t, nil
}

// Len returns the number of roots.
func (t Trust) Len() int { return len(t.roots) }

// Roots returns the roots; the slice is the caller's.
func (t Trust) Roots() []*x509.Certificate { return append([]*x509.Certificate(nil), t.roots...) }

func isP384(c *x509.Certificate) bool {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	return ok && key.Curve == elliptic.P384()
}

// issues: the certificate may sign others.
func issues(c *x509.Certificate) bool {
	return c.BasicConstraintsValid && c.IsCA && (c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0)
}

// parseLeaf wants the certificate of an end entity with a P-384 key. A library
// that took the curve from the certificate could be led to one that it does not
// know; here each other curve ends before any signature is looked at.
func parseLeaf(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, reason.New(reason.NitroLeaf, "the certificate of the document is longer than 2048 bytes")
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, reason.Wrap(reason.NitroLeaf, "the certificate of the document is not one in DER", err)
	}
	switch {
	case c.IsCA || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return nil, reason.New(reason.NitroLeaf, "the certificate of the document is that of a CA")
	case !isP384(c):
		return nil, reason.New(reason.NitroLeaf, "the key of the document's certificate is not one of P-384")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return nil, reason.New(reason.NitroLeaf, "the key of the document's certificate is not one for signatures")
	}
	return c, nil
}

// parseBundle reads the issuers, root first.
func parseBundle(bundle []any) ([]*x509.Certificate, error) {
	if len(bundle) == 0 || len(bundle) > maxBundle {
		return nil, reason.New(reason.NitroCabundle, "the bundle is empty or holds more than eight certificates")
	}
	out := make([]*x509.Certificate, len(bundle))
	for i, v := range bundle {
		der, ok := v.([]byte)
		if !ok || len(der) > maxCertificate {
			return nil, reason.New(reason.NitroCabundle, "an element of the bundle is no byte string, or longer than 2048 bytes")
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, reason.Wrap(reason.NitroCabundle, "an element of the bundle is not one certificate in DER", err)
		}
		out[i] = c
	}
	return out, nil
}

// verifyChain wants each certificate to have been signed by the one before it,
// from a configured root to the leaf, all of them valid now. The document's own
// time decides nothing here: it would make every stale document valid for ever.
func (t Trust) verifyChain(bundle []*x509.Certificate, leaf *x509.Certificate, now time.Time) error {
	root := t.pinned(bundle[0])
	if root == nil {
		return reason.New(reason.NitroUntrusted, "the first certificate of the bundle is no configured root")
	}
	chain := append([]*x509.Certificate{root}, bundle[1:]...)
	chain = append(chain, leaf)
	for _, c := range chain {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return reason.Newf(reason.NitroValidity, "%q is valid from %s to %s, which %s is not within", c.Subject.CommonName,
				c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		}
	}
	for i, issuer := range chain[:len(chain)-1] {
		if err := signed(issuer, chain[i+1], len(chain)-2-i); err != nil {
			return err
		}
	}
	return nil
}

func (t Trust) pinned(first *x509.Certificate) *x509.Certificate {
	for _, r := range t.roots {
		if bytes.Equal(r.Raw, first.Raw) {
			return r
		}
	}
	return nil
}

// signed checks one link (RFC 5280, 6.1). below is the number of CAs between
// issuer and leaf.
func signed(issuer, c *x509.Certificate, below int) error {
	limited := issuer.MaxPathLen > 0 || issuer.MaxPathLenZero
	switch {
	case !issues(issuer) || !isP384(issuer) || limited && below > issuer.MaxPathLen:
		return reason.Newf(reason.NitroUntrusted, "%q may not issue the next certificate", issuer.Subject.CommonName)
	case !bytes.Equal(issuer.RawSubject, c.RawIssuer):
		return reason.Newf(reason.NitroUntrusted, "%q does not follow in the bundle", c.Subject.CommonName)
	case c.SignatureAlgorithm != x509.ECDSAWithSHA384:
		return reason.Newf(reason.NitroUntrusted, "%q is not signed with ECDSA and SHA-384", c.Subject.CommonName)
	case len(c.UnhandledCriticalExtensions) > 0 || constrainsNames(c):
		return reason.Newf(reason.NitroUntrusted, "%q has an extension that is not known here", c.Subject.CommonName)
	}
	if err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return reason.Wrap(reason.NitroUntrusted, "a certificate of the chain was not signed by the one before it", err)
	}
	return nil
}

func constrainsNames(c *x509.Certificate) bool {
	for _, ext := range c.Extensions {
		if ext.Id.String() == oidNameConstraints {
			return true
		}
	}
	return false
}
