package conformance

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// attestationKey is an AK in one of the forms in which captures hold it: a
// TPMT_PUBLIC, or only its key.
type attestationKey struct {
	public []byte // TPMT_PUBLIC
	key    []byte // SubjectPublicKeyInfo DER
	cert   []byte // DER of the certificate that key was taken from
	chain  [][]byte
}

// readAK reads a TPMT_PUBLIC with or without the TPM2B size, a
// SubjectPublicKeyInfo, or a certificate; the last two as PEM or DER.
func readAK(raw []byte) (attestationKey, error) {
	if block, _ := pem.Decode(raw); block != nil {
		first, others := derOf(raw)
		if block.Type == "CERTIFICATE" {
			return fromCertificate(first, others)
		}
		return attestationKey{key: first}, nil
	}
	if len(raw) > 0 && raw[0] == 0x30 { // a SEQUENCE; no TPM structure begins so
		if _, err := x509.ParseCertificate(raw); err == nil {
			return fromCertificate(raw, nil)
		}
		return attestationKey{key: raw}, nil
	}
	public, err := unsized(raw)
	return attestationKey{public: public}, err
}

func fromCertificate(der []byte, chain [][]byte) (attestationKey, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return attestationKey{}, reason.Wrap(reason.TPM2AKCertEncoding, "the AK certificate does not parse", err)
	}
	return attestationKey{key: c.RawSubjectPublicKeyInfo, cert: der, chain: chain}, nil
}

// unsized takes the size of a TPM2B_PUBLIC off. Type and size cannot be
// confused: no type is as large as a public area. A size that is not that of
// the rest is a structure of another length, not another type.
func unsized(raw []byte) ([]byte, error) {
	if len(raw) < 4 {
		return raw, nil
	}
	if int(binary.BigEndian.Uint16(raw)) == len(raw)-2 {
		return raw[2:], nil
	}
	if !isType(raw) && isType(raw[2:]) {
		return nil, reason.New(reason.TPM2AKEncoding, "the size of the TPM2B_PUBLIC is not that of its content")
	}
	return raw, nil
}

// isType: TPM_ALG_RSA or TPM_ALG_ECC.
func isType(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0, 1}) || bytes.HasPrefix(b, []byte{0, 0x23})
}

// parse gives the AK as the verifier knows it.
func (k attestationKey) parse() (tpm2.AK, error) {
	if k.key != nil {
		return tpm2.AKFromSPKI(k.key)
	}
	return tpm2.ParseAK(k.public)
}
