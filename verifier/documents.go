package verifier

import (
	"fmt"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/cca"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nitro"
	"github.com/zonebroker/zonebroker/verifier/snp"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Kinds of trust objects: what verifying documents rests on beside a TPM's makers.
// They are folder names of a broker and parts of recorded versions, and never
// change.
const (
	TrustNitro     = "aws.nitro"        // PEM: roots of Nitro Enclaves and NitroTPM
	TrustEC2       = "aws.ec2"          // PEM: the certificate of one region, which is the name
	TrustSNP       = "amd.snp"          // PEM: ASK or ASVK, and ARK, of one product
	TrustSNPCRL    = "amd.crl"          // CRL, DER or PEM, of an ARK
	TrustVCEK      = "amd.vcek"         // DER or PEM: a VCEK by chip and TCB, for reports that come without
	TrustIntel     = "intel.root"       // PEM: Intel's SGX root
	TrustIntelTCB  = "intel.collateral" // JSON: TCB info, QE identity and CRLs of one FMSPC, which is the name
	TrustGoogleAK  = "google.akca"      // PEM: roots and intermediates of Google's vTPMs
	TrustGoogleCRL = "google.ak.crl"    // CRL, DER or PEM, of one of these
	TrustAzureIMDS = "azure.imds"       // PEM: roots and intermediates of attested documents
	TrustJWKS      = "jwks"             // JSON: an issuer and its keys
	TrustCCA       = "cca.platform"     // PEM or JWK: keys of Arm CCA platforms
	TrustNVIDIA    = "nvidia.device"    // PEM: roots of GPUs
	TrustNVIDIARIM = "nvidia.rim"       // JSON: reference measurements of GPUs
	TrustX509PoP   = "x509pop.ca"       // PEM: roots and intermediates of an existing PKI
	TrustX509CRL   = "x509pop.crl"      // CRL, DER or PEM, of one of these
)

// Limits of the configured trust.
const (
	maxTrustObject    = 4 << 20 // bytes; the longest are lists of revoked certificates
	maxTrustObjects   = 10_000
	maxTrustNameBytes = 192 // a VCEK is named by product, chip and TCB
)

// TrustKinds returns the kinds in the order of their names. The slice is the
// caller's.
func TrustKinds() []string {
	return []string{
		TrustSNPCRL, TrustSNP, TrustVCEK, TrustEC2, TrustNitro, TrustAzureIMDS, TrustCCA, TrustGoogleCRL, TrustGoogleAK,
		TrustIntelTCB, TrustIntel, TrustJWKS, TrustNVIDIA, TrustNVIDIARIM, TrustX509PoP, TrustX509CRL,
	}
}

// TrustObject is one object of the configured trust in platforms: the bytes as an
// operator or a refresher took them.
type TrustObject struct {
	Kind string // a Trust constant
	Name string // unique within its kind
	Raw  []byte
}

// NewDocuments makes the trust in platforms out of objects. The error names the
// object that cannot be used: a part of what was configured is not trust.
func NewDocuments(objects []TrustObject) (Documents, error) {
	if len(objects) > maxTrustObjects {
		return Documents{}, fmt.Errorf("more than %d trust objects", maxTrustObjects)
	}
	seen := map[[2]string]bool{}
	for _, o := range objects {
		switch {
		case !slices.Contains(TrustKinds(), o.Kind):
			return Documents{}, fmt.Errorf("trust object %q: kind %q is unknown", o.Name, o.Kind)
		case !ValidTrustName(o.Name):
			return Documents{}, fmt.Errorf("trust object of kind %s: name %q is not 1 to %d letters, digits, dots, dashes and underscores", o.Kind, o.Name, maxTrustNameBytes)
		case len(o.Raw) > maxTrustObject:
			return Documents{}, fmt.Errorf("trust object %s/%s: larger than %d bytes", o.Kind, o.Name, maxTrustObject)
		case seen[[2]string{o.Kind, o.Name}]:
			return Documents{}, fmt.Errorf("trust object %s/%s stands twice", o.Kind, o.Name)
		}
		seen[[2]string{o.Kind, o.Name}] = true
	}
	return trustObjects(objects).documents()
}

// trustedBy are the kinds of trust objects by format.
var trustedBy = map[string][]string{
	FormatNitro:           {TrustNitro},
	FormatNitroTPM:        {TrustNitro},
	FormatSNP:             {TrustSNP, TrustSNPCRL, TrustVCEK},
	FormatTDX:             {TrustIntel, TrustIntelTCB},
	FormatAzureCVM:        {TrustSNP, TrustSNPCRL, TrustVCEK, TrustIntel, TrustIntelTCB},
	FormatGCEAKCert:       {TrustGoogleAK, TrustGoogleCRL},
	FormatEC2IID:          {TrustEC2},
	FormatGCEIdentity:     {TrustJWKS},
	FormatGCPConfidential: {TrustJWKS},
	FormatAzureIMDS:       {TrustAzureIMDS},
	FormatAzureMSI:        {TrustJWKS},
	FormatAzureMAA:        {TrustJWKS},
	FormatNVIDIA:          {TrustNVIDIA, TrustNVIDIARIM, TrustJWKS},
	FormatK8sPSAT:         {TrustJWKS},
	FormatCCA:             {TrustCCA},
	FormatEAR:             {TrustJWKS},
	FormatX509PoP:         {TrustX509PoP, TrustX509CRL},
}

// TrustedBy reports whether documents of format are judged by trust objects of
// kind, so that an evidence file needs no others.
func TrustedBy(format, kind string) bool { return slices.Contains(trustedBy[format], kind) }

// trustObjects are checked for form only.
type trustObjects []TrustObject

// documents hands the objects to the packages of their kinds.
func (t trustObjects) documents() (Documents, error) {
	var d Documents
	for _, member := range []func(d *Documents) error{
		t.tokens, t.amd, t.google, t.intel, t.nvidia, t.nitro, t.cca, t.aws, t.authorities,
	} {
		if err := member(&d); err != nil {
			return Documents{}, err
		}
	}
	return d, nil
}

func (t trustObjects) tokens(d *Documents) (err error) {
	d.Tokens, err = NewTokens(t.issuers())
	return err
}

func (t trustObjects) issuers() []jwt.Object {
	var out []jwt.Object
	for _, o := range t {
		if o.Kind == TrustJWKS {
			out = append(out, jwt.Object{Name: o.Name, Raw: o.Raw})
		}
	}
	return out
}

// of returns the bytes of the objects of a kind.
func (t trustObjects) of(kind string) [][]byte {
	var out [][]byte
	for _, o := range t {
		if o.Kind == kind {
			out = append(out, o.Raw)
		}
	}
	return out
}

func (t trustObjects) amd(d *Documents) (err error) {
	d.SNP, err = snp.NewTrust(snp.Objects{Roots: t.of(TrustSNP), CRLs: t.of(TrustSNPCRL), Endorsements: t.of(TrustVCEK)})
	return err
}

func (t trustObjects) google(d *Documents) (err error) {
	d.GCEAK, err = akcert.NewTrust(akcert.Objects{Roots: t.of(TrustGoogleAK), CRLs: t.of(TrustGoogleCRL)})
	return err
}

func (t trustObjects) nitro(d *Documents) (err error) {
	d.Nitro, err = nitro.NewTrust(t.of(TrustNitro)...)
	return err
}

func (t trustObjects) cca(d *Documents) (err error) {
	var keys []cca.Object
	for _, o := range t {
		if o.Kind == TrustCCA {
			keys = append(keys, cca.Object{Name: o.Name, Data: o.Raw})
		}
	}
	d.CCA, err = cca.NewTrust(keys...)
	return err
}

func (t trustObjects) aws(d *Documents) (err error) {
	d.EC2, err = ec2.NewTrust(t.named(TrustEC2))
	return err
}

// authorities are plain CAs.
func (t trustObjects) authorities(d *Documents) (err error) {
	if d.AzureIMDS, err = x509chain.NewRoots(t.of(TrustAzureIMDS)...); err != nil {
		return fmt.Errorf("%s: %w", TrustAzureIMDS, err)
	}
	if d.X509PoP.Roots, err = x509chain.NewRoots(t.of(TrustX509PoP)...); err != nil {
		return fmt.Errorf("%s: %w", TrustX509PoP, err)
	}
	if d.X509PoP.CRLs, err = x509chain.NewCRLs(t.of(TrustX509CRL)...); err != nil {
		return fmt.Errorf("%s: %w", TrustX509CRL, err)
	}
	return nil
}

// ValidTrustName says whether a name can be that of a trust object: letters,
// digits, dots, dashes and underscores, no dot in front, so that it is a file name
// everywhere.
func ValidTrustName(name string) bool {
	if name == "" || len(name) > maxTrustNameBytes || name[0] == '.' {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
