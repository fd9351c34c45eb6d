package akcert

import (
	"bytes"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Usages of the TCG (EK Credential Profile 2.5, 3.2.16; TPM 2.0 Keys for Device
// Identity and Attestation 1.0, 7.4).
var (
	oidExtKeyUsage = encoding_asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSubjectAlt  = encoding_asn1.ObjectIdentifier{2, 5, 29, 17}
	oidDirectory   = encoding_asn1.ObjectIdentifier{2, 5, 29, 9}
	oidEKUsage     = encoding_asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
	oidAKUsage     = encoding_asn1.ObjectIdentifier{2, 23, 133, 8, 3} // tcg-kp-AIKCertificate
)

// Options are what a broker decides about AK certificates. The zero value is the
// strict reading.
type Options struct {
	// CRLs are revocation lists; an issuer without one revokes nothing.
	CRLs x509chain.CRLs
}

// Certificate is an AK certificate whose chain, key and form were verified. The
// zero value vouches for nothing.
type Certificate struct {
	raw      []byte
	key      []byte // SubjectPublicKeyInfo
	instance Instance
	security properties
	issuer   string
	notAfter time.Time
}

// Verify judges whether a cloud under roots vouches for the attestation key
// akSPKI (SubjectPublicKeyInfo DER in its plain form) at the time now. raw is
// what lies in the NV index: DER, possibly behind a header and before fill
// bytes; chain holds issuer certificates in DER.
//
// Errors, in the order of the checks: request.too_large, tpm2.ak.cert_encoding,
// tpm2.ak.cert_key_mismatch, tpm2.ak.cert_validity, tpm2.ak.cert_usage, then for
// the chain tpm2.ak.cert_encoding, tpm2.ak.cert_validity or
// tpm2.ak.cert_untrusted, which covers revoked certificates, signatures with
// SHA-1 and unknown critical extensions.
func Verify(raw []byte, chain [][]byte, akSPKI []byte, roots x509chain.Roots, opts Options, now time.Time) (Certificate, error) {
	c, issuers, err := parse(raw, chain)
	if err != nil {
		return Certificate{}, err
	}
	instance, security, ok := readInstance(c)
	if !ok {
		return Certificate{}, reason.New(reason.TPM2AKCertEncoding, "the instance in the AK certificate does not parse")
	}
	_, spki, err := x509chain.SubjectKey(c.RawSubjectPublicKeyInfo)
	if err != nil {
		return Certificate{}, reason.Wrap(reason.TPM2AKCertEncoding, err.Error(), err)
	}
	if !bytes.Equal(spki, akSPKI) {
		return Certificate{}, reason.New(reason.TPM2AKCertKeyMismatch, "the AK certificate is for another key")
	}
	if now.IsZero() || now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return Certificate{}, reason.Newf(reason.TPM2AKCertValidity, "the AK certificate is valid from %s to %s, which %s is not within",
			c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly), now.UTC().Format(time.DateOnly))
	}
	if err := checkUsage(c); err != nil {
		return Certificate{}, err
	}
	if err := checkChain(c, issuers, roots, opts, now); err != nil {
		return Certificate{}, err
	}
	return Certificate{
		raw: bytes.Clone(c.Raw), key: spki, instance: instance, security: security, issuer: c.Issuer.CommonName, notAfter: c.NotAfter,
	}, nil
}

// SubjectKey returns the key that a certificate in raw names, in the form of
// Verify's akSPKI: for judging a certificate of which no TPM is at hand. Errors:
// request.too_large, tpm2.ak.cert_encoding.
func SubjectKey(raw []byte) ([]byte, error) {
	c, _, err := parse(raw, nil)
	if err != nil {
		return nil, err
	}
	_, spki, err := x509chain.SubjectKey(c.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, reason.Wrap(reason.TPM2AKCertEncoding, err.Error(), err)
	}
	return spki, nil
}

