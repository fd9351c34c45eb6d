package tpm2_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"sync"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// This file makes evidence as a TPM would, with keys in software, so that a test
// can change one field at a time and sign what no TPM would sign.

const (
	rsassa, rsapss, ecdsaAlg, hmacAlg, nullAlg = 0x0014, 0x0016, 0x0018, 0x0005, 0x0010
	sha1Alg, sha256Alg, sha384Alg, sha512Alg   = 0x0004, 0x000b, 0x000c, 0x000d

	akAttributes   = 0x50472 // tpm.md 1.1, with noDA
	svidAttributes = 0x40472
)

// wire writes big-endian TPM bytes.
type wire struct{ b []byte }

func (w *wire) u8(v uint8)     { w.b = append(w.b, v) }
func (w *wire) u16(v uint16)   { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *wire) u32(v uint32)   { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *wire) u64(v uint64)   { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *wire) raw(v []byte)   { w.b = append(w.b, v...) }
func (w *wire) sized(v []byte) { w.u16(uint16(len(v))); w.raw(v) }

// public is a TPMT_PUBLIC. sym, scheme and kdf are written as they stand.
type public struct {
	kind, nameAlg    uint16
	attributes       uint32
	policy           []byte
	sym, scheme, kdf []uint16
	bits, curve      uint16
	exponent         uint32
	x, y             []byte
}

func (p public) marshal() []byte {
	var w wire
	w.u16(p.kind)
	w.u16(p.nameAlg)
	w.u32(p.attributes)
	w.sized(p.policy)
	for _, list := range [][]uint16{p.sym, p.scheme} {
		for _, v := range list {
			w.u16(v)
		}
	}
	if p.kind == 0x0001 {
		w.u16(p.bits)
		w.u32(p.exponent)
		w.sized(p.x)
		return w.b
	}
	w.u16(p.curve)
	for _, v := range p.kdf {
		w.u16(v)
	}
	w.sized(p.x)
	w.sized(p.y)
	return w.b
}

// signer is a software key in the place of a TPM key.
type signer struct {
	public public
	key    crypto.Signer
}

func rsaSigner(key *rsa.PrivateKey, attributes uint32) signer {
	return signer{public{
		kind: 0x0001, nameAlg: sha256Alg, attributes: attributes,
		sym: []uint16{nullAlg}, scheme: []uint16{rsassa, sha256Alg},
		bits: uint16(key.N.BitLen()), x: key.N.Bytes(),
	}, key}
}

func eccSigner(key *ecdsa.PrivateKey, attributes uint32) signer {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	size := (len(point) - 1) / 2
	return signer{public{
		kind: 0x0023, nameAlg: sha256Alg, attributes: attributes,
		sym: []uint16{nullAlg}, scheme: []uint16{ecdsaAlg, sha256Alg}, kdf: []uint16{nullAlg},
		curve: 0x0003, x: point[1 : 1+size], y: point[1+size:],
	}, key}
}

var rsaKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var out [2]*rsa.PrivateKey
	for i := range out {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		out[i] = key
	}
	return out
})

func newECC(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// akKinds are the two kinds of AK; every case about quotes runs with both.
func akKinds(t testing.TB) map[string]signer {
	return map[string]signer{
		"rsa":  rsaSigner(rsaKeys()[0], akAttributes),
		"p256": eccSigner(newECC(t), akAttributes),
	}
}

func (s signer) ak(t testing.TB) tpm2.AK {
	t.Helper()
	ak, err := tpm2.ParseAK(s.public.marshal())
	if err != nil {
		t.Fatal(err)
	}
	return ak
}

func (s signer) name() []byte {
	sum := sha256.Sum256(s.public.marshal())
	return append([]byte{0, sha256Alg}, sum[:]...)
}

func (s signer) qualifiedName() []byte {
	sum := sha256.Sum256(append([]byte{0x40, 0, 0, 0x0b}, s.name()...))
	return append([]byte{0, sha256Alg}, sum[:]...)
}

// sign returns a TPMT_SIGNATURE over SHA-256 of message.
func (s signer) sign(t testing.TB, message []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(message)
	if key, ok := s.key.(*ecdsa.PrivateKey); ok {
		r, v, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return eccSignature(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32)))
	}
	sig, err := s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return rsaSignature(rsassa, sha256Alg, sig)
}

func rsaSignature(scheme, hash uint16, sig []byte) []byte {
	var w wire
	w.u16(scheme)
	w.u16(hash)
	w.sized(sig)
	return w.b
}

func eccSignature(r, s []byte) []byte {
	var w wire
	w.u16(ecdsaAlg)
	w.u16(sha256Alg)
	w.sized(r)
	w.sized(s)
	return w.b
}

// rs takes a TPMT_SIGNATURE of eccSignature apart.
func rs(sig []byte) (r, s *big.Int) {
	return new(big.Int).SetBytes(sig[6:38]), new(big.Int).SetBytes(sig[40:72])
}

type bank struct {
	hash uint16
	mask []byte
}

