package x509chain

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Roots are the configured CAs: of TPM manufacturers, of clouds. The zero value trusts nobody.
type Roots struct {
	anchors       *x509.CertPool
	intermediates *x509.CertPool
	n             int
}

// ErrNoAnchor says that certificates were given, and none that could be trusted.
var ErrNoAnchor = errors.New("CA certificates: no self-issued certificate among them, so nothing to trust")

// NewRoots reads CA certificates, each argument a PEM bundle or one DER
// certificate. Self-issued certificates become trust anchors, all others
// intermediates that must themselves chain to an anchor, so that the bundles of
// manufacturers can be given as they are. Nothing given is no error and trusts
// nobody; certificates without an anchor among them are one (ErrNoAnchor), as they
// would refuse every host in silence.
func NewRoots(bundles ...[]byte) (Roots, error) {
	r := Roots{anchors: x509.NewCertPool(), intermediates: x509.NewCertPool()}
	total := 0
	for i, b := range bundles {
		certs, err := ReadBundle(b)
		if err != nil {
			return Roots{}, fmt.Errorf("CA certificates, file %d: %w", i+1, err)
		}
		for _, c := range certs {
			total++
			if bytes.Equal(c.RawIssuer, c.RawSubject) {
				r.anchors.AddCert(c)
				r.n++
			} else {
				r.intermediates.AddCert(c)
			}
		}
	}
	if total > 0 && r.n == 0 {
		return Roots{}, ErrNoAnchor
	}
	return r, nil
}

// ReadBundle reads the certificates of a file that an operator configured: one in
// DER, or PEM blocks of certificates and no other. At least one.
func ReadBundle(b []byte) ([]*x509.Certificate, error) {
	block, rest := pem.Decode(b)
	if block == nil {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("neither PEM nor one DER certificate: %w", err)
		}
		return []*x509.Certificate{c}, nil
	}
	var out []*x509.Certificate
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block of type %q where a certificate was expected", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// Len returns the number of trust anchors.
func (r Roots) Len() int { return r.n }

// Chains returns the chains from leaf to an anchor that are good at the time at,
// each from leaf to anchor. sent are issuer certificates that came along; they
// can help to reach an anchor and never be one. Critical extensions of leaf and
// its extended key usage are the caller's to judge. The error is one of
// crypto/x509.
func (r Roots) Chains(leaf *x509.Certificate, sent []*x509.Certificate, at time.Time) ([][]*x509.Certificate, error) {
	if at.IsZero() { // crypto/x509 would read the clock of the machine
		return nil, x509.CertificateInvalidError{Cert: leaf, Reason: x509.Expired}
	}
	c := *leaf
	c.UnhandledCriticalExtensions = nil
	anchors, intermediates := r.pools(sent)
	return c.Verify(x509.VerifyOptions{
		Roots: anchors, Intermediates: intermediates, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
}

// IsExpired reports whether an error of Chains says that a certificate is
// outside its validity.
func IsExpired(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}

// pools returns pools that are never nil: crypto/x509 reads a nil pool of roots
// as "those of the operating system", where any web server's certificate is at
// home.
func (r Roots) pools(chain []*x509.Certificate) (anchors, intermediates *x509.CertPool) {
	anchors, intermediates = r.anchors, x509.NewCertPool()
	if anchors == nil {
		anchors = x509.NewCertPool()
	}
	if r.intermediates != nil {
		intermediates = r.intermediates.Clone()
	}
	for _, c := range chain {
		intermediates.AddCert(c)
	}
	return anchors, intermediates
}
