package test

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	confidentialVM = "911b0ef8-9dba-48b0-b275-4e4df2d39252"
	tpmInstance    = "i-0fedcba9876543210"

	attestedSubscription = "66666666-6666-6666-6666-666666666666"
)

// elsewhere is a measurement that nothing has.
var elsewhere = "[" + strings.Repeat("11", 48)

func (m *makers) cases() []formatCase {
	return slices.Concat(m.hardware(), m.quoted(), m.google(), m.azure(), m.amazon(), m.pods(), m.others())
}

func where(selector, value string) string { return ", where: {" + selector + ": [" + value + "]}" }

// only is what a host with one document has.
func only(format string, i item) map[string]item { return map[string]item{format: i} }

// hardware: reports of enclaves and confidential machines, one with a GPU.
func (m *makers) hardware() []formatCase {
	zero := func(f *documenttest.NitroFields) {
		f.PCRs = map[int][]byte{0: make([]byte, 48), 1: make([]byte, 48), 2: make([]byte, 48)}
	}
	instance := func(f *documenttest.NitroFields) { f.Instance, f.Module = true, tpmInstance+"-tpm0000000000000000" }
	debug := func(r *documenttest.SNPReport) { r.Policy |= 1 << 19 }
	chip := func(last byte) string {
		id := m.report.ChipID
		id[63] = last
		return "snp.chip=" + hex.EncodeToString(id[:])
	}
	enclave, mrtd := m.nitroItem, strings.Repeat("88", 48)
	tpm, guest, gpu := m.nitroDoc(instance), m.snpDoc(m.t, 1, nil), m.gpuDoc("")
	tdx, realm := m.tdxDoc(false), m.ccaDoc(nil)
	return []formatCase{
		{
			name: "nitro", format: verifier.FormatNitro, class: "A", tier: 4, label: claim.SubmodTEE, items: only(verifier.FormatNitro, enclave),
			needs: where("nitro.pcr.0", hex.EncodeToString(documenttest.NitroPCR(false, 0))),
			owner: "nitro.signer=" + hex.EncodeToString(documenttest.NitroPCR(false, 8)),
			bad:   only(verifier.FormatNitro, otherChallenge(enclave)), refused: reason.NitroNonceMismatch,
			feared: only(verifier.FormatNitro, m.nitroDoc(zero)), fear: reason.NitroDebug,
			strict: "nitro.pcr.0: " + elsewhere, unmet: reason.PolicyMeasurementMismatch,
		},
		{
			name: "nitrotpm", format: verifier.FormatNitroTPM, class: "A", tier: 2, label: claim.SubmodCloud, items: only(verifier.FormatNitroTPM, tpm),
			needs: where("nitrotpm.pcr.4", hex.EncodeToString(documenttest.NitroPCR(true, 4))), owner: "nitro.instance=" + tpmInstance,
			bad: only(verifier.FormatNitroTPM, enclave), refused: reason.NitroType,
			strict: "nitrotpm.pcr.4: " + elsewhere, unmet: reason.PolicyMeasurementMismatch,
		},
		{
			name: "snp", format: verifier.FormatSNP, class: "A", tier: 4, label: claim.SubmodTEE, items: only(verifier.FormatSNP, guest),
			needs: where("snp.measurement", hex.EncodeToString(m.report.Measurement[:])), owner: chip(1),
			bad: only(verifier.FormatSNP, otherChallenge(guest)), refused: reason.SNPReportData,
			feared: only(verifier.FormatSNP, m.snpDoc(m.t, 1, debug)), fear: reason.SNPDebug,
			strict: "snp.measurement: " + elsewhere, unmet: reason.PolicyMeasurementMismatch,
		},
		{
			name: "gpus", format: verifier.FormatSNP, class: "A", tier: 4, label: claim.SubmodTEE, selects: "owner: " + chip(2),
			items: map[string]item{verifier.FormatSNP: m.snpDoc(m.t, 2, nil), verifier.FormatNVIDIA: gpu}, owner: chip(2),
			needs: ", evidence: {all: [nvidia]}, minimum: {nvidia.devices: 1}" + where("snp.measurement", hex.EncodeToString(m.report.Measurement[:])),
			bad:   only(verifier.FormatNVIDIA, otherChallenge(gpu)), refused: reason.NvidiaNonceMismatch,
			feared: only(verifier.FormatNVIDIA, m.gpuDoc("999.1")), fear: reason.NvidiaRIMMissing,
			strict: "nvidia.devices: 8", unmet: reason.PolicyMeasurementMismatch,
		},
		{
			name: "tdx", format: verifier.FormatTDX, class: "A", tier: 4, label: claim.SubmodTEE, items: only(verifier.FormatTDX, tdx),
			needs: ", where: {tdx.mrtd: [" + mrtd + "], tdx.secure_boot: [on]}", owner: "tdx.mrtd=" + mrtd,
			bad: only(verifier.FormatTDX, otherChallenge(tdx)), refused: reason.TDXReportData,
			feared: only(verifier.FormatTDX, m.tdxDoc(true)), fear: reason.TDXDebug,
			strict: "tdx.mrtd: " + elsewhere, unmet: reason.PolicyMeasurementMismatch,
		},
		{
			name: "cca", format: verifier.FormatCCA, class: "A", tier: 4, label: claim.SubmodTEE, items: only(verifier.FormatCCA, realm),
			needs: where("cca.rim", strings.Repeat("51", 32)), owner: "cca.realm=" + strings.Repeat("51", 32),
			bad: only(verifier.FormatCCA, otherChallenge(realm)), refused: reason.CCANonceMismatch,
			feared: only(verifier.FormatCCA, m.ccaDoc(func(claims map[any]any) { claims[documenttest.CCALifecycle] = 0x2000 })), fear: reason.CCALifecycle,
			strict: "cca.rim: " + elsewhere[:65], unmet: reason.PolicyMeasurementMismatch,
		},
	}
}

