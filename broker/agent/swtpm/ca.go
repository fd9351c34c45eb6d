package swtpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Manufacturer is what EK certificates of this package name as the TPM's
// manufacturer: the id that swtpm's own tools use. It is in no vendor registry,
// so that a broker has to be told to accept it.
const Manufacturer = "id:00001014"

const (
	model       = "swtpm"
	firmware    = "id:20191023"
	caLifetime  = 30 * 365 * 24 * time.Hour
	rootFile    = "ek-root.pem"
	rootKeyFile = "ek-root.key"
	rootName    = "Zonebroker software TPM EK root"
)

// CA issues EK certificates for software TPMs. It is a CA of the lab: its key is
// a file.
type CA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// OpenCA loads the CA of a folder, or makes one where the folder has none: an
// ECDSA P-256 key, mode 0600, and a self-signed root that is valid for 30 years
// from an hour before now. Whoever can read the folder can make any software TPM
// look like one of the caller's.
func OpenCA(dir string, now time.Time) (*CA, error) {
	keyPEM, err := os.ReadFile(filepath.Join(dir, rootKeyFile))
	if errors.Is(err, os.ErrNotExist) {
		return makeCA(dir, now)
	}
	if err != nil {
		return nil, err
	}
	rootPEM, err := os.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		return nil, err
	}
	keyBlock, _ := pem.Decode(keyPEM)
	rootBlock, _ := pem.Decode(rootPEM)
	if keyBlock == nil || rootBlock == nil {
		return nil, fmt.Errorf("%s: %s or %s is not PEM", dir, rootKeyFile, rootFile)
	}
	cert, err := x509.ParseCertificate(rootBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rootFile, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rootKeyFile, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s: %s is not the key of %s", dir, rootKeyFile, rootFile)
	}
	return &CA{key: key, cert: cert}, nil
}

func makeCA(dir string, now time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	from := now.Add(-time.Hour).Truncate(time.Second).UTC()
	root := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: rootName},
		NotBefore:    from, NotAfter: from.Add(caLifetime),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:     true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ca := &CA{key: key, cert: cert}
	// The key last: it is what OpenCA takes as the sign of a finished CA.
	if err := os.WriteFile(filepath.Join(dir, rootFile), ca.RootPEM(), 0o644); err != nil {
		return nil, err
	}
	return ca, os.WriteFile(filepath.Join(dir, rootKeyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600)
}

// RootPEM returns the root certificate, which brokers need to verify the EK
// certificates of this CA.
func (ca *CA) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

var (
	oidEKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidManufacturer  = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidModel         = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidVersion       = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	oidSAN           = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// issue makes an EK certificate (TCG EK Credential Profile 2.x, 3.2): empty
// subject, the TPM's attributes in a critical alternative name, and a validity
// as long as the root's, because a chip does not get a new one.
func (ca *CA) issue(key crypto.PublicKey, usage x509.KeyUsage) ([]byte, error) {
	san, err := tpmAlternativeName()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    ca.cert.NotBefore, NotAfter: ca.cert.NotAfter,
		KeyUsage:              usage,
		UnknownExtKeyUsage:    []asn1.ObjectIdentifier{oidEKCertificate},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{{Id: oidSAN, Critical: true, Value: san}},
	}, ca.cert, key, ca.key)
}

// tpmAlternativeName returns GeneralNames with one directoryName that holds
// manufacturer, model and version as UTF8String.
func tpmAlternativeName() ([]byte, error) {
	attribute := func(oid asn1.ObjectIdentifier, value string) []pkix.AttributeTypeAndValue {
		return []pkix.AttributeTypeAndValue{{Type: oid, Value: asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(value)}}}
	}
	type rdn = pkix.RelativeDistinguishedNameSET
	name, err := asn1.Marshal(pkix.RDNSequence{
		rdn(attribute(oidManufacturer, Manufacturer)), rdn(attribute(oidModel, model)), rdn(attribute(oidVersion, firmware)),
	})
	if err != nil {
		return nil, err
	}
	const directoryName = 4
	general := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: directoryName, IsCompound: true, Bytes: name}
	return asn1.Marshal([]asn1.RawValue{general})
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}
