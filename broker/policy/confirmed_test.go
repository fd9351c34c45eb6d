package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
)

// zoneAsked wants two documents, one of which it gets in one of two forms.
const zoneAsked = `apiVersion: zonebroker/v1
kind: Zone
name: asked
tier: 1
selectors: {any: [{group: rack-7}]}
admit: [owner, inventory]
requires:
  class: B
  format: [tpm2, k8s.psat]
  evidence: {any: [ec2.iid, gce.identity]}
  confirmed: [k8s.psat, ec2.iid]
`

func TestConfirmedDocuments(t *testing.T) {
	for name, c := range map[string]struct {
		format    string
		documents []string // a format with ! was confirmed
		want      string   // formats that are not
	}{
		"all confirmed":                {"k8s.psat", []string{"k8s.psat!", "ec2.iid!"}, ""},
		"one is not":                   {"k8s.psat", []string{"k8s.psat", "ec2.iid!"}, "k8s.psat"},
		"both are not":                 {"k8s.psat", []string{"k8s.psat", "ec2.iid"}, "k8s.psat ec2.iid"},
		"one that need not be":         {"k8s.psat", []string{"k8s.psat!", "gce.identity"}, ""},
		"beside one that need not be":  {"k8s.psat", []string{"k8s.psat!", "gce.identity", "ec2.iid"}, "ec2.iid"},
		"one that the host lacks":      {"tpm2", []string{"gce.identity"}, ""},
		"a quote is asked of nobody":   {"tpm2", []string{"ec2.iid!"}, ""},
		"beside a quote, not answered": {"tpm2", []string{"ec2.iid"}, "ec2.iid"},
	} {
		in, ev := good()
		ev.format, ev.class, in.Node.AdmittedBy = c.format, "B", "owner"
		for _, d := range c.documents {
			format, confirmed := strings.CutSuffix(d, "!")
			ev.documents = append(ev.documents, verifier.Document{Anchored: true, Facts: document.Facts{Format: format, Class: "B", Confirmed: confirmed}})
		}
		d := load(t, zoneAsked).Decide(in)
		var says []string
		for _, r := range d.Reasons {
			if r.Code != "policy.evidence_missing" || !strings.Contains(r.Detail, "(requires.confirmed)") {
				t.Errorf("%s: %v", name, r)
			}
			_, rest, _ := strings.Cut(r.Detail, "of format ")
			format, _, _ := strings.Cut(rest, " ")
			says = append(says, format)
		}
		if got := strings.Join(d.Unconfirmed, " "); got != c.want || !slices.Equal(says, d.Unconfirmed) || d.Allow != (c.want == "") {
			t.Errorf("%s: allow %v, unconfirmed %q, said of %q, want %q", name, d.Allow, got, says, c.want)
		}
	}
}

// TestConfirmedLint: a promise that cannot be kept, or that says nothing, does not
// load.
func TestConfirmedLint(t *testing.T) {
	for name, c := range map[string]struct{ with, says string }{
		"no platform is asked about a quote": {"[tpm2]", `about documents of format "tpm2"; known are azure.imds, ec2.iid, ec2.sts, gce.identity, k8s.psat`},
		"nor about a report":                 {"[snp]", "no platform can be asked"},
		"nor about what does not exist":      {"[horoscope]", "no platform can be asked"},
		"a document that the zone never has": {"[azure.imds]", "takes no document of format azure.imds"},
		"twice":                              {"[ec2.iid, ec2.iid]", "stands twice"},
		"no list":                            {"ec2.iid", "list"},
		"no text":                            {"[{}]", "item of confirmed"},
		"one of the alternatives":            {"[gce.identity]", ""},
		"what names the node":                {"[k8s.psat]", ""},
	} {
		_, problems := policy.Load(files(replace(zoneAsked, "[k8s.psat, ec2.iid]", c.with)))
		if c.says == "" && len(problems) > 0 || c.says != "" && (len(problems) == 0 || !strings.Contains(problems[0].Text, c.says)) {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func TestConfirmedOfASet(t *testing.T) {
	set := load(t, zoneAsked, zoneLab)
	again, err := policy.LoadCanonical(set.Canonical())
	if err != nil || again.Hash() != set.Hash() {
		t.Fatal(err)
	}
	if got := again.Confirmed(); !slices.Equal(got, []string{"ec2.iid", "k8s.psat"}) {
		t.Errorf("%v", got)
	}
	open := again.Reach(map[string]string{"tpm2": "A", "ec2.iid": "C"})[0].Open
	if !slices.Contains(open, "what the platform says of k8s.psat, ec2.iid") {
		t.Errorf("%v", open)
	}
	var none *policy.Set
	if none.Confirmed() != nil {
		t.Error("formats of no policy")
	}
}
