package tpm2

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"
)

// Sizes of RSA keys. Above 4096 bits a verification costs more than the answer
// is worth; TPMs do not go beyond.
const (
	minRSABits = 2048
	maxRSABits = 4096

	defaultExponent = 65537 // what exponent 0 means (Part 2, 12.2.3.5)
)

// key returns the public key if its numbers are those of a sound key: RSA of
// 2048 to 4096 bits with exponent 65537, or a point on P-256 or P-384.
func (p *publicArea) key() (crypto.PublicKey, bool) {
	switch p.kind {
	case algRSA:
		return p.rsaKey()
	case algECC:
		return p.eccKey()
	}
	return nil, false
}

// rsaKey wants the top and the lowest bit of the modulus set: a shorter number
// under a longer size, or an even one, is no product of two large primes.
func (p *publicArea) rsaKey() (crypto.PublicKey, bool) {
	n := p.x
	if p.bits < minRSABits || p.bits > maxRSABits || p.bits%8 != 0 || len(n) != int(p.bits)/8 {
		return nil, false
	}
	if p.exponent != 0 && p.exponent != defaultExponent {
		return nil, false
	}
	if n[0]&0x80 == 0 || n[len(n)-1]&1 == 0 {
		return nil, false
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: defaultExponent}, true
}

func (p *publicArea) eccKey() (crypto.PublicKey, bool) {
	curve, size := curveOf(p.curve)
	if curve == nil || len(p.x) != size || len(p.y) != size {
		return nil, false
	}
	point := make([]byte, 0, 1+2*size)
	point = append(point, 4) // SEC 1: uncompressed
	point = append(append(point, p.x...), p.y...)
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	return pub, err == nil
}

// curveOf returns the curve and the length of a coordinate in bytes, nil for a
// curve that no key here may have.
func curveOf(id uint16) (elliptic.Curve, int) {
	switch id {
	case curveP256:
		return elliptic.P256(), 32
	case curveP384:
		return elliptic.P384(), 48
	}
	return nil, 0
}

// paddedPoint reports whether the coordinates have the length of their curve,
// the only canonical one (Part 1, C.8): a shortened copy of the same point
// would have another Name. Curves that we do not know pass here and are refused
// as parameters.
func (p *publicArea) paddedPoint() bool {
	_, size := curveOf(p.curve)
	return p.kind != algECC || size == 0 || (len(p.x) == size && len(p.y) == size)
}
