package verifier_test

import (
	"crypto/rsa"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
	"github.com/zonebroker/zonebroker/verifier/tdx"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// amdAtNoon is one PKI for all tests: its keys take a while.
var amdAtNoon = sync.OnceValue(func() *documenttest.AMD {
	amd, err := documenttest.NewAMD("Milan", noon)
	if err != nil {
		panic(err)
	}
	return amd
})

const azureVM = "911b0ef8-9dba-48b0-b275-4e4df2d39252"

// quotedBy is an attestation in which a document vouches for the AK.
func quotedBy(t *testing.T, format string, ak *evidencetest.Key) *attempt {
	t.Helper()
	a := &attempt{tpm: evidencetest.New(t), key: evidencetest.NewSVIDKey(t)}
	a.tpm.AK, a.tpm.Format = ak, format
	a.challenge(verifier.PurposeEnrol, noon)
	a.answer(t)
	a.ev.TPM2.EKPublic = nil
	return a
}

// newAzureCVM is a confidential machine under a test PKI of AMD's shape.
func newAzureCVM(t *testing.T, change func(r *documenttest.SNPReport)) *attempt {
	t.Helper()
	ak := evidencetest.RSAAK(t)
	a := quotedBy(t, verifier.FormatAzureCVM, ak)
	amd := amdAtNoon()
	pub, ok := ak.Signer().Public().(*rsa.PublicKey)
	if !ok {
		t.Fatal("the AK is no RSA key")
	}
	hcl := documenttest.HCL{Version: 2, Type: 2, Runtime: documenttest.AzureRuntime(pub, strings.ToUpper(azureVM)), Size: 2600}
	r := amd.Report()
	r.ReportData = hcl.Bind()
	key, err := hex.DecodeString(documenttest.AzureIDKey)
	if err != nil {
		t.Fatal(err)
	}
	copy(r.IDKey[:], key)
	if change != nil {
		change(&r)
	}
	e, err := amd.VCEK(r.ChipID, r.Reported, nil)
	if err != nil {
		t.Fatal(err)
	}
	report, err := e.Sign(r.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	a.ev.Items = []verifier.Item{{Format: verifier.FormatAzureCVM, Document: hcl.Bytes(report), Parts: map[string][]byte{"vcek": e.Certificate}}}
	if a.trust.Documents.SNP, err = snp.NewTrust(snp.Objects{Roots: [][]byte{amd.Roots()}}); err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAzureCVM: the machine is the one that the runtime data names, and the quote
// under its key makes the evidence class A.
func TestAzureCVM(t *testing.T) {
	got := mustAppraise(t, newAzureCVM(t, nil))
	docs := got.Documents()
	if len(docs) != 1 || docs[0].Class != document.ClassA || !docs[0].NonceBound || !docs[0].KeyBound || len(docs[0].Hazards) > 0 {
		t.Fatalf("%+v", docs)
	}
	if got.Machine() != (document.Machine{Kind: document.MachineAzure, Name: azureVM}) || got.BindingClass() != verifier.ClassA {
		t.Errorf("machine %+v, class %s", got.Machine(), got.BindingClass())
	}
	if v := docs[0].Values("azure.cvm.secure_boot"); !slices.Equal(v, []string{"true"}) {
		t.Errorf("secure boot %v", v)
	}
}

func TestAzureCVMRefused(t *testing.T) {
	first := func(a *attempt) *verifier.Item { return &a.ev.Items[0] }
	for _, tc := range []struct {
		name   string
		report func(r *documenttest.SNPReport)
		change func(a *attempt)
		want   reason.Code
	}{
		{"row 119 quote of another selection, test TPM", nil, func(a *attempt) {
			a.quoteOther(t, tpm2.Selection{0xff, 0, 0x80}, a.binding())
		}, reason.TPM2QuoteSelection},
		{"row 119 values of another selection, test TPM", nil, func(a *attempt) {
			a.quoteOther(t, tpm2.Selection{0, 0, 1}, a.binding())
		}, reason.TPM2QuoteSelection},
		{"quote over another binding", nil, func(a *attempt) { a.quoteOther(t, a.want.Selection, make([]byte, 32)) }, reason.TPM2QuoteNonceMismatch},
		{"a quote by another AK", nil, func(a *attempt) {
			report := a.ev.Items
			other := quotedBy(t, verifier.FormatAzureCVM, evidencetest.NewAK(t))
			a.ev, a.want = other.ev, other.want
			a.ev.Items = report
		}, reason.TPM2AKCertKeyMismatch},
		{"no certificate", nil, func(a *attempt) { first(a).Parts = nil }, reason.AzureHardwareMissing},
		{"no document", nil, func(a *attempt) { a.ev.Items = nil }, reason.RequestMalformed},
		{"no quote", nil, func(a *attempt) { a.ev.TPM2 = nil }, reason.RequestMalformed},
		{"the runtime data changed", nil, func(a *attempt) { first(a).Document = flip(first(a).Document, 1400) }, reason.AzureRuntimeData},
		{"the magic changed", nil, func(a *attempt) { first(a).Document = flip(first(a).Document, 0) }, reason.AzureHclMalformed},
		{"the report changed", nil, func(a *attempt) { first(a).Document = flip(first(a).Document, 32+0x90) }, reason.SNPSignature},
		{"no roots", nil, func(a *attempt) { a.trust.Documents = verifier.Documents{} }, reason.SNPUntrusted},
		{"of the guest's level", func(r *documenttest.SNPReport) { r.VMPL = 1 }, nil, reason.SNPVMPL},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newAzureCVM(t, tc.report)
			if tc.change != nil {
				tc.change(a)
			}
			_, err := a.appraise()
			if got := reason.Of(err); got != tc.want {
				t.Errorf("%q, want %q (%v)", got, tc.want, err)
			}
		})
	}
	item := verifier.Item{Format: verifier.FormatAzureCVM, Document: newAzureCVM(t, nil).ev.Items[0].Document}
	if _, err := verifier.JudgeItem(&item, [32]byte{}, nil, &verifier.Documents{}, noon); reason.Of(err) != reason.RequestMalformed {
		t.Errorf("beside documents without a quote: %v", err)
	}
}

// TestAzureCVMOnTDX: a TD quote for the REPORTDATA of the report vouches for the
// runtime data, one for another does not, and the TD has to be a known paravisor.
func TestAzureCVMOnTDX(t *testing.T) {
	const azureMRTD = "024a32b070383331181619fa387cb4d55d1e38879f989933055ccad5bc2db795d1737b66205949d15469dc8c1ba7ab7b"
	mrtd, err := hex.DecodeString(azureMRTD)
	if err != nil {
		t.Fatal(err)
	}
	intel := documenttest.NewIntelPKI(noon)
	trust, err := tdx.NewTrust([][]byte{intel.RootPEM()}, map[string][]byte{tdx.AnyPlatform: intel.Collateral(documenttest.CollateralFields{})})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(f *documenttest.TDXFields)
		want   reason.Code
		hazard reason.Code
	}{
		"the paravisor":      {func(*documenttest.TDXFields) {}, "", ""},
		"another REPORTDATA": {func(f *documenttest.TDXFields) { f.ReportData[40] = 1 }, reason.TDXReportData, ""},
		"another TD":         {func(f *documenttest.TDXFields) { f.EditBody = nil }, "", reason.AzureRuntimeData},
		"debug":              {func(f *documenttest.TDXFields) { f.Debug = true }, "", reason.TDXDebug},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAzureCVM(t, nil)
			pub, ok := a.tpm.AK.Signer().Public().(*rsa.PublicKey)
			if !ok {
				t.Fatal("the AK is no RSA key")
			}
			hcl := documenttest.HCL{Version: 2, Type: 4, Runtime: documenttest.AzureRuntime(pub, azureVM), Size: 2600}
			f := documenttest.TDXFields{ReportData: hcl.Bind(), EditBody: func(b []byte) { copy(b[136:], mrtd) }}
			tc.change(&f)
			a.trust.Documents.TDX = trust
			a.ev.Items = []verifier.Item{{
				Format: verifier.FormatAzureCVM, Document: hcl.Bytes(documenttest.TDReport(hcl.Bind())),
				Parts: map[string][]byte{"td_quote": intel.Quote(f)},
			}}
			got, err := a.appraise()
			if reason.Of(err) != tc.want {
				t.Fatalf("%v, want %q", err, tc.want)
			}
			if err != nil {
				return
			}
			hazards := got.Documents()[0].Hazards
			if tc.hazard == "" && len(hazards) > 0 || tc.hazard != "" && (len(hazards) != 1 || hazards[0].Code != tc.hazard) {
				t.Errorf("%v, want %q", hazards, tc.hazard)
			}
		})
	}
}

