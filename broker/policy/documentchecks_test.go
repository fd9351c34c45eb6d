package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// requiring is a zone of tier 1 that takes SNP guests.
func requiring(rest string) string {
	return `apiVersion: zonebroker/v1
kind: Zone
name: guests
tier: 1
selectors: {any: [{group: rack-7}]}
admit: [owner, inventory]
requires: {class: B, format: [snp]` + rest + `}
`
}

// TestOneMistakeOneProblem: every mistake in what a zone wants of documents keeps it
// from loading, and is said once. What were passed over would be a check that
// nobody makes.
func TestOneMistakeOneProblem(t *testing.T) {
	for rest, says := range map[string]string{
		`same_machine: perhaps`:                                          "same_machine",
		`allow: [5]`:                                                     "must be a string",
		`evidence: {all: [5, snp]}`:                                      "must be a string",
		`evidence: {any: [tpm2.lab, snp]}`:                               "no document of format",
		`where: [snp.measurement]`:                                       "must be a mapping",
		`where: {}`:                                                      "must be a mapping",
		`where: {measurement: [aa]}`:                                     "no selector of a document",
		`where: {.measurement: [aa]}`:                                    "no selector of a document",
		`where: {snp.Measurement: [aa]}`:                                 "no selector of a document",
		`where: {snp.measurement: [null]}`:                               "must be a string",
		`where: {snp.measurement: [2026-11-20]}`:                         "must be a string",
		`where: {snp.measurement: [` + strings.Repeat("4", 256) + `]}`:   "must be a string",
		`where: {snp.measurement: ["` + strings.Repeat("a", 256) + `"]}`: "255",
		`minimum: [snp.tcb.snp]`:                                         "must be a mapping",
		`minimum: {}`:                                                    "must be a mapping",
		`minimum: {microcode: 5}`:                                        "no selector of a document",
		`minimum: {.microcode: 5}`:                                       "no selector of a document",
	} {
		_, problems := policy.Load(files(requiring(", " + rest)))
		if len(problems) != 1 || !strings.Contains(problems[0].Text, says) {
			t.Errorf("%s: %v, want %q", rest, problems, says)
		}
	}
}

