package agent_test

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/zonebroker/zonebroker/broker/agent/collect/clustertest"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadatatest"
	"github.com/zonebroker/zonebroker/broker/agent/collect/roster"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// platform is a source of documents under a test PKI, and the trust in it.
type platform struct {
	documents roster.Config
	trust     verifier.TrustObject
	class     string
}

func metadataOf(s *metadatatest.Server) roster.Config { return roster.Config{Metadata: s.URL} }

// platforms has each document that can be made here, as its platform makes it.
func platforms(t *testing.T, now time.Time) map[string]platform {
	t.Helper()
	ec2, imds, ca := documenttest.NewEC2("eu-west-1", now), documenttest.NewAzureIMDS(now, "eastus.metadata.azure.com"), documenttest.NewX509CA(now)
	google, cluster := documenttest.NewJWTKey("g", "RS256"), documenttest.NewJWTKey("k", "RS256")
	host := documenttest.NewJWTKey("host", "ES256").Signer()
	files := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, text, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(host)
	if err != nil {
		t.Fatal(err)
	}
	leaf := ca.Issue(ca.Template("host 7"), host.Public())
	return map[string]platform{
		verifier.FormatEC2IID: {
			metadataOf(metadatatest.AWS(t, map[string]metadatatest.Answer{
				"/latest/dynamic/instance-identity/rsa2048": metadatatest.Text(string(ec2.Document(documenttest.NewEC2Instance("eu-west-1", now)))),
			})),
			verifier.TrustObject{Kind: verifier.TrustEC2, Name: "eu-west-1", Raw: ec2.CertificatePEM()},
			document.ClassC,
		},
		verifier.FormatAzureIMDS: {
			metadataOf(metadatatest.Azure(t, map[string]metadatatest.Answer{
				"/metadata/attested/document": func(r *http.Request) string {
					return string(imds.Document(documenttest.NewAzureVM(r.URL.Query().Get("nonce"), now)))
				},
			})),
			verifier.TrustObject{Kind: verifier.TrustAzureIMDS, Name: "test", Raw: append(imds.RootPEM(), pemOf(imds.Intermediate.Certificate.Raw)...)},
			document.ClassB,
		},
		verifier.FormatGCEIdentity: {
			metadataOf(metadatatest.Google(t, map[string]metadatatest.Answer{
				"/computeMetadata/v1/instance/service-accounts/default/email": metadatatest.Text("a@b"),
				"/computeMetadata/v1/instance/service-accounts/default/identity": func(r *http.Request) string {
					return string(google.Token(documenttest.GCEClaims(r.URL.Query().Get("audience"), now)))
				},
			})),
			verifier.TrustObject{Kind: verifier.TrustJWKS, Name: "google", Raw: documenttest.JWTObject(verifier.FormatGCEIdentity, documenttest.GoogleIssuer, nil, google.JWK())},
			document.ClassB,
		},
		verifier.FormatK8sPSAT: {
			roster.Config{TokenFile: file("token", cluster.Token(documenttest.PSATClaims("zonebroker", now)))},
			verifier.TrustObject{Kind: verifier.TrustJWKS, Name: "cluster", Raw: documenttest.JWTObject(verifier.FormatK8sPSAT, documenttest.ClusterIssuer, documenttest.Claims{"audience": "zonebroker"}, cluster.JWK())},
			document.ClassC,
		},
		verifier.FormatX509PoP: {
			roster.Config{Certificate: file("host.pem", append(leaf, ca.ChainPEM()...)), Key: file("host.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))},
			verifier.TrustObject{Kind: verifier.TrustX509PoP, Name: "pki", Raw: ca.RootPEM()},
			document.ClassB,
		},
	}
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func trustIn(t *testing.T, objects ...verifier.TrustObject) *verifier.Documents {
	t.Helper()
	trust, err := verifier.NewDocuments(objects)
	if err != nil {
		t.Fatal(err)
	}
	return &trust
}

// What the agent collects is what the product's verifier takes, for the challenge
// and no other: test PKIs of the platforms' shape.
func TestCollectedDocumentsVerifyUnderTestPKI(t *testing.T) {
	now := time.Now()
	for format, p := range platforms(t, now) {
		t.Run(format, func(t *testing.T) {
			b := newBroker(t)
			b.documents = trustIn(t, p.trust)
			h := cloudHost(t, b, "")
			p.documents.Root = nothing(t)
			if format == verifier.FormatK8sPSAT {
				p.documents.Root = ""
			}
			h.cfg.Format, h.cfg.Documents = format, p.documents
			h.attest(t)
			if len(b.proved) != 1 || b.proved[0].Class != p.class {
				t.Errorf("%+v", b.proved)
			}
			h.attest(t) // and again for the next challenge
		})
	}
}

// TestPodAsksForItsToken: with TokenRequest the token of a pod is of class B, made
// anew for each challenge. (test PKI)
func TestPodAsksForItsToken(t *testing.T) {
	key := documenttest.NewJWTKey("k", "RS256")
	server := clustertest.New(t, key, time.Now, nil)
	b := newBroker(t)
	b.documents = trustIn(t, verifier.TrustObject{Kind: verifier.TrustJWKS, Name: "cluster", Raw: documenttest.JWTObject(verifier.FormatK8sPSAT, documenttest.ClusterIssuer, nil, key.JWK())})
	h := cloudHost(t, b, "")
	h.cfg.Format, h.cfg.Documents = verifier.FormatK8sPSAT, roster.Config{TokenRequest: server.Address, Account: server.Account}
	for n := 1; n <= 2; n++ {
		h.attest(t)
		if len(b.proved) != 1 || b.proved[0].Class != document.ClassB || len(server.Asked()) != n {
			t.Errorf("%+v, asked %v", b.proved, server.Asked())
		}
	}
}

// The whole way of an instance of Google's, but for the CA: certificate and
// template in NV, quote and certification by the key that they make.
func TestGoogleInstanceUnderTestPKI(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	tpm, err := tpm2collect.Open(t.Context(), tpm2collect.Config{Device: h.cfg.Device})
	if err != nil {
		t.Fatal(err)
	}
	ak, err := tpm.AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	public, err := gotpm.Unmarshal[gotpm.TPMTPublic](ak.Public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := gotpm.Pub(*public)
	if err != nil {
		t.Fatal(err)
	}
	google, err := documenttest.NewGCEAK(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := google.Certificate(key, google.Instance(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// The template has no unique value: with one, another key comes out of it.
	public.Unique = gotpm.NewTPMUPublicID(gotpm.TPMAlgECC, &gotpm.TPMSECCPoint{})
	for index, data := range map[uint32][]byte{0x01c10000: certificate, 0x01c10001: gotpm.Marshal(*public)} {
		if err := tpm.WriteNV(t.Context(), index, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tpm.Close(); err != nil {
		t.Fatal(err)
	}
	chain := google.Roots()
	for rest := google.Chain(); len(rest) > 0; {
		var one asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &one); err != nil {
			t.Fatal(err)
		}
		chain = append(chain, pemOf(one.FullBytes)...)
	}
	b.documents = trustIn(t, verifier.TrustObject{Kind: verifier.TrustGoogleAK, Name: "test", Raw: chain})
	h.cfg.Format = verifier.FormatGCEAKCert
	first := h.attest(t)
	if !first.InTPM || first.Format != verifier.FormatGCEAKCert || len(b.proved) != 1 || b.proved[0].Class != document.ClassA {
		t.Errorf("%+v, proved %+v", first, b.proved)
	}
	if second := h.attest(t); second.Node != first.Node || second.Purpose != "renew" {
		t.Errorf("%+v", second)
	}
}
