package given

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/verifier"
)

const (
	maxPEM   = 32 << 10 // the broker takes no more
	maxChain = 8
)

// X509PoP collects a certificate of an existing PKI with proof of its key.
type X509PoP struct {
	// Certificate is a PEM file, leaf first, with the issuers behind it.
	Certificate string
	// Key is the PEM file of its key, PKCS #8, SEC 1 or PKCS #1. Secret.
	Key string
}

// Format is x509pop.
func (X509PoP) Format() string { return verifier.FormatX509PoP }

// Detect reads both files.
func (c X509PoP) Detect(context.Context) collect.Finding {
	const class = "B"
	if c.Certificate == "" {
		return collect.No(c.Format(), class, "no certificate is configured", "name certificate and key of an existing PKI with --certificate and --key")
	}
	chain, _, err := c.load()
	if err != nil {
		return collect.Missing(c.Format(), class, err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return collect.Missing(c.Format(), class, err)
	}
	return collect.Yes(c.Format(), class, "certificate of "+leaf.Subject.String())
}

// Collect signs the challenge: ECDSA in ASN.1 or RSA-PSS over its SHA-256, or
// Ed25519 over itself.
func (c X509PoP) Collect(_ context.Context, bound collect.Bound) (verifier.Item, error) {
	chain, key, err := c.load()
	if err != nil {
		return verifier.Item{}, err
	}
	digest := sha256.Sum256(bound.Value[:])
	message, options := digest[:], crypto.SignerOpts(crypto.SHA256)
	switch key.(type) {
	case *rsa.PrivateKey:
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	case ed25519.PrivateKey:
		message, options = bound.Value[:], crypto.Hash(0)
	}
	signature, err := key.Sign(rand.Reader, message, options)
	if err != nil {
		return verifier.Item{}, fmt.Errorf("sign with the key of the certificate: %w", err)
	}
	var document bytes.Buffer
	for _, der := range chain {
		_ = pem.Encode(&document, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a buffer takes everything
	}
	return verifier.Item{Format: c.Format(), Document: document.Bytes(), Parts: map[string][]byte{"signature": signature}}, nil
}

// load returns the chain in DER and the key, which have to belong together.
func (c X509PoP) load() ([][]byte, crypto.Signer, error) {
	fault := func(path string, err error) error {
		if known, ok := errors.AsType[*collect.Error](err); ok {
			return known
		}
		return &collect.Error{What: "read " + path, Why: err.Error(), Fix: "look at --certificate and --key", Err: err}
	}
	chain, err := readChain(c.Certificate)
	if err != nil {
		return nil, nil, fault(c.Certificate, err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, nil, fault(c.Certificate, err)
	}
	key, err := readKey(c.Key)
	if err != nil {
		return nil, nil, fault(c.Key, err)
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
		return nil, nil, fault(c.Key, fmt.Errorf("it is not the key of the certificate in %s", c.Certificate))
	}
	return chain, key, nil
}

func readChain(path string) ([][]byte, error) {
	text, err := collect.Read(path, maxPEM)
	if err != nil {
		return nil, err
	}
	var chain [][]byte
	for len(chain) < maxChain {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			chain = append(chain, block.Bytes)
		}
	}
	if len(chain) == 0 {
		return nil, errors.New("it holds no certificate in PEM")
	}
	return chain, nil
}

// readPrivate reads a file that only its owner can read: whoever else reads the key
// is this machine wherever the PKI is believed.
func readPrivate(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, &collect.Error{What: "read " + path, Why: fmt.Sprintf("%s has mode %04o; others can read it", path, perm), Fix: "chmod 0600 " + path}
	}
	return collect.ReadAll(file, maxPEM)
}

// readKey reads the first private key of a file.
func readKey(path string) (crypto.Signer, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("it holds no private key in PEM")
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, err
		}
		if key != nil {
			return key, nil
		}
	}
}

func parseKey(block *pem.Block) (crypto.Signer, error) {
	var (
		key any
		err error
	)
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, errors.New("its key does not parse") // what the parser says could quote it
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return key, nil
	case *rsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("a key of type %T cannot prove possession here; ECDSA, RSA and Ed25519 can", key)
}
