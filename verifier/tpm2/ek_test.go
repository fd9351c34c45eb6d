package tpm2_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

const (
	policyA    = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
	policyB    = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0"
	policyB384 = "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// endorsement is an EK in software.
type endorsement struct {
	public public
	key    crypto.Signer
	hash   crypto.Hash
	aes    int
}

// ekKinds are the four templates.
func ekKinds(t testing.TB) map[string]endorsement {
	t.Helper()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ek := func(s signer, attributes uint32, policy string, bits uint16) public {
		p := s.public
		p.attributes, p.policy = attributes, unhex(policy)
		p.sym, p.scheme = []uint16{0x0006, bits, 0x0043}, []uint16{nullAlg}
		return p
	}
	p256 := eccSigner(newECC(t), 0)
	high := eccSigner(p384, 0)
	h3 := ek(high, 0x300f2, policyB384, 256)
	h3.nameAlg, h3.curve = sha384Alg, 0x0004
	low := rsaSigner(rsaKeys()[0], 0)
	return map[string]endorsement{
		"L-1": {ek(low, 0x300b2, policyA, 128), low.key, crypto.SHA256, 16},
		"L-2": {ek(p256, 0x300b2, policyA, 128), p256.key, crypto.SHA256, 16},
		"H-1": {ek(low, 0x300f2, policyB, 128), low.key, crypto.SHA256, 16},
		"H-3": {h3, high.key, crypto.SHA384, 32},
	}
}

func TestParseEKAccepted(t *testing.T) {
	for kind, e := range ekKinds(t) {
		t.Run(kind, func(t *testing.T) {
			raw := e.public.marshal()
			ek, err := tpm2.ParseEK(raw)
			if err != nil {
				t.Fatal(err)
			}
			spki, err := x509.MarshalPKIXPublicKey(e.key.Public())
			if err != nil {
				t.Fatal(err)
			}
			clear(raw)
			clear(ek.SPKI())
			if !bytes.Equal(ek.SPKI(), spki) || ek.RootHash() != sha256.Sum256(spki) || !bytes.Equal(ek.Public(), e.public.marshal()) {
				t.Error("SPKI, hash or public area differ")
			}
		})
	}
}

func TestT21_ExponentZeroIsTheSameIdentity(t *testing.T) {
	e := ekKinds(t)["L-1"]
	zero, err := tpm2.ParseEK(e.public.marshal())
	if err != nil {
		t.Fatal(err)
	}
	e.public.exponent = 65537
	full, err := tpm2.ParseEK(e.public.marshal())
	if err != nil {
		t.Fatal(err)
	}
	if zero.RootHash() != full.RootHash() || bytes.Equal(zero.Public(), full.Public()) {
		t.Error("exponent 0 and 65537 are two identities")
	}
}

func TestParseEKRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		kinds  string
		change func(p *public)
		code   reason.Code
	}{
		{"tpm-54 software key that signs", "", func(p *public) { p.attributes = akAttributes }, reason.TPM2EKTemplate},
		{"tpm-54 not restricted", "", func(p *public) { p.attributes &^= 1 << 16 }, reason.TPM2EKTemplate},
		{"tpm-54 not decrypt", "", func(p *public) { p.attributes &^= 1 << 17 }, reason.TPM2EKTemplate},
		{"tpm-54 sign too", "", func(p *public) { p.attributes |= 1 << 18 }, reason.TPM2EKTemplate},
		{"tpm-54 not fixedTPM", "", func(p *public) { p.attributes &^= 1 << 1 }, reason.TPM2EKTemplate},
		{"tpm-54 other policy", "", func(p *public) { p.policy = flip(p.policy, 0) }, reason.TPM2EKTemplate},
		{"tpm-54 no policy", "", func(p *public) { p.policy = nil }, reason.TPM2EKTemplate},
		{"tpm-54 low-range attributes, high-range policy", "L-1", func(p *public) { p.policy = unhex(policyB) }, reason.TPM2EKTemplate},
		{"tpm-54 symmetric NULL", "", func(p *public) { p.sym = []uint16{nullAlg} }, reason.TPM2EKTemplate},
		{"tpm-54 symmetric CBC", "", func(p *public) { p.sym = []uint16{0x0006, p.sym[1], 0x0042} }, reason.TPM2EKTemplate},
		{"tpm-54 SM4", "", func(p *public) { p.sym = []uint16{0x0013, p.sym[1], 0x0043} }, reason.TPM2EKTemplate},
		{"tpm-54 AES-192", "", func(p *public) { p.sym = []uint16{0x0006, 192, 0x0043} }, reason.TPM2EKTemplate},
		{"tpm-54 scheme OAEP", "L-1", func(p *public) { p.scheme = []uint16{0x0017, sha256Alg} }, reason.TPM2EKTemplate},
		{"tpm-54 nameAlg SHA-1", "L-1", func(p *public) { p.nameAlg = sha1Alg }, reason.TPM2EKTemplate},
		{"tpm-54 exponent 3", "L-1", func(p *public) { p.exponent = 3 }, reason.TPM2EKTemplate},
		{"tpm-54 RSA-1024", "L-1", func(p *public) { p.bits, p.x = 1024, p.x[:128] }, reason.TPM2EKTemplate},
		{"tpm-54 modulus of 2047 bits", "L-1", func(p *public) { p.x = bytes.Clone(p.x); p.x[0] &= 0x7f }, reason.TPM2EKTemplate},
		{"tpm-54 modulus even", "L-1", func(p *public) { p.x = flip(p.x, 255) }, reason.TPM2EKTemplate},
		{"tpm-54 off the curve", "L-2", func(p *public) { p.y = flip(p.y, 5) }, reason.TPM2EKTemplate},
		{"tpm-54 P-256 with the template of P-384", "H-3", func(p *public) { p.curve, p.x, p.y = 3, p.x[:32], p.y[:32] }, reason.TPM2EKTemplate},
		{"tpm-54 with a KDF", "L-2", func(p *public) { p.kdf = []uint16{0x0020, sha256Alg} }, reason.TPM2EKTemplate},
		{"tpm-54 KEYEDHASH", "", func(p *public) { p.kind = 8 }, reason.TPM2EKTemplate},
		{"coordinate one byte short", "L-2", func(p *public) { p.x = p.x[1:] }, reason.TPM2EKEncoding},
		{"tpm-66 RSA-16384", "L-1", func(p *public) { p.bits, p.x = 16384, bytes.Repeat([]byte{0xff}, 2048) }, reason.RequestTooLarge},
	} {
		for kind, e := range ekKinds(t) {
			if c.kinds != "" && c.kinds != kind {
				continue
			}
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				p := e.public
				c.change(&p)
				_, err := tpm2.ParseEK(p.marshal())
				wantCode(t, err, c.code)
			})
		}
	}
	for kind, e := range ekKinds(t) {
		raw := e.public.marshal()
		t.Run(kind+"/T12 trailing byte", func(t *testing.T) {
			_, err := tpm2.ParseEK(append(bytes.Clone(raw), 0))
			wantCode(t, err, reason.TPM2EKEncoding)
		})
		t.Run(kind+"/cut at every byte", func(t *testing.T) {
			for n := range len(raw) {
				if _, err := tpm2.ParseEK(raw[:n]); reason.Of(err) != reason.TPM2EKEncoding {
					t.Errorf("cut to %d bytes: %v", n, err)
				}
			}
		})
	}
	t.Run("tpm-83 TPM_PUBKEY", func(t *testing.T) {
		_, err := tpm2.ParseEK(append([]byte{0, 0, 0, 1}, make([]byte, 300)...))
		wantCode(t, err, reason.TPM2Version)
	})
}