// quoted: documents that vouch for the attestation key of a TPM.
func (m *makers) quoted() []formatCase {
	unknown := func(r *documenttest.SNPReport) { r.IDKey[0] ^= 1 }
	return []formatCase{
		{
			name: "azure-cvm", format: verifier.FormatAzureCVM, class: "A", tier: 4, label: claim.SubmodTEE, tpm: true,
			items: only(verifier.FormatAzureCVM, m.hclDoc(false, nil)), needs: ", secure_boot: true" + where("azure.cvm.tee", "snp"),
			owner: "azure.vm=" + confidentialVM,
			bad:   only(verifier.FormatAzureCVM, m.hclDoc(true, nil)), refused: reason.TPM2AKCertKeyMismatch,
			feared: only(verifier.FormatAzureCVM, m.hclDoc(false, unknown)), fear: reason.AzureRuntimeData,
			strict: "azure.cvm.tee: [tdx", unmet: reason.PolicyMeasurementMismatch,
		},
		{
			name: "gce-akcert", format: verifier.FormatGCEAKCert, class: "A", tier: 2, label: claim.SubmodCloud, tpm: true,
			items: only(verifier.FormatGCEAKCert, m.akDoc(false)), needs: ", secure_boot: true" + where("gce.zone", "europe-west3-b"),
			owner: "gcp.project=acme-prod",
			bad:   only(verifier.FormatGCEAKCert, m.akDoc(true)), refused: reason.TPM2AKCertKeyMismatch,
			strict: "gce.zone: [us-east1-a", unmet: reason.PolicyMeasurementMismatch,
		},
	}
}

