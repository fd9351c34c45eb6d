package tpm2_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

func TestParseAKAccepted(t *testing.T) {
	for kind, by := range akKinds(t) {
		for name, change := range map[string]func(p *public){
			"as the template":         func(*public) {},
			"without noDA":            func(p *public) { p.attributes &^= 0x400 },
			"stClear":                 func(p *public) { p.attributes |= 0x4 },
			"adminWithPolicy, policy": func(p *public) { p.attributes |= 0x80; p.policy = make([]byte, 32) },
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				s := signer{public: by.public, key: by.key}
				change(&s.public)
				ak, err := tpm2.ParseAK(s.public.marshal())
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(ak.Public(), s.public.marshal()) || !bytes.Equal(ak.Name(), s.name()) || !bytes.Equal(ak.QualifiedName(), s.qualifiedName()) {
					t.Error("public area, Name or qualified name differ")
				}
				if ak.String() != hex.EncodeToString(s.name()) {
					t.Errorf("String() = %s", ak)
				}
			})
		}
	}
	t.Run("rsa exponent 65537 in full", func(t *testing.T) {
		p := rsaSigner(rsaKeys()[0], akAttributes).public
		p.exponent = 65537
		if _, err := tpm2.ParseAK(p.marshal()); err != nil {
			t.Error(err)
		}
	})
}

// TestAKIsIndependentOfTheInput: the caller may reuse its buffer, and what it
// is given back it may change.
func TestAKIsIndependentOfTheInput(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	raw := by.public.marshal()
	ak, err := tpm2.ParseAK(raw)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	clear(ak.Name())
	clear(ak.QualifiedName())
	clear(ak.Public())
	if !bytes.Equal(ak.Public(), by.public.marshal()) {
		t.Error("the public area changed under the caller's hand")
	}
	if _, err := newEvidence(by).verify(t, ak); err != nil {
		t.Error(err)
	}
}

func TestParseAKRefused(t *testing.T) {
	p192 := make([]byte, 24)
	offCurve := func(p *public) { p.y = flip(p.y, 31) }
	for _, c := range []struct {
		name   string
		kinds  string // "" for both
		change func(p *public)
		code   reason.Code
	}{
		{"tpm-43 T1 T11 unrestricted", "", func(p *public) { p.attributes &^= 1 << 16 }, reason.TPM2AKNotRestricted},
		{"tpm-44 T11 without fixedTPM", "", func(p *public) { p.attributes &^= 1 << 1 }, reason.TPM2AKAttributes},
		{"tpm-44 T11 without fixedParent", "", func(p *public) { p.attributes &^= 1 << 4 }, reason.TPM2AKAttributes},
		{"tpm-44 duplicable, encryptedDuplication", "", func(p *public) { p.attributes |= 1 << 11 }, reason.TPM2AKAttributes},
		{"tpm-45 imported: without sensitiveDataOrigin", "", func(p *public) { p.attributes &^= 1 << 5 }, reason.TPM2AKAttributes},
		{"tpm-46 T11 decrypt", "", func(p *public) { p.attributes |= 1 << 17 }, reason.TPM2AKAttributes},
		{"tpm-46 sign clear", "", func(p *public) { p.attributes &^= 1 << 18 }, reason.TPM2AKAttributes},
		{"tpm-47 reserved bit 0", "", func(p *public) { p.attributes |= 1 }, reason.TPM2AKAttributes},
		{"tpm-47 firmwareLimited", "", func(p *public) { p.attributes |= 1 << 8 }, reason.TPM2AKAttributes},
		{"tpm-47 x509sign", "", func(p *public) { p.attributes |= 1 << 19 }, reason.TPM2AKAttributes},
		{"tpm-47 reserved bit 31", "", func(p *public) { p.attributes |= 1 << 31 }, reason.TPM2AKAttributes},
		{"tpm-48 scheme NULL", "", func(p *public) { p.scheme = []uint16{nullAlg} }, reason.TPM2AKParameters},
		{"tpm-38 AK bound to SHA-1", "", func(p *public) { p.scheme[1] = sha1Alg }, reason.TPM2SignatureHash},
		{"tpm-48 scheme hash SHA-384", "", func(p *public) { p.scheme[1] = sha384Alg }, reason.TPM2AKParameters},
		{"tpm-48 nameAlg SHA-1", "", func(p *public) { p.nameAlg = sha1Alg }, reason.TPM2AKParameters},
		{"tpm-48 symmetric AES", "", func(p *public) { p.sym = []uint16{0x0006, 128, 0x0043} }, reason.TPM2AKParameters},
		{"tpm-48 unknown symmetric algorithm", "", func(p *public) { p.sym = []uint16{0x7777} }, reason.TPM2AKParameters},
		{"tpm-48 unknown scheme", "", func(p *public) { p.scheme = []uint16{0x7777, sha256Alg} }, reason.TPM2AKParameters},
		{"tpm-48 type KEYEDHASH", "", func(p *public) { p.kind = 0x0008 }, reason.TPM2AKParameters},
		{"unknown algorithm and unrestricted", "", func(p *public) { p.kind, p.attributes = 0x0008, 0x40072 }, reason.TPM2AKNotRestricted},

		{"tpm-48 RSAPSS", "rsa", func(p *public) { p.scheme[0] = rsapss }, reason.TPM2AKParameters},
		{"tpm-48 RSA with an ECC scheme", "rsa", func(p *public) { p.scheme[0] = ecdsaAlg }, reason.TPM2AKParameters},
		{"tpm-48 exponent 3", "rsa", func(p *public) { p.exponent = 3 }, reason.TPM2AKParameters},
		{"tpm-48 exponent 2^32-1", "rsa", func(p *public) { p.exponent = 1<<32 - 1 }, reason.TPM2AKParameters},
		{"tpm-48 RSA-1024", "rsa", func(p *public) { p.bits, p.x = 1024, p.x[:128] }, reason.TPM2AKParameters},
		{"tpm-48 RSA-2048 with 2047 bits", "rsa", func(p *public) { p.x = bytes.Clone(p.x); p.x[0] &= 0x7f }, reason.TPM2AKParameters},
		{"tpm-48 modulus shorter than its size", "rsa", func(p *public) { p.x = p.x[:255] }, reason.TPM2AKParameters},
		{"tpm-48 modulus even", "rsa", func(p *public) { p.x = flip(p.x, 255) }, reason.TPM2AKParameters},
		{"tpm-48 RSA-6144", "rsa", func(p *public) { p.bits, p.x = 6144, bytes.Repeat([]byte{0xff}, 768) }, reason.TPM2AKParameters},

		{"tpm-48 T11 P-192", "p256", func(p *public) { p.curve, p.x, p.y = 0x0001, p192, p192 }, reason.TPM2AKParameters},
		{"tpm-48 P-224", "p256", func(p *public) { p.curve, p.x, p.y = 0x0002, p.x[:28], p.y[:28] }, reason.TPM2AKParameters},
		{"tpm-48 BN-256", "p256", func(p *public) { p.curve = 0x0010 }, reason.TPM2AKParameters},
		{"tpm-48 off the curve", "p256", offCurve, reason.TPM2AKParameters},
		{"tpm-48 the point 0,0", "p256", func(p *public) { p.x, p.y = make([]byte, 32), make([]byte, 32) }, reason.TPM2AKParameters},
		{"tpm-48 ECDAA", "p256", func(p *public) { p.scheme = []uint16{0x001a, sha256Alg, 0} }, reason.TPM2AKParameters},
		{"tpm-48 with a KDF", "p256", func(p *public) { p.kdf = []uint16{0x0020, sha256Alg} }, reason.TPM2AKParameters},
		{"tpm-49 coordinate with a leading zero more", "p256", func(p *public) { p.x = append([]byte{0}, p.x...) }, reason.TPM2AKEncoding},
		{"tpm-49 coordinate one byte short", "p256", func(p *public) { p.y = p.y[1:] }, reason.TPM2AKEncoding},
		{"tpm-49 policy of 31 bytes", "", func(p *public) { p.policy = make([]byte, 31) }, reason.TPM2AKEncoding},
		{"tpm-66 RSA-16384", "rsa", func(p *public) { p.bits, p.x = 16384, bytes.Repeat([]byte{0xff}, 2048) }, reason.RequestTooLarge},
	} {
		for kind, by := range akKinds(t) {
			if c.kinds != "" && c.kinds != kind {
				continue
			}
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				p := by.public
				c.change(&p)
				_, err := tpm2.ParseAK(p.marshal())
				wantCode(t, err, c.code)
			})
		}
	}
}

