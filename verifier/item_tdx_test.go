package verifier_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

var itemTime = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// TestTDXItem: the binding and the AK of the quote stand in REPORTDATA, and an
// event log that came along has to explain the registers.
func TestTDXItem(t *testing.T) {
	pki := documenttest.NewIntelPKI(itemTime)
	trust, err := tdx.NewTrust([][]byte{pki.RootPEM()}, map[string][]byte{documenttest.FMSPC: pki.Collateral(documenttest.CollateralFields{})})
	if err != nil {
		t.Fatal(err)
	}
	bound, ak := [32]byte{1, 2, 3}, []byte("an attestation key")
	akSum := sha256.Sum256(ak)
	for name, c := range map[string]struct {
		inside, quoted []byte
		parts          map[string][]byte
		want           reason.Code
	}{
		"alone":                        {nil, nil, nil, ""},
		"with the AK of the quote":     {ak, ak, nil, ""},
		"the quote's AK is not inside": {nil, ak, nil, reason.TDXReportData},
		"an AK, and no quote":          {ak, nil, nil, reason.TDXReportData},
		"a log of nothing":             {nil, nil, map[string][]byte{"event_log": {}}, reason.EventLogTruncated},
		"a log that is too large":      {nil, nil, map[string][]byte{"event_log": make([]byte, tdx.MaxEventLog+1)}, reason.RequestTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			quote := pki.Quote(documenttest.TDXFields{ReportData: document.ReportData(bound, c.inside)})
			item := verifier.Item{Format: verifier.FormatTDX, Document: quote, Parts: c.parts}
			f, err := verifier.JudgeItem(&item, bound, c.quoted, &verifier.Documents{TDX: trust}, itemTime)
			if got := reason.Of(err); got != c.want && (err != nil || c.want != "") {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if err != nil {
				return
			}
			want := []document.Anchor{{Kind: document.AnchorReport, Value: hex.EncodeToString(bound[:])}}
			if c.inside != nil {
				want = append(want, document.Anchor{Kind: document.AnchorAK, Value: hex.EncodeToString(akSum[:])})
			}
			if len(f.Anchors) != len(want) || f.Anchors[0] != want[0] || f.Anchors[len(want)-1] != want[len(want)-1] {
				t.Errorf("anchors %v, want %v", f.Anchors, want)
			}
		})
	}
	item := verifier.Item{Format: verifier.FormatTDX, Document: pki.Quote(documenttest.TDXFields{ReportData: document.ReportData(bound, nil)})}
	if _, err := verifier.JudgeItem(&item, bound, nil, &verifier.Documents{}, itemTime); reason.Of(err) != reason.TDXUntrusted {
		t.Errorf("without trust: %v", err)
	}
}

