package tpm2

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"math/big"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxSignature bounds a TPMT_SIGNATURE in bytes; RSA-4096 takes 518.
const maxSignature = 600

// signature is a decoded TPMT_SIGNATURE of RSASSA or ECDSA. Slices point into
// the input.
type signature struct {
	scheme, hash uint16
	first        []byte // RSASSA: the signature; ECDSA: r
	second       []byte // ECDSA: s
}

// parseSignature decodes a TPMT_SIGNATURE. The scheme is compared before the
// rest is read: a structure of another scheme has another shape.
func parseSignature(b []byte, scheme uint16) (signature, error) {
	if len(b) > maxSignature {
		return signature{}, reason.New(reason.RequestTooLarge, "TPMT_SIGNATURE is longer than 600 bytes")
	}
	r := &reader{rest: b}
	s := signature{scheme: r.u16()}
	if r.failed {
		return s, errSignatureEncoding("TPMT_SIGNATURE ends early")
	}
	if s.scheme != scheme {
		return s, reason.Newf(reason.TPM2SignatureScheme, "signature scheme %#04x is not that of the AK", s.scheme)
	}
	s.hash = r.u16()
	if r.failed {
		return s, errSignatureEncoding("TPMT_SIGNATURE ends early")
	}
	if s.hash != algSHA256 {
		return s, reason.Newf(reason.TPM2SignatureHash, "signature hash %#04x is not the AK's SHA-256", s.hash)
	}
	s.first = r.sized()
	if s.scheme == algECDSA {
		s.second = r.sized()
	}
	if r.failed || len(r.rest) != 0 {
		return s, errSignatureEncoding("not exactly one TPMT_SIGNATURE")
	}
	return s, nil
}

// RawRSASSA makes a TPMT_SIGNATURE of a bare RSASSA-SHA256 signature, as the
// vTPMs of Azure hand it out: without the header that names scheme and hash. It
// is an adapter for such evidence alone, never a fallback for a structure that
// does not parse: the header is not signed, and a verifier that guesses it lets
// the sender choose.
func RawRSASSA(sig []byte) []byte {
	out := make([]byte, 0, 6+len(sig))
	out = binary.BigEndian.AppendUint16(out, algRSASSA)
	out = binary.BigEndian.AppendUint16(out, algSHA256)
	out = binary.BigEndian.AppendUint16(out, uint16(min(len(sig), maxSignature)))
	return append(out, sig...)
}

func errSignatureEncoding(detail string) error {
	return reason.New(reason.TPM2SignatureEncoding, detail)
}

// verifySignature checks that ak signed message. What passes is signed by ak,
// but not uniquely encoded: (r, n-s) verifies too, so the bytes of a signature
// identify nothing.
func verifySignature(ak *AK, message, raw []byte) error {
	s, err := parseSignature(raw, ak.scheme)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(message)
	switch key := ak.key.(type) {
	case *rsa.PublicKey:
		return s.verifyRSA(key, digest[:])
	case *ecdsa.PublicKey:
		return s.verifyECDSA(key, digest[:])
	}
	return reason.New(reason.TPM2AKParameters, "there is no AK to verify with")
}

// verifyRSA leaves numbers above the modulus to the verification: a signature by
// another key of the same size may be one, and is invalid, not misshapen.
func (s signature) verifyRSA(key *rsa.PublicKey, digest []byte) error {
	if len(s.first) != key.Size() {
		return errSignatureEncoding("an RSA signature has the length of the modulus")
	}
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, digest, s.first) != nil {
		return errSignatureInvalid()
	}
	return nil
}

func (s signature) verifyECDSA(key *ecdsa.PublicKey, digest []byte) error {
	params := key.Params()
	size, order := params.BitSize/8, params.N.Bytes()
	if !scalar(s.first, size, order) || !scalar(s.second, size, order) {
		return errSignatureEncoding("r and s are numbers from 1 to below the order of the curve")
	}
	if !ecdsa.Verify(key, digest, new(big.Int).SetBytes(s.first), new(big.Int).SetBytes(s.second)) {
		return errSignatureInvalid()
	}
	return nil
}

// scalar reports whether b is in [1, order), written either minimally (the TCG
// reference code) or padded to the size of the curve (other chips).
func scalar(b []byte, size int, order []byte) bool {
	if len(b) == 0 || len(b) > size {
		return false
	}
	minimal := bytes.TrimLeft(b, "\x00")
	if len(minimal) == 0 || (len(b) != size && len(minimal) != len(b)) {
		return false
	}
	return len(minimal) < len(order) || bytes.Compare(minimal, order) < 0
}

func errSignatureInvalid() error {
	return reason.New(reason.TPM2SignatureInvalid, "the signature does not verify under the AK")
}
