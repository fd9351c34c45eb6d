package ekcert

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Extensions and usages (RFC 5280; TCG EK Credential Profile 2.5).
var (
	oidSubjectAltName      = encoding_asn1.ObjectIdentifier{2, 5, 29, 17}
	oidDirectoryAttributes = encoding_asn1.ObjectIdentifier{2, 5, 29, 9}
	oidExtKeyUsage         = encoding_asn1.ObjectIdentifier{2, 5, 29, 37}
	oidEKCertificate       = encoding_asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
)

// Options are what a zone or a broker decides about EK certificates. The zero
// value is the strict reading with the whole vendor registry.
type Options struct {
	// Vendors are the allowed manufacturers, as registered short name ("STM") or
	// id ("id:53544D20"); empty means every registered one.
	Vendors []string
	// AllowExpired accepts a certificate past its notAfter, or one whose issuer is
	// past it: the chain is then verified as of the certificate's notBefore, and
	// Expired reports it. A notBefore in the future never passes.
	AllowExpired bool
	// CRLs are revocation lists; an issuer without one revokes nothing.
	CRLs x509chain.CRLs
	// ExtraVendors are allowed beside the registry and beside Vendors, for
	// example "id:00001014" of a lab's software TPMs.
	ExtraVendors []string
}

// Certificate is an EK certificate whose chain, key and form were verified. The
// zero value vouches for nothing.
type Certificate struct {
	raw      []byte
	vendor   vendorID
	names    tpmNames
	notAfter time.Time
	expired  bool
}

// Roots are the configured manufacturer CAs. The zero value trusts nobody.
type Roots = x509chain.Roots

// NewRoots reads manufacturers' CA certificates, as x509chain.NewRoots does.
func NewRoots(bundles ...[]byte) (Roots, error) { return x509chain.NewRoots(bundles...) }

// Verify judges whether a manufacturer under roots vouches for the endorsement
// key ekSPKI (SubjectPublicKeyInfo DER in its plain form, as tpm2.EK.SPKI gives
// it) at the time now. raw is what lies in the NV index: DER, possibly behind a
// header and before fill bytes; chain holds issuer certificates in DER.
//
// Errors, in the order of the checks: request.too_large, ekcert.encoding,
// ekcert.key_type, ekcert.key_mismatch, ekcert.weak_key, ekcert.validity,
// ekcert.is_ca, ekcert.critical_extension, ekcert.usage, ekcert.san,
// ekcert.vendor_denied, ekcert.weak_signature, then for the chain ekcert.encoding,
// ekcert.validity, ekcert.untrusted or ekcert.revoked.
func Verify(raw []byte, chain [][]byte, ekSPKI []byte, roots Roots, opts Options, now time.Time) (Certificate, error) {
	if err := checkSizes(raw, chain); err != nil {
		return Certificate{}, err
	}
	c, err := parse(raw)
	if err != nil {
		return Certificate{}, err
	}
	key, err := checkKey(c, ekSPKI)
	if err != nil {
		return Certificate{}, err
	}
	if err := checkTime(c, opts, now); err != nil {
		return Certificate{}, err
	}
	if err := checkProfile(c, key); err != nil {
		return Certificate{}, err
	}
	vendor, names, err := readTPMNames(c)
	if err != nil {
		return Certificate{}, err
	}
	if !vendor.allowed(opts) {
		return Certificate{}, reason.Newf(reason.EKCertVendorDenied, "TPM manufacturer %s is not allowed", vendor)
	}
	expired, err := verifyChain(c, chain, roots, opts, now)
	if err != nil {
		return Certificate{}, err
	}
	return Certificate{raw: bytes.Clone(c.Raw), vendor: vendor, names: names, notAfter: c.NotAfter, expired: expired}, nil
}

// SubjectKey returns the key that a certificate in raw names, in the form of
// Verify's ekSPKI: for judging a certificate of which no TPM is at hand. Errors:
// request.too_large, ekcert.encoding, ekcert.key_type.
func SubjectKey(raw []byte) ([]byte, error) {
	if err := checkSizes(raw, nil); err != nil {
		return nil, err
	}
	c, err := parse(raw)
	if err != nil {
		return nil, err
	}
	_, spki, err := subjectKey(c)
	return spki, err
}

