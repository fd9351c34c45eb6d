package verifier

import (
	"maps"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/cca"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/gce"
	"github.com/zonebroker/zonebroker/verifier/k8s"
	"github.com/zonebroker/zonebroker/verifier/nitro"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
	"github.com/zonebroker/zonebroker/verifier/snp"
	"github.com/zonebroker/zonebroker/verifier/tdx"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
	"github.com/zonebroker/zonebroker/verifier/x509pop"
)

// Formats of documents. Each is judged by a package of its own; what the table
// below does not name is not offered by any challenge.
const (
	FormatNitro           = "nitro"            // Nitro Enclaves document
	FormatNitroTPM        = "nitrotpm"         // EC2 instance attestation document
	FormatSNP             = "snp"              // SEV-SNP report
	FormatTDX             = "tdx"              // TDX quote
	FormatAzureCVM        = "azure.cvm"        // HCL report with hardware report, and a quote of its vTPM
	FormatGCEAKCert       = "gce.akcert"       // AK certificate of a Google vTPM, and a quote by that AK
	FormatEC2IID          = "ec2.iid"          // instance identity document
	FormatEC2STS          = "ec2.sts"          // GetCallerIdentity, signed for the challenge
	FormatGCEIdentity     = "gce.identity"     // identity token of an instance
	FormatGCPConfidential = "gcp.confidential" // Confidential Space token
	FormatAzureIMDS       = "azure.imds"       // attested document
	FormatAzureMSI        = "azure.msi"        // token of a managed identity
	FormatAzureMAA        = "azure.maa"        // token of Microsoft Azure Attestation
	FormatNVIDIA          = "nvidia"           // GPU report or detached EAT
	FormatK8sPSAT         = "k8s.psat"         // projected service-account token
	FormatCCA             = "cca"              // Arm CCA token
	FormatEAR             = "ear"              // result of another verifier
	FormatX509PoP         = "x509pop"          // certificate with proof of possession
	FormatJoinToken       = "jointoken"        // nothing but a one-time token and a key
)

// Item is one document of an attestation with what belongs to it: attacker bytes.
type Item struct {
	Format   string
	Document []byte
	// Parts are companions by name (a VCEK, a chain, an event log); the page of the
	// format in docs/evidence lists them.
	Parts map[string][]byte
}

// recordedParts are those that a broker adds, by the format that reads them: what a
// platform answered when it was asked. Sent by an agent they would be the agent's own
// word.
var recordedParts = map[string]string{
	FormatAzureIMDS:   azure.PartVM,
	FormatEC2IID:      ec2.PartInstance,
	FormatEC2STS:      ec2.PartAnswer,
	FormatGCEIdentity: gce.PartInstance,
	FormatK8sPSAT:     k8s.PartTokenReview,
}

// RecordedPart reports whether a part of that name is the broker's to add, and
// must not come from an agent, whatever the format.
func RecordedPart(name string) bool {
	for _, part := range recordedParts {
		if part == name {
			return true
		}
	}
	return false
}

// ConfirmableFormats are those whose platform a broker can ask about a document, in
// order. The slice is the caller's.
func ConfirmableFormats() []string { return slices.Sorted(maps.Keys(recordedParts)) }

// itemInput is what a document is judged against.
type itemInput struct {
	*Item
	// Bound is what the document has to carry: Binding for its own format.
	Bound [32]byte
	// Primary is Binding for the format that names the node: a GPU's nonce is made
	// from it.
	Primary [32]byte
	// AK is the attestation key of the quote that came along, as
	// SubjectPublicKeyInfo DER; nil without a quote.
	AK       []byte
	IssuedAt time.Time // of the challenge
	Now      time.Time
}

// judgeItem verifies one document. An error is its refusal.
type judgeItem func(in *itemInput, trust *Documents) (document.Facts, error)

// itemFormats is the explicit table of documents that this verifier can judge.
var itemFormats = map[string]judgeItem{
	FormatAzureCVM:        judgeAzureCVM,
	FormatAzureIMDS:       judgeAzureIMDS,
	FormatAzureMAA:        judgeMAA,
	FormatAzureMSI:        judgeMSI,
	FormatCCA:             judgeCCA,
	FormatEAR:             judgeEAR,
	FormatEC2IID:          judgeEC2IID,
	FormatEC2STS:          judgeEC2STS,
	FormatGCEAKCert:       judgeAKCertificate,
	FormatGCEIdentity:     judgeGCEIdentity,
	FormatGCPConfidential: judgeConfidential,
	FormatJoinToken:       judgeJoinToken,
	FormatK8sPSAT:         judgePSAT,
	FormatNitro:           judgeNitro,
	FormatNitroTPM:        judgeNitroTPM,
	FormatSNP:             judgeSNP,
	FormatX509PoP:         judgeX509PoP,
	FormatNVIDIA:          judgeNVIDIA,
	FormatTDX:             judgeTDX,
}

// Documents is the configured trust in platforms, a member a package.
type Documents struct {
	AzureIMDS x509chain.Roots // CAs of the metadata service's signers
	EC2       ec2.Trust       // certificates of regions
	GCEAK     akcert.Trust
	SNP       snp.Trust // also of azure.cvm
	Tokens    Tokens    // issuers of JWTs
	X509PoP   x509pop.Trust
	NVIDIA    nvidia.Trust
	TDX       tdx.Trust   // also of azure.cvm
	CCA       cca.Trust   // keys of platforms
	Nitro     nitro.Trust // enclaves and NitroTPM: one PKI
}
