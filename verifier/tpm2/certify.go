package tpm2

import (
	"bytes"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// CertifyEvidence is the answer of TPM2_Certify over the SVID key, as sent:
// TPMT_PUBLIC of that key, TPMS_ATTEST and TPMT_SIGNATURE.
type CertifyEvidence struct{ Public, Attest, Signature []byte }

// ResidentKey is a key that was proved to live, unexportable, in the TPM that
// holds a given AK. The zero value proves nothing.
type ResidentKey struct {
	spki []byte
	name []byte
}

// VerifyCertify verifies that the TPM holding ak certified the key in c over
// qualifying, the same bytes as the quote of that request. TPM2_Certify needs
// the key's authorisation, so this proves possession too. The key must be P-256
// with ECDSA-SHA256, nameAlg SHA-256, sign, not restricted, not decrypt,
// fixedTPM, fixedParent, sensitiveDataOrigin.
//
// Errors: request.too_large; tpm2.version; tpm2.signature.*; tpm2.attest.*;
// tpm2.certify.mismatch (another AK signed, or another key was certified);
// tpm2.certify.nonce_mismatch; tpm2.certify.key_attributes.
func VerifyCertify(ak AK, c CertifyEvidence, qualifying []byte) (ResidentKey, error) {
	if err := checkAttestSize(c.Attest); err != nil {
		return ResidentKey{}, err
	}
	if len(c.Public) > maxPublic {
		return ResidentKey{}, errTooLarge
	}
	a, err := openAttest(&ak, c.Attest, c.Signature, typeCertify)
	if err != nil {
		return ResidentKey{}, nameForeignSigner(ak, c.Attest, err)
	}
	if len(ak.qualified) == 0 || !bytes.Equal(a.signer, ak.qualified) {
		return ResidentKey{}, errForeignSigner()
	}
	if len(qualifying) == 0 || !bytes.Equal(a.extraData, qualifying) {
		return ResidentKey{}, reason.New(reason.TPM2CertifyNonceMismatch, "extraData of TPM2_Certify is not that of the quote")
	}
	name := nameOf(c.Public)
	if !bytes.Equal(a.name, name) {
		return ResidentKey{}, reason.New(reason.TPM2CertifyMismatch, "TPM2_Certify names another key than the public area sent")
	}
	spki, err := residentSPKI(c.Public)
	if err != nil {
		return ResidentKey{}, err
	}
	return ResidentKey{spki: spki, name: name}, nil
}

// nameForeignSigner tells a structure that names another AK as its signer apart
// from one that was damaged: the first is a mix-up of keys, and unauthenticated
// either way.
func nameForeignSigner(ak AK, raw []byte, err error) error {
	switch reason.Of(err) {
	case reason.TPM2SignatureInvalid, reason.TPM2SignatureScheme, reason.TPM2SignatureEncoding:
	default:
		return err
	}
	a, perr := parseAttest(raw, typeCertify)
	if perr == nil && !bytes.Equal(a.signer, ak.qualified) {
		return errForeignSigner()
	}
	return err
}

func errForeignSigner() error {
	return reason.New(reason.TPM2CertifyMismatch, "TPM2_Certify was signed by another AK")
}

// residentSPKI checks the nature of a key whose Name the TPM has vouched for.
func residentSPKI(public []byte) ([]byte, error) {
	p, err := parsePublic(public)
	if err != nil {
		return nil, errKeyAttributes("not the canonical public area of a P-256 key")
	}
	const must = attrResident | attrSign
	const never = attrRestricted | attrDecrypt | attrEncryptedDuplication | ^attrDefined
	if p.attributes&must != must || p.attributes&never != 0 {
		return nil, errKeyAttributes("the SVID key may leave its TPM, is restricted, or may decrypt")
	}
	_, ok := p.key()
	if !ok || p.kind != algECC || p.nameAlg != algSHA256 || !p.signsSHA256() {
		return nil, errKeyAttributes("the SVID key must be P-256 with ECDSA-SHA256")
	}
	return p256SPKI(p.x, p.y), nil
}

// p256Head is the DER of a SubjectPublicKeyInfo (RFC 5480, section 2) up to the
// coordinates of an uncompressed point on P-256.
const p256Head = "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04"

// p256SPKI returns what x509.MarshalPKIXPublicKey does for a point whose
// coordinates have 32 bytes each.
func p256SPKI(x, y []byte) []byte {
	return append(append(append(make([]byte, 0, len(p256Head)+64), p256Head...), x...), y...)
}

func errKeyAttributes(detail string) error {
	return reason.New(reason.TPM2CertifyKeyAttributes, detail)
}

// SPKI returns the key as SubjectPublicKeyInfo DER; the slice is the caller's.
func (k ResidentKey) SPKI() []byte { return bytes.Clone(k.spki) }

// Name returns the TPM Name of the key, 34 bytes; the slice is the caller's.
func (k ResidentKey) Name() []byte { return bytes.Clone(k.name) }
