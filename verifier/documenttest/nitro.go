package documenttest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"
)

// Names of the test PKI's machine.
const (
	NitroInstance = "i-0123456789abcdef0"
	NitroModule   = NitroInstance + "-enc0123456789abcdef"
	NitroTPM      = NitroInstance + "-tpm0000000000000000"
	NitroRegion   = "us-east-1"
)

// Certified is a certificate with its key.
type Certified struct {
	*x509.Certificate
	Key *ecdsa.PrivateKey
}

// Issue signs a certificate for a new key of curve: of template's own name and
// times. A nil issuer signs itself.
func (c *Certified) Issue(template *x509.Certificate, curve elliptic.Curve) (*Certified, error) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	issuer, signer := template, key
	if c != nil {
		issuer, signer = c.Certificate, c.Key
	}
	t := *template
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, issuer, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	return &Certified{parsed, key}, err
}

// NitroPKI is a PKI of the shape of AWS Nitro's: root, region (20 days), zone (6
// days), instance (1 day), and leaves of 3 hours beneath it.
type NitroPKI struct {
	Now    time.Time
	Issuer []*Certified // root first
}

// NewNitroPKI makes one whose certificates are valid around now.
func NewNitroPKI(now time.Time) (*NitroPKI, error) {
	p := &NitroPKI{Now: now}
	const hour = time.Hour
	for _, ca := range []struct {
		name          string
		before, after time.Duration
		below         int
	}{
		{"aws.nitro-enclaves", 7 * 365 * 24 * hour, 23 * 365 * 24 * hour, -1},
		{"cc543213cf8f4ca4." + NitroRegion + ".aws.nitro-enclaves", 48 * hour, 18 * 24 * hour, 2},
		{"c4f9d06c60d7cb92.zonal." + NitroRegion + ".aws.nitro-enclaves", 24 * hour, 5 * 24 * hour, 1},
		{NitroInstance + "." + NitroRegion + ".aws.nitro-enclaves", 10 * hour, 14 * hour, 0},
	} {
		template := p.Authority(ca.name, now.Add(-ca.before), now.Add(ca.after), ca.below)
		if err := p.Add(template); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Authority is the template of a CA; below is how many CAs may stand beneath it,
// -1 for any number.
func (*NitroPKI) Authority(name string, notBefore, notAfter time.Time, below int) *x509.Certificate {
	return &x509.Certificate{
		Subject: nitroName(name), NotBefore: notBefore, NotAfter: notAfter, BasicConstraintsValid: true, IsCA: true,
		MaxPathLen: below, MaxPathLenZero: below == 0, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		SignatureAlgorithm: x509.ECDSAWithSHA384,
	}
}

// Add appends a CA beneath the last one.
func (p *NitroPKI) Add(template *x509.Certificate) error {
	var above *Certified
	if n := len(p.Issuer); n > 0 {
		above = p.Issuer[n-1]
	}
	c, err := above.Issue(template, elliptic.P384())
	if err == nil {
		p.Issuer = append(p.Issuer, c)
	}
	return err
}

// RootPEM is the root as an operator would import it.
func (p *NitroPKI) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Issuer[0].Raw})
}

// Leaf is the template of a module's certificate: from half a minute ago on for
// three hours.
func (p *NitroPKI) Leaf(module string) *x509.Certificate {
	return &x509.Certificate{
		Subject:   nitroName(module + "." + NitroRegion + ".aws"),
		NotBefore: p.Now.Add(-30 * time.Second), NotAfter: p.Now.Add(3*time.Hour - 27*time.Second),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		SignatureAlgorithm: x509.ECDSAWithSHA384,
	}
}

// NitroFields is a document to be. The zero value is an enclave's without a nonce,
// made now.
type NitroFields struct {
	Instance                   bool   // a NitroTPM document
	Module                     string // "": the test PKI's
	At                         time.Time
	Nonce, UserData, PublicKey []byte
	// PCRs replace single registers; an empty value takes one out.
	PCRs map[int][]byte

	// What follows makes a document wrong.
	Leaf    *x509.Certificate // template
	Curve   elliptic.Curve    // of the leaf
	Signer  *Certified        // leaf as it is
	Content func(map[any]any) // changes what is signed
	Payload func([]byte) []byte
	Message func(*Sign1) // changes the message before it is signed
}

// Document makes a document.
func (p *NitroPKI) Document(f NitroFields) ([]byte, error) {
	leaf, err := p.signer(&f)
	if err != nil {
		return nil, err
	}
	content := p.content(&f, leaf)
	if f.Content != nil {
		f.Content(content)
	}
	m := Sign1{Payload: Encode(content), Key: leaf.Key}
	if f.Payload != nil {
		m.Payload = f.Payload(m.Payload)
	}
	if f.Message != nil {
		f.Message(&m)
	}
	return m.Bytes(), nil
}

func (p *NitroPKI) signer(f *NitroFields) (*Certified, error) {
	if f.Module == "" {
		f.Module = NitroModule
		if f.Instance {
			f.Module = NitroTPM
		}
	}
	if f.Signer != nil {
		return f.Signer, nil
	}
	if f.Leaf == nil {
		f.Leaf = p.Leaf(f.Module)
	}
	if f.Curve == nil {
		f.Curve = elliptic.P384()
	}
	return p.Issuer[len(p.Issuer)-1].Issue(f.Leaf, f.Curve)
}

// content is the payload, all members present: what is not set is null, as NSM
// writes it.
func (p *NitroPKI) content(f *NitroFields, leaf *Certified) map[any]any {
	at := f.At
	if at.IsZero() {
		at = p.Now
	}
	bundle := make([]any, len(p.Issuer))
	for i, c := range p.Issuer {
		bundle[i] = c.Raw
	}
	pcrs, member := map[any]any{}, "pcrs"
	count := 16
	if f.Instance {
		count, member = 24, "nitrotpm_pcrs"
	}
	for i := range count {
		pcrs[i] = NitroPCR(f.Instance, i)
	}
	for i, v := range f.PCRs {
		if pcrs[i] = v; len(v) == 0 {
			delete(pcrs, i)
		}
	}
	content := map[any]any{
		"module_id": f.Module, "digest": "SHA384", "timestamp": uint64(at.UnixMilli()), member: pcrs,
		"certificate": leaf.Raw, "cabundle": bundle, "nonce": nil, "user_data": nil, "public_key": nil,
	}
	for name, v := range map[string][]byte{"nonce": f.Nonce, "user_data": f.UserData, "public_key": f.PublicKey} {
		if v != nil {
			content[name] = v
		}
	}
	return content
}

// NitroPCR is a register of the test PKI's documents: of an enclave 0 to 4 and 8
// are set, of an instance 0 to 7, and 17 to 22 are all ones.
func NitroPCR(instance bool, i int) []byte {
	switch {
	case instance && i >= 17 && i <= 22:
		return bytes.Repeat([]byte{0xff}, 48)
	case instance && i < 8, !instance && (i < 5 || i == 8):
		return bytes.Repeat([]byte{byte(0xa0 + i)}, 48)
	}
	return make([]byte, 48)
}

func nitroName(cn string) pkix.Name {
	return pkix.Name{CommonName: cn, Organization: []string{"Zonebroker Test"}, OrganizationalUnit: []string{"AWS"}, Country: []string{"US"}}
}
