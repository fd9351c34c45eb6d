package tpm2

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxPublic bounds a TPMT_PUBLIC in bytes. An RSA-4096 key with a SHA-512
// policy takes 602; a larger key is refused before anything computes with it.
const maxPublic = 1 << 10

// TPMA_OBJECT bits (TPM 2.0 Library Part 2, 8.3.2).
const (
	attrFixedTPM             uint32 = 1 << 1
	attrSTClear              uint32 = 1 << 2
	attrFixedParent          uint32 = 1 << 4
	attrSensitiveDataOrigin  uint32 = 1 << 5
	attrUserWithAuth         uint32 = 1 << 6
	attrAdminWithPolicy      uint32 = 1 << 7
	attrNoDA                 uint32 = 1 << 10
	attrEncryptedDuplication uint32 = 1 << 11
	attrRestricted           uint32 = 1 << 16
	attrDecrypt              uint32 = 1 << 17
	attrSign                 uint32 = 1 << 18

	// attrDefined are the bits that we know. Later revisions give meaning to
	// others (firmwareLimited, svnLimited, x509sign): keys of other hierarchies
	// or uses, which must not pass as what they are not.
	attrDefined = attrFixedTPM | attrSTClear | attrFixedParent | attrSensitiveDataOrigin |
		attrUserWithAuth | attrAdminWithPolicy | attrNoDA | attrEncryptedDuplication |
		attrRestricted | attrDecrypt | attrSign

	// attrResident must be set in every key whose private part never left its
	// TPM and never came from outside.
	attrResident = attrFixedTPM | attrFixedParent | attrSensitiveDataOrigin
)

// symmetric is a TPMT_SYM_DEF_OBJECT; bits and mode are 0 for algNull.
type symmetric struct{ alg, bits, mode uint16 }

// scheme is a TPMT_RSA_SCHEME, TPMT_ECC_SCHEME or TPMT_KDF_SCHEME; hash is 0
// where the scheme has none, count only for ECDAA.
type scheme struct{ alg, hash, count uint16 }

// publicArea is a decoded TPMT_PUBLIC of an asymmetric key. Slices point into
// the input.
type publicArea struct {
	kind       uint16
	nameAlg    uint16
	attributes uint32
	policy     []byte
	sym        symmetric
	scheme     scheme
	bits       uint16 // RSA: size of the modulus
	exponent   uint32 // RSA: 0 means 65537
	curve      uint16 // ECC
	kdf        scheme // ECC
	x, y       []byte // RSA: x is the modulus, y is nil
}

var (
	// errEncoding: truncated, trailing or non-canonical bytes.
	errEncoding = errors.New("tpm2: public area is not canonical")
	// errAlgorithm: an algorithm whose parameters the decoder cannot delimit.
	// Attributes are decoded by then.
	errAlgorithm = errors.New("tpm2: public area of an unknown algorithm")
	// errVersion1: a key structure of TPM 1.2.
	errVersion1 = errors.New("tpm2: public area of a TPM 1.2")
	errTooLarge = reason.New(reason.RequestTooLarge, "TPMT_PUBLIC is longer than 1024 bytes")
)

// parsePublic decodes a TPMT_PUBLIC. Every byte of the input lies in exactly one
// field, so no two inputs decode alike.
func parsePublic(b []byte) (publicArea, error) {
	var p publicArea
	if len(b) > maxPublic {
		return p, errTooLarge
	}
	if isVersion1Key(b) {
		return p, errVersion1
	}
	r := &reader{rest: b}
	p.kind, p.nameAlg, p.attributes, p.policy = r.u16(), r.u16(), r.u32(), r.sized()
	if r.failed {
		return p, errEncoding
	}
	var err error
	switch p.kind {
	case algRSA:
		err = p.parseRSA(r)
	case algECC:
		err = p.parseECC(r)
	default:
		err = errAlgorithm
	}
	if err != nil {
		return p, err
	}
	if r.failed || len(r.rest) != 0 {
		return p, errEncoding
	}
	return p, nil
}

func (p *publicArea) parseRSA(r *reader) error {
	if !p.sym.parse(r) || !p.scheme.parse(r) {
		return unlessFailed(r)
	}
	p.bits, p.exponent, p.x = r.u16(), r.u32(), r.sized()
	return nil
}

func (p *publicArea) parseECC(r *reader) error {
	if !p.sym.parse(r) || !p.scheme.parse(r) {
		return unlessFailed(r)
	}
	p.curve = r.u16()
	p.kdf.parseKDF(r)
	p.x, p.y = r.sized(), r.sized()
	return nil
}

// unlessFailed: an algorithm field that was not there is truncation, not an
// unknown algorithm.
func unlessFailed(r *reader) error {
	if r.failed {
		return errEncoding
	}
	return errAlgorithm
}

// parse reports whether the algorithm is one whose length is known.
func (s *symmetric) parse(r *reader) bool {
	s.alg = r.u16()
	switch s.alg {
	case algNull:
		return true
	case algAES, algSM4, algCamellia:
		s.bits, s.mode = r.u16(), r.u16()
		return true
	}
	return false
}

func (s *scheme) parse(r *reader) bool {
	s.alg = r.u16()
	switch s.alg {
	case algNull, algRSAES:
		return true
	case algRSASSA, algRSAPSS, algOAEP, algECDSA, algSM2, algECSchnorr, algECDH, algECMQV:
		s.hash = r.u16()
		return true
	case algECDAA:
		s.hash, s.count = r.u16(), r.u16()
		return true
	}
	return false
}

// parseKDF: every TPM_ALG_KDF of the registry carries one hash; only NULL
// carries none. Which of them a key may have is the caller's question.
func (s *scheme) parseKDF(r *reader) {
	s.alg = r.u16()
	if s.alg != algNull {
		s.hash = r.u16()
	}
}

// isVersion1Key recognises what TPM 1.2 agents send as a public key: TPM_PUBKEY
// (algorithm id 1 in 32 bits), TPM_KEY (version 1.1) and TPM_KEY12 (tag 0x0028).
// No TPMT_PUBLIC begins so: its type would be 0x0000, 0x0101 or 0x0028.
func isVersion1Key(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	switch binary.BigEndian.Uint32(b) {
	case 0x00000001, 0x01010000, 0x00280000:
		return true
	}
	return false
}

// nameOf returns nameAlg and digest of a public area whose nameAlg is SHA-256.
// It hashes the received bytes: after a strict parse they are the only ones
// that decode to this key.
func nameOf(public []byte) []byte {
	sum := sha256.Sum256(public)
	return append([]byte{byte(algSHA256 >> 8), byte(algSHA256)}, sum[:]...)
}
