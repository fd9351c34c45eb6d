package test

import (
	"bytes"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

// TestPagesOfTDXAndNVIDIA: zones and trust objects of the pages are taken as they
// stand, and selectors and hazards are those that the code gives.
func TestPagesOfTDXAndNVIDIA(t *testing.T) {
	for name, facts := range map[string][]document.Facts{"tdx": tdxFacts(t), "nvidia": nvidiaFacts(t)} {
		source, err := os.ReadFile("../docs/evidence/" + name + ".md")
		must(t, err)
		zone := pageZone.FindSubmatch(source)
		if zone == nil {
			t.Fatalf("%s.md has no zone", name)
		}
		if _, problems := policy.Load([]policy.File{{Name: name, Bytes: zone[1]}}); len(problems) > 0 {
			t.Errorf("%s.md: %v", name, problems)
		}
		for _, o := range pageObject.FindAllSubmatch(source, -1) {
			object := verifier.TrustObject{Kind: verifier.TrustNVIDIARIM, Name: "page", Raw: o[1]}
			if bytes.Contains(o[1], []byte(`"jwks"`)) {
				object.Kind = verifier.TrustJWKS
				object.Raw = bytes.Replace(o[1], []byte(`{"keys": []}`), documenttest.NewNRAS("k").JWKS(), 1)
			}
			if _, err := verifier.NewDocuments([]verifier.TrustObject{object}); err != nil {
				t.Errorf("%s.md: %v", name, err)
			}
		}
		var selectors, hazards []string
		for _, f := range facts {
			for _, s := range f.Selectors {
				selectors = append(selectors, s.Name)
			}
			for _, h := range f.Hazards {
				hazards = append(hazards, string(h.Code))
			}
		}
		_, rest, _ := strings.Cut(string(source), "\n## Hazards\n")
		table, _, _ := strings.Cut(rest, "\n## ")
		compareNames(t, name+".md, hazards", firstColumn(table), hazards)
		_, rest, _ = strings.Cut(string(source), "\n## Selectors\n")
		compareNames(t, name+".md, selectors", firstColumn(rest), selectors)
	}
}

func firstColumn(table string) []string {
	var out []string
	for line := range strings.Lines(table) {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ = strings.Cut(name, "`")
			out = append(out, name)
		}
	}
	return out
}

func compareNames(t *testing.T, where string, page, code []string) {
	t.Helper()
	slices.Sort(page)
	slices.Sort(code)
	if code = slices.Compact(code); !slices.Equal(page, code) {
		t.Errorf("%s: the page has %v, the code gives %v", where, page, code)
	}
}

// tdxFacts: a good quote with everything that a selector comes from, and one with
// all hazards.
func tdxFacts(t *testing.T) []document.Facts {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	pki := documenttest.NewIntelPKI(now)
	trust, err := tdx.NewTrust([][]byte{pki.RootPEM()}, map[string][]byte{documenttest.FMSPC: pki.Collateral(documenttest.CollateralFields{})})
	must(t, err)
	log, rtmrs := documenttest.CCEL()
	var out []document.Facts
	for _, f := range []documenttest.TDXFields{
		{Version: 5, TD15: true, RTMRs: rtmrs},
		{RTMRs: rtmrs, Debug: true, EditReport: func(r []byte) { r[258] = 3 }},
	} {
		q, err := tdx.Verify(pki.Quote(f), tdx.Expectation{EventLog: log}, trust, now)
		must(t, err)
		out = append(out, q.Facts())
	}
	return out
}

func nvidiaFacts(t *testing.T) []document.Facts {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	pki, service := documenttest.NewNVIDIAPKI(now), documenttest.NewNRAS("k")
	keys, err := jwt.ParseKeys(service.JWKS())
	must(t, err)
	issuers, err := jwt.NewIssuers(nvidia.Profile(), []jwt.Settings{{Name: "nras", Issuer: documenttest.NRASIssuer, Keys: keys}})
	must(t, err)
	trust, err := nvidia.NewTrust([][]byte{pki.RootPEM()}, nil, issuers)
	must(t, err)
	var out []document.Facts
	for _, raw := range [][]byte{
		documenttest.GPUEvidence(pki.Device(documenttest.GPUFields{})), service.Bundle(hex.EncodeToString(make([]byte, 32)), now),
	} {
		e, err := nvidia.Verify(raw, nvidia.Expectation{}, trust, now)
		must(t, err)
		out = append(out, e.Facts())
	}
	return out
}
