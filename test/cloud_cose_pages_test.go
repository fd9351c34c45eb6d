package test

import (
	"bytes"
	"crypto/elliptic"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/cca"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/nitro"
)

var (
	selectorRow = regexp.MustCompile("(?m)^\\| `([a-z_.]+(?:\\.N)?)` \\|")
	numbered    = regexp.MustCompile(`\.[0-9]+$`)
)

// TestPagesOfCOSEFormats: the pages list the selectors that the code gives, and
// their zones load.
func TestPagesOfCOSEFormats(t *testing.T) {
	for page, f := range map[string]document.Facts{
		"nitro": nitroFacts(t, false), "nitrotpm": nitroFacts(t, true), "cca": ccaFacts(t),
	} {
		raw, err := os.ReadFile("../docs/evidence/" + page + ".md")
		must(t, err)
		var listed, given []string
		for _, m := range selectorRow.FindAllSubmatch(raw, -1) {
			listed = append(listed, string(m[1]))
		}
		for _, s := range f.Selectors {
			given = append(given, numbered.ReplaceAllString(s.Name, ".N"))
		}
		slices.Sort(listed)
		slices.Sort(given)
		if diff := cmp.Diff(slices.Compact(listed), slices.Compact(given)); diff != "" {
			t.Errorf("selectors of %s (-page +code):\n%s", page, diff)
		}
		for _, b := range blocks(t, "docs/evidence/"+page+".md", "yaml") {
			if _, problems := policy.Load([]policy.File{{Name: page + ".yaml", Bytes: []byte(b)}}); len(problems) > 0 {
				t.Errorf("zone of %s: %v", page, problems)
			}
		}
	}
}

func nitroFacts(t *testing.T, instance bool) document.Facts {
	t.Helper()
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	pki, err := documenttest.NewNitroPKI(at)
	must(t, err)
	raw, err := pki.Document(documenttest.NitroFields{Instance: instance})
	must(t, err)
	trust, err := nitro.NewTrust(pki.RootPEM())
	must(t, err)
	want := nitro.Expectation{}
	if instance {
		want.Type = nitro.Instance
	}
	d, err := nitro.Verify(raw, want, trust, at)
	must(t, err)
	return d.Facts()
}

func ccaFacts(t *testing.T) document.Facts {
	t.Helper()
	machine, err := documenttest.NewCCAMachine(elliptic.P384())
	must(t, err)
	key, err := machine.PEM()
	must(t, err)
	trust, err := cca.NewTrust(cca.Object{Name: "lab", Data: key})
	must(t, err)
	raw, err := machine.Token(documenttest.CCAFields{Challenge: bytes.Repeat([]byte{1}, 64)})
	must(t, err)
	token, err := cca.Verify(raw, nil, trust)
	must(t, err)
	return token.Facts()
}