// CheckKey judges an endorsement key by itself, certificate or not; spki is as
// Verify takes it. Errors: ekcert.encoding, ekcert.key_type, ekcert.weak_key.
func CheckKey(spki []byte) error {
	key, _, err := subjectKeyOf(spki)
	if err != nil {
		return err
	}
	return checkStrength(key)
}

func checkSizes(raw []byte, chain [][]byte) error {
	if len(raw) > x509chain.MaxCertificate {
		return reason.New(reason.RequestTooLarge, "the EK certificate is longer than 4096 bytes")
	}
	if len(chain) > x509chain.MaxChain {
		return reason.New(reason.RequestTooLarge, "more than four issuer certificates")
	}
	for _, b := range chain {
		if len(b) > x509chain.MaxCertificate || x509chain.Oversized(b) {
			return reason.New(reason.RequestTooLarge, "an issuer certificate or its key is too large")
		}
	}
	return nil
}

func parse(raw []byte) (*x509.Certificate, error) {
	der, ok := x509chain.Unwrap(raw)
	if !ok {
		return nil, errEncoding()
	}
	if x509chain.Oversized(der) {
		return nil, reason.New(reason.RequestTooLarge, "the key of the EK certificate is too large")
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, reason.Wrap(reason.EKCertEncoding, "not one X.509 certificate in DER", err)
	}
	return c, nil
}

func errEncoding() error {
	return reason.New(reason.EKCertEncoding, "not one X.509 certificate in DER")
}

func subjectKey(c *x509.Certificate) (crypto.PublicKey, []byte, error) {
	return subjectKeyOf(c.RawSubjectPublicKeyInfo)
}

func subjectKeyOf(raw []byte) (crypto.PublicKey, []byte, error) {
	key, spki, err := x509chain.SubjectKey(raw)
	switch {
	case errors.Is(err, x509chain.ErrKeyType):
		return nil, nil, reason.New(reason.EKCertKeyType, err.Error())
	case err != nil:
		return nil, nil, errEncoding()
	}
	return key, spki, nil
}

func checkKey(c *x509.Certificate, ekSPKI []byte) (crypto.PublicKey, error) {
	key, spki, err := subjectKey(c)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(spki, ekSPKI) {
		return nil, reason.New(reason.EKCertKeyMismatch, "the EK certificate is for another key")
	}
	return key, checkStrength(key)
}

// checkTime refuses the zero time, which crypto/x509 would read as the clock of
// the machine.
func checkTime(c *x509.Certificate, opts Options, now time.Time) error {
	if now.IsZero() || now.Before(c.NotBefore) || now.After(c.NotAfter) && !opts.AllowExpired {
		return reason.Newf(reason.EKCertValidity, "the EK certificate is valid from %s to %s, which %s is not within",
			c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly), now.UTC().Format(time.DateOnly))
	}
	return nil
}

// checkProfile compares with the TCG EK Credential Profile: an end-entity
// certificate, nothing critical that we do not judge, a key for encryption only.
func checkProfile(c *x509.Certificate, key crypto.PublicKey) error {
	if c.IsCA {
		return reason.New(reason.EKCertIsCA, "a CA certificate is no EK certificate")
	}
	for _, id := range c.UnhandledCriticalExtensions {
		if !id.Equal(oidSubjectAltName) && !id.Equal(oidDirectoryAttributes) {
			return reason.Newf(reason.EKCertCriticalExtension, "critical extension %s is unknown", id)
		}
	}
	if !hasEKUsage(c) {
		return reason.New(reason.EKCertUsage, "extended key usage is not that of an EK certificate")
	}
	want := x509.KeyUsageKeyAgreement
	if _, ok := key.(*rsa.PublicKey); ok {
		want = x509.KeyUsageKeyEncipherment
	}
	if c.KeyUsage != 0 && c.KeyUsage&want == 0 {
		return reason.New(reason.EKCertUsage, "key usage does not allow what an EK does")
	}
	return nil
}

