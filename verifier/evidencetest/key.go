package evidencetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"testing"
)

// Algorithms and attributes of the keys (TCG registry; TPM 2.0 Part 2, 8.3).
const (
	algRSA    = 0x0001
	algRSASSA = 0x0014
	algAES    = 0x0006
	algSHA256 = 0x000b
	algNull   = 0x0010
	algECDSA  = 0x0018
	algECC    = 0x0023
	algCFB    = 0x0043
	curveP256 = 0x0003

	akAttributes   = 0x50472 // restricted signing key, bound to its TPM
	svidAttributes = 0x40472 // the same without restricted
	ekAttributes   = 0x300b2 // templates L-1 and L-2
)

// wire writes big-endian TPM structures.
type wire []byte

func (w *wire) u8(v uint8) { *w = append(*w, v) }
func (w *wire) u16(vs ...uint16) {
	for _, v := range vs {
		*w = binary.BigEndian.AppendUint16(*w, v)
	}
}
func (w *wire) u32(v uint32)   { *w = binary.BigEndian.AppendUint32(*w, v) }
func (w *wire) u64(v uint64)   { *w = binary.BigEndian.AppendUint64(*w, v) }
func (w *wire) raw(v []byte)   { *w = append(*w, v...) }
func (w *wire) sized(v []byte) { w.u16(uint16(len(v))); w.raw(v) }

// Key is a signing key of a TPM, in software: P-256, or RSA-2048.
type Key struct {
	Public  []byte // TPMT_PUBLIC
	private crypto.Signer
}

// NewAK makes a restricted signing key.
func NewAK(t testing.TB) *Key { return newKey(t, akAttributes) }

// RSAAK is an AK with the one RSA-2048 key of this process.
func RSAAK(t testing.TB) *Key {
	t.Helper()
	private, err := oneRSA()
	if err != nil {
		t.Fatal(err)
	}
	var w wire
	w.u16(algRSA, algSHA256)
	w.u32(akAttributes)
	w.sized(nil)
	w.u16(algNull, algRSASSA, algSHA256, 2048)
	w.u32(0)
	w.sized(private.N.Bytes())
	return &Key{Public: w, private: private}
}

// NewSVIDKey makes a key as an agent makes it for an SVID.
func NewSVIDKey(t testing.TB) *Key { return newKey(t, svidAttributes) }

func newKey(t testing.TB, attributes uint32) *Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var w wire
	w.u16(algECC, algSHA256)
	w.u32(attributes)
	w.sized(nil)
	w.u16(algNull, algECDSA, algSHA256, curveP256, algNull)
	x, y := coordinates(t, &private.PublicKey)
	w.sized(x)
	w.sized(y)
	return &Key{Public: w, private: private}
}

func coordinates(t testing.TB, key *ecdsa.PublicKey) (x, y []byte) {
	t.Helper()
	point, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	size := (len(point) - 1) / 2
	return point[1 : 1+size], point[1+size:]
}

// Name returns nameAlg and the hash of the public area.
func (k *Key) Name() []byte { return nameOf(k.Public) }

// QualifiedName returns the name as a primary key of the endorsement hierarchy.
func (k *Key) QualifiedName() []byte {
	return nameOf(append([]byte{0x40, 0, 0, 0x0b}, k.Name()...))
}

func nameOf(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append([]byte{0, algSHA256}, sum[:]...)
}

// SPKI returns the key as SubjectPublicKeyInfo DER.
func (k *Key) SPKI(t testing.TB) []byte {
	t.Helper()
	return SPKI(t, k.private.Public())
}

// Signer returns the private key, for what no TPM would sign.
func (k *Key) Signer() crypto.Signer { return k.private }

// CSR returns a PKCS#10 request, signed by the key.
func (k *Key) CSR(t testing.TB) []byte {
	t.Helper()
	return CSR(t, k.private)
}

// CSR returns a PKCS#10 request of any key.
func CSR(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// SPKI returns a public key as SubjectPublicKeyInfo DER.
func SPKI(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Sign returns a TPMT_SIGNATURE over SHA-256 of message.
func (k *Key) Sign(t testing.TB, message []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(message)
	var w wire
	private, ok := k.private.(*ecdsa.PrivateKey)
	if !ok {
		sig, err := k.private.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		w.u16(algRSASSA, algSHA256)
		w.sized(sig)
		return w
	}
	r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	w.u16(algECDSA, algSHA256)
	w.sized(r.FillBytes(make([]byte, 32)))
	w.sized(s.FillBytes(make([]byte, 32)))
	return w
}
