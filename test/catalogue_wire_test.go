package test

import "encoding/binary"

// attestFields is a TPMS_ATTEST of type quote or certify, field by field, for
// changing one and writing it again (TPM 2.0 Part 2, 10.12.8).
type attestFields struct {
	magic          uint32
	kind           uint16
	signer, extra  []byte
	millis         uint64
	reset, restart uint32
	safe           byte
	firmware       uint64
	count          uint32
	banks          []bankFields
	digest         []byte // quote
	name, qname    []byte // certify
}

type bankFields struct {
	alg  uint16
	mask []byte
}

const (
	kindCertify = 0x8017
	kindQuote   = 0x8018
)

// wireReader reads what the generator itself wrote, so it does not check.
type wireReader []byte

func (r *wireReader) take(n int) []byte {
	b := (*r)[:n:n]
	*r = (*r)[n:]
	return b
}
func (r *wireReader) u16() uint16   { return binary.BigEndian.Uint16(r.take(2)) }
func (r *wireReader) u32() uint32   { return binary.BigEndian.Uint32(r.take(4)) }
func (r *wireReader) sized() []byte { return r.take(int(r.u16())) }

func readAttest(b []byte) attestFields {
	r := wireReader(b)
	a := attestFields{magic: r.u32(), kind: r.u16(), signer: r.sized(), extra: r.sized()}
	a.millis = binary.BigEndian.Uint64(r.take(8))
	a.reset, a.restart, a.safe = r.u32(), r.u32(), r.take(1)[0]
	a.firmware = binary.BigEndian.Uint64(r.take(8))
	if a.kind == kindCertify {
		a.name, a.qname = r.sized(), r.sized()
		return a
	}
	a.count = r.u32()
	for range a.count {
		a.banks = append(a.banks, bankFields{r.u16(), r.take(int(r.take(1)[0]))})
	}
	a.digest = r.sized()
	return a
}

func sizedBytes(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
}

func (a attestFields) marshal() []byte {
	be := binary.BigEndian
	b := be.AppendUint16(be.AppendUint32(nil, a.magic), a.kind)
	b = sizedBytes(sizedBytes(b, a.signer), a.extra)
	b = be.AppendUint32(be.AppendUint32(be.AppendUint64(b, a.millis), a.reset), a.restart)
	b = be.AppendUint64(append(b, a.safe), a.firmware)
	if a.kind != kindQuote {
		return sizedBytes(sizedBytes(b, a.name), a.qname)
	}
	b = be.AppendUint32(b, a.count)
	for _, s := range a.banks {
		b = append(append(be.AppendUint16(b, s.alg), byte(len(s.mask))), s.mask...)
	}
	return sizedBytes(b, a.digest)
}

// setBanks replaces the selections.
func (a *attestFields) setBanks(banks ...bankFields) {
	a.banks, a.count = banks, uint32(len(banks))
}

// publicFields is a TPMT_PUBLIC of a signing key (TPM 2.0 Part 2, 12.2.4). words
// are what stands between policy and key: symmetric, scheme, its hash, then key
// bits or curve and KDF.
type publicFields struct {
	kind, nameAlg uint16
	attributes    uint32
	policy        []byte
	words         []uint16
	exponent      uint32 // RSA
	keys          [][]byte
}

const (
	typeRSA = 0x0001
	typeECC = 0x0023

	algSHA1, algSHA256, algSHA512 = 0x0004, 0x000b, 0x000d
	algHMAC, algNull              = 0x0005, 0x0010
	algRSASSA, algRSAPSS          = 0x0014, 0x0016
	algECDSA, wordCurve           = 0x0018, 3
)

func readPublic(b []byte) publicFields {
	r := wireReader(b)
	p := publicFields{kind: r.u16(), nameAlg: r.u16(), attributes: r.u32(), policy: r.sized()}
	words := 5
	if p.kind == typeRSA {
		words = 4
	}
	for range words {
		p.words = append(p.words, r.u16())
	}
	if p.kind == typeRSA {
		p.exponent = r.u32()
	}
	for len(r) > 0 {
		p.keys = append(p.keys, r.sized())
	}
	return p
}

func (p publicFields) marshal() []byte {
	be := binary.BigEndian
	b := be.AppendUint32(be.AppendUint16(be.AppendUint16(nil, p.kind), p.nameAlg), p.attributes)
	b = sizedBytes(b, p.policy)
	for _, w := range p.words {
		b = be.AppendUint16(b, w)
	}
	if p.kind == typeRSA {
		b = be.AppendUint32(b, p.exponent)
	}
	for _, k := range p.keys {
		b = sizedBytes(b, k)
	}
	return b
}

// signatureOf is a TPMT_SIGNATURE.
func signatureOf(scheme, hash uint16, parts ...[]byte) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, scheme), hash)
	for _, p := range parts {
		b = sizedBytes(b, p)
	}
	return b
}

// partsOf are r and s, or the one number of RSA.
func partsOf(sig []byte) [][]byte {
	r := wireReader(sig[4:])
	var out [][]byte
	for len(r) > 0 {
		out = append(out, r.sized())
	}
	return out
}
