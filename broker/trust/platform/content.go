package platform

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

const (
	maxCertificates = 16 // of one object
	maxKeys         = 64 // of one issuer
)

// content is what an object says of itself.
type content struct {
	raw     []byte // in the form that is kept
	subject string
	begins  time.Time // zero where it has no beginning
	ends    time.Time // zero where it has no end
	// prints are the SHA-256 of the certificates in their order.
	prints [][32]byte
	certs  []*x509.Certificate
	crl    *x509.RevocationList
}

// read parses raw as an object of the kind; what it returns is not yet believed.
func (k kind) read(raw []byte) (content, error) {
	if len(raw) > k.max {
		return content{}, fmt.Errorf("larger than %d bytes", k.max)
	}
	switch k.form {
	case formCertificates, formVCEK:
		return readCertificates(raw)
	case formCRL:
		return readCRL(raw)
	case formKeys:
		return readKeys(raw)
	case formCollateral:
		c, err := readCollateral(raw)
		return content{raw: raw, subject: c.fmspc, begins: c.issued, ends: c.ends}, err
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return content{}, errors.New("it is empty")
	}
	return content{raw: raw}, nil
}

// readCertificates reads PEM blocks, or one certificate in DER, into PEM.
func readCertificates(raw []byte) (content, error) {
	certs, err := certificates(raw)
	if err != nil {
		return content{}, err
	}
	return ofCertificates(certs), nil
}

func certificates(raw []byte) ([]*x509.Certificate, error) {
	out, err := x509chain.ReadBundle(raw)
	if len(out) > maxCertificates { // what was parsed until here its kind bounds in bytes
		return nil, fmt.Errorf("more than %d certificates", maxCertificates)
	}
	return out, err
}

// ofCertificates describes certs, in their order; the object ends with the first.
func ofCertificates(certs []*x509.Certificate) content {
	c := content{certs: certs, subject: certs[0].Subject.String()}
	for _, cert := range certs {
		c.raw = append(c.raw, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
		c.prints = append(c.prints, sha256.Sum256(cert.Raw))
		if c.begins.Before(cert.NotBefore) {
			c.begins = cert.NotBefore.UTC()
		}
		if c.ends.IsZero() || cert.NotAfter.Before(c.ends) {
			c.ends = cert.NotAfter.UTC()
		}
	}
	return c
}

func readCRL(raw []byte) (content, error) {
	der := raw
	if block, rest := pem.Decode(raw); block != nil {
		if block.Type != "X509 CRL" || len(bytes.TrimSpace(rest)) > 0 {
			return content{}, errors.New("not one revocation list in PEM")
		}
		der = block.Bytes
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return content{}, fmt.Errorf("no revocation list: %w", err)
	}
	if list.NextUpdate.IsZero() {
		return content{}, errors.New("a revocation list without nextUpdate")
	}
	return content{raw: der, subject: list.Issuer.String(), begins: list.ThisUpdate.UTC(), ends: list.NextUpdate.UTC(), crl: list}, nil
}

// readKeys reads an issuer and its keys. What else stands in it is judged by the
// package that uses it.
func readKeys(raw []byte) (content, error) {
	var doc struct {
		Format string          `json:"format"`
		Issuer string          `json:"issuer"`
		Keys   json.RawMessage `json:"jwks"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return content{}, fmt.Errorf("no JSON: %w", err)
	}
	if doc.Format == "" || len(doc.Keys) == 0 {
		return content{}, errors.New("members format and jwks are needed")
	}
	return content{raw: raw, subject: doc.Issuer}, checkKeySet(doc.Keys)
}

// checkKeySet refuses what is no JWK set with keys: an error page, a set that an
// issuer emptied by accident.
func checkKeySet(raw []byte) error {
	var set struct {
		Keys []struct {
			Kty string `json:"kty"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return fmt.Errorf("no JWK set: %w", err)
	}
	if len(set.Keys) == 0 || len(set.Keys) > maxKeys {
		return fmt.Errorf("a JWK set with %d keys, want 1 to %d", len(set.Keys), maxKeys)
	}
	for i, k := range set.Keys {
		if k.Kty == "" || k.Kty == "oct" {
			return fmt.Errorf("key %d of the JWK set is no public key", i+1)
		}
	}
	return nil
}

// ending is the file name's for a kind.
func (k kind) ending(raw []byte) string {
	switch {
	case bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")):
		return ".json"
	case bytes.Contains(raw, []byte("-----BEGIN ")):
		return ".pem"
	case k.form == formCRL:
		return ".crl"
	}
	return ".der"
}

// printText writes fingerprints as a row of the table does.
func printText(prints [][32]byte) string {
	out := make([]string, len(prints))
	for i, p := range prints {
		out[i] = hex.EncodeToString(p[:])
	}
	return strings.Join(out, "+")
}
