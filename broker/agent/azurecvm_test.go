package agent_test

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/zonebroker/zonebroker/broker/agent/collect/metadatatest"
	"github.com/zonebroker/zonebroker/broker/agent/collect/roster"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const azureVM = "911b0ef8-9dba-48b0-b275-4e4df2d39252"

// paravisorKey makes the attestation key that Azure's paravisor keeps at
// 0x81000003, in a software TPM.
func paravisorKey(t *testing.T, h *host) *rsa.PublicKey {
	t.Helper()
	raw, err := linuxudstpm.Open(h.tpm.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	owner := gotpm.AuthHandle{Handle: gotpm.TPMRHOwner, Auth: gotpm.PasswordAuth(nil)}
	made, err := gotpm.CreatePrimary{PrimaryHandle: owner, InPublic: gotpm.New2B(gotpm.TPMTPublic{
		Type: gotpm.TPMAlgRSA, NameAlg: gotpm.TPMAlgSHA256,
		ObjectAttributes: gotpm.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: gotpm.NewTPMUPublicParms(gotpm.TPMAlgRSA, &gotpm.TPMSRSAParms{
			Scheme:  gotpm.TPMTRSAScheme{Scheme: gotpm.TPMAlgRSASSA, Details: gotpm.NewTPMUAsymScheme(gotpm.TPMAlgRSASSA, &gotpm.TPMSSigSchemeRSASSA{HashAlg: gotpm.TPMAlgSHA256})},
			KeyBits: 2048,
		}),
	})}.Execute(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (gotpm.EvictControl{
		Auth: owner, ObjectHandle: &gotpm.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: 0x81000003,
	}).Execute(raw); err != nil {
		t.Fatal(err)
	}
	if _, err := (gotpm.FlushContext{FlushHandle: made.ObjectHandle}).Execute(raw); err != nil {
		t.Fatal(err)
	}
	public, err := made.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	key, err := gotpm.Pub(*public)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PublicKey)
}

// chip is a processor of AMD's, whose certificate the host serves.
func chip(t *testing.T, hcl documenttest.HCL) (hardware []byte, trust []verifier.TrustObject, path string, answer metadatatest.Answer) {
	t.Helper()
	amd, err := documenttest.NewAMD("Milan", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := amd.Report()
	r.ReportData = hcl.Bind()
	key, err := hex.DecodeString(documenttest.AzureIDKey)
	if err != nil {
		t.Fatal(err)
	}
	copy(r.IDKey[:], key)
	vcek, err := amd.VCEK(r.ChipID, r.Reported, nil)
	if err != nil {
		t.Fatal(err)
	}
	if hardware, err = vcek.Sign(r.Bytes()); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"vcekCert": string(pemOf(vcek.Certificate)), "tcbm": "DB18000000000004", "certificateChain": string(amd.Roots())})
	if err != nil {
		t.Fatal(err)
	}
	trust = []verifier.TrustObject{{Kind: verifier.TrustSNP, Name: "test", Raw: amd.Roots()}}
	return hardware, trust, "/metadata/THIM/amd/certification", metadatatest.Text(string(text))
}

// domain is a processor of Intel's, for whose TD report the host gives a quote.
func domain(t *testing.T, hcl documenttest.HCL) (hardware []byte, trust []verifier.TrustObject, path string, answer metadatatest.Answer) {
	t.Helper()
	pki := documenttest.NewIntelPKI(time.Now())
	trust = []verifier.TrustObject{
		{Kind: verifier.TrustIntel, Name: "test", Raw: pki.RootPEM()},
		{Kind: verifier.TrustIntelTCB, Name: documenttest.FMSPC, Raw: pki.Collateral(documenttest.CollateralFields{})},
	}
	return documenttest.TDReport(hcl.Bind()), trust, "/acc/tdquote", func(r *http.Request) string {
		var asked struct {
			Report string `json:"report"`
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			return ""
		}
		report, err := base64.RawURLEncoding.DecodeString(asked.Report)
		if err != nil || len(report) != 1024 {
			return ""
		}
		quote := pki.Quote(documenttest.TDXFields{ReportData: [64]byte(report[0x80:])})
		return `{"quote":"` + base64.RawURLEncoding.EncodeToString(quote) + `"}`
	}
}

// TestAzureConfidentialVMUnderTestPKI is the whole way of a confidential machine of
// Azure's but for its firmware: the report lies in NV, the key that it lists quotes
// and certifies, and the host gives what vouches for the report. A software TPM does
// not write user data into the report; the quote is what carries the challenge.
func TestAzureConfidentialVMUnderTestPKI(t *testing.T) {
	for name, c := range map[string]struct {
		kind     uint32
		hardware func(*testing.T, documenttest.HCL) ([]byte, []verifier.TrustObject, string, metadatatest.Answer)
		hazards  []reason.Code // the TD's firmware is no known paravisor
	}{"SEV-SNP": {2, chip, nil}, "TDX": {4, domain, []reason.Code{reason.AzureRuntimeData}}} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			h := newHost(t, b)
			hcl := documenttest.HCL{Version: 2, Type: c.kind, Runtime: documenttest.AzureRuntime(paravisorKey(t, h), strings.ToUpper(azureVM))}
			hardware, trust, path, answer := c.hardware(t, hcl)
			tpm, err := tpm2collect.Open(t.Context(), tpm2collect.Config{Device: h.cfg.Device})
			if err != nil {
				t.Fatal(err)
			}
			if err := tpm.WriteNV(t.Context(), 0x01400001, hcl.Bytes(hardware)); err != nil {
				t.Fatal(err)
			}
			if err := tpm.Close(); err != nil {
				t.Fatal(err)
			}
			b.documents = trustIn(t, trust...)
			h.cfg.Format = verifier.FormatAzureCVM
			h.cfg.Documents = roster.Config{Metadata: metadatatest.Azure(t, map[string]metadatatest.Answer{path: answer}).URL, Root: nothing(t)}
			first := h.attest(t)
			if !first.InTPM || first.Format != verifier.FormatAzureCVM || len(b.proved) != 1 {
				t.Fatalf("named by %s, key in the TPM: %v, %d documents", first.Format, first.InTPM, len(b.proved))
			}
			var hazards []reason.Code
			for _, hazard := range b.proved[0].Hazards {
				hazards = append(hazards, hazard.Code)
			}
			if p := b.proved[0]; p.Class != document.ClassA || p.Machine != (document.Machine{Kind: document.MachineAzure, Name: azureVM}) || !slices.Equal(hazards, c.hazards) {
				t.Errorf("class %s of %+v, hazards %v", p.Class, p.Machine, hazards)
			}
			if second := h.attest(t); second.Node != first.Node || second.Purpose != "renew" {
				t.Errorf("%+v", second)
			}
		})
	}
}
