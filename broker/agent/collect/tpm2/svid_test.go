package tpm2collect_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

func issue(t *testing.T, subject, issuer *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	subject.NotBefore, subject.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	subject.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, subject, issuer, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestHandshake authenticates a real TLS 1.3 connection with the key that never
// leaves the TPM.
func TestHandshake(t *testing.T) {
	host := startTPM(t, "").open(t, tpm2collect.Config{})
	key, err := host.SVIDKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	caTemplate := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca := issue(t, caTemplate, caTemplate, caKey.Public(), caKey)
	server := issue(t, &x509.Certificate{DNSNames: []string{"broker"}}, ca, caKey.Public(), caKey)
	client := issue(t, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, key.Public(), caKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)

	there, here := net.Pipe()
	defer there.Close()
	defer here.Close()
	done := make(chan error, 1)
	serving := tls.Server(there, &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		Certificates: []tls.Certificate{{Certificate: [][]byte{server.Raw}, PrivateKey: caKey}},
	})
	go func() { done <- serving.HandshakeContext(t.Context()) }()
	calling := tls.Client(here, &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: "broker",
		Certificates: []tls.Certificate{{Certificate: [][]byte{client.Raw}, PrivateKey: key}},
	})
	if err := calling.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := serving.ConnectionState().PeerCertificates[0]; !got.Equal(client) {
		t.Error("the server saw another certificate")
	}
}

func TestSignerRefusesOtherDigests(t *testing.T) {
	host := startTPM(t, "").open(t, tpm2collect.Config{})
	key, err := host.SVIDKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], sig) {
		t.Error("the signature does not verify")
	}
	if _, err := key.Sign(rand.Reader, make([]byte, 48), crypto.SHA384); err == nil {
		t.Error("signs SHA-384")
	}
	if _, err := key.Sign(rand.Reader, make([]byte, 31), crypto.SHA256); err == nil {
		t.Error("signs a short digest")
	}
}

func TestCertifyNamesTheSVIDKey(t *testing.T) {
	for _, kind := range []tpm2collect.Kind{tpm2collect.P256, tpm2collect.RSA} {
		t.Run(string(kind), func(t *testing.T) {
			host := startTPM(t, "").open(t, tpm2collect.Config{AK: kind})
			key, err := host.SVIDKey(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c, err := host.Certify(t.Context(), []byte("bound"))
			if err != nil {
				t.Fatal(err)
			}
			public, err := tpm2.Unmarshal[tpm2.TPMTPublic](c.Public)
			if err != nil {
				t.Fatal(err)
			}
			pub, err := tpm2.Pub(*public)
			if err != nil {
				t.Fatal(err)
			}
			if !key.Public().(*ecdsa.PublicKey).Equal(pub) {
				t.Error("certified another key")
			}
			name, err := tpm2.ObjectName(public)
			if err != nil {
				t.Fatal(err)
			}
			attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](c.Attest)
			if err != nil {
				t.Fatal(err)
			}
			info, err := attest.Attested.Certify()
			if err != nil {
				t.Fatal(err)
			}
			if string(info.Name.Buffer) != string(name.Buffer) || string(attest.ExtraData.Buffer) != "bound" {
				t.Error("name or qualifying data differ")
			}
		})
	}
}