// TestDecidedDocuments: what a zone says of documents is what it asks of them, and
// no more.
func TestDecidedDocuments(t *testing.T) {
	long := strings.Repeat("4", 255)
	for name, c := range map[string]struct {
		rest string
		docs []document.Facts // beside that of the guest
		want string
	}{
		"a digest of digits alone":        {`, where: {snp.digits: [` + long + `]}`, nil, ""},
		"a digest that reads as 1e55":     {`, where: {snp.exponent: [1e55]}`, nil, ""},
		"a word that reads as true":       {`, where: {snp.debug: [true]}`, nil, ""},
		"all of a list":                   {`, evidence: {all: [snp]}`, nil, ""},
		"one of a list":                   {`, evidence: {any: [jointoken, snp]}`, nil, ""},
		"a document that nobody asks for": {`, evidence: {all: [snp]}`, []document.Facts{{Format: verifier.FormatGCEIdentity}}, ""},
		"a floor":                         {`, minimum: {snp.tcb.snp: 8}`, nil, ""},
		"a floor that one value misses":   {`, minimum: {snp.tcb.both: 8}`, nil, "snp.tcb_low"},
		"a floor and no number":           {`, minimum: {snp.debug: 0}`, nil, "policy.measurement_mismatch"},
		"a floor and a number too long":   {`, minimum: {snp.digits: 8}`, nil, "policy.measurement_mismatch"},
		"nothing of age":                  {``, []document.Facts{{Format: verifier.FormatGCEIdentity, IssuedAt: now.Add(-20 * time.Hour)}}, ""},
		"a guest that is no bearer":       {``, []document.Facts{{Format: verifier.FormatGCEIdentity, Class: document.ClassB, Launched: now.Add(-20 * time.Hour)}}, ""},
		"a bearer without a start":        {``, []document.Facts{{Format: verifier.FormatK8sPSAT, Class: document.ClassC}}, ""},
		"a bearer that started long ago":  {``, []document.Facts{{Format: verifier.FormatEC2IID, Class: document.ClassC, Launched: now.Add(-20 * time.Hour)}}, "ec2.pending_time"},
	} {
		in, ev := good()
		ev.format, in.Node.AdmittedBy, in.FirstContact = verifier.FormatSNP, "owner", true
		ev.documents = []verifier.Document{{Anchored: true, Facts: document.Facts{
			Format: verifier.FormatSNP, Class: document.ClassA, Selectors: []document.Selector{
				{Name: "snp.digits", Value: long},
				{Name: "snp.exponent", Value: "1e55"},
				{Name: "snp.debug", Value: "true"},
				{Name: "snp.tcb.snp", Value: "8"},
				{Name: "snp.tcb.both", Value: "7"},
				{Name: "snp.tcb.both", Value: "9"},
			},
		}}}
		for _, f := range c.docs {
			ev.documents = append(ev.documents, verifier.Document{Facts: f})
		}
		if got := codes(load(t, requiring(c.rest)).Decide(in)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestWhatIsSaidOfValues: whoever reads a denial learns what was there, and that
// nothing was.
func TestWhatIsSaidOfValues(t *testing.T) {
	for name, c := range map[string]struct {
		selectors []document.Selector
		want      string
	}{
		"nothing":      {nil, "snp.measurement is not proved, "},
		"another":      {[]document.Selector{{Name: "snp.measurement", Value: "bb"}}, "snp.measurement is bb, "},
		"four of them": {[]document.Selector{{Name: "snp.measurement", Value: "b"}, {Name: "snp.measurement", Value: "c"}, {Name: "snp.measurement", Value: "d"}, {Name: "snp.measurement", Value: "e"}}, "snp.measurement is b, c, d, which"},
	} {
		in, ev := good()
		ev.format, in.Node.AdmittedBy = verifier.FormatSNP, "owner"
		ev.documents = []verifier.Document{{Anchored: true, Facts: document.Facts{Format: verifier.FormatSNP, Class: document.ClassA, Selectors: c.selectors}}}
		d := load(t, requiring(`, where: {snp.measurement: [aa]}`)).Decide(in)
		if len(d.Reasons) != 1 || d.Reasons[0].Code != reason.PolicyMeasurementMismatch || !strings.Contains(d.Reasons[0].Detail, c.want) {
			t.Errorf("%s: %v", name, d.Reasons)
		}
	}
}

// TestMeasuredMachines: the claim says measured where the zone compared a
// measurement, and of this machine.
func TestMeasuredMachines(t *testing.T) {
	for name, c := range map[string]struct {
		rest     string
		anchored bool
		want     bool
	}{
		"a measurement":                {`, where: {snp.measurement: [aa]}`, true, true},
		"none is compared":             {``, true, false},
		"one of what others may write": {`, where: {snp.host_data: [bb]}`, true, false},
		"that of anybody":              {`, same_machine: false, where: {snp.measurement: [aa]}`, false, false},
	} {
		in, ev := good()
		ev.format, in.Node.AdmittedBy = verifier.FormatSNP, "owner"
		ev.documents = []verifier.Document{{Anchored: c.anchored, Facts: document.Facts{
			Format: verifier.FormatSNP, Class: document.ClassA,
			Selectors: []document.Selector{{Name: "snp.measurement", Value: "aa"}, {Name: "snp.host_data", Value: "bb"}},
		}}}
		if d := load(t, requiring(c.rest)).Decide(in); !d.Allow || d.Measured != c.want {
			t.Errorf("%s: allow %v, measured %v: %s", name, d.Allow, d.Measured, codes(d))
		}
	}
}

// TestWhatPins: a hazard is taken only with a word about it, in the tiers where it
// matters; a selector with a longer name is another one.
func TestWhatPins(t *testing.T) {
	for name, c := range map[string]struct {
		tier                int
		class, format, rest string
		says                string
	}{
		"an old platform below tier 4": {2, "A", "snp", ", where: {snp.measurement: [aa]}, allow: [snp.tcb_low]", ""},
		"a floor of something else":    {4, "A", "snp", ", where: {snp.measurement: [aa]}, minimum: {snp.vmpl: 1}, allow: [snp.tcb_low]", "requires.minimum"},
		"a selector with a longer name": {
			2, "A", "azure.cvm", ", secure_boot: true, where: {azure.cvm.paravisors: [aa]}, allow: [azure.runtime_data]",
			"requires.where what it takes: azure.cvm.paravisor",
		},
		"a format that is not protected": {4, "A", "gce.akcert", ", secure_boot: true", "format has to be one of azure.cvm, cca, nitro, snp, tdx, of class A"},
	} {
		if got := lintOf(c.tier, c.class, c.format, c.rest); (c.says == "") != (got == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
}

// TestNoPolicies: before the first policies are there nothing is taken.
func TestNoPolicies(t *testing.T) {
	var none *policy.Set
	if none.Takes(verifier.FormatSNP) || none.DocumentFormats() != nil {
		t.Error("a set that is not there takes evidence")
	}
}