func (m *makers) google() []formatCase {
	space := func(more documenttest.Claims) item {
		return m.token(func(b collect.Bound) documenttest.Claims {
			claims := documenttest.ConfidentialClaims(document.Audience(b.Value), nonceOf(b), time.Now())
			submods, _ := claims["submods"].(documenttest.Claims)
			gce, _ := submods["gce"].(documenttest.Claims)
			gce["project_id"], gce["instance_id"] = "proj-b", "4711"
			return claims.With(more)
		})
	}
	return []formatCase{
		{
			name: "gce-identity", format: verifier.FormatGCEIdentity, class: "B", tier: 1, label: claim.SubmodCloud,
			items: only(verifier.FormatGCEIdentity, m.gceItem), owner: "gcp.project=proj-a",
			bad: only(verifier.FormatGCEIdentity, otherChallenge(m.gceItem)), refused: reason.JWTAudience,
			strict: "class: A", unmet: reason.PolicyBindingClass,
		},
		{
			name: "gcp-confidential", format: verifier.FormatGCPConfidential, class: "B", tier: 1, label: claim.SubmodCloud,
			items: only(verifier.FormatGCPConfidential, space(nil)), owner: "gcp.project=proj-b",
			needs: where("gcp.image_digest", `"sha256:`+strings.Repeat("a", 64)+`"`),
			bad:   only(verifier.FormatGCPConfidential, otherChallenge(space(nil))), refused: reason.JWTAudience,
			feared: only(verifier.FormatGCPConfidential, space(documenttest.Claims{"dbgstat": "enabled"})), fear: reason.PolicyMeasurementMismatch,
			strict: "class: A", unmet: reason.PolicyBindingClass,
		},
	}
}

func (m *makers) azure() []formatCase {
	maa := func(more documenttest.Claims) item {
		return m.token(func(b collect.Bound) documenttest.Claims {
			return documenttest.MAAClaims(nonceOf(b), nil, time.Now()).With(more)
		})
	}
	// Entra's tokens are handed out again for hours.
	msi := func(audience string) item {
		return m.token(func(collect.Bound) documenttest.Claims {
			return documenttest.MSIClaims(audience, time.Now().Add(-3*time.Hour))
		})
	}
	return []formatCase{
		{
			name: "azure-imds", format: verifier.FormatAzureIMDS, class: "B", tier: 1, label: claim.SubmodCloud,
			items: only(verifier.FormatAzureIMDS, m.imdsDoc), owner: "azure.subscription=" + attestedSubscription,
			bad: only(verifier.FormatAzureIMDS, otherChallenge(m.imdsDoc)), refused: reason.AzureNonceMismatch,
			strict: "class: A", unmet: reason.PolicyBindingClass,
		},
		{
			name: "azure-maa", format: verifier.FormatAzureMAA, class: "B", tier: 1, label: claim.SubmodCloud,
			items: only(verifier.FormatAzureMAA, maa(nil)), owner: "azure.vm=70f5ce9a-2bdc-4b6b-8401-e9b964d3aeb7",
			bad: only(verifier.FormatAzureMAA, otherChallenge(maa(nil))), refused: reason.AzureNonceMismatch,
			feared: only(verifier.FormatAzureMAA, maa(documenttest.Claims{"secureboot": false})), fear: reason.AzureAttestationClaims,
			strict: "class: A", unmet: reason.PolicyBindingClass,
		},
		{
			name: "azure-msi", format: verifier.FormatAzureMSI, class: "C", tier: 1, label: claim.SubmodCloud, age: "24h",
			items: only(verifier.FormatAzureMSI, msi(tokenApplication)), owner: "azure.tenant=" + documenttest.EntraTenant,
			bad: only(verifier.FormatAzureMSI, msi("https://management.azure.com/")), refused: reason.JWTAudience,
			strict: "class: B", unmet: reason.PolicyBindingClass,
		},
	}
}

func (m *makers) amazon() []formatCase {
	return []formatCase{
		{
			name: "ec2-iid", format: verifier.FormatEC2IID, class: "C", tier: 0, label: claim.SubmodCloud,
			items: only(verifier.FormatEC2IID, m.iidDoc(false)), owner: "aws.account=123456789012",
			bad: only(verifier.FormatEC2IID, m.iidDoc(true)), refused: reason.EC2DocumentMismatch,
			feared: only(verifier.FormatEC2IID, m.iidDoc(false, "4i20ezfza3p7xx2kt2g8weu2u")), fear: reason.EC2Marketplace,
			strict: "class: B", unmet: reason.PolicyBindingClass,
		},
		{
			name: "ec2-sts", format: verifier.FormatEC2STS, class: "B", tier: 1, label: claim.SubmodCloud,
			items: only(verifier.FormatEC2STS, stsDoc(m.aws.role)), needs: ", confirmed: [ec2.sts]", owner: "aws.account=" + roleAccount,
			bad: only(verifier.FormatEC2STS, stsDoc(m.aws.thief)), refused: reason.STSAnswer,
			strict: "class: A", unmet: reason.PolicyBindingClass,
		},
	}
}

