package cose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/sha256" // hash of ES256
	_ "crypto/sha512" // hash of ES384
	"encoding/binary"
	"math/big"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Algorithm is the number of a signature algorithm (IANA COSE Algorithms).
type Algorithm int64

// Algorithms that a message may name. ECDSA alone: a document with an HMAC would
// verify under anything that a stranger knows too.
const (
	ES256 Algorithm = -7
	ES384 Algorithm = -35
)

// Labels of headers (RFC 9052, 3.1).
const (
	labelAlg  = uint64(1)
	labelCrit = uint64(2)
)

// First bytes of a message: an array of four, bare or under tag 18. All other
// heads are refused by these bytes, as decoders drop a tag in silence.
const (
	arrayOfFour = 0x84
	tagSign1    = 0xd2
)

// sizes of r and s in bytes, the curve and the hash of an algorithm (RFC 9053,
// 2.1): a key of another curve is none of the algorithm.
var algorithms = map[Algorithm]struct {
	size  int
	curve elliptic.Curve
	hash  crypto.Hash
}{
	ES256: {32, elliptic.P256(), crypto.SHA256},
	ES384: {48, elliptic.P384(), crypto.SHA384},
}

// Claimed is a message whose signature nobody has checked yet: its content is
// what a stranger says. It shares memory with what it was read from.
type Claimed struct {
	alg                           Algorithm
	protected, payload, signature []byte
}

// Parse reads a COSE_Sign1 message, bare or under tag 18, whose protected header
// names one of the algorithms. Errors, in the order of the checks:
// request.too_large, cbor.truncated, cbor.limit, cbor.malformed, cbor.trailing,
// cose.tag (another tag, another shape, content that is not inside), then for
// the headers cbor.*, cose.crit (any critical header: none is known here) and
// cose.alg.
func Parse(raw []byte, allowed ...Algorithm) (Claimed, error) {
	if err := whole(raw); err != nil {
		return Claimed{}, err
	}
	if raw[0] == tagSign1 {
		raw = raw[1:]
	}
	if len(raw) == 0 || raw[0] != arrayOfFour {
		return Claimed{}, reason.New(reason.COSETag, "not an array of four, bare or under tag 18")
	}
	parts, err := Elements(raw)
	if err != nil {
		return Claimed{}, err
	}
	var c Claimed
	for i, into := range []*[]byte{&c.protected, nil, &c.payload, &c.signature} {
		if into == nil {
			continue
		}
		if parts[i][0]>>5 != majorBytes {
			return Claimed{}, reason.New(reason.COSETag, "protected header, content and signature have to be byte strings")
		}
		if *into, err = String(parts[i]); err != nil {
			return Claimed{}, err
		}
	}
	if parts[1][0]>>5 != majorMap {
		return Claimed{}, reason.New(reason.COSETag, "the unprotected header is not a map")
	}
	return c, c.headers(parts[1], allowed)
}

// headers takes the algorithm from the protected header alone: what is not
// signed may not say how the signature is read.
func (c *Claimed) headers(unprotected []byte, allowed []Algorithm) error {
	outside, err := Decode(unprotected)
	if err != nil {
		return err
	}
	var inside Map
	if len(c.protected) > 0 { // an empty map may be written as no bytes (RFC 9052, 3)
		if inside, err = Decode(c.protected); err != nil {
			return err
		}
	}
	for _, h := range []Map{inside, outside} {
		if _, ok := h[labelCrit]; ok {
			return reason.New(reason.COSECrit, "the message has critical headers")
		}
	}
	if _, ok := outside[labelAlg]; ok {
		return reason.New(reason.COSEAlg, "an algorithm stands in the unprotected header")
	}
	n, ok := inside[labelAlg].(int64)
	if !ok || !slices.Contains(allowed, Algorithm(n)) || algorithms[Algorithm(n)].size == 0 {
		return reason.New(reason.COSEAlg, "the protected header names no algorithm that is taken here")
	}
	c.alg = Algorithm(n)
	return nil
}

// Algorithm returns the algorithm of the protected header.
func (c Claimed) Algorithm() Algorithm { return c.alg }

// Payload returns the content. It is unverified until Verify has returned nil.
func (c Claimed) Payload() []byte { return c.payload }

// Verify checks the signature, r and s one behind the other in the size of the
// curve, under a key of the algorithm's own curve. Error: cose.signature.
func (c Claimed) Verify(key *ecdsa.PublicKey) error {
	a, ok := algorithms[c.alg]
	if !ok || key == nil || key.Curve != a.curve || len(c.signature) != 2*a.size {
		return reason.New(reason.COSESignature, "key and signature do not have the form of the algorithm")
	}
	h := a.hash.New()
	h.Write(c.head())
	h.Write(c.payload)
	r, s := new(big.Int).SetBytes(c.signature[:a.size]), new(big.Int).SetBytes(c.signature[a.size:])
	if !ecdsa.Verify(key, h.Sum(nil), r, s) {
		return reason.New(reason.COSESignature, "the signature does not verify")
	}
	return nil
}

// head is the Sig_structure up to the content (RFC 9052, 4.4): the context, the
// protected header as it was sent, no external data.
func (c Claimed) head() []byte {
	const context = "Signature1"
	out := append([]byte{arrayOfFour, majorText<<5 | byte(len(context))}, context...)
	out = append(appendHead(out, len(c.protected)), c.protected...)
	return appendHead(append(out, majorBytes<<5), len(c.payload))
}

// appendHead writes the head of a byte string of n bytes in its shortest form; n
// is at most MaxSize.
func appendHead(b []byte, n int) []byte {
	const one, two, four = majorBytes<<5 | 24, majorBytes<<5 | 25, majorBytes<<5 | 26
	switch {
	case n < 24:
		return append(b, majorBytes<<5|byte(n))
	case n < 1<<8:
		return append(b, one, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, two), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, four), uint32(n))
}