// activate is TPM2_ActivateCredential in software (Part 1, 24).
func (e endorsement) activate(name, blob, secret []byte) ([]byte, error) {
	seed, err := e.seed(secret)
	if err != nil {
		return nil, err
	}
	if len(blob) < 2 || len(blob) < 2+int(blob[1]) {
		return nil, errors.New("short blob")
	}
	mac, sealed := blob[2:2+int(blob[1])], blob[2+int(blob[1]):]
	h := hmac.New(e.hash.New, gotpm.KDFa(e.hash, seed, "INTEGRITY", nil, nil, e.hash.Size()*8))
	h.Write(sealed)
	h.Write(name)
	if !hmac.Equal(mac, h.Sum(nil)) {
		return nil, errors.New("integrity")
	}
	block, err := aes.NewCipher(gotpm.KDFa(e.hash, seed, "STORAGE", name, nil, e.aes*8))
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(sealed))
	cipher.NewCFBDecrypter(block, make([]byte, aes.BlockSize)).XORKeyStream(out, sealed) //lint:ignore SA1019 the TPM's mode
	if len(out) < 2 || int(out[1]) != len(out)-2 {
		return nil, errors.New("size")
	}
	return out[2:], nil
}

func (e endorsement) seed(secret []byte) ([]byte, error) {
	switch key := e.key.(type) {
	case *rsa.PrivateKey:
		return rsa.DecryptOAEP(e.hash.New(), nil, key, secret, []byte("IDENTITY\x00"))
	case *ecdsa.PrivateKey:
		own, err := key.ECDH()
		if err != nil {
			return nil, err
		}
		size := int(secret[1])
		x, y := secret[2:2+size], secret[4+size:]
		peer, err := own.Curve().NewPublicKey(append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, err
		}
		z, err := own.ECDH(peer)
		if err != nil {
			return nil, err
		}
		return gotpm.KDFe(e.hash, z, "IDENTITY", x, own.PublicKey().Bytes()[1:1+size], e.hash.Size()*8), nil
	}
	return nil, errors.New("no key")
}

