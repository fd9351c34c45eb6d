package x509pop

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

const (
	// MaxDocument bounds the certificate and its issuers together as they are sent,
	// in bytes, PEM or DER.
	MaxDocument = 32 << 10
	// MaxSignature bounds the signature: RSA-4096 has 512 bytes.
	MaxSignature = 512
	// minKeyBits is the smallest RSA key whose signature counts.
	minKeyBits = 2048
)

// Evidence is what a host sends. All of it is attacker bytes.
type Evidence struct {
	// Certificate is one PEM block or DER. A PEM bundle is read as the certificate
	// and its issuers.
	Certificate []byte
	// Issuers are PEM blocks, at most x509chain.MaxChain with those of Certificate;
	// nil for none.
	Issuers []byte
	// Signature is that of the certificate's key over the 32 bytes of the bound
	// value: ECDSA (P-256, P-384; ASN.1) or RSA-PSS with a salt of 32 bytes, both with
	// SHA-256, or Ed25519.
	Signature []byte
}

// Trust is what certificates are judged by. The zero value trusts nobody.
type Trust struct {
	Roots x509chain.Roots // CAs of an existing PKI
	CRLs  x509chain.CRLs  // an issuer without one revokes nothing
}

// Proof is a certificate whose chain and possession were verified. The zero value
// is none.
type Proof struct {
	leaf  *x509.Certificate
	spki  []byte   // of the leaf's key in its plain form
	roots []string // SHA-256 of the DER of each root that it chains to, hex, sorted
}

// Verify judges a certificate and the proof of its key under trust at the time
// now. Errors, in the order of the checks: request.too_large, x509pop.encoding,
// x509pop.usage, x509pop.validity, x509pop.untrusted, which covers revoked
// certificates and lists that are stale, x509pop.signature.
func Verify(e Evidence, bound [32]byte, trust Trust, now time.Time) (Proof, error) {
	leaf, issuers, err := parse(e)
	if err != nil {
		return Proof{}, err
	}
	if err := checkUsage(leaf); err != nil {
		return Proof{}, err
	}
	anchors, err := chain(leaf, issuers, trust, now)
	if err != nil {
		return Proof{}, err
	}
	if !possesses(leaf.PublicKey, bound, e.Signature) {
		return Proof{}, reason.New(reason.X509PoPSignature, "the certificate's key did not sign this challenge")
	}
	spki, err := x509.MarshalPKIXPublicKey(leaf.PublicKey)
	if err != nil {
		return Proof{}, reason.Wrap(reason.X509PoPEncoding, "the key has no plain form", err)
	}
	return Proof{leaf: leaf, spki: spki, roots: anchors}, nil
}

func parse(e Evidence) (*x509.Certificate, []*x509.Certificate, error) {
	if len(e.Certificate)+len(e.Issuers) > MaxDocument || len(e.Signature) > MaxSignature {
		return nil, nil, reason.New(reason.RequestTooLarge, "certificate and issuers are longer than 32 KiB, or the signature than 512 bytes")
	}
	blocks, ok := split(e.Certificate)
	more, okIssuers := split(e.Issuers)
	if !ok || !okIssuers || len(blocks) == 0 {
		return nil, nil, reason.New(reason.X509PoPEncoding, "neither PEM certificates nor one in DER")
	}
	if blocks = append(blocks, more...); len(blocks) > 1+x509chain.MaxChain {
		return nil, nil, reason.New(reason.RequestTooLarge, "more than four issuers")
	}
	var out []*x509.Certificate
	for _, der := range blocks {
		if x509chain.Oversized(der) {
			return nil, nil, reason.New(reason.RequestTooLarge, "a key is longer than 4096 bits")
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, reason.Wrap(reason.X509PoPEncoding, "not one X.509 certificate in DER", err)
		}
		out = append(out, c)
	}
	return out[0], out[1:], nil
}

// split takes DER out of PEM blocks of certificates, with nothing but white space
// around them.
func split(raw []byte) ([][]byte, bool) {
	rest := bytes.TrimSpace(raw)
	if len(rest) == 0 {
		return nil, true
	}
	if !bytes.HasPrefix(rest, []byte("-----")) {
		return [][]byte{raw}, true
	}
	var out [][]byte
	for len(rest) > 0 {
		var block *pem.Block
		if !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----")) {
			return nil, false
		}
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, false
		}
		out, rest = append(out, block.Bytes), bytes.TrimSpace(rest)
	}
	return out, true
}

