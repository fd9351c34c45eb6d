package test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
)

// tokenPages are the pages of the formats.
var tokenPages = map[string]string{
	"gce.identity": "gce-identity", "gcp.confidential": "gcp-confidential", "azure.msi": "azure-msi",
	"azure.maa": "azure-maa", "k8s.psat": "k8s-psat", "ear": "ear",
}

var (
	pageZone   = regexp.MustCompile("(?s)```yaml\n(apiVersion.*?)```")
	pageObject = regexp.MustCompile("(?s)```json\n(.*?)```")
)

// TestTokenPagesLoad: the zone and the trust object of each page are taken as they
// stand, but for the keys.
func TestTokenPagesLoad(t *testing.T) {
	keys := strings.TrimSuffix(strings.TrimPrefix(string(documenttest.JWKS(documenttest.NewJWTKey("k", "ES256").JWK())), `{"keys":`), "}")
	for format, page := range tokenPages {
		source, err := os.ReadFile("../docs/evidence/" + page + ".md")
		must(t, err)
		zone, object := pageZone.FindSubmatch(source), pageObject.FindSubmatch(source)
		if zone == nil || object == nil {
			t.Errorf("%s.md: zone or trust object is missing", page)
			continue
		}
		if _, problems := policy.Load([]policy.File{{Name: page, Bytes: zone[1]}}); len(problems) > 0 {
			t.Errorf("%s.md: %v", page, problems)
		}
		raw := strings.Replace(string(object[1]), "[]", keys, 1)
		o := jwt.Object{Name: page, Raw: []byte(raw)}
		if got, err := o.Format(); err != nil || got != format {
			t.Errorf("%s.md: %q, %v", page, got, err)
		}
		if _, err := verifier.NewTokens([]jwt.Object{o}); err != nil {
			t.Errorf("%s.md: %v", page, err)
		}
	}
}

// TestTokenSelectorsAreDocumented: what stands in the pages of the formats is what
// the code gives, and the other way round.
func TestTokenSelectorsAreDocumented(t *testing.T) {
	s := newTokenIssuers(t)
	for format, page := range tokenPages {
		source, err := os.ReadFile("../docs/evidence/" + page + ".md")
		must(t, err)
		h := newDocumentHost(t, format)
		got, err := h.add(format, s.key(format).Token(h.good(format)), nil).judge(t, s.trust)
		must(t, err)
		_, table, _ := strings.Cut(string(source), "\n## Selectors\n")
		given := map[string]bool{}
		for _, sel := range got.Documents()[0].Selectors {
			given[sel.Name] = true
			if !strings.Contains(table, "\n| `"+sel.Name+"` |") {
				t.Errorf("%s.md does not have %s", page, sel.Name)
			}
		}
		for line := range strings.Lines(table) {
			name, ok := strings.CutPrefix(line, "| `")
			if !ok {
				continue
			}
			name, _, _ = strings.Cut(name, "`")
			if !given[name] && !rareSelectors[name] {
				t.Errorf("%s.md has %s, which no token gives", page, name)
			}
		}
	}
}

// rareSelectors are those that the good tokens of this test do not have.
var rareSelectors = map[string]bool{"k8s.review": true, "azure.maa.host_data": true, "gce.label": true, "gce.tag": true}
