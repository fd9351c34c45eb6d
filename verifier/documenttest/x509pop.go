package documenttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"
)

// X509CA is the CA of a PKI that stands: a root and an intermediate.
type X509CA struct {
	Root, Issuer RSASigner
	at           time.Time
}

// NewX509CA makes one that is valid around at.
func NewX509CA(at time.Time) *X509CA {
	ca := func(name string, n int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(n), Subject: pkix.Name{Organization: []string{"Example"}, CommonName: name}, IsCA: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	c := &X509CA{Root: Certify(ca("Root", 1), RSAKey(0), nil, at), at: at}
	c.Issuer = Certify(ca("Machines", 2), RSAKey(1), &c.Root, at)
	return c
}

// RootPEM returns the root: the trust object x509pop.ca/<name>.
func (c *X509CA) RootPEM() []byte { return certificatePEM(c.Root.Certificate.Raw) }

// ChainPEM returns the intermediate: part chain.
func (c *X509CA) ChainPEM() []byte { return certificatePEM(c.Issuer.Certificate.Raw) }

// Template is what Issue certifies, for a test to change.
func (c *X509CA) Template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(0xbeef), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: c.at.AddDate(0, -1, 0), NotAfter: c.at.AddDate(0, 1, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
}

// Issue certifies the key of a machine, PEM.
func (c *X509CA) Issue(template *x509.Certificate, key crypto.PublicKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, template, c.Issuer.Certificate, key, c.Issuer.Key)
	if err != nil {
		panic(err) // a template that nobody can sign
	}
	return certificatePEM(der)
}

// CRL is the intermediate's list up to next, which names the certificates of
// Template or none.
func (c *X509CA) CRL(revoked bool, next time.Time) []byte {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: c.at.AddDate(0, -1, 0), NextUpdate: next}
	if revoked {
		list.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(0xbeef), RevocationTime: c.at.AddDate(0, 0, -1)}}
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, c.Issuer.Certificate, c.Issuer.Key)
	if err != nil {
		panic(err) // a CA of this package signs lists
	}
	return der
}

// ECKey makes the key of a machine.
func ECKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err) // the system has no random numbers
	}
	return key
}

// Possess signs the bound value as x509pop wants it of the kind of key.
func Possess(key crypto.Signer, bound [32]byte) []byte {
	sum := sha256.Sum256(bound[:])
	message, opts := sum[:], crypto.SignerOpts(crypto.SHA256)
	switch key.(type) {
	case *rsa.PrivateKey:
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	case ed25519.PrivateKey:
		message, opts = bound[:], crypto.Hash(0)
	}
	signature, err := key.Sign(rand.Reader, message, opts)
	if err != nil {
		panic(err)
	}
	return signature
}
