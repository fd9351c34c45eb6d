package pkcs7

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"

	"golang.org/x/crypto/cryptobyte"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// MinKeyBits is the smallest RSA key that a message may be signed with. AWS signs
// another form of its identity document with 1024 bits, which SPIRE and others
// fall back to.
const MinKeyBits = 2048

// Message is a message whose signature was verified under a trusted certificate.
// The zero value holds nothing.
type Message struct {
	content []byte
	signer  *x509.Certificate
}

// VerifiedBy verifies the signature with the key of the one certificate among
// trusted that bears issuer and serial number of the signer. Errors, in the order
// of the checks: pkcs7.signer_unknown, pkcs7.algorithm (a key that is not RSA or
// too short), pkcs7.signature (also where the content does not have the signed
// digest).
func (c Claimed) VerifiedBy(trusted ...*x509.Certificate) (Message, error) {
	var signer *x509.Certificate
	for _, cert := range trusted {
		if c.isSigner(cert) {
			signer = cert
			break
		}
	}
	if signer == nil {
		return Message{}, reason.New(reason.PKCS7SignerUnknown, "the signer is none of the trusted certificates")
	}
	for _, other := range c.bag {
		if c.isSigner(other) && !other.Equal(signer) {
			return Message{}, reason.New(reason.PKCS7SignerUnknown, "another certificate in the message bears the issuer and serial number of a trusted one")
		}
	}
	key, ok := signer.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < MinKeyBits {
		return Message{}, reason.New(reason.PKCS7Algorithm, "the signer's key is not RSA of 2048 bits or more")
	}
	signed := c.content
	if c.attributes != nil {
		signed = c.attributes
	}
	sum := sha256.Sum256(signed)
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], c.signature); err != nil {
		return Message{}, reason.Wrap(reason.PKCS7Signature, "the signature does not verify", err)
	}
	if c.attributes != nil {
		if sum = sha256.Sum256(c.content); !bytes.Equal(sum[:], c.digest) {
			return Message{}, reason.New(reason.PKCS7Signature, "the content does not have the digest that was signed")
		}
	}
	return Message{content: bytes.Clone(c.content), signer: signer}, nil
}

// isSigner compares issuer and serial number in DER: no two spellings are equal.
func (c Claimed) isSigner(cert *x509.Certificate) bool {
	var b cryptobyte.Builder
	b.AddASN1BigInt(cert.SerialNumber)
	serial, err := b.Bytes()
	return err == nil && bytes.Equal(cert.RawIssuer, c.issuer) && bytes.Equal(serial, c.serial)
}

// Content returns the signed bytes; the slice is the caller's.
func (m Message) Content() []byte { return bytes.Clone(m.content) }

// Signer returns the certificate whose key verified the signature, one of those
// that VerifiedBy was given.
func (m Message) Signer() *x509.Certificate { return m.signer }