// attestation is a TPMS_ATTEST of any type.
type attestation struct {
	magic          uint32
	kind           uint16
	signer, extra  []byte
	millis         uint64
	reset, restart uint32
	safe           uint8
	firmware       uint64

	banks  []bank // quote
	count  *uint32
	digest []byte

	name, qualifiedName []byte // certify
	body                []byte // other types
	tail                []byte
}

func (a attestation) marshal() []byte {
	var w wire
	w.u32(a.magic)
	w.u16(a.kind)
	w.sized(a.signer)
	w.sized(a.extra)
	w.u64(a.millis)
	w.u32(a.reset)
	w.u32(a.restart)
	w.u8(a.safe)
	w.u64(a.firmware)
	switch a.kind {
	case 0x8018:
		n := uint32(len(a.banks))
		if a.count != nil {
			n = *a.count
		}
		w.u32(n)
		for _, b := range a.banks {
			w.u16(b.hash)
			w.u8(uint8(len(b.mask)))
			w.raw(b.mask)
		}
		w.sized(a.digest)
	case 0x8017:
		w.sized(a.name)
		w.sized(a.qualifiedName)
	default:
		w.raw(a.body)
	}
	w.raw(a.tail)
	return w.b
}

// evidence is one good quote and what it is asked to be.
type evidence struct {
	by         signer
	attest     attestation
	rewrite    func(attest []byte) []byte // after marshalling, before signing
	resign     func(sig []byte) []byte
	pcrs       map[int][]byte
	qualifying []byte
	want       tpm2.Selection
}

func newEvidence(by signer) *evidence {
	want := tpm2.SelectionOf(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14)
	pcrs := make(map[int][]byte)
	for _, i := range want.Indexes() {
		sum := sha256.Sum256([]byte{byte(i)})
		pcrs[i] = sum[:]
	}
	qualifying := sha256.Sum256([]byte("binding"))
	return &evidence{
		by: by, want: want, pcrs: pcrs, qualifying: qualifying[:],
		attest: attestation{
			magic: 0xff544347, kind: 0x8018, signer: by.qualifiedName(), extra: qualifying[:],
			millis: 123456, reset: 3, restart: 1, safe: 1, firmware: 0x2019102300163636,
			banks: []bank{{sha256Alg, want[:]}}, digest: digestOf(pcrs),
		},
	}
}

// digestOf hashes the values in ascending order of their PCRs.
func digestOf(pcrs map[int][]byte) []byte {
	h := sha256.New()
	for i := range 64 {
		h.Write(pcrs[i])
	}
	return h.Sum(nil)
}

// signed returns the bytes that go to the verifier.
func (e *evidence) signed(t testing.TB) (attest, sig []byte) {
	t.Helper()
	attest = e.attest.marshal()
	if e.rewrite != nil {
		attest = e.rewrite(attest)
	}
	sig = e.by.sign(t, attest)
	if e.resign != nil {
		sig = e.resign(sig)
	}
	return attest, sig
}

// verify runs the whole path under ak.
func (e *evidence) verify(t testing.TB, ak tpm2.AK) (tpm2.Quote, error) {
	t.Helper()
	attest, sig := e.signed(t)
	var q tpm2.Quote
	attested, err := tpm2.AuthenticateQuote(ak, attest, sig, e.qualifying)
	if err == nil {
		q, err = attested.Quote(e.want, e.pcrs)
	}
	e.explained(t, tpm2.Evidence{AKPublic: ak.Public(), Attest: attest, Signature: sig, PCRs: e.pcrs}, err)
	return q, err
}

// explained has Verify judge the same evidence: it has to come to the same end,
// and to list as refused what the error names and nothing behind it.
func (e *evidence) explained(t testing.TB, ev tpm2.Evidence, want error) {
	t.Helper()
	if len(ev.AKPublic) == 0 {
		return // the zero AK, which Verify cannot be given
	}
	_, findings, err := tpm2.Verify(ev, tpm2.Context{Qualifying: e.qualifying, Selection: e.want})
	if reason.Of(err) != reason.Of(want) || reason.Detail(err) != reason.Detail(want) {
		t.Errorf("Verify: %v, the hot path: %v", err, want)
	}
	for i, f := range findings {
		last := err != nil && i == len(findings)-1
		if (f.Outcome == reason.Refused) != last || (f.Code != "") != last || f.Outcome == reason.Unchecked {
			t.Errorf("finding %d of %d with %v: %+v", i, len(findings), err, f)
		}
	}
	if last := findings[len(findings)-1]; err != nil && last.Code != reason.Of(err) {
		t.Errorf("the last finding is %s, the error %v", last.Code, err)
	}
}

func wantCode(t testing.TB, err error, want reason.Code) {
	t.Helper()
	if got := reason.Of(err); got != want {
		t.Errorf("code %q, want %q (%v)", got, want, err)
	}
}

func flip(b []byte, i int) []byte {
	out := bytes.Clone(b)
	out[i] ^= 1
	return out
}