// TestAKOnP384: a good key of a size that no AK here may have.
func TestAKOnP384(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := eccSigner(key, akAttributes).public
	p.curve = 0x0004
	_, err = tpm2.ParseAK(p.marshal())
	wantCode(t, err, reason.TPM2AKParameters)
}

func TestAKEncoding(t *testing.T) {
	for kind, by := range akKinds(t) {
		raw := by.public.marshal()
		t.Run("tpm-49 T12 trailing byte/"+kind, func(t *testing.T) {
			_, err := tpm2.ParseAK(append(bytes.Clone(raw), 0))
			wantCode(t, err, reason.TPM2AKEncoding)
		})
		t.Run("tpm-49 with the outer size/"+kind, func(t *testing.T) {
			_, err := tpm2.ParseAK(append([]byte{byte(len(raw) >> 8), byte(len(raw))}, raw...))
			if err == nil {
				t.Error("accepted with the outer TPM2B size")
			}
		})
		t.Run("cut at every byte/"+kind, func(t *testing.T) {
			for n := range len(raw) {
				if _, err := tpm2.ParseAK(raw[:n]); reason.Of(err) != reason.TPM2AKEncoding {
					t.Errorf("cut to %d bytes: %v", n, err)
				}
			}
		})
		t.Run("tpm-5 key size 0xffff/"+kind, func(t *testing.T) {
			b := bytes.Clone(raw)
			i := bytes.Index(b, by.public.x)
			b[i-2], b[i-1] = 0xff, 0xff
			_, err := tpm2.ParseAK(b)
			wantCode(t, err, reason.TPM2AKEncoding)
		})
	}
	for name, head := range map[string]string{
		"TPM_PUBKEY": "\x00\x00\x00\x01", "TPM_KEY": "\x01\x01\x00\x00", "TPM_KEY12": "\x00\x28\x00\x00",
	} {
		t.Run("tpm-83 AK of a TPM 1.2/"+name, func(t *testing.T) {
			_, err := tpm2.ParseAK(append([]byte(head), make([]byte, 300)...))
			wantCode(t, err, reason.TPM2Version)
		})
	}
}
