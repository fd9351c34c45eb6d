package documenttest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"time"
)

// AzureIMDSPKI signs attested documents as Azure's metadata service does: a leaf
// under an intermediate under a root, no signed attributes, and the name of the
// signature where that of the digest belongs.
type AzureIMDSPKI struct {
	Root, Intermediate, Signer RSASigner
}

// NewAzureIMDS makes a PKI whose signer has the given names.
func NewAzureIMDS(at time.Time, names ...string) *AzureIMDSPKI {
	ca := func(name string, n int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	p := &AzureIMDSPKI{Root: Certify(ca("Test RSA Root G2", 1), RSAKey(0), nil, at)}
	p.Intermediate = Certify(ca("Test Azure TLS Issuing CA 01", 2), RSAKey(1), &p.Root, at)
	p.Signer = Certify(p.Leaf(names...), RSAKey(2), &p.Intermediate, at)
	return p
}

// Leaf is the template of a signer.
func (p *AzureIMDSPKI) Leaf(names ...string) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(3), DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if len(names) > 0 {
		t.Subject.CommonName = names[0]
	}
	return t
}

// RootPEM returns root and intermediate: the trust object azure.imds/<name>.
func (p *AzureIMDSPKI) RootPEM() []byte {
	return append(certificatePEM(p.Root.Certificate.Raw), certificatePEM(p.Intermediate.Certificate.Raw)...)
}

// AzureVM is what an attested document says.
type AzureVM struct {
	Nonce, VM, Subscription string
	Created, Expires        time.Time
}

// NewAzureVM is a machine whose document was made half a minute before at.
func NewAzureVM(nonce string, at time.Time) AzureVM {
	return AzureVM{
		Nonce: nonce, VM: "55555555-5555-5555-5555-555555555555", Subscription: "44444444-4444-4444-4444-444444444444",
		Created: at.Add(-30 * time.Second), Expires: at.Add(6*time.Hour - 30*time.Second),
	}
}

// JSON writes the content as Azure does.
func (v AzureVM) JSON() []byte {
	const form = "01/02/06 15:04:05 -0000"
	b, err := json.Marshal(map[string]any{
		"licenseType": "", "nonce": v.Nonce, "plan": map[string]string{"name": "", "product": "", "publisher": ""},
		"sku": "22_04-lts-gen2", "subscriptionId": v.Subscription, "vmId": v.VM,
		"timeStamp": map[string]string{"createdOn": v.Created.UTC().Format(form), "expiresOn": v.Expires.UTC().Format(form)},
	})
	if err != nil {
		panic(err) // strings alone
	}
	return b
}

// Message is the message of a document, for a test to change.
func (p *AzureIMDSPKI) Message(content []byte) Message {
	return Message{
		Content: content, Signers: []RSASigner{p.Signer}, Bag: []*x509.Certificate{p.Signer.Certificate},
		Digest: OIDSHA256WithRSA, NoAttributes: true,
	}
}

// Document signs what a machine says, in the form of the metadata service.
func (p *AzureIMDSPKI) Document(v AzureVM) []byte { return AzureEnvelope(PKCS7(p.Message(v.JSON()))) }

// AzureEnvelope is the JSON around a message.
func AzureEnvelope(message []byte) []byte {
	return []byte(`{"encoding":"pkcs7","signature":"` + base64.StdEncoding.EncodeToString(message) + `"}`)
}
