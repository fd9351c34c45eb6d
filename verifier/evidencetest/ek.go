package evidencetest

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/big"
	"sync"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"
)

// policyA is the authorisation policy of the low-range templates (TCG EK
// Credential Profile 2.5, B.6.2).
const policyA = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"

// EK is an endorsement key in software.
type EK struct {
	Public  []byte // TPMT_PUBLIC
	private crypto.Signer
}

var oneRSA = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// NewEK makes a P-256 key of template L-2.
func NewEK(t testing.TB) *EK {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := ekHead(t, algECC)
	w.u16(curveP256, algNull)
	x, y := coordinates(t, &private.PublicKey)
	w.sized(x)
	w.sized(y)
	return &EK{Public: w, private: private}
}

// RSAEK returns the one RSA-2048 key of template L-1 of this process: making one
// takes a while.
func RSAEK(t testing.TB) *EK {
	t.Helper()
	private, err := oneRSA()
	if err != nil {
		t.Fatal(err)
	}
	return &EK{Public: rsaEK(t, private.N), private: private}
}

// EKOfModulus is an EK of template L-1 with a modulus of 2048 bits to which
// nobody has the private key.
func EKOfModulus(t testing.TB, n *big.Int) *EK {
	t.Helper()
	return &EK{Public: rsaEK(t, n), private: &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}}}
}

// FactorableEK is an EK whose modulus has the structure of CVE-2017-15361 (ROCA):
// modulo each prime up to 701 it is a power of 65537.
func FactorableEK(t testing.TB) *EK {
	t.Helper()
	product := big.NewInt(1)
	for p := int64(2); p <= 701; p++ {
		if big.NewInt(p).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(p))
		}
	}
	n := new(big.Int).Exp(big.NewInt(65537), big.NewInt(1_000_003), product)
	factor := new(big.Int).Lsh(big.NewInt(1), uint(2048-product.BitLen()))
	return EKOfModulus(t, n.Add(n, factor.Mul(factor, product)))
}

func rsaEK(t testing.TB, n *big.Int) []byte {
	t.Helper()
	w := ekHead(t, algRSA)
	w.u16(2048)
	w.u32(0) // the template's spelling of 65537
	w.sized(n.Bytes())
	return w
}

func ekHead(t testing.TB, kind uint16) wire {
	t.Helper()
	policy, err := hex.DecodeString(policyA)
	if err != nil {
		t.Fatal(err)
	}
	var w wire
	w.u16(kind, algSHA256)
	w.u32(ekAttributes)
	w.sized(policy)
	w.u16(algAES, 128, algCFB, algNull)
	return w
}

// SPKI returns the key as SubjectPublicKeyInfo DER.
func (e *EK) SPKI(t testing.TB) []byte {
	t.Helper()
	return SPKI(t, e.private.Public())
}

// Signer returns the private key, for what no TPM would sign.
func (e *EK) Signer() crypto.Signer { return e.private }

// RootHash returns SHA-256 of SPKI: what an inventory lists.
func (e *EK) RootHash(t testing.TB) [32]byte {
	t.Helper()
	return sha256.Sum256(e.SPKI(t))
}

// Activate is TPM2_ActivateCredential (TPM 2.0 Part 1, 24): it returns the
// secret if the credential was made for this EK and for an object of that Name.
func (e *EK) Activate(name, blob, secret []byte) ([]byte, error) {
	seed, err := e.seed(secret)
	if err != nil {
		return nil, err
	}
	if len(blob) < 2 || len(blob) < 2+int(blob[1]) {
		return nil, errors.New("short credential")
	}
	mac, sealed := blob[2:2+int(blob[1])], blob[2+int(blob[1]):]
	h := hmac.New(sha256.New, gotpm.KDFa(crypto.SHA256, seed, "INTEGRITY", nil, nil, 256))
	h.Write(sealed)
	h.Write(name)
	if !hmac.Equal(mac, h.Sum(nil)) {
		return nil, errors.New("credential is for another name")
	}
	block, err := aes.NewCipher(gotpm.KDFa(crypto.SHA256, seed, "STORAGE", name, nil, 128))
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(sealed))
	cipher.NewCFBDecrypter(block, make([]byte, aes.BlockSize)).XORKeyStream(out, sealed) //lint:ignore SA1019 the TPM's mode
	if len(out) < 2 || int(out[1]) != len(out)-2 {
		return nil, errors.New("credential of another size")
	}
	return out[2:], nil
}

func (e *EK) seed(secret []byte) ([]byte, error) {
	switch key := e.private.(type) {
	case *rsa.PrivateKey:
		return rsa.DecryptOAEP(sha256.New(), nil, key, secret, []byte("IDENTITY\x00"))
	case *ecdsa.PrivateKey:
		own, err := key.ECDH()
		if err != nil {
			return nil, err
		}
		if len(secret) != 68 {
			return nil, errors.New("no P-256 point")
		}
		x, y := secret[2:34], secret[36:]
		peer, err := own.Curve().NewPublicKey(append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, err
		}
		z, err := own.ECDH(peer)
		if err != nil {
			return nil, err
		}
		return gotpm.KDFe(crypto.SHA256, z, "IDENTITY", x, own.PublicKey().Bytes()[1:33], 256), nil
	}
	return nil, errors.New("no key")
}
