package x509chain

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Tags of the header that TPM 1.2 era firmware puts before the certificate (TCG
// PC Client Specific Implementation Specification 1.21, 7.3.2).
const (
	tagStoredCert = 0x1001 // TCG_TAG_PCCLIENT_STORED_CERT
	tagFullCert   = 0x1002 // TCG_TAG_PCCLIENT_FULL_CERT
)

// Limits of what a stranger may send.
const (
	// MaxCertificate bounds every certificate in bytes, NV fill included.
	MaxCertificate = 4 << 10
	// MaxChain bounds the issuer certificates sent along.
	MaxChain = 4
)

// Unwrap takes the certificate out of what lies in the NV index: an optional
// header of 5 or 7 bytes before it, and the fill of the index behind it, which
// is one byte throughout. Other bytes before or behind make it fail. The result
// is one ASN.1 element of raw and shares its memory.
func Unwrap(raw []byte) ([]byte, bool) {
	b, ok := stripHeader(raw)
	if !ok {
		return nil, false
	}
	s := cryptobyte.String(b)
	var der cryptobyte.String
	if !s.ReadASN1Element(&der, asn1.SEQUENCE) || !isFill(s) {
		return nil, false
	}
	return der, true
}

// stripHeader: tag, type 0 (full certificate), length, and in the longer form
// the inner tag, which the length counts.
func stripHeader(b []byte) ([]byte, bool) {
	if len(b) < 5 || binary.BigEndian.Uint16(b) != tagStoredCert {
		return b, true
	}
	n := int(binary.BigEndian.Uint16(b[3:]))
	if b[2] != 0 || n > len(b)-5 {
		return nil, false
	}
	if !isFill(b[5+n:]) {
		return nil, false
	}
	b = b[5 : 5+n]
	if len(b) >= 2 && binary.BigEndian.Uint16(b) == tagFullCert {
		b = b[2:]
	}
	return b, true
}

// minRun is the shortest run of an unusual fill byte (0x11 was seen) that counts
// as fill; fewer such bytes are rather the remains of something else.
const minRun = 16

func isFill(b []byte) bool {
	for _, c := range b {
		if c != b[0] {
			return false
		}
	}
	return len(b) == 0 || b[0] == 0x00 || b[0] == 0xff || len(b) >= minRun
}

// maxKeyBits and maxExponentBits bound the RSA keys of certificates that
// strangers send: a chain of RSA-16384 keys would make one verification cost
// milliseconds.
const (
	maxKeyBits      = 4096
	maxExponentBits = 32
)

// Oversized reports whether the subject key of a certificate is an RSA key above
// the limits. It reads no more than the way there, before anything is parsed or
// computed; bytes that lead nowhere are left to the strict parser.
func Oversized(der []byte) bool {
	key, ok := subjectKey(der)
	if !ok {
		return false
	}
	var body, modulus, exponent cryptobyte.String
	if !key.ReadASN1(&body, asn1.SEQUENCE) ||
		!body.ReadASN1(&modulus, asn1.INTEGER) || !body.ReadASN1(&exponent, asn1.INTEGER) {
		return false
	}
	return significantBits(modulus) > maxKeyBits || significantBits(exponent) > maxExponentBits
}

// subjectKey walks to the content of subjectPublicKey (RFC 5280, 4.1).
func subjectKey(der []byte) (cryptobyte.String, bool) {
	in := cryptobyte.String(der)
	var cert, tbs, spki, bits cryptobyte.String
	ok := in.ReadASN1(&cert, asn1.SEQUENCE) && cert.ReadASN1(&tbs, asn1.SEQUENCE) &&
		tbs.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) && // version
		tbs.SkipASN1(asn1.INTEGER) && // serial
		tbs.SkipASN1(asn1.SEQUENCE) && // signature
		tbs.SkipASN1(asn1.SEQUENCE) && // issuer
		tbs.SkipASN1(asn1.SEQUENCE) && // validity
		tbs.SkipASN1(asn1.SEQUENCE) && // subject
		tbs.ReadASN1(&spki, asn1.SEQUENCE) && spki.SkipASN1(asn1.SEQUENCE) &&
		spki.ReadASN1(&bits, asn1.BIT_STRING)
	if !ok || len(bits) == 0 || bits[0] != 0 {
		return nil, false
	}
	return bits[1:], true
}

func significantBits(b []byte) int {
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	return 8 * len(b)
}