// pods: by the cluster's keys alone, with the cluster asked, and with the token that
// stands in the pod.
func (m *makers) pods() []formatCase {
	offline, reviewed, mounted := m.podDoc(documenttest.ClusterIssuer, "", false), m.podDoc(reviewedIssuer, "", false), m.podDoc(mountedIssuer, "zonebroker", false)
	pod := func(name, issuer, class string, token item) formatCase {
		return formatCase{
			name: name, format: verifier.FormatK8sPSAT, class: class, tier: 1, label: claim.SubmodCloud, selects: `owner: "k8s.cluster=` + issuer + `"`,
			items: only(verifier.FormatK8sPSAT, token), owner: "k8s.cluster=" + issuer,
			bad: only(verifier.FormatK8sPSAT, otherChallenge(token)), refused: reason.JWTAudience,
			strict: "class: " + string(class[0]-1), unmet: reason.PolicyBindingClass,
		}
	}
	live := pod("k8s-reviewed", reviewedIssuer, "B", reviewed)
	live.needs = ", confirmed: [k8s.psat]" + where("k8s.review", "live")
	live.bad, live.refused = only(verifier.FormatK8sPSAT, m.podDoc(reviewedIssuer, "", true)), reason.K8sRevoked
	fixed := pod("k8s-mounted", mountedIssuer, "C", mounted)
	fixed.age = "10m"
	fixed.bad = only(verifier.FormatK8sPSAT, m.podDoc(mountedIssuer, "api", false))
	return []formatCase{pod("k8s-offline", documenttest.ClusterIssuer, "B", offline), live, fixed}
}

// others: results of another verifier, a PKI of one's own, and nothing but a token.
func (m *makers) others() []formatCase {
	ear := func(status string) item {
		return m.token(func(b collect.Bound) documenttest.Claims {
			return documenttest.EARClaims(nonceOf(b), time.Now()).With(documenttest.Claims{"submods": documenttest.Claims{"cpu0": documenttest.EARSubmodule(status)}})
		})
	}
	root := sha256.Sum256(m.own.Root.Certificate.Raw)
	nothing := func(testing.TB, collect.Bound) api.Item { return api.Item{} }
	something := func(testing.TB, collect.Bound) api.Item { return api.Item{Document: []byte("x")} }
	return []formatCase{
		{
			name: "ear", format: verifier.FormatEAR, class: "B", tier: 1, label: claim.SubmodCloud,
			items: only(verifier.FormatEAR, ear("affirming")), owner: "ear.verifier=veraison",
			bad: only(verifier.FormatEAR, otherChallenge(ear("affirming"))), refused: reason.EARNonceMismatch,
			feared: only(verifier.FormatEAR, ear("warning")), fear: reason.EARStatus,
			strict: "class: A", unmet: reason.PolicyBindingClass,
		},
		{
			name: "x509pop", format: verifier.FormatX509PoP, class: "B", tier: 1, label: claim.SubmodCloud,
			items: only(verifier.FormatX509PoP, m.popDoc), owner: "x509.ca=" + hex.EncodeToString(root[:]),
			bad: only(verifier.FormatX509PoP, otherChallenge(m.popDoc)), refused: reason.X509PoPSignature,
			strict: "class: A", unmet: reason.PolicyBindingClass,
		},
		{
			name: "jointoken", format: verifier.FormatJoinToken, class: "C", tier: 1, label: claim.SubmodCloud,
			items: only(verifier.FormatJoinToken, nothing), bad: only(verifier.FormatJoinToken, something), refused: reason.RequestMalformed,
			strict: "class: B", unmet: reason.PolicyBindingClass,
		},
	}
}