func TestMakeCredential(t *testing.T) {
	ak := eccSigner(newECC(t), akAttributes).ak(t)
	other := eccSigner(newECC(t), akAttributes).ak(t)
	secret := sha256.Sum256([]byte("nonce"))
	kinds := ekKinds(t)
	for kind, e := range kinds {
		t.Run(kind, func(t *testing.T) {
			ek, err := tpm2.ParseEK(e.public.marshal())
			if err != nil {
				t.Fatal(err)
			}
			blob, wrapped, err := ek.MakeCredential(rand.Reader, ak.Name(), secret[:])
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.activate(ak.Name(), blob, wrapped)
			if err != nil || !bytes.Equal(got, secret[:]) {
				t.Errorf("activated %x, %v", got, err)
			}
		})
		t.Run("tpm-50 T14 credential of another AK/"+kind, func(t *testing.T) {
			ek, err := tpm2.ParseEK(e.public.marshal())
			if err != nil {
				t.Fatal(err)
			}
			blob, wrapped, err := ek.MakeCredential(rand.Reader, ak.Name(), secret[:])
			if err != nil {
				t.Fatal(err)
			}
			if got, err := e.activate(other.Name(), blob, wrapped); err == nil {
				t.Errorf("opened under another Name: %x", got)
			}
		})
	}
	t.Run("T14 another EK does not open it", func(t *testing.T) {
		ek, err := tpm2.ParseEK(kinds["L-2"].public.marshal())
		if err != nil {
			t.Fatal(err)
		}
		blob, wrapped, err := ek.MakeCredential(rand.Reader, ak.Name(), secret[:])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ekKinds(t)["L-2"].activate(ak.Name(), blob, wrapped); err == nil {
			t.Errorf("opened by another EK: %x", got)
		}
	})
}

func TestMakeCredentialMisuse(t *testing.T) {
	ek, err := tpm2.ParseEK(ekKinds(t)["L-1"].public.marshal())
	if err != nil {
		t.Fatal(err)
	}
	name := eccSigner(newECC(t), akAttributes).name()
	for what, err := range map[string]error{
		"no name":      second(ek.MakeCredential(rand.Reader, nil, make([]byte, 32))),
		"short name":   second(ek.MakeCredential(rand.Reader, name[:33], make([]byte, 32))),
		"no secret":    second(ek.MakeCredential(rand.Reader, name, nil)),
		"long secret":  second(ek.MakeCredential(rand.Reader, name, make([]byte, 33))),
		"no EK":        second(tpm2.EK{}.MakeCredential(rand.Reader, name, make([]byte, 32))),
		"no randomnes": second(ek.MakeCredential(bytes.NewReader(nil), name, make([]byte, 32))),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func second(_, _ []byte, err error) error { return err }