// hasEKUsage looks for the extension itself: an empty one must not read as none.
func hasEKUsage(c *x509.Certificate) bool {
	present := false
	for _, ext := range c.Extensions {
		present = present || ext.Id.Equal(oidExtKeyUsage)
	}
	for _, id := range c.UnknownExtKeyUsage {
		if id.Equal(oidEKCertificate) {
			return true
		}
	}
	return !present
}

// verifyChain reports whether the chain is good only as of the certificate's
// notBefore.
func verifyChain(c *x509.Certificate, chain [][]byte, roots Roots, opts Options, now time.Time) (expired bool, err error) {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return false, reason.New(reason.EKCertWeakSignature, "the EK certificate is signed with SHA-1 or older")
	}
	var issuers []*x509.Certificate
	for _, b := range chain {
		ca, err := x509.ParseCertificate(b)
		if err != nil {
			return false, reason.Wrap(reason.EKCertEncoding, "an issuer certificate is not one X.509 certificate in DER", err)
		}
		issuers = append(issuers, ca)
	}
	chains, err := roots.Chains(c, issuers, now)
	if x509chain.IsExpired(err) && opts.AllowExpired {
		expired = true
		chains, err = roots.Chains(c, issuers, c.NotBefore)
	}
	switch {
	case x509chain.IsExpired(err):
		return false, reason.Wrap(reason.EKCertValidity, "an issuer of the EK certificate is not valid at this time", err)
	case err != nil:
		return false, untrusted(roots, err)
	}
	return expired, checkRevocation(chains, opts.CRLs, now)
}

// untrusted names the command where nothing is configured that could be trusted.
func untrusted(roots Roots, err error) error {
	if roots.Len() == 0 {
		return reason.Wrap(reason.EKCertUntrusted, "no manufacturer's root is configured (zonebroker trust refresh)", err)
	}
	return reason.Wrap(reason.EKCertUntrusted, "the EK certificate does not chain to a configured manufacturer", err)
}

// checkRevocation wants one chain of which no list names a part.
func checkRevocation(chains [][]*x509.Certificate, lists x509chain.CRLs, now time.Time) error {
	var first error
	for _, chain := range chains {
		err := lists.Check(chain, now)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return reason.Wrap(reason.EKCertRevoked, first.Error(), first)
}

// Manufacturer returns the registered short name, for example "STM", or
// "id:XXXXXXXX" for an id that is not in the registry.
func (c Certificate) Manufacturer() string {
	if c.raw == nil {
		return ""
	}
	return c.vendor.name()
}

// Model returns the TPM model as the manufacturer wrote it, dots for control
// characters; "" where the certificate has none.
func (c Certificate) Model() string { return printable(c.names.model) }

// FirmwareVersion returns the TPM version as the manufacturer wrote it, for
// example "id:00490004": that of the day of manufacture.
func (c Certificate) FirmwareVersion() string { return printable(c.names.version) }

// printable keeps a text storable and in one line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '.'
		}
		return r
	}, s)
}

// NotAfter returns the end of the certificate's validity.
func (c Certificate) NotAfter() time.Time { return c.notAfter }

// Expired reports that certificate or chain were past their validity, and were
// accepted only because Options allow it.
func (c Certificate) Expired() bool { return c.expired }

// Raw returns the certificate in DER without header and fill; the slice is the
// caller's.
func (c Certificate) Raw() []byte { return bytes.Clone(c.raw) }

// minKeyBits: the smallest EK of any template.
const minKeyBits = 2048

// checkStrength refuses RSA keys that are short or that carry the fingerprint of
// CVE-2017-15361: whoever factors one is that TPM.
func checkStrength(key crypto.PublicKey) error {
	pub, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil
	}
	if pub.N.BitLen() < minKeyBits {
		return reason.New(reason.EKCertWeakKey, "the RSA modulus is shorter than 2048 bits")
	}
	if roca(pub.N) {
		return reason.New(reason.EKCertWeakKey, "the RSA modulus has the ROCA fingerprint (CVE-2017-15361)")
	}
	return nil
}