// TestGCEAKCertificate: the whole way for an instance of Google Compute Engine.
func TestGCEAKCertificate(t *testing.T) {
	ak := evidencetest.NewAK(t)
	a := quotedBy(t, verifier.FormatGCEAKCert, ak)
	google, err := documenttest.NewGCEAK(noon)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := google.Certificate(ak.Signer().Public(), google.Instance(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a.ev.Items = []verifier.Item{{Format: verifier.FormatGCEAKCert, Document: cert, Parts: map[string][]byte{"chain": google.Chain()}}}
	if a.trust.Documents.GCEAK, err = akcert.NewTrust(akcert.Objects{Roots: [][]byte{google.Roots()}}); err != nil {
		t.Fatal(err)
	}
	got := mustAppraise(t, a)
	if got.Machine() != (document.Machine{Kind: document.MachineGCE, Name: "4711/9223372036854775807"}) || got.BindingClass() != verifier.ClassA {
		t.Errorf("machine %+v, class %s", got.Machine(), got.BindingClass())
	}
	a.quoteOther(t, tpm2.Selection{0xff, 0, 0x80}, a.binding())
	if _, err := a.appraise(); reason.Of(err) != reason.TPM2QuoteSelection {
		t.Errorf("row 119 quote of another selection: %v", err)
	}
}
