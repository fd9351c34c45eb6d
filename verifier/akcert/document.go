package akcert

import (
	"bytes"
	"strconv"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// MaxIssuers bounds the issuer certificates of a document in bytes.
const MaxIssuers = x509chain.MaxChain * x509chain.MaxCertificate

// Objects are the bytes that a Trust is made of, each PEM or one DER.
type Objects struct {
	Roots [][]byte // CAs of the cloud, anchors and intermediates
	CRLs  [][]byte // an issuer without one revokes nothing
}

// Trust is what AK certificates of documents are judged by. The zero value trusts
// nobody.
type Trust struct {
	roots x509chain.Roots
	crls  x509chain.CRLs
}

// NewTrust reads what an operator configured.
func NewTrust(o Objects) (Trust, error) {
	roots, err := x509chain.NewRoots(o.Roots...)
	if err != nil {
		return Trust{}, err
	}
	crls, err := x509chain.NewCRLs(o.CRLs...)
	return Trust{roots: roots, crls: crls}, err
}

// VerifyInstance judges an AK certificate as a document: Verify for the key akSPKI
// that quoted, and the instance that it names. issuers are certificates in DER, one
// behind the other.
//
// Errors: request.too_large; tpm2.ak.cert_encoding for issuers that are not a row
// of DER elements; those of Verify; gce.akcert_instance where no instance of Google
// Compute Engine is named, or one outside production.
func VerifyInstance(raw, issuers, akSPKI []byte, trust Trust, now time.Time) (Certificate, error) {
	chain, err := splitDER(issuers)
	if err != nil {
		return Certificate{}, err
	}
	c, err := Verify(raw, chain, akSPKI, trust.roots, Options{CRLs: trust.crls}, now)
	if err != nil {
		return Certificate{}, err
	}
	if c.instance.Cloud != "gce" {
		return Certificate{}, reason.New(reason.GCEAKCertInstance, "the AK certificate names no instance of Google Compute Engine in production")
	}
	return c, nil
}

func splitDER(b []byte) ([][]byte, error) {
	if len(b) > MaxIssuers {
		return nil, reason.Newf(reason.RequestTooLarge, "issuer certificates of more than %d bytes", MaxIssuers)
	}
	var out [][]byte
	for in := cryptobyte.String(b); !in.Empty(); {
		var der cryptobyte.String
		if !in.ReadASN1Element(&der, asn1.SEQUENCE) {
			return nil, reason.New(reason.TPM2AKCertEncoding, "the issuer certificates are not one DER after the other")
		}
		if out = append(out, der); len(out) > x509chain.MaxChain {
			return nil, reason.Newf(reason.RequestTooLarge, "more than %d issuer certificates", x509chain.MaxChain)
		}
	}
	return out, nil
}

// Facts returns what the certificate says of an instance of Google Compute Engine;
// of others, the key alone. It was made for no challenge, so that it is a bearer
// document until a quote by its key says more.
func (c Certificate) Facts() document.Facts {
	if len(c.raw) == 0 {
		return document.Facts{}
	}
	f := document.Facts{Class: document.ClassC, AK: bytes.Clone(c.key)}
	f.Pass("gce.akcert.chain", "issued by "+c.issuer+", valid until "+c.notAfter.UTC().Format(time.DateOnly))
	i := c.instance
	if i.Cloud != "gce" {
		return f
	}
	f.Pass("gce.akcert.instance", i.Project+"/"+i.Zone+"/"+i.Name)
	f.Machine = document.Machine{Kind: document.MachineGCE, Name: i.ProjectNumber + "/" + i.ID}
	f.Own(document.OwnerGCPProject, i.Project)
	f.Add("gce.project", i.Project)
	f.Add("gce.project_number", i.ProjectNumber)
	f.Add("gce.zone", i.Zone)
	f.Add("gce.instance_id", i.ID)
	f.Add("gce.instance_name", i.Name)
	if c.security.hasVersion {
		f.Add("gce.security_version", strconv.FormatInt(c.security.version, 10))
	}
	f.Sort()
	return f
}
