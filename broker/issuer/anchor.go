package issuer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Lifetimes around the trust anchor.
const (
	anchorYears       = 10
	ServerLifetime    = 24 * time.Hour
	anchorKeyType     = "PRIVATE KEY"
	certificateType   = "CERTIFICATE"
	maxAnchorFile     = 16 << 10 // bytes; a key and a certificate need about 1 KiB
	anchorCommonName  = "Zonebroker trust anchor"
	brokerPathSegment = "broker"
)

// Anchor is the trust anchor: the key by which hosts know the broker at first
// contact. It signs nothing but the replicas' TLS certificates and never
// stands in the bundle, so that its theft lets somebody pose as a broker to
// hosts that hold only the pin, and issue nothing.
type Anchor struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// NewAnchor makes a trust anchor that lives ten years. random may be nil.
func NewAnchor(now time.Time, random io.Reader) (*Anchor, error) {
	if random == nil {
		random = rand.Reader
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, fmt.Errorf("make trust anchor key: %w", err)
	}
	_, ski, err := keyIDs(key.Public())
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(random)
	if err != nil {
		return nil, err
	}
	notBefore := now.UTC().Truncate(time.Second).Add(-backdate)
	cert, err := selfSign(random, &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial[:]),
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: anchorCommonName},
		NotBefore:             notBefore,
		NotAfter:              notBefore.AddDate(anchorYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          ski,
	}, key)
	if err != nil {
		return nil, err
	}
	return &Anchor{key: key, cert: cert}, nil
}

// LoadAnchor reads what PEM wrote: the private key, then the certificate, and
// nothing else. The bytes are a secret; the file must be 0600.
func LoadAnchor(file []byte) (*Anchor, error) {
	if len(file) > maxAnchorFile {
		return nil, errors.New("trust anchor file is too large")
	}
	keyBlock, rest := pem.Decode(file)
	if keyBlock == nil || keyBlock.Type != anchorKeyType {
		return nil, errors.New("trust anchor file does not start with a private key")
	}
	certBlock, rest := pem.Decode(rest)
	if certBlock == nil || certBlock.Type != certificateType || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("trust anchor file is not one key and one certificate")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, errors.New("private key of the trust anchor does not parse") // the cause could quote key bytes
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("private key of the trust anchor is not ECDSA P-256")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate of the trust anchor: %w", err)
	}
	// A certificate that is no CA does not verify itself either.
	if !key.PublicKey.Equal(cert.PublicKey) || cert.CheckSignatureFrom(cert) != nil {
		return nil, errors.New("certificate of the trust anchor does not belong to its key")
	}
	return &Anchor{key: key, cert: cert}, nil
}

// PEM returns the file form of the anchor, private key included.
func (a *Anchor) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("encode trust anchor key: %w", err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: anchorKeyType, Bytes: der}), a.CertificatePEM()...), nil
}

// CertificatePEM returns the public half, which hosts are given.
func (a *Anchor) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: a.cert.Raw})
}

// Certificate returns the self-signed certificate.
func (a *Anchor) Certificate() *x509.Certificate { return a.cert }

// Pin returns the pin of the anchor, see Pin.
func (a *Anchor) Pin() string { return Pin(a.cert) }

// LogValue keeps the private key out of logs.
func (a *Anchor) LogValue() slog.Value { return slog.StringValue("trust anchor " + a.Pin()) }

// String keeps the private key out of formatted text.
func (a *Anchor) String() string { return "trust anchor " + a.Pin() }

// GoString keeps the private key out of formatted text.
func (a *Anchor) GoString() string { return a.String() }

// Pin returns "sha256:" and the hex SHA-256 of the certificate's SPKI DER.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ServerCertificate makes a TLS server certificate for spiffe://<td>/broker with
// a key of its own, for 24 hours. The chain carries the anchor's certificate
// too: a host that holds only the pin needs it to follow the signature.
//
// names are the DNS names and IP addresses of the listener, at most 32, for
// HTTPS clients that trust the anchor's certificate and check the host name, as
// readers of the OIDC documents do. Agents ask for the SPIFFE ID alone.
func ServerCertificate(a *Anchor, trustDomain string, now time.Time, names ...string) (tls.Certificate, error) {
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil || td.Name() != trustDomain {
		return tls.Certificate{}, fmt.Errorf("trust domain %q is not the name of a SPIFFE trust domain", trustDomain)
	}
	if now.Before(a.cert.NotBefore) || !now.Before(a.cert.NotAfter) {
		return tls.Certificate{}, errors.New("the trust anchor is outside its validity")
	}
	id, err := spiffeid.FromSegments(td, brokerPathSegment)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("identity of the broker: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make server key: %w", err)
	}
	template, err := a.serverTemplate(id, key.Public(), now)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := addNames(template, names); err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign server certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read server certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func (a *Anchor) serverTemplate(id spiffeid.ID, pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	_, ski, err := keyIDs(pub)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(rand.Reader)
	if err != nil {
		return nil, err
	}
	notBefore := now.UTC().Truncate(time.Second).Add(-backdate)
	notAfter := notBefore.Add(ServerLifetime)
	if a.cert.NotAfter.Before(notAfter) {
		notAfter = a.cert.NotAfter
	}
	return &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial[:]),
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: brokerPathSegment},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		URIs:                  []*url.URL{id.URL()},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		SubjectKeyId:          ski,
	}, nil
}

const maxNames = 32

// addNames sorts each name into DNS names or addresses, once. A wildcard would
// vouch for hosts that are not the broker.
func addNames(t *x509.Certificate, names []string) error {
	if len(names) > maxNames {
		return fmt.Errorf("a server certificate has at most %d names", maxNames)
	}
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	for _, name := range slices.Compact(sorted) {
		addr, err := netip.ParseAddr(name)
		switch addr = addr.Unmap(); {
		case err == nil && addr.Zone() == "" && !addr.IsUnspecified():
			t.IPAddresses = append(t.IPAddresses, addr.AsSlice())
		case err != nil && validHost(name):
			t.DNSNames = append(t.DNSNames, name)
		default:
			return fmt.Errorf("%q is neither a DNS name nor the address of a host", name)
		}
	}
	return nil
}

// validHost is the grammar of host names (RFC 1123, section 2.1). A last label
// of digits is not: readers would take the name for an address.
func validHost(name string) bool {
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		if strings.Trim(l, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			return false
		}
	}
	return len(name) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}
