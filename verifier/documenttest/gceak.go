package documenttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"time"
)

// GCEAK is a CA of the shape of Google's for the attestation keys of its virtual
// TPMs: a root and an intermediate.
type GCEAK struct {
	root, issuer gceCA
	now          time.Time
}

type gceCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// AKInstance is what stands in a certificate about its machine.
type AKInstance struct {
	Zone, Project, Name string
	ProjectNumber, ID   int64
	SecurityVersion     int
	Production          bool
}

// NewGCEAK makes the CA, valid for twenty years around the time now.
func NewGCEAK(now time.Time) (*GCEAK, error) {
	g := &GCEAK{now: now}
	var err error
	if g.root, err = g.ca("EK/AK CA Root", nil); err != nil {
		return nil, err
	}
	g.issuer, err = g.ca("EK/AK CA Intermediate", &g.root)
	return g, err
}

func (g *GCEAK) ca(name string, parent *gceCA) (gceCA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return gceCA{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Google LLC"}, OrganizationalUnit: []string{"Google Cloud"}, CommonName: name},
		NotBefore: g.now.AddDate(-10, 0, 0), NotAfter: g.now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = &gceCA{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		return gceCA{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return gceCA{cert: cert, key: key}, err
}

// Roots returns the root as PEM.
func (g *GCEAK) Roots() []byte { return certificatePEM(g.root.cert.Raw) }

// Chain returns the intermediate in DER: what a machine sends along.
func (g *GCEAK) Chain() []byte { return slices.Clone(g.issuer.cert.Raw) }

// CRL returns a revocation list of the intermediate in DER, good for a month, which
// names the certificates that Certificate makes if revoked says so.
func (g *GCEAK) CRL(revoked bool) ([]byte, error) {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: g.now.AddDate(0, -1, 0), NextUpdate: g.now.AddDate(0, 1, 0)}
	if revoked {
		list.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(2), RevocationTime: g.now.AddDate(0, -1, 0)}}
	}
	return x509.CreateRevocationList(rand.Reader, list, g.issuer.cert, g.issuer.key)
}

// Instance returns a machine in production.
func (g *GCEAK) Instance() AKInstance {
	return AKInstance{
		Zone: "europe-west3-b", Project: "acme-prod", Name: "db-1", ProjectNumber: 4711, ID: 9223372036854775807, SecurityVersion: 2, Production: true,
	}
}

// Certificate certifies the attestation key pub of an instance. change may alter
// the certificate before it is signed; nil leaves it.
func (g *GCEAK) Certificate(pub crypto.PublicKey, i AKInstance, change func(*x509.Certificate)) ([]byte, error) {
	value, err := i.extension()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{Organization: []string{"Google Compute Engine"}, CommonName: i.Name},
		NotBefore: g.now.AddDate(-1, 0, 0), NotAfter: g.now.AddDate(9, 0, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 21}, Value: value}},
	}
	if change != nil {
		change(template)
	}
	return x509.CreateCertificate(rand.Reader, template, g.issuer.cert, pub, g.issuer.key)
}

func (i AKInstance) extension() ([]byte, error) {
	type security struct {
		Version    int  `asn1:"explicit,tag:0"`
		Production bool `asn1:"explicit,tag:1"`
	}
	return asn1.Marshal(struct {
		Zone          string `asn1:"utf8"`
		ProjectNumber int64
		Project       string `asn1:"utf8"`
		ID            int64
		Name          string   `asn1:"utf8"`
		Security      security `asn1:"explicit,tag:0"`
	}{i.Zone, i.ProjectNumber, i.Project, i.ID, i.Name, security{i.SecurityVersion, i.Production}})
}
