package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// fullSNP makes reports that have everything that a report can have, of two
// products and both kinds of key.
func fullSNP(t *testing.T, now time.Time) []document.Facts {
	t.Helper()
	var out []document.Facts
	for _, product := range []string{"Milan", "Turin"} {
		amd, err := documenttest.NewAMD(product, now)
		must(t, err)
		trust, err := snp.NewTrust(snp.Objects{Roots: [][]byte{amd.Roots()}})
		must(t, err)
		r := amd.Report()
		r.KeyInfo, r.IDKey, r.AuthorKey, r.FamilyID, r.ImageID, r.AgentID = 1, [48]byte{1}, [48]byte{1}, [16]byte{1}, [16]byte{1}, [32]byte{1}
		e, err := amd.VCEK(r.ChipID, r.Reported, nil)
		if product == "Milan" {
			r.KeyInfo |= 1 << 2
			e, err = amd.VLEK("CN=cc.example.com", r.Reported, nil)
		}
		must(t, err)
		raw, err := e.Sign(r.Bytes())
		must(t, err)
		a, err := snp.Verify(snp.Evidence{Report: raw, Certificate: e.Certificate}, nil, trust, now)
		must(t, err)
		out = append(out, a.Facts())
	}
	return out
}

func fullHCL(t *testing.T, now time.Time) []document.Facts {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	hcl := documenttest.HCL{Version: 2, Type: 4, Runtime: documenttest.AzureRuntime(&key.PublicKey, "911B0EF8-9DBA-48B0-B275-4E4DF2D39252")}
	hcl.Runtime = []byte(strings.NewReplacer(strings.Repeat("00", 64), strings.Repeat("01", 64), `"tpm-enabled"`, `"root-cert-thumbprint":"x","tpm-enabled"`).Replace(string(hcl.Runtime)))
	h, err := azure.ParseHCL(hcl.Bytes(documenttest.TDReport(hcl.Bind())))
	must(t, err)
	m, err := azure.VerifyHCL(h, azure.Hardware{TDQuote: []byte{1}}, azure.HCLTrust{TDX: func([]byte, []byte, time.Time) (document.Facts, error) {
		return document.Facts{Selectors: []document.Selector{{Name: "tdx.mrtd", Value: "00"}}}, nil
	}}, now)
	must(t, err)
	return []document.Facts{m.Facts()}
}

func fullAKCertificate(t *testing.T, now time.Time) []document.Facts {
	t.Helper()
	google, err := documenttest.NewGCEAK(now)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	cert, err := google.Certificate(key.Public(), google.Instance(), nil)
	must(t, err)
	trust, err := akcert.NewTrust(akcert.Objects{Roots: [][]byte{google.Roots()}})
	must(t, err)
	c, err := akcert.VerifyInstance(cert, google.Chain(), spki, trust, now)
	must(t, err)
	return []document.Facts{c.Facts()}
}

// TestMachinePages: the zones of the pages load, and their selectors are those that
// the code gives, no more and no fewer.
func TestMachinePages(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for page, made := range map[string][]document.Facts{"snp": fullSNP(t, now), "azure-cvm": fullHCL(t, now), "gce-akcert": fullAKCertificate(t, now)} {
		source, err := os.ReadFile("../docs/evidence/" + page + ".md")
		must(t, err)
		zone := pageZone.FindSubmatch(source)
		if zone == nil {
			t.Errorf("%s.md has no zone", page)
			continue
		}
		if _, problems := policy.Load([]policy.File{{Name: page, Bytes: zone[1]}}); len(problems) > 0 {
			t.Errorf("%s.md: %v", page, problems)
		}
		_, table, _ := strings.Cut(string(source), "\n## Selectors\n")
		given := map[string]bool{}
		for i := range made {
			for _, sel := range made[i].Selectors {
				given[sel.Name] = true
				if !strings.HasPrefix(sel.Name, "tdx.") && !strings.Contains(table, "\n| `"+sel.Name+"` |") {
					t.Errorf("%s.md does not have %s", page, sel.Name)
				}
			}
		}
		for line := range strings.Lines(table) {
			name, ok := strings.CutPrefix(line, "| `")
			if name, _, _ = strings.Cut(name, "`"); ok && !given[name] {
				t.Errorf("%s.md has %s, which nothing gives", page, name)
			}
		}
	}
}
