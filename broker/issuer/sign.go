package issuer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// How bytes are prepared without the key, and signed without being made anew.
// x509.CreateCertificate hands the whole TBSCertificate to a
// crypto.MessageSigner. Prepare passes one that knows only the CA's public key:
// it keeps the message and answers with an error, so that CreateCertificate ends
// before there is a signature. Sign compares those bytes with the hash that was
// recorded, signs them and wraps both (RFC 5280, section 4.1). Encoding and
// verifying all of it again cost four times what the signature does.

// errCaptured ends CreateCertificate inside Prepare.
var errCaptured = errors.New("to-be-signed bytes captured")

// errOtherBytes refuses what is not the recorded message.
var errOtherBytes = errors.New("not the recorded bytes")

// capture records what it is asked to sign.
type capture struct {
	public  crypto.PublicKey
	message []byte
}

// Public returns the CA's public key, which CreateCertificate compares.
func (c *capture) Public() crypto.PublicKey { return c.public }

// Sign is never reached: a MessageSigner is asked with the message.
func (c *capture) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errOtherBytes
}

// SignMessage keeps the message and signs nothing.
func (c *capture) SignMessage(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	c.message = bytes.Clone(message)
	return nil, errCaptured
}

func toBeSigned(template *x509.Certificate, ca *CA, pub any) ([]byte, error) {
	c := &capture{public: ca.cert.PublicKey}
	_, err := x509.CreateCertificate(nil, template, ca.cert, pub, c)
	if !errors.Is(err, errCaptured) || len(c.message) == 0 {
		return nil, fmt.Errorf("prepare certificate: %w", err)
	}
	return c.message, nil
}

// Sign signs exactly the bytes that Prepare showed and returns the chain, leaf
// first, without the root. Call it only after the record is committed. Each
// Prepared is good for one call, also if that call fails: a retry would be an
// SVID that a record might not cover. It refuses a Prepared of another issuer,
// and with issuer.unavailable one whose CA has ended meanwhile.
func (i *Issuer) Sign(p *Prepared) (chain [][]byte, err error) {
	if p == nil || p.issuer != i || p.ca == nil {
		return nil, reason.Wrap(reason.Internal, "", errors.New("prepared by another issuer"))
	}
	if p.used.Swap(true) {
		return nil, reason.Wrap(reason.Internal, "", errors.New("prepared SVID was used already"))
	}
	if !p.ca.usable(i.now()) {
		return nil, reason.New(reason.IssuerUnavailable, "the signing key has ended")
	}
	der, err := p.ca.sign(i.rand, p.tbs, p.record.TBSSHA256)
	if err != nil {
		return nil, reason.Wrap(reason.Internal, "", fmt.Errorf("sign certificate: %w", err))
	}
	return [][]byte{der}, nil
}

// sign touches the key only after it found tbs to be what was recorded, and the
// key to be that of the certificate which readers will verify with.
func (c *CA) sign(random io.Reader, tbs []byte, recorded string) ([]byte, error) {
	digest := sha256.Sum256(tbs)
	if hex.EncodeToString(digest[:]) != recorded {
		return nil, errOtherBytes
	}
	if c.key == nil || !c.key.PublicKey.Equal(c.cert.PublicKey) {
		return nil, errors.New("the key is not that of the CA certificate")
	}
	signature, err := ecdsa.SignASN1(random, c.key, digest[:])
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidECDSAWithSHA256) })
		b.AddASN1BitString(signature)
	})
	return b.Bytes()
}

// oidECDSAWithSHA256 is ecdsa-with-SHA256 of RFC 5758, section 3.2. It goes
// without parameters.
var oidECDSAWithSHA256 = encoding_asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
