package x509chain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// What can be wrong with a subject key.
var (
	ErrKeyEncoding = errors.New("the subject key does not parse")
	ErrKeyType     = errors.New("the subject key is neither RSA for encryption nor on P-256 or P-384")
)

// Algorithms that a certificate may give its subject key (RFC 3279, RFC
// 4055, RFC 5480).
var (
	oidRSA   = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidOAEP  = encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidECKey = encoding_asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP256  = encoding_asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384  = encoding_asn1.ObjectIdentifier{1, 3, 132, 0, 34}
)

// SubjectKey decodes a SubjectPublicKeyInfo itself, as crypto/x509 leaves the key
// of an RSAES-OAEP certificate out. It returns the key (*rsa.PublicKey or
// *ecdsa.PublicKey) and its plain form (rsaEncryption or id-ecPublicKey, DER),
// which is how the key of a TPM is written here too. Errors: ErrKeyEncoding,
// ErrKeyType.
func SubjectKey(raw []byte) (key crypto.PublicKey, spki []byte, err error) {
	in := cryptobyte.String(raw)
	var body, alg, bits cryptobyte.String
	var oid encoding_asn1.ObjectIdentifier
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !in.Empty() ||
		!body.ReadASN1(&alg, asn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) ||
		!body.ReadASN1(&bits, asn1.BIT_STRING) || !body.Empty() || len(bits) == 0 || bits[0] != 0 {
		return nil, nil, ErrKeyEncoding
	}
	switch {
	case oid.Equal(oidRSA), oid.Equal(oidOAEP):
		key, err = rsaKey(bits[1:])
	case oid.Equal(oidECKey):
		key, err = eccKey(alg, bits[1:])
	default:
		return nil, nil, ErrKeyType
	}
	if err != nil {
		return nil, nil, err
	}
	spki, err = x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, nil, ErrKeyEncoding
	}
	return key, spki, nil
}

func rsaKey(der cryptobyte.String) (crypto.PublicKey, error) {
	var body cryptobyte.String
	n, e := new(big.Int), 0
	if !der.ReadASN1(&body, asn1.SEQUENCE) || !der.Empty() ||
		!body.ReadASN1Integer(n) || !body.ReadASN1Integer(&e) || !body.Empty() || n.Sign() <= 0 || e <= 0 {
		return nil, ErrKeyEncoding
	}
	return &rsa.PublicKey{N: n, E: e}, nil
}

func eccKey(params cryptobyte.String, point []byte) (crypto.PublicKey, error) {
	var named encoding_asn1.ObjectIdentifier
	var curve elliptic.Curve
	switch {
	case !params.ReadASN1ObjectIdentifier(&named):
		return nil, ErrKeyType
	case named.Equal(oidP256):
		curve = elliptic.P256()
	case named.Equal(oidP384):
		curve = elliptic.P384()
	default:
		return nil, ErrKeyType
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, ErrKeyEncoding
	}
	return key, nil
}