func parse(raw []byte, chain [][]byte) (*x509.Certificate, []*x509.Certificate, error) {
	if len(raw) > x509chain.MaxCertificate || len(chain) > x509chain.MaxChain {
		return nil, nil, reason.New(reason.RequestTooLarge, "the AK certificate is longer than 4096 bytes, or has more than four issuers")
	}
	der, ok := x509chain.Unwrap(raw)
	if !ok {
		return nil, nil, reason.New(reason.TPM2AKCertEncoding, "not one X.509 certificate in DER")
	}
	var out []*x509.Certificate
	for _, b := range append([][]byte{der}, chain...) {
		if len(b) > x509chain.MaxCertificate || x509chain.Oversized(b) {
			return nil, nil, reason.New(reason.RequestTooLarge, "a certificate or its key is too large")
		}
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, nil, reason.Wrap(reason.TPM2AKCertEncoding, "not one X.509 certificate in DER", err)
		}
		out = append(out, c)
	}
	return out[0], out[1:], nil
}

// checkUsage wants an end-entity certificate of a key that signs and does nothing
// else. Key usage decides: Google's older AK certificates carry the extended key
// usage of EK certificates. Where key usage is absent, the extended one has to
// say AK.
func checkUsage(c *x509.Certificate) error {
	if c.IsCA {
		return reason.New(reason.TPM2AKCertUsage, "a CA certificate is no AK certificate")
	}
	const encrypts = x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement | x509.KeyUsageDataEncipherment
	const issues = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	switch {
	case c.KeyUsage&(encrypts|issues) != 0:
		return reason.New(reason.TPM2AKCertUsage, "key usage is that of an EK or a CA, not of an AK")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return reason.New(reason.TPM2AKCertUsage, "key usage does not allow signatures")
	}
	present, isAK, isEK := extendedUsage(c)
	if c.KeyUsage == 0 && !isAK || present && !isAK && !isEK {
		return reason.New(reason.TPM2AKCertUsage, "nothing in the certificate says that the key is an AK")
	}
	return nil
}

// extendedUsage looks for the extension itself: an empty one must not read as
// none.
func extendedUsage(c *x509.Certificate) (present, isAK, isEK bool) {
	for _, ext := range c.Extensions {
		present = present || ext.Id.Equal(oidExtKeyUsage)
	}
	for _, id := range c.UnknownExtKeyUsage {
		isAK, isEK = isAK || id.Equal(oidAKUsage), isEK || id.Equal(oidEKUsage)
	}
	return present, isAK, isEK
}

func checkChain(c *x509.Certificate, issuers []*x509.Certificate, roots x509chain.Roots, opts Options, now time.Time) error {
	for _, id := range c.UnhandledCriticalExtensions {
		if !id.Equal(oidSubjectAlt) && !id.Equal(oidDirectory) {
			return reason.Newf(reason.TPM2AKCertUntrusted, "critical extension %s is unknown", id)
		}
	}
	chains, err := roots.Chains(c, issuers, now)
	switch {
	case x509chain.IsExpired(err):
		return reason.Wrap(reason.TPM2AKCertValidity, "an issuer of the AK certificate is not valid at this time", err)
	case err != nil:
		return reason.Wrap(reason.TPM2AKCertUntrusted, "the AK certificate does not chain to a configured root", err)
	}
	var refused error
	for _, chain := range chains {
		if refused = opts.CRLs.Check(chain, now); refused == nil {
			return nil
		}
	}
	return reason.Wrap(reason.TPM2AKCertUntrusted, refused.Error(), refused)
}

// Instance returns the machine that the certificate names; the zero value where
// it names none.
func (c Certificate) Instance() Instance { return c.instance }

// Issuer returns the common name of the certificate's issuer.
func (c Certificate) Issuer() string { return c.issuer }

// NotAfter returns the end of the certificate's validity.
func (c Certificate) NotAfter() time.Time { return c.notAfter }

// Raw returns the certificate in DER without header and fill; the slice is the
// caller's.
func (c Certificate) Raw() []byte { return bytes.Clone(c.raw) }