// checkUsage: an end-entity certificate whose key signs for a client.
func checkUsage(c *x509.Certificate) error {
	switch {
	case c.IsCA:
		return reason.New(reason.X509PoPUsage, "a CA certificate names no machine")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return reason.New(reason.X509PoPUsage, "key usage does not allow signatures")
	case !forClients(c):
		return reason.New(reason.X509PoPUsage, "extended key usage does not allow clients")
	}
	return nil
}

func forClients(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// chain returns the roots that the certificate chains to by issuers that may
// certify clients and revoked none of it.
func chain(leaf *x509.Certificate, issuers []*x509.Certificate, trust Trust, now time.Time) ([]string, error) {
	if len(leaf.UnhandledCriticalExtensions) > 0 {
		return nil, reason.Newf(reason.X509PoPUntrusted, "critical extension %s is unknown", leaf.UnhandledCriticalExtensions[0])
	}
	chains, err := trust.Roots.Chains(leaf, issuers, now)
	switch {
	case x509chain.IsExpired(err):
		return nil, reason.Wrap(reason.X509PoPValidity, "the certificate or an issuer is not valid at this time", err)
	case err != nil:
		return nil, reason.Wrap(reason.X509PoPUntrusted, "the certificate does not chain to a configured CA", err)
	}
	var out []string
	refused := errors.New("an issuer may not certify clients")
	for _, c := range chains {
		if slices.ContainsFunc(c, func(c *x509.Certificate) bool { return !forClients(c) }) {
			continue
		}
		if err := trust.CRLs.Check(c, now); err != nil {
			refused = err
			continue
		}
		sum := sha256.Sum256(c[len(c)-1].Raw)
		out = append(out, hex.EncodeToString(sum[:]))
	}
	if len(out) == 0 {
		return nil, reason.Wrap(reason.X509PoPUntrusted, refused.Error(), refused)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func possesses(key crypto.PublicKey, bound [32]byte, signature []byte) bool {
	sum := sha256.Sum256(bound[:])
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		size := key.Curve.Params().BitSize
		return (size == 256 || size == 384) && ecdsa.VerifyASN1(key, sum[:], signature)
	case *rsa.PublicKey:
		opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		return key.N.BitLen() >= minKeyBits && rsa.VerifyPSS(key, crypto.SHA256, sum[:], signature, opts) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(key, bound[:], signature)
	}
	return false
}

// Facts tells what the proof is of: a key that a configured CA certified.
func (p Proof) Facts() document.Facts {
	if p.leaf == nil {
		return document.Facts{}
	}
	c := p.leaf
	key, raw := sha256.Sum256(p.spki), sha256.Sum256(c.Raw)
	machine := document.Machine{Kind: document.MachineX509, Name: hex.EncodeToString(key[:])}
	f := document.Facts{
		Class: document.ClassB, NonceBound: true, KeyBound: true, ExpiresAt: c.NotAfter.UTC(), Machine: machine,
		Anchors: []document.Anchor{{Kind: machine.Kind, Value: machine.Name}},
	}
	for _, root := range p.roots {
		f.Own(document.OwnerX509CA, root)
		f.Add("x509pop.ca", root)
	}
	f.Add("x509pop.subject", c.Subject.String())
	f.Add("x509pop.subject_cn", c.Subject.CommonName)
	f.Add("x509pop.issuer", c.Issuer.String())
	f.Add("x509pop.serial", c.SerialNumber.Text(16))
	f.Add("x509pop.fingerprint", hex.EncodeToString(raw[:]))
	for _, name := range c.DNSNames {
		f.Add("x509pop.san.dns", name)
	}
	for _, uri := range c.URIs {
		f.Add("x509pop.san.uri", uri.String())
	}
	f.Pass("x509pop.chain", "certified by "+c.Issuer.String())
	f.Pass("x509pop.possession", "the certificate's key signed the binding")
	f.Sort()
	return f
}
