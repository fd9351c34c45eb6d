package tpm2

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// EK is an endorsement key: the root of a machine's identity, and the key that
// a credential is made for. That it follows a template says that a real TPM
// would use it only to open credentials; that it is a real TPM's is for the
// inventory or package ekcert to say. The zero value is no key.
type EK struct {
	public []byte
	spki   []byte
	area   publicArea
	key    crypto.PublicKey
}

// ekTemplate is what an EK of one template has apart from its key.
type ekTemplate struct {
	kind, nameAlg uint16
	attributes    uint32
	policy        string // hex
	aesBits       uint16
	size          uint16 // RSA: bits; ECC: curve
}

// Policies of endorsement keys (TCG EK Credential Profile 2.5, B.6).
const (
	policyA256 = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
	policyB256 = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0"
	policyB384 = "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
)

// ekTemplates: TCG EK Credential Profile 2.5, B.3 (low range: L-1, L-2) and B.4
// (high range: H-1, H-3).
var ekTemplates = []ekTemplate{
	{algRSA, algSHA256, 0x300b2, policyA256, 128, 2048},      // L-1
	{algECC, algSHA256, 0x300b2, policyA256, 128, curveP256}, // L-2
	{algRSA, algSHA256, 0x300f2, policyB256, 128, 2048},      // H-1
	{algECC, algSHA384, 0x300f2, policyB384, 256, curveP384}, // H-3
}

// ParseEK decodes the TPMT_PUBLIC of an endorsement key and demands one of the
// templates L-1, L-2, H-1 or H-3 of the TCG EK Credential Profile, with exponent
// 0 or 65537. A key with other attributes may be a software key, or one that
// signs: either would void what a credential proves.
//
// Errors: request.too_large, tpm2.version, tpm2.ek.encoding, tpm2.ek.template.
func ParseEK(public []byte) (EK, error) {
	p, err := parsePublic(public)
	switch {
	case errors.Is(err, errTooLarge):
		return EK{}, errTooLarge
	case errors.Is(err, errVersion1):
		return EK{}, reason.New(reason.TPM2Version, "the EK is a TPM 1.2 key")
	case err != nil && !errors.Is(err, errAlgorithm), err == nil && !p.paddedPoint():
		return EK{}, reason.New(reason.TPM2EKEncoding, "EK: not exactly one canonical TPMT_PUBLIC")
	case err != nil || !p.isEndorsement():
		return EK{}, errEKTemplate()
	}
	public = bytes.Clone(public)
	p, err = parsePublic(public) // again, so that nothing points into the caller's bytes
	if err != nil {
		return EK{}, errEKTemplate()
	}
	key, ok := p.key()
	if !ok {
		return EK{}, errEKTemplate()
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return EK{}, errEKTemplate()
	}
	return EK{public: public, spki: spki, area: p, key: key}, nil
}

func errEKTemplate() error {
	return reason.New(reason.TPM2EKTemplate, "the EK follows none of the templates L-1, L-2, H-1, H-3")
}

func (p *publicArea) isEndorsement() bool {
	size := p.bits
	if p.kind == algECC {
		size = p.curve
	}
	if p.scheme != (scheme{alg: algNull}) || p.sym.alg != algAES || p.sym.mode != algCFB {
		return false
	}
	if p.kind == algECC && p.kdf != (scheme{alg: algNull}) {
		return false
	}
	got := ekTemplate{p.kind, p.nameAlg, p.attributes, hex.EncodeToString(p.policy), p.sym.bits, size}
	for _, t := range ekTemplates {
		if got == t {
			return true
		}
	}
	return false
}

// Public returns the TPMT_PUBLIC as received; the slice is the caller's.
func (e EK) Public() []byte { return bytes.Clone(e.public) }

// SPKI returns the key as SubjectPublicKeyInfo DER, exponent 0 written as
// 65537; the slice is the caller's.
func (e EK) SPKI() []byte { return bytes.Clone(e.spki) }

// RootHash returns SHA-256 of SPKI: what an inventory lists and a node's name
// is derived from. Two public areas that differ only in how they write the
// exponent have the same.
func (e EK) RootHash() [32]byte { return sha256.Sum256(e.spki) }

// MakeCredential is TPM2_MakeCredential in software: it wraps secret (1 to 32
// bytes) so that only the TPM that holds this EK opens it, and only if the
// object named akName is loaded there. It returns the content of TPM2B_ID_OBJECT
// and of TPM2B_ENCRYPTED_SECRET. rand is a source of random bytes; the standard
// library takes its own for some steps.
//
// Errors are the caller's mistakes or the random source's, and carry no code.
func (e EK) MakeCredential(rand io.Reader, akName, secret []byte) (blob, encryptedSecret []byte, err error) {
	if len(akName) != 2+sha256.Size || len(secret) == 0 || len(secret) > sha256.Size {
		return nil, nil, errors.New("make credential: a Name is 34 bytes, a secret 1 to 32")
	}
	pub, err := e.template()
	if err != nil {
		return nil, nil, fmt.Errorf("make credential: %w", err)
	}
	kem, err := tpm2.ImportEncapsulationKey(pub)
	if err != nil {
		return nil, nil, fmt.Errorf("make credential: %w", err)
	}
	blob, encryptedSecret, err = tpm2.CreateCredential(rand, kem, akName, secret)
	if err != nil {
		return nil, nil, fmt.Errorf("make credential: %w", err)
	}
	return blob, encryptedSecret, nil
}

// template writes the checked key for go-tpm, whose decoder never sees the
// foreign bytes.
func (e EK) template() (*tpm2.TPMTPublic, error) {
	sym := tpm2.TPMTSymDefObject{
		Algorithm: tpm2.TPMAlgAES,
		KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(e.area.sym.bits)),
		Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
	out := &tpm2.TPMTPublic{NameAlg: tpm2.TPMAlgID(e.area.nameAlg)}
	switch e.key.(type) {
	case *rsa.PublicKey:
		out.Type = tpm2.TPMAlgRSA
		out.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Symmetric: sym, KeyBits: tpm2.TPMKeyBits(e.area.bits), Exponent: defaultExponent,
		})
		out.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: e.area.x})
	case *ecdsa.PublicKey:
		out.Type = tpm2.TPMAlgECC
		out.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: sym, CurveID: tpm2.TPMECCCurve(e.area.curve),
		})
		out.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: e.area.x}, Y: tpm2.TPM2BECCParameter{Buffer: e.area.y},
		})
	default:
		return nil, errors.New("no endorsement key")
	}
	return out, nil
}
