package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/policy"
)

const retentionDocument = `apiVersion: zonebroker/v1
kind: Retention
default: {decisions: forever, evidence: 90d, svids: 400d}
groups:
  - {name: cards, zones: [payments, vault], decisions: 2555d, evidence: 400d, svids: 2555d}
  - name: lab
    zones: [lab]
    decisions: 30d
    evidence: 7d
    svids: 30d
`

func TestRetentionDocument(t *testing.T) {
	r, problems := policy.LoadRetention(policy.File{Name: "r.yaml", Bytes: []byte(retentionDocument)})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if g := r.Group("vault"); g == nil || g.Name != "cards" || g.Decisions != 2555 {
		t.Errorf("vault is in %+v", g)
	}
	if g := r.Group("web"); g != nil {
		t.Errorf("web is in %+v", g)
	}
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		class string
		now   time.Time
		want  bool
	}{
		{"decisions", at.AddDate(100, 0, 0), false},
		{"evidence", at.AddDate(0, 0, 89), false},
		{"evidence", at.AddDate(0, 0, 90), true},
		{"svids", at.AddDate(0, 0, 399), false},
		{"svids", at.AddDate(0, 0, 400), true},
		{"colours", at.AddDate(100, 0, 0), false},
	} {
		if got := r.Default.Ended(tc.class, at, tc.now); got != tc.want {
			t.Errorf("%s at %s: ended = %v", tc.class, tc.now, got)
		}
	}
}

func TestRetentionLint(t *testing.T) {
	nine := strings.Repeat("  - {name: g, zones: [z], decisions: 9d, evidence: 9d, svids: 9d}\n", 9)
	for name, tc := range map[string]struct{ from, to, want string }{
		"unknown key":        {"kind: Retention", "kind: Retention\ncolour: red", `unknown key "colour"`},
		"unknown class":      {"evidence: 7d", "evidence: 7d\n    logs: 7d", `unknown key "logs"`},
		"another kind":       {"kind: Retention", "kind: Zone", `kind is "Zone"`},
		"no default":         {"default: {decisions: forever, evidence: 90d, svids: 400d}\n", "", `lacks "default"`},
		"a class left out":   {"    evidence: 7d\n", "", `lacks "evidence"`},
		"hours":              {"evidence: 7d", "evidence: 168h", `"168h"`},
		"zero":               {"evidence: 7d", "evidence: 0d", `"0d"`},
		"a bare number":      {"evidence: 7d", "evidence: 7", "must be a string"},
		"a thousand years":   {"default: {decisions: forever", "default: {decisions: 99999d", `"99999d"`},
		"longer evidence":    {"evidence: 7d", "evidence: 31d", "evidence would be kept longer"},
		"evidence for ever":  {"evidence: 7d", "evidence: forever", "evidence would be kept longer"},
		"longer svids":       {"svids: 30d", "svids: 31d", "svids would be kept longer"},
		"zone in two groups": {"zones: [lab]", "zones: [vault]", `in group "cards" already`},
		"two of one name":    {"name: lab", "name: cards", `a second group "cards"`},
		"no zones":           {"zones: [lab]", "zones: []", "zones must be a list"},
		"not a name":         {"zones: [lab]", "zones: [../x]", "not a path segment"},
		"duplicate key":      {"    svids: 30d", "    svids: 30d\n    svids: 20d", "duplicate key"},
		"two documents":      {"    svids: 30d\n", "    svids: 30d\n---\nkind: Retention\n", "second document"},
		"nine groups":        {retentionDocument[strings.Index(retentionDocument, "  - {"):], nine, "9 groups"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(retentionDocument, tc.from, tc.to, 1)
			if text == retentionDocument {
				t.Fatal("nothing was replaced")
			}
			r, problems := policy.LoadRetention(policy.File{Name: "r.yaml", Bytes: []byte(text)})
			all := ""
			for _, p := range problems {
				all += p.String() + "\n"
			}
			if r != nil || !strings.Contains(all, tc.want) {
				t.Errorf("%q is not among the problems:\n%s", tc.want, all)
			}
		})
	}
}
