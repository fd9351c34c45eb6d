package issuer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// How bytes are prepared without the key, and signed without being made anew.
// x509.CreateCertificate hands the whole TBSCertificate to a
// crypto.MessageSigner. libraryTBS passes one that knows only the CA's public
// key: it keeps the message and answers with an error, so that CreateCertificate
// ends before there is a signature. Prepare writes the same bytes itself where it
// can (tbs.go). Sign compares those bytes with the hash that was
// recorded, signs them and wraps both (RFC 5280, section 4.1). Encoding and
// verifying all of it again cost four times what the signature does.

// errCaptured ends CreateCertificate inside libraryTBS.
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

// toBeSigned encodes the certificate without using the CA's private key.
func (c *CA) toBeSigned(l *leaf) ([]byte, error) {
	if c.form != nil {
		if tbs, ok := c.form.write(l); ok {
			return tbs, nil
		}
	}
	return libraryTBS(l, c.cert)
}

// libraryTBS returns the bytes that x509.CreateCertificate would have signed.
func libraryTBS(l *leaf, ca *x509.Certificate) ([]byte, error) {
	pub, err := x509.ParsePKIXPublicKey(l.spki)
	if err != nil {
		return nil, fmt.Errorf("prepare certificate: %w", err)
	}
	c := &capture{public: ca.PublicKey}
	if _, err = x509.CreateCertificate(nil, l.template(), ca, pub, c); !errors.Is(err, errCaptured) || len(c.message) == 0 {
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
	var shown [2 * sha256.Size]byte
	if hex.Encode(shown[:], digest[:]); string(shown[:]) != recorded {
		return nil, errOtherBytes
	}
	if c.key == nil || !c.key.PublicKey.Equal(c.cert.PublicKey) {
		return nil, errors.New("the key is not that of the CA certificate")
	}
	signature, err := ecdsa.SignASN1(random, c.key, digest[:])
	if err != nil {
		return nil, err
	}
	size := len(tbs) + len(derECDSASHA256) + derSize(1+len(signature))
	out := appendHead(make([]byte, 0, derSize(size)), tagSequence, size)
	out = append(append(out, tbs...), derECDSASHA256...)
	out = append(appendHead(out, tagBitString, 1+len(signature)), 0) // no unused bits
	return append(out, signature...), nil
}
