package documenttest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// EC2PKI signs identity documents as a region of AWS does, under a certificate of
// its own shape: self-signed, RSA-2048.
type EC2PKI struct {
	Region string
	Signer RSASigner
}

// NewEC2 makes the key of a region.
func NewEC2(region string, at time.Time) *EC2PKI {
	return &EC2PKI{region, Certify(&x509.Certificate{
		SerialNumber: big.NewInt(0x2058ce5d), Subject: pkix.Name{Organization: []string{"Amazon Web Services LLC"}, CommonName: "test"},
	}, RSAKey(0), nil, at)}
}

// CertificatePEM returns the certificate of the region: the trust object
// aws.ec2/<region>.
func (p *EC2PKI) CertificatePEM() []byte { return certificatePEM(p.Signer.Certificate.Raw) }

// EC2Instance is what an identity document says.
type EC2Instance struct {
	Account, Region, Zone, Instance, Image string
	Pending                                time.Time
	Products                               []string
}

// NewEC2Instance is an instance in region that was launched two minutes before at.
func NewEC2Instance(region string, at time.Time) EC2Instance {
	return EC2Instance{
		Account: "123456789012", Region: region, Zone: region + "a", Instance: "i-0123456789abcdef0",
		Image: "ami-0123456789abcdef0", Pending: at.Add(-2 * time.Minute),
	}
}

// JSON writes the document as the metadata service does.
func (i EC2Instance) JSON() []byte {
	products := "null"
	if len(i.Products) > 0 {
		products = `[ "` + strings.Join(i.Products, `", "`) + `" ]`
	}
	return fmt.Appendf(nil, `{
  "accountId" : %q,
  "architecture" : "x86_64",
  "availabilityZone" : %q,
  "billingProducts" : null,
  "devpayProductCodes" : null,
  "marketplaceProductCodes" : %s,
  "imageId" : %q,
  "instanceId" : %q,
  "instanceType" : "m7i.large",
  "kernelId" : null,
  "pendingTime" : %q,
  "privateIp" : "10.0.0.5",
  "ramdiskId" : null,
  "region" : %q,
  "version" : "2017-09-30"
}`, i.Account, i.Zone, products, i.Image, i.Instance, i.Pending.UTC().Format("2006-01-02T15:04:05Z"), i.Region)
}

// Document signs what an instance says, in the form of the metadata service:
// base64 in lines of BER, without the certificate.
func (p *EC2PKI) Document(i EC2Instance) []byte {
	return Base64Lines(PKCS7(Message{Content: i.JSON(), Signers: []RSASigner{p.Signer}, Indefinite: true}))
}

// Base64Lines writes base64 in lines of 64 letters.
func Base64Lines(b []byte) []byte {
	text := base64.StdEncoding.EncodeToString(b)
	var out []byte
	for len(text) > 64 {
		out, text = append(append(out, text[:64]...), '\n'), text[64:]
	}
	return append(out, text...)
}
