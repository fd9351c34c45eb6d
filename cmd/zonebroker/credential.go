package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// A credential file is PEM: the private key, the role certificate, and a block
// that says which broker it is for. curl --cert and openssl take the file as it
// is. Secret, mode 0600: whoever reads it acts in the role until it is revoked.
// Trusted too: whoever writes it chooses the broker that answers.

const (
	keyBlock    = "PRIVATE KEY"
	certBlock   = "CERTIFICATE"
	brokerBlock = "ZONEBROKER BROKER" // the trust anchor's certificate in DER; headers Server and Name
	headServer  = "Server"
	headName    = "Name"

	handshakeTimeout = 10 * time.Second
	keepAlive        = 30 * time.Second
	backdate         = 5 * time.Minute // of a role certificate, for clocks that are behind
)

// credential is a role certificate and the broker that it is for.
type credential struct {
	name   string // of the operator
	server string // https://host:port
	anchor []byte // PEM
	cert   tls.Certificate
}

// newRoleCertificate makes the certificate of a role. It signs itself: the
// broker knows its key, and nobody else judges it.
func newRoleCertificate(name string, key *ecdsa.PrivateKey, from, to time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Zonebroker"}, CommonName: name},
		NotBefore: from.Add(-backdate), NotAfter: to, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

func newRoleKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	return key, spki, err
}

// encode writes the file's content.
func (c credential) encode() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(c.cert.PrivateKey)
	if err != nil {
		return nil, err
	}
	anchor, _ := pem.Decode(c.anchor)
	if anchor == nil {
		return nil, errors.New("the trust anchor is not PEM")
	}
	out := pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: key})
	out = append(out, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: c.cert.Certificate[0]})...)
	return append(out, pem.EncodeToMemory(&pem.Block{
		Type: brokerBlock, Bytes: anchor.Bytes, Headers: map[string]string{headServer: c.server, headName: c.name},
	})...), nil
}

// loadCredential reads a file that encode wrote, and refuses one that others can
// read.
func loadCredential(path string) (credential, error) {
	text, err := readSecret(path)
	if err != nil {
		return credential{}, err
	}
	c, err := parseCredential(text)
	if err != nil {
		return credential{}, fmt.Errorf("%s is no credential of zonebroker operator add: %w", path, err)
	}
	return c, nil
}

func parseCredential(text []byte) (credential, error) {
	blocks := make(map[string]*pem.Block, 3)
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if blocks[block.Type] != nil {
			return credential{}, fmt.Errorf("it holds %s twice", block.Type)
		}
		blocks[block.Type] = block
	}
	key, cert, of := blocks[keyBlock], blocks[certBlock], blocks[brokerBlock]
	if key == nil || cert == nil || of == nil {
		return credential{}, errors.New("its key, certificate or broker is missing")
	}
	private, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	if err != nil {
		return credential{}, err
	}
	leaf, err := x509.ParseCertificate(cert.Bytes)
	if err != nil {
		return credential{}, err
	}
	signer, ok := private.(crypto.Signer)
	if public, same := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !same || !public.Equal(signer.Public()) {
		return credential{}, errors.New("the certificate is not of the key")
	}
	return credential{
		name: of.Headers[headName], server: of.Headers[headServer],
		anchor: pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: of.Bytes}),
		cert:   tls.Certificate{Certificate: [][]byte{cert.Bytes}, PrivateKey: private, Leaf: leaf},
	}, nil
}

// newRoleClient asks a broker over TLS as the holder of a credential. server ""
// takes the credential's.
func newRoleClient(server, path string) (*adminClient, error) {
	cred, err := loadCredential(path)
	if err != nil {
		return nil, err
	}
	if server == "" {
		server = cred.server
	}
	if err := client.CheckServer(server); err != nil {
		return nil, usageError{"--server: want https://host:port"}
	}
	trust, err := client.Anchor(cred.anchor)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if end := cred.cert.Leaf.NotAfter; now().After(end) {
		return nil, found{code: reason.AuthInvalid, why: fmt.Sprintf("%s ended %s; ask for a new one: zonebroker operator add", path, end.UTC().Format(time.RFC3339))}
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	return &adminClient{place: server, base: server, http: http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment, // a CONNECT tunnel sees only TLS
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSClientConfig:     roleTLS(trust, cred, server),
			TLSHandshakeTimeout: handshakeTimeout,
			Protocols:           &protocols,
			DisableCompression:  true,
			// Verifying a long history takes minutes without a byte: pings tell a
			// broker that reads from one that is gone.
			HTTP2: &http.HTTP2Config{SendPingTimeout: keepAlive, PingTimeout: handshakeTimeout},
		},
		// A broker never redirects.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// roleTLS knows the broker by its anchor at any address, as agents do.
func roleTLS(trust client.Trust, cred credential, server string) *tls.Config {
	verify := func(state tls.ConnectionState) error {
		// Any trust domain: an anchor signs for one only.
		if _, err := trust.Verify(state.PeerCertificates, spiffeid.TrustDomain{}, now()); err != nil {
			return unproved{why: server + " is not the broker of this credential: " + err.Error()}
		}
		return nil
	}
	return client.TLS(verify, func() (*tls.Certificate, error) { return &cred.cert, nil })
}
