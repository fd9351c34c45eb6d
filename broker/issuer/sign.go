package issuer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// How bytes are prepared without the key. x509.CreateCertificate hands the
// whole TBSCertificate to a crypto.MessageSigner. Prepare passes one that knows
// only the CA's public key: it keeps the message and answers with an error, so
// that CreateCertificate ends before there is a signature. Sign builds the same
// certificate again with a signer that has the key, and that touches it only
// after it found the message equal to the recorded one. So there is no own
// ASN.1, no throw-away signature, and no moment before Sign at which the
// private key is in reach.

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

// gate signs one message and nothing else.
type gate struct {
	key     *ecdsa.PrivateKey
	allowed []byte
}

// Public returns the CA's public key.
func (g *gate) Public() crypto.PublicKey { return g.key.Public() }

// Sign refuses: a digest does not show what it stands for.
func (g *gate) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errOtherBytes
}

// SignMessage signs the recorded bytes only.
func (g *gate) SignMessage(random io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if !bytes.Equal(message, g.allowed) || opts.HashFunc() != crypto.SHA256 {
		return nil, errOtherBytes
	}
	digest := sha256.Sum256(message)
	return g.key.Sign(random, digest[:], opts)
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
	// CreateCertificate compares the gate's key with that of the CA certificate
	// and verifies the signature under it before it returns.
	der, err := x509.CreateCertificate(i.rand, p.template, p.ca.cert, p.template.PublicKey, &gate{key: p.ca.key, allowed: p.tbs})
	if err != nil {
		return nil, reason.Wrap(reason.Internal, "", fmt.Errorf("sign certificate: %w", err))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, reason.Wrap(reason.Internal, "", fmt.Errorf("read signed certificate: %w", err))
	}
	if !bytes.Equal(cert.RawTBSCertificate, p.tbs) {
		return nil, reason.Wrap(reason.Internal, "", errOtherBytes)
	}
	return [][]byte{der}, nil
}
