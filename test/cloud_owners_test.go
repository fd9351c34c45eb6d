package test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
)

// everyFacts are what the documents of all formats say that name an owner.
func everyFacts(t *testing.T) []document.Facts {
	t.Helper()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	out := slices.Concat(fullSNP(t, now), fullHCL(t, now), fullAKCertificate(t, now), tdxFacts(t),
		[]document.Facts{nitroFacts(t, false), nitroFacts(t, true), ccaFacts(t)})
	for _, f := range fullest(t) {
		out = append(out, f)
	}
	s := newTokenIssuers(t)
	for format := range tokenPages {
		h := newDocumentHost(t, format)
		got, err := h.add(format, s.key(format).Token(h.good(format)), nil).judge(t, s.trust)
		must(t, err)
		for _, d := range got.Documents() {
			out = append(out, d.Facts)
		}
	}
	return out
}

// TestOwnersCanBeAdmitted: what documents say of their owners is what an operator
// may write, kind for kind; and what he may write and no document says admits
// nobody.
func TestOwnersCanBeAdmitted(t *testing.T) {
	said := map[string]bool{}
	for _, f := range everyFacts(t) {
		for _, o := range f.Owners {
			said[o.Kind] = true
			if got, err := document.ParseOwner(o.Kind + "=" + o.Value); err != nil || got != o {
				t.Errorf("%s says %s=%s: %v", f.Format, o.Kind, o.Value, err)
			}
		}
	}
	for _, kind := range document.OwnerKinds() {
		if !said[kind] {
			t.Errorf("no document of this test says %s", kind)
		}
	}
}

var admitted = regexp.MustCompile("--owner ([a-z0-9_.]+=[^ `\n]+)")

// TestOwnersInPages: an owner in a page is one that can be admitted, but for those
// that stand for a value.
func TestOwnersInPages(t *testing.T) {
	pages, err := filepath.Glob("../docs/evidence/*.md")
	must(t, err)
	standsFor := regexp.MustCompile(`=([A-Z0-9_-]+|<hex>)$`)
	found := 0
	for _, page := range append(pages, "../docs/zones.md", "../README.md") {
		raw, err := os.ReadFile(page)
		must(t, err)
		for _, m := range admitted.FindAllStringSubmatch(string(raw), -1) {
			found++
			if _, err := document.ParseOwner(m[1]); err != nil && !standsFor.MatchString(m[1]) {
				t.Errorf("%s: %s: %v", page, m[1], err)
			}
		}
	}
	if found < 15 {
		t.Errorf("%d owners in the pages", found)
	}
}
