package pkcs7

import (
	"crypto/sha256"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Limits of what a stranger may send. An identity document of AWS has about 1.4
// KiB, an attested document of Azure with its certificate about 4 KiB.
const (
	// MaxText bounds a message as it was sent, in bytes.
	MaxText = 32 << 10
	// MaxCertificates bounds the certificates in a message.
	MaxCertificates = 8
	// MaxCertificate bounds each of them, in bytes.
	MaxCertificate = 8 << 10
)

// Object identifiers (RFC 5652, 4, 5.1 and 11; RFC 8017, appendix C; RFC 5754).
var (
	oidData          = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSHA256        = encoding_asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA256WithRSA = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidRSA           = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
)

// Profile says which of the forms a kind of message may have. The zero value is
// DER with signed attributes.
type Profile struct {
	// BER takes lengths of the indefinite form and octet strings in pieces.
	BER bool
	// NoAttributes takes messages without signed attributes: the signature is then
	// over the content itself.
	NoAttributes bool
	// DigestWithRSA takes the name of the signature algorithm where that of the
	// digest belongs, as Azure writes it.
	DigestWithRSA bool
}

// Claimed is a message that is well formed: what it says is not verified.
type Claimed struct {
	content        []byte
	attributes     []byte // as signed: SET OF Attribute; nil for none
	digest         []byte // of the attribute messageDigest
	issuer, serial []byte // DER
	signature      []byte
	bag            []*x509.Certificate
}

// Parse reads a message in DER or, where the profile says so, BER; Decode yields
// it. Errors, in the order of the checks: request.too_large, pkcs7.encoding,
// pkcs7.signer_count, pkcs7.algorithm, pkcs7.content, pkcs7.attributes,
// pkcs7.signer_unknown (named by a key identifier).
func Parse(raw []byte, p Profile) (Claimed, error) {
	if len(raw) > MaxText {
		return Claimed{}, reason.New(reason.RequestTooLarge, "the signed message is longer than 32 KiB")
	}
	if p.BER {
		der, err := toDER(raw)
		if err != nil {
			return Claimed{}, err
		}
		raw = der
	}
	in := cryptobyte.String(raw)
	var outer, wrapped, body cryptobyte.String
	var kind encoding_asn1.ObjectIdentifier
	if !in.ReadASN1(&outer, asn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1ObjectIdentifier(&kind) ||
		!kind.Equal(oidSignedData) || !outer.ReadASN1(&wrapped, context(0)) || !outer.Empty() ||
		!wrapped.ReadASN1(&body, asn1.SEQUENCE) || !wrapped.Empty() {
		return Claimed{}, malformed("not one SignedData, or bytes behind it")
	}
	var version int
	var digests, inner, bag, signers cryptobyte.String
	var hasBag bool
	if !body.ReadASN1Integer(&version) || version != 1 || !body.ReadASN1(&digests, asn1.SET) ||
		!body.ReadASN1(&inner, asn1.SEQUENCE) || !body.ReadOptionalASN1(&bag, &hasBag, context(0)) ||
		!body.ReadASN1(&signers, asn1.SET) || !body.Empty() {
		return Claimed{}, malformed("SignedData is not version, digests, content, certificates and signers")
	}
	var c Claimed
	content, err := readContentInfo(inner)
	if err != nil {
		return Claimed{}, err
	}
	if c.bag, err = readBag(bag); err != nil {
		return Claimed{}, err
	}
	if err := c.readSigners(signers, digests, content, p); err != nil {
		return Claimed{}, err
	}
	return c, nil
}

func context(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }

func malformed(what string) error { return reason.New(reason.PKCS7Encoding, what) }

// contentInfo is ContentInfo {contentType, [0] EXPLICIT OCTET STRING}.
type contentInfo struct {
	kind    encoding_asn1.ObjectIdentifier
	wrapped cryptobyte.String
	present bool
}

func readContentInfo(in cryptobyte.String) (contentInfo, error) {
	var c contentInfo
	if !in.ReadASN1ObjectIdentifier(&c.kind) || !in.ReadOptionalASN1(&c.wrapped, &c.present, context(0)) || !in.Empty() {
		return contentInfo{}, malformed("the content is not a type and a value")
	}
	return c, nil
}

// octets returns what was signed.
func (c contentInfo) octets() ([]byte, error) {
	var content cryptobyte.String
	switch {
	case !c.kind.Equal(oidData):
		return nil, reason.Newf(reason.PKCS7Content, "the content is of type %s, not data", c.kind)
	case !c.present:
		return nil, reason.New(reason.PKCS7Content, "the content is detached")
	case !c.wrapped.ReadASN1(&content, asn1.OCTET_STRING) || !c.wrapped.Empty() || len(content) == 0:
		return nil, reason.New(reason.PKCS7Content, "the content is not one octet string")
	}
	return content, nil
}

// readBag wants every certificate to be one, also those that nobody asks for.
func readBag(in cryptobyte.String) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for !in.Empty() {
		var der cryptobyte.String
		if !in.ReadASN1Element(&der, asn1.SEQUENCE) {
			return nil, malformed("not an X.509 certificate among the certificates")
		}
		if len(out) == MaxCertificates || len(der) > MaxCertificate || x509chain.Oversized(der) {
			return nil, reason.New(reason.RequestTooLarge, "more than eight certificates, or one that is too large")
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, reason.Wrap(reason.PKCS7Encoding, "a certificate in the message does not parse", err)
		}
		out = append(out, cert)
	}
	return out, nil
}

// readSigners reads the one signer, and then judges in the order of Parse.
func (c *Claimed) readSigners(in, digests cryptobyte.String, content contentInfo, p Profile) error {
	var body, more cryptobyte.String
	if in.Empty() {
		return reason.New(reason.PKCS7SignerCount, "nobody signed the message")
	}
	if !in.ReadASN1(&body, asn1.SEQUENCE) {
		return malformed("the signer does not parse")
	}
	if !in.Empty() {
		if !in.ReadASN1(&more, asn1.SEQUENCE) {
			return malformed("bytes behind the signer")
		}
		return reason.New(reason.PKCS7SignerCount, "more than one signer")
	}
	s, err := readSigner(body)
	if err != nil {
		return err
	}
	if err := checkAlgorithms(digests, s.digest, s.algorithm, p); err != nil {
		return err
	}
	if c.content, err = content.octets(); err != nil {
		return err
	}
	if s.hasAttributes {
		err = c.readAttributes(s.attributes)
	} else {
		err = c.withoutAttributes(p)
	}
	if err != nil {
		return err
	}
	if s.serial == nil {
		return reason.New(reason.PKCS7SignerUnknown, "the signer is named by a key identifier, not by issuer and serial number")
	}
	c.issuer, c.serial, c.signature = s.issuer, s.serial, s.signature
	return nil
}

// signerInfo is SignerInfo {version, issuer and serial number, digest algorithm,
// [0] attributes, signature algorithm, signature}. Of a signer that is named by a key
// identifier issuer and serial are nil.
type signerInfo struct {
	issuer, serial                           cryptobyte.String
	digest, attributes, algorithm, signature cryptobyte.String
	hasAttributes                            bool
}

// readSigner refuses attributes that nobody signed: nothing would hold them.
func readSigner(body cryptobyte.String) (signerInfo, error) {
	var s signerInfo
	var version int
	var name cryptobyte.String
	if !body.ReadASN1Integer(&version) {
		return s, malformed("the signer has no version")
	}
	keyID := asn1.Tag(0).ContextSpecific()
	byKey := version == 3 && body.PeekASN1Tag(keyID)
	named := byKey && body.SkipASN1(keyID) || version == 1 && body.ReadASN1(&name, asn1.SEQUENCE)
	if !named || !body.ReadASN1Element(&s.digest, asn1.SEQUENCE) || !body.ReadOptionalASN1(&s.attributes, &s.hasAttributes, context(0)) ||
		!body.ReadASN1Element(&s.algorithm, asn1.SEQUENCE) || !body.ReadASN1(&s.signature, asn1.OCTET_STRING) || !body.Empty() {
		return s, malformed("the signer does not parse, or has attributes that are not signed")
	}
	if !byKey && (!name.ReadASN1Element(&s.issuer, asn1.SEQUENCE) || !name.ReadASN1Element(&s.serial, asn1.INTEGER) || !name.Empty()) {
		return s, malformed("the signer is not named by issuer and serial number")
	}
	return s, nil
}

// checkAlgorithms: the list before the content names the signer's digest and no
// other. The two may differ in writing its absent parameters as NULL.
func checkAlgorithms(digests, digest, algorithm cryptobyte.String, p Profile) error {
	allowed := []encoding_asn1.ObjectIdentifier{oidSHA256}
	if p.DigestWithRSA {
		allowed = append(allowed, oidSHA256WithRSA)
	}
	if !isAlgorithm(digests, allowed) || !isAlgorithm(digest, allowed) {
		return reason.New(reason.PKCS7Algorithm, "the digest is not SHA-256, and that alone")
	}
	if !isAlgorithm(algorithm, []encoding_asn1.ObjectIdentifier{oidRSA, oidSHA256WithRSA}) {
		return reason.New(reason.PKCS7Algorithm, "the signature is not RSA with SHA-256")
	}
	return nil
}

// isAlgorithm wants AlgorithmIdentifier {one of allowed, NULL or nothing}.
func isAlgorithm(in cryptobyte.String, allowed []encoding_asn1.ObjectIdentifier) bool {
	var body, null cryptobyte.String
	var id encoding_asn1.ObjectIdentifier
	var present bool
	return in.ReadASN1(&body, asn1.SEQUENCE) && in.Empty() && body.ReadASN1ObjectIdentifier(&id) &&
		body.ReadOptionalASN1(&null, &present, asn1.NULL) && null.Empty() && body.Empty() &&
		slices.ContainsFunc(allowed, id.Equal)
}

// withoutAttributes: the signature is over the content. Content that reads as the
// SET of another message's attributes could carry that message's signature
// (RFC 5652, 5.4, leaves this to the application).
func (c *Claimed) withoutAttributes(p Profile) error {
	if !p.NoAttributes {
		return reason.New(reason.PKCS7Attributes, "no signed attributes")
	}
	if c.content[0] == byte(asn1.SET) {
		return reason.New(reason.PKCS7Attributes, "no signed attributes, and content that reads as such")
	}
	return nil
}

// readAttributes wants contentType and messageDigest once, each with one value,
// and no attribute twice (RFC 5652, 5.3 and 11). Others are signed and say
// nothing here.
func (c *Claimed) readAttributes(in cryptobyte.String) error {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(in) })
	set, err := b.Bytes()
	if err != nil {
		return malformed("the signed attributes do not parse")
	}
	var seen []encoding_asn1.ObjectIdentifier
	var typed bool
	for !in.Empty() {
		var attribute, values cryptobyte.String
		var id encoding_asn1.ObjectIdentifier
		if !in.ReadASN1(&attribute, asn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&id) ||
			!attribute.ReadASN1(&values, asn1.SET) || !attribute.Empty() {
			return malformed("a signed attribute does not parse")
		}
		if slices.ContainsFunc(seen, id.Equal) {
			return reason.Newf(reason.PKCS7Attributes, "the signed attribute %s stands twice", id)
		}
		seen = append(seen, id)
		switch {
		case id.Equal(oidContentType):
			var kind encoding_asn1.ObjectIdentifier
			typed = values.ReadASN1ObjectIdentifier(&kind) && values.Empty() && kind.Equal(oidData)
			if !typed {
				return reason.New(reason.PKCS7Attributes, "the signed content type is not that of the content")
			}
		case id.Equal(oidMessageDigest):
			var digest cryptobyte.String
			if !values.ReadASN1(&digest, asn1.OCTET_STRING) || !values.Empty() || len(digest) != sha256.Size {
				return reason.New(reason.PKCS7Attributes, "the signed message digest is not one SHA-256")
			}
			c.digest = digest
		}
	}
	if !typed || c.digest == nil {
		return reason.New(reason.PKCS7Attributes, "content type or message digest is not among the signed attributes")
	}
	c.attributes = set
	return nil
}

// InsecureContent returns the content before anybody verified its signature: for
// asking a platform about what it names, never for facts. The slice is the
// caller's.
func (c Claimed) InsecureContent() []byte { return slices.Clone(c.content) }

// Candidate returns the one certificate of the message that bears issuer and
// serial number of its signer: attacker bytes, for a caller that finds its trust
// in chains. Error: pkcs7.signer_unknown where the message has none or several.
func (c Claimed) Candidate() (*x509.Certificate, error) {
	var found *x509.Certificate
	for _, cert := range c.bag {
		if !c.isSigner(cert) {
			continue
		}
		if found != nil {
			return nil, reason.New(reason.PKCS7SignerUnknown, "two certificates bear the issuer and serial number of the signer")
		}
		found = cert
	}
	if found == nil {
		return nil, reason.New(reason.PKCS7SignerUnknown, "no certificate in the message is that of its signer")
	}
	return found, nil
}

// Others returns the certificates of the message beside those of its signer, for
// building a chain: attacker bytes.
func (c Claimed) Others() []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(c.bag), c.isSigner)
}