// TestNVIDIAItem: devices are asked with the hash of what names the node, in both
// forms.
func TestNVIDIAItem(t *testing.T) {
	pki, service := documenttest.NewNVIDIAPKI(itemTime), documenttest.NewNRAS("k1")
	keys, err := jwt.ParseKeys(service.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	issuers, err := jwt.NewIssuers(nvidia.Profile(), []jwt.Settings{{Name: "nras", Issuer: documenttest.NRASIssuer, Keys: keys}})
	if err != nil {
		t.Fatal(err)
	}
	trust, err := nvidia.NewTrust([][]byte{pki.RootPEM()}, map[string][]byte{
		"d": documenttest.GPUReference("driver"), "v": documenttest.GPUReference("vbios"),
	}, issuers)
	if err != nil {
		t.Fatal(err)
	}
	bound := [32]byte{1, 2, 3}
	nonce := sha256.Sum256(bound[:])
	for name, c := range map[string]struct {
		document []byte
		class    string
		want     reason.Code
	}{
		"report":               {documenttest.GPUEvidence(pki.Device(documenttest.GPUFields{Nonce: nonce})), document.ClassA, ""},
		"report for the bound": {documenttest.GPUEvidence(pki.Device(documenttest.GPUFields{Nonce: bound})), "", reason.NvidiaNonceMismatch},
		"token":                {service.Bundle(hex.EncodeToString(nonce[:]), itemTime), document.ClassB, ""},
		"token for the bound":  {service.Bundle(hex.EncodeToString(bound[:]), itemTime), "", reason.NvidiaNonceMismatch},
	} {
		item := verifier.Item{Format: verifier.FormatNVIDIA, Document: c.document}
		f, err := verifier.JudgeItem(&item, bound, nil, &verifier.Documents{NVIDIA: trust}, itemTime)
		if got := reason.Of(err); got != c.want && (err != nil || c.want != "") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err == nil && (f.Class != c.class || len(f.Anchors) != 1 || f.Anchors[0] != (document.Anchor{Kind: document.AnchorReport, Value: hex.EncodeToString(bound[:])})) {
			t.Errorf("%s: class %s, anchors %v", name, f.Class, f.Anchors)
		}
	}
}

// TestTrustObjectsOfTDXAndNVIDIA: what is stored as objects is what the packages
// judge by.
func TestTrustObjectsOfTDXAndNVIDIA(t *testing.T) {
	intel, gpus, service := documenttest.NewIntelPKI(itemTime), documenttest.NewNVIDIAPKI(itemTime), documenttest.NewNRAS("k1")
	objects := []verifier.TrustObject{
		{Kind: verifier.TrustIntel, Name: "root", Raw: intel.RootPEM()},
		{Kind: verifier.TrustIntelTCB, Name: documenttest.FMSPC, Raw: intel.Collateral(documenttest.CollateralFields{})},
		{Kind: verifier.TrustNVIDIA, Name: "root", Raw: gpus.RootPEM()},
		{Kind: verifier.TrustNVIDIARIM, Name: "driver", Raw: documenttest.GPUReference("driver")},
		{Kind: verifier.TrustNVIDIARIM, Name: "vbios", Raw: documenttest.GPUReference("vbios")},
		{Kind: verifier.TrustJWKS, Name: "nras", Raw: []byte(`{"format":"nvidia","issuer":"` + documenttest.NRASIssuer + `","jwks":` + string(service.JWKS()) + `}`)},
	}
	documents, err := verifier.NewDocuments(objects)
	if err != nil {
		t.Fatal(err)
	}
	bound := [32]byte{4}
	nonce := sha256.Sum256(bound[:])
	for _, item := range []verifier.Item{
		{Format: verifier.FormatTDX, Document: intel.Quote(documenttest.TDXFields{ReportData: document.ReportData(bound, nil)})},
		{Format: verifier.FormatNVIDIA, Document: documenttest.GPUEvidence(gpus.Device(documenttest.GPUFields{Nonce: nonce}))},
		{Format: verifier.FormatNVIDIA, Document: service.Bundle(hex.EncodeToString(nonce[:]), itemTime)},
	} {
		if f, err := verifier.JudgeItem(&item, bound, nil, &documents, itemTime); err != nil || len(f.Hazards) > 0 {
			t.Errorf("%s: %v, %v", item.Format, f.Hazards, err)
		}
	}
	for i, bad := range []verifier.TrustObject{
		{Kind: verifier.TrustIntel, Name: "other", Raw: []byte("x")},
		{Kind: verifier.TrustIntelTCB, Name: "b0c06f", Raw: []byte("{}")},
		{Kind: verifier.TrustNVIDIA, Name: "other", Raw: []byte("x")},
		{Kind: verifier.TrustNVIDIARIM, Name: "other", Raw: documenttest.GPUReference("driver")},
		{Kind: verifier.TrustJWKS, Name: "other", Raw: []byte(`{"format":"nvidia","jwks":` + string(service.JWKS()) + `}`)},
	} {
		if _, err := verifier.NewDocuments(append(objects[:len(objects):len(objects)], bad)); err == nil {
			t.Errorf("object %d of kind %s is taken", i, bad.Kind)
		}
	}
}
