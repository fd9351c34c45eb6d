package tpm2

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// rhEndorsement is TPM_RH_ENDORSEMENT, the parent of every AK here. Only there
// (and in the platform hierarchy) a TPM reports its counters and its firmware
// version unobfuscated.
const rhEndorsement uint32 = 0x4000000b

// AK is a checked attestation key: restricted, so it signs only what its TPM
// itself made, and resident, so nobody else can sign with it. It says nothing
// about which TPM that is. The zero value verifies nothing.
type AK struct {
	public    []byte
	name      []byte
	qualified []byte
	scheme    uint16 // algRSASSA or algECDSA, always with SHA-256
	key       crypto.PublicKey
}

// ParseAK decodes the TPMT_PUBLIC of an attestation key and demands the
// attributes and parameters of an AK: restricted, sign, not decrypt, fixedTPM,
// fixedParent, sensitiveDataOrigin, no encryptedDuplication, no reserved bit;
// nameAlg SHA-256, symmetric NULL, RSA-2048 to 4096 with RSASSA-SHA256 and
// exponent 0 or 65537, or P-256 with ECDSA-SHA256.
//
// Errors: request.too_large, tpm2.version, tpm2.ak.encoding,
// tpm2.ak.not_restricted, tpm2.ak.attributes, tpm2.signature.hash (a key bound
// to SHA-1), tpm2.ak.parameters, in this order.
func ParseAK(public []byte) (AK, error) {
	p, err := parsePublic(public)
	if err != nil && !errors.Is(err, errAlgorithm) {
		return AK{}, akError(err)
	}
	if err := checkAKAttributes(p.attributes); err != nil {
		return AK{}, err
	}
	if err != nil {
		return AK{}, akError(err)
	}
	// A TPM makes no key whose policy is not a digest of its nameAlg.
	if !p.paddedPoint() || (p.nameAlg == algSHA256 && len(p.policy) != 0 && len(p.policy) != sha256.Size) {
		return AK{}, akError(errEncoding)
	}
	if p.scheme.hash == algSHA1 {
		return AK{}, reason.New(reason.TPM2SignatureHash, "the AK can only sign with SHA-1")
	}
	key, ok := p.key()
	if !ok || p.nameAlg != algSHA256 || !p.signsSHA256() {
		return AK{}, errAKParameters()
	}
	public = bytes.Clone(public)
	name := nameOf(public)
	return AK{public: public, name: name, qualified: qualifiedUnder(rhEndorsement, name), scheme: p.scheme.alg, key: key}, nil
}

func akError(err error) error {
	switch {
	case errors.Is(err, errTooLarge):
		return errTooLarge
	case errors.Is(err, errVersion1):
		return reason.New(reason.TPM2Version, "the AK is a TPM 1.2 key")
	case errors.Is(err, errAlgorithm):
		return reason.New(reason.TPM2AKParameters, "the AK is of an algorithm that is not allowed")
	}
	return reason.New(reason.TPM2AKEncoding, "AK: not exactly one canonical TPMT_PUBLIC")
}

// checkAKAttributes: an unrestricted key would sign a forged TPMS_ATTEST with
// TPM2_Sign, a duplicable or imported one exists outside the TPM, and one that
// may decrypt can open credentials made for another purpose.
func checkAKAttributes(a uint32) error {
	if a&attrRestricted == 0 {
		return reason.New(reason.TPM2AKNotRestricted, "the AK is not restricted: it would sign what others made")
	}
	const must = attrResident | attrSign
	const never = attrDecrypt | attrEncryptedDuplication | ^attrDefined
	if a&must != must || a&never != 0 {
		return reason.Newf(reason.TPM2AKAttributes, "AK attributes %#x are not those of an attestation key", a)
	}
	return nil
}

// signsSHA256 reports whether the key is bound to exactly one way of signing.
// A NULL scheme would let the caller of TPM2_Quote choose hash and padding.
func (p *publicArea) signsSHA256() bool {
	if p.sym.alg != algNull || p.scheme.hash != algSHA256 {
		return false
	}
	switch p.kind {
	case algRSA:
		return p.scheme.alg == algRSASSA
	case algECC:
		return p.scheme.alg == algECDSA && p.curve == curveP256 && p.kdf.alg == algNull
	}
	return false
}

// qualifiedUnder returns the qualified name of a primary object: nameAlg and
// H(handle of the hierarchy ‖ Name) (Part 1, 16.2).
func qualifiedUnder(hierarchy uint32, name []byte) []byte {
	b := make([]byte, 0, 4+len(name))
	b = append(b, byte(hierarchy>>24), byte(hierarchy>>16), byte(hierarchy>>8), byte(hierarchy))
	return nameOf(append(b, name...))
}

// Pinned returns the AK as it is named elsewhere than as a primary key of the
// endorsement hierarchy: a quote must then carry that qualified name. It is for
// captures of other machines, whose AKs live in the owner hierarchy or under a
// storage key. There a TPM obfuscates counters and firmware version, so what a
// quote says of them means nothing.
func (a AK) Pinned(qualifiedName []byte) AK {
	a.qualified = bytes.Clone(qualifiedName)
	return a
}

// AKFromSPKI takes an attestation key of which only the SubjectPublicKeyInfo
// (DER) is known. Nothing then says that it is restricted, so what it signed
// need not be a TPM's word: a caller has to know that from elsewhere, for
// example from an AK certificate. It has no Name, and verifies a quote only
// after Pinned. Scheme and sizes are those of ParseAK.
//
// Errors: request.too_large, tpm2.ak.encoding, tpm2.ak.parameters.
func AKFromSPKI(der []byte) (AK, error) {
	if len(der) > maxPublic {
		return AK{}, errTooLarge
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return AK{}, reason.Wrap(reason.TPM2AKEncoding, "AK: not one SubjectPublicKeyInfo in DER", err)
	}
	switch key := parsed.(type) {
	case *rsa.PublicKey:
		n := key.N.BitLen()
		if n >= minRSABits && n <= maxRSABits && n%8 == 0 && key.N.Bit(0) == 1 && key.E == defaultExponent {
			return AK{scheme: algRSASSA, key: key}, nil
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return AK{scheme: algECDSA, key: key}, nil
		}
	}
	return AK{}, errAKParameters()
}

func errAKParameters() error {
	return reason.New(reason.TPM2AKParameters, "an AK is RSA-2048 or larger with RSASSA-SHA256, or P-256 with ECDSA-SHA256, nameAlg SHA-256")
}

// Public returns the TPMT_PUBLIC as received; the slice is the caller's.
func (a AK) Public() []byte { return bytes.Clone(a.public) }

// Name returns nameAlg (2 bytes, big-endian) and SHA-256 of the public area,
// 34 bytes; the slice is the caller's.
func (a AK) Name() []byte { return bytes.Clone(a.name) }

// SPKI returns the key as SubjectPublicKeyInfo DER, in the form of package
// x509chain; nil for the zero value.
func (a AK) SPKI() []byte {
	if a.key == nil {
		return nil
	}
	spki, err := x509.MarshalPKIXPublicKey(a.key)
	if err != nil {
		return nil
	}
	return spki
}

// QualifiedName returns the qualified name that the key has as a primary object
// of the endorsement hierarchy, 34 bytes; the slice is the caller's. A quote by
// a key of the same Name elsewhere carries another one.
func (a AK) QualifiedName() []byte { return bytes.Clone(a.qualified) }

// String returns the Name in hex, "" for the zero value.
func (a AK) String() string { return hex.EncodeToString(a.name) }
