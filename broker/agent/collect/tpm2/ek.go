package tpm2collect

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Kind names a kind of key.
type Kind string

// The kinds. The high-range ones are endorsement keys only.
const (
	Auto    Kind = "auto"
	RSA     Kind = "rsa"      // RSA-2048; as EK template L-1
	P256    Kind = "p256"     // NIST P-256; as EK template L-2
	RSAHigh Kind = "rsa-high" // EK template H-1
	P384    Kind = "p384"     // EK template H-3
)

const maxCertificate = 4 << 10 // bytes; the broker takes no more

// EK is the endorsement key as the TPM shows it.
type EK struct {
	Kind Kind
	// Public is the TPMT_PUBLIC.
	Public []byte
	// Certificate is what lies in the NV index of this kind, header and padding
	// included; nil where there is none.
	Certificate []byte
	// Chain are the issuers of the certificate that lie in NV, DER, at most four.
	Chain [][]byte
	// Hash is the SHA-256 of the SPKI DER with exponent 0 written as 65537: what
	// an operator admits, and the root of the node's identity.
	Hash [32]byte
}

// ekTemplate is one template of the TCG EK Credential Profile 2.5, B.3 and B.4.
type ekTemplate struct {
	nv     uint32 // where the profile puts the certificate (2.2.1.4)
	high   bool   // high range: the empty password activates
	public tpm2.TPMTPublic
}

// ekOrder is the order in which Auto looks for a certificate.
var ekOrder = []Kind{RSA, P256, RSAHigh, P384}

var ekTemplates = map[Kind]ekTemplate{
	RSA:     {nv: 0x01c00002, public: tpm2.RSAEKTemplate},
	P256:    {nv: 0x01c0000a, public: tpm2.ECCEKTemplate},
	RSAHigh: {nv: 0x01c00012, high: true, public: rsaHighTemplate()},
	P384:    {nv: 0x01c00016, high: true, public: p384HighTemplate()},
}

// Policies of the high range: PolicyOR of PolicySecret(endorsement) and
// PolicyAuthorizeNV (EK Credential Profile 2.5, B.6.5).
var (
	policyB256 = mustHex("ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0")
	policyB384 = mustHex("b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12")
)

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a slip in a constant above
	}
	return b
}

func highAttributes() tpm2.TPMAObject {
	return tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
		UserWithAuth: true, AdminWithPolicy: true, Restricted: true, Decrypt: true,
	}
}

func aesCFB(bits tpm2.TPMKeyBits) tpm2.TPMTSymDefObject {
	return tpm2.TPMTSymDefObject{
		Algorithm: tpm2.TPMAlgAES,
		KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, bits),
		Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
}

func rsaHighTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: highAttributes(),
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policyB256},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{Symmetric: aesCFB(128), KeyBits: 2048}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{}),
	}
}

func p384HighTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA384, ObjectAttributes: highAttributes(),
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policyB384},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Symmetric: aesCFB(256), CurveID: tpm2.TPMECCNistP384}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
	}
}

// EK returns the endorsement key, which stays the same for the life of the
// chip. Making it takes an RSA chip some seconds, so it is made once and
// flushed at once: it is needed again only for an activation.
func (t *TPM) EK(ctx context.Context) (EK, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(); err != nil {
		return EK{}, err
	}
	if t.ek != nil {
		return *t.ek, nil
	}
	kind, certificate, err := t.chooseEK(ctx)
	if err != nil {
		return EK{}, explain("read the EK certificate", err)
	}
	var chain [][]byte
	if len(certificate) > 0 {
		if chain, err = t.readChain(ctx); err != nil {
			return EK{}, explain("read the issuers of the EK certificate", err)
		}
	}
	o, err := t.create(ctx, tpm2.TPMRHEndorsement, ekTemplates[kind].public)
	if err != nil {
		return EK{}, explain("make the endorsement key", err)
	}
	if err := t.flush(ctx, o); err != nil {
		return EK{}, explain("flush the endorsement key", err)
	}
	spki, err := subjectPublicKeyInfo(o.public)
	if err != nil {
		return EK{}, fmt.Errorf("read the endorsement key: %w", err)
	}
	t.ek = &EK{Kind: kind, Public: o.public, Certificate: certificate, Chain: chain, Hash: sha256.Sum256(spki)}
	return *t.ek, nil
}

// chooseEK returns the kind of EK and its certificate, nil where the TPM has
// none: many software and cloud TPMs do not.
func (t *TPM) chooseEK(ctx context.Context) (Kind, []byte, error) {
	if t.cfg.EK != Auto {
		certificate, err := t.readNV(ctx, ekTemplates[t.cfg.EK].nv, maxCertificate)
		return t.cfg.EK, certificate, err
	}
	for _, kind := range ekOrder {
		certificate, err := t.readNV(ctx, ekTemplates[kind].nv, maxCertificate)
		if err != nil {
			return "", nil, err
		}
		if len(certificate) > 0 {
			return kind, certificate, nil
		}
	}
	return RSA, nil, nil
}

// subjectPublicKeyInfo returns the DER of the key in a TPMT_PUBLIC; an exponent
// of 0 is the TPM's way to write 65537.
func subjectPublicKeyInfo(public []byte) ([]byte, error) {
	p, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
	if err != nil {
		return nil, err
	}
	key, err := tpm2.Pub(*p)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(key)
}
