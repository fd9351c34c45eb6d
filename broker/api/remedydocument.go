package api

import "github.com/zonebroker/zonebroker/verifier/reason"

// Sentences that several refusals of documents share.
const (
	altered    = "The document is not what its platform makes, or was changed on its way: see who answers in the platform's place (`zoneagent doctor`), and attest again."
	anew       = "The document was made for another challenge: attest again. If it stays, something hands out what it made before."
	clocks     = "Compare the clocks of broker, host and platform, and attest again: the agent asks for a new document each time."
	weakPolicy = "Genuine, and unwanted by default: change the machine, or let the zone take it (`requires: {allow: [CODE]}`, docs/zones.md)."
)

// documentAreas hold where every code of a format of documents asks for the same.
var documentAreas = map[string]string{
	"azure":   altered,
	"cbor":    altered,
	"cca":     altered,
	"cose":    altered,
	"ec2":     altered,
	"jwt":     altered,
	"k8s":     altered,
	"nitro":   altered,
	"nvidia":  altered,
	"pkcs7":   altered,
	"snp":     altered,
	"tdx":     altered,
	"x509pop": altered,
}

// documentRemedies are those of documents: what a host shows beside a quote or
// instead of one.
var documentRemedies = map[reason.Code]string{
	reason.AzureAttestationClaims: "Use a confidential VM with Secure Boot and without debuggers, or let the zone allow azure.attestation_claims and pin what it still wants.",
	reason.AzureHardwareMissing:   "Let zoneagent reach the host's certificates (THIM) and, with TDX, its quotes (/acc/tdquote): `zoneagent doctor`.",
	reason.AzureNonceMismatch:     anew,
	reason.AzurePrincipal:         "Give the machine a managed identity and let zoneagent ask the metadata service: tokens of people and applications name no machine.",
	reason.AzureResource:          "Use the identity that the system assigned to one virtual machine; where Azure was asked, see that the machine runs.",
	reason.AzureRuntimeData:       "The paravisor is not known. A zone that takes it allows azure.runtime_data and names it (azure.cvm.paravisor in where).",
	reason.AzureTimestamp:         clocks,
	reason.AzureUntrusted:         "Import the roots and intermediates that Azure signs under now: `zonebroker trust list --kind azure.imds`.",
	reason.AzureValidity:          "Import the CA that Azure signs under now (`zonebroker trust expiring --kind azure.imds`), and compare the clocks.",

	reason.CCAKeyUnknown:    "Import the public key of the platform: `zonebroker trust import FILE --kind cca.platform`.",
	reason.CCALifecycle:     weakPolicy,
	reason.CCANonceMismatch: anew,

	reason.EARNonceMismatch: "Have the result made for this challenge: a file cannot be, a program that is told {nonce} can (`zoneagent doctor --help`).",
	reason.EARStatus:        "See what the other verifier says of the machine. A warning can be allowed (`allow: [ear.status]`), anything worse cannot.",

	reason.EC2InstanceState: "AWS says that this instance does not run, or was started anew: look at it in its account, and attest again.",
	reason.EC2Marketplace:   weakPolicy,
	reason.EC2PendingTime:   "Stop and start the instance, as it has to register soon after its start, or let the zone take older ones (`evidence: {max_document_age: …}`). If it was just started, compare the clocks.",
	reason.EC2Region:        "Import the certificate of the instance's own region: `zonebroker trust list --kind aws.ec2`.",

	reason.GCEAKCertInstance: "Two documents of one attestation name two instances: collect all of them on one machine.",
	reason.GCENoInstance:     "Ask the metadata server of a Compute Engine instance for format=full, as zoneagent does: tokens of other services name no instance.",

	reason.JWTAudience:  "The token is for somebody else: let zoneagent ask for it, or, where the issuer's audience is fixed, name it in the trust object.",
	reason.JWTExpired:   clocks,
	reason.JWTIssuedAt:  clocks,
	reason.JWTIssuer:    "Compare the issuer of the token with that of the trust object, letter for letter: `zonebroker trust list --kind jwks`.",
	reason.JWTKID:       "The broker does not hold the key that signed: `zonebroker trust refresh --kind jwks`, or import the issuer's keys.",
	reason.JWTSignature: "The broker may hold another key under that id (`zonebroker trust refresh --kind jwks`, or import the issuer's keys anew); else the token was changed, or is not the issuer's.",
	reason.JWTLifetime:  "Ask for a token with a shorter life, or let the trust object take longer ones (max_lifetime).",

	reason.K8sNoPod:   "Project the token into the pod (a volume of kind serviceAccountToken): tokens of secrets name no pod.",
	reason.K8sRevoked: "The cluster does not know this pod any more: attest from one that runs.",

	reason.NitroDebug:         weakPolicy,
	reason.NitroNonceMismatch: anew,
	reason.NitroTimestamp:     clocks,
	reason.NitroType:          "Documents of enclaves (nitro) and of instances (nitrotpm) are two formats: name the right one.",
	reason.NitroUntrusted:     "Import the root that AWS publishes: `zonebroker trust list --kind aws.nitro`.",
	reason.NitroValidity:      clocks,

	reason.NvidiaNonceMismatch: anew,
	reason.NvidiaRIMMissing:    "Import reference measurements of this driver and VBIOS (kind nvidia.rim), or let the zone allow nvidia.rim_missing.",
	reason.NvidiaResult:        "Compare driver, VBIOS and their settings with the reference measurements; a device in another state has to be reset or updated.",
	reason.NvidiaUntrusted:     "Import the root of NVIDIA's devices: `zonebroker trust list --kind nvidia.device`.",

	reason.PKCS7SignerUnknown: "Import the certificate that this region signs with: `zonebroker trust list --kind aws.ec2`.",

	reason.SNPDebug:       weakPolicy,
	reason.SNPReportData:  anew,
	reason.SNPTCBLow:      "Update the machine's firmware, or let the zone take it: allow snp.tcb_low beside a minimum of its own.",
	reason.SNPTCBMismatch: "Send the VCEK of this chip at the TCB that the report names: firmware updates make another one (`zonebroker trust refresh --wish amd.vcek/…`).",
	reason.SNPUntrusted:   "See what the broker holds of AMD (`zonebroker trust list --kind amd.snp`, amd.crl, amd.vcek) and get the rest: `zonebroker trust refresh`.",
	reason.SNPValidity:    "Have the host or `zonebroker trust refresh` get a certificate that is valid now, and compare the clocks.",
	reason.SNPVMPL:        weakPolicy,

	reason.STSAnswer:            "Let the broker ask AWS (`enrich: {sts: {}}` in zonebroker.yaml); where it does, see that it reaches AWS and that the role's credentials are good.",
	reason.STSChallengeUnsigned: updateAgent,
	reason.STSRequest:           "Compare the clocks of host and broker and see that the region is one of AWS's. If both are right, update zoneagent.",

	reason.TDXCollateralExpired:   "Fetch collateral anew: `zonebroker trust refresh --kind intel.collateral`.",
	reason.TDXCollateralMismatch:  "Fetch collateral anew: `zonebroker trust refresh --kind intel.collateral --force`. If it stays, the machine's module or quoting enclave is not one of Intel's.",
	reason.TDXCollateralMissing:   "Fetch the collateral of this family of machines: `zonebroker trust refresh --kind intel.collateral --wish intel.collateral/FMSPC`.",
	reason.TDXCollateralSignature: "Fetch collateral anew, and see intel.root: `zonebroker trust list --kind intel.root`.",
	reason.TDXDebug:               weakPolicy,
	reason.TDXReportData:          anew,
	reason.TDXTCBStatus:           "Update microcode, TDX module and firmware of the machine, or let the zone take its level: allow tdx.tcb_status beside the levels in where.",
	reason.TDXUntrusted:           "Import Intel's root (`zonebroker trust list --kind intel.root`); a certificate that Intel revoked stays refused.",
	reason.TDXValidity:            clocks,

	reason.TPM2AKCertEncoding:    altered,
	reason.TPM2AKCertKeyMismatch: "The certificate or report is for another key than the one that quoted: let zoneagent read both from one TPM.",
	reason.TPM2AKCertUntrusted:   "Import Google's CAs of attestation keys, and current lists: `zonebroker trust list --kind google.akca`.",
	reason.TPM2AKCertUsage:       "Send the certificate of the attestation key, not that of the endorsement key.",
	reason.TPM2AKCertValidity:    clocks,

	reason.X509PoPSignature: "Name the key of that certificate: `--certificate` and `--key` of zoneagent belong together.",
	reason.X509PoPUntrusted: "Put the issuers behind the certificate in the file of `--certificate`, import the CA (`zonebroker trust import ca.pem --kind x509pop.ca`) and, where it has one, its current list (x509pop.crl).",
	reason.X509PoPUsage:     "Use a certificate that its CA made for clients and signatures.",
	reason.X509PoPValidity:  "Renew the certificate, and compare the clocks of host and broker.",
}
