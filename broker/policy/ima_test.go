package policy_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// zoneMeasured is zonePayments as a zone of tier 3.
var zoneMeasured = replace(replace(replace(zonePayments, "tier: 2", "tier: 3"), "grace: 55m", "grace: 5m"),
	"secure_boot: true", "secure_boot: true, ima: {files: [debian-12]}")

// filesDebian is a file set that allows what measured measures.
var filesDebian = `apiVersion: zonebroker/v1
kind: FileSet
name: debian-12
digests:
  - ` + digestOf("sh") + ` /bin/sh
  - ` + digestOf("init") + `
paths: ['/etc/[a-z]+\.conf']
buffers: ['\.ima']
provenance: {learnt_from: node-a}
`

func digestOf(content string) string {
	h := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(h[:])
}

// listOf returns an attested list of a boot with these entries behind the boot
// aggregate.
func listOf(t *testing.T, padded bool, entries ...build.Entry) ima.Attested {
	t.Helper()
	q := ima.Quoted{Bank: ima.SHA256, PCRs: map[int][]byte{}}
	for i := range 10 {
		q.PCRs[i] = bytes.Repeat([]byte{byte(i)}, 32)
	}
	l := build.New(append([]build.Entry{build.Aggregate(q.PCRs)}, entries...)...)
	q.PCRs[10] = build.PCR10(l.Extends())
	if padded {
		q.PCRs[10] = build.PCR10(l.PaddedExtends())
	}
	a, err := ima.Attest(ima.Segment{Raw: l.Bytes()}, ima.State{}, ima.Boot{Resets: 1}, q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// measured is a host that earns zoneMeasured.
func measured(t *testing.T) (policy.Input, *evidence) {
	t.Helper()
	in, ev := good()
	ev.list = listOf(t, false, build.File("/init", []byte("init")), build.File("/bin/sh", []byte("sh")), build.File("/etc/a.conf", []byte("x")), build.Buffer(".ima", []byte("key")))
	return in, ev
}

// TestFilesAreJudged: the first of each kind of offence, by name.
func TestFilesAreJudged(t *testing.T) {
	sh := build.File("/bin/sh", []byte("sh"))
	for name, tc := range map[string]struct {
		zone string
		list func(t *testing.T) ima.Attested
		want reason.Code
		says string
	}{
		"no_list":           {"", func(*testing.T) ima.Attested { return ima.Attested{} }, reason.IMAMissing, "PCR 10 was not quoted"},
		"unknown_file":      {"", func(t *testing.T) ima.Attested { return listOf(t, false, sh, build.File("/tmp/x", []byte("x"))) }, reason.IMADenied, "entry 2: /tmp/x (" + digestOf("x")},
		"digest_elsewhere":  {"", func(t *testing.T) ima.Attested { return listOf(t, false, build.File("/tmp/sh", []byte("sh"))) }, reason.IMADenied, "under another path"},
		"violation":         {"", func(t *testing.T) ima.Attested { return listOf(t, false, sh, build.Violation("/var/log/x")) }, reason.IMAViolation, "entry 2: /var/log/x"},
		"violation_allowed": {"violations: allow", func(t *testing.T) ima.Attested { return listOf(t, false, sh, build.Violation("/var/log/x")) }, "", ""},
		"padded":            {"", func(t *testing.T) ima.Attested { return listOf(t, true, sh) }, reason.IMADigest, "SHA-1 digests"},
		"padded_allowed":    {"padded_sha1: allow", func(t *testing.T) ima.Attested { return listOf(t, true, sh) }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			doc := zoneMeasured
			if tc.zone != "" {
				doc = replace(doc, "[debian-12]}", "[debian-12], "+tc.zone+"}")
			}
			set := load(t, doc, referenceDebian, filesDebian)
			in, ev := good()
			ev.list = tc.list(t)
			d := set.Decide(in)
			if codes(d) != string(tc.want) || d.Allow != (tc.want == "") {
				t.Fatalf("allow %t: %s, want %s", d.Allow, codes(d), tc.want)
			}
			if tc.want != "" && !strings.Contains(d.Reasons[0].Detail, tc.says) {
				t.Errorf("%q does not say %q", d.Reasons[0].Detail, tc.says)
			}
		})
	}
	in, _ := measured(t)
	set := load(t, zoneMeasured, referenceDebian, filesDebian)
	d := set.Decide(in)
	if !d.Allow || d.Files.Files != 4 || d.Files.Rules != set.FileRules("payments") || d.Files.Rules == "" {
		t.Errorf("allow %t, %+v", d.Allow, d.Files)
	}
	if plain := load(t, zonePayments, referenceDebian).Decide(in); !plain.Allow || plain.Files.Rules != "" {
		t.Errorf("a zone without IMA judges files: %+v", plain.Files)
	}
}

// TestFileRulesChanged: what other rules judged has to be sent again as a whole.
func TestFileRulesChanged(t *testing.T) {
	in, ev := measured(t)
	first := load(t, zoneMeasured, referenceDebian, filesDebian)
	state := ev.list.State(first.Decide(in).Files)
	q := ima.Quoted{Bank: ima.SHA256, PCRs: map[int][]byte{10: ev.list.PCR10()}}
	var err error
	if ev.list, err = ima.Attest(ima.Segment{First: 5}, state, ima.Boot{Resets: 1}, q); err != nil {
		t.Fatal(err)
	}
	if d := first.Decide(in); !d.Allow || d.Files.Files != 4 {
		t.Errorf("%s, %+v", codes(d), d.Files)
	}
	other := load(t, zoneMeasured, referenceDebian, replace(filesDebian, ".conf'", ".conf', '/opt/.*'"))
	if d := other.Decide(in); d.Allow || codes(d) != string(reason.IMAOffset) {
		t.Errorf("allow %t, %s", d.Allow, codes(d))
	}
}

// TestSelectionOfANode: PCR 10 is asked only of nodes that a zone with IMA may
// select.
func TestSelectionOfANode(t *testing.T) {
	set := load(t, zoneMeasured, referenceDebian, filesDebian, zoneLab)
	for name, tc := range map[string]struct {
		group string
		want  string
	}{
		"in_the_zone":    {"rack-7", "ff0700"},
		"by_its_maker":   {"bench", "ff0700"}, // the second selector names no group
		"no_zone_at_all": {"", "ff0700"},
	} {
		if got := set.SelectionOf(policy.Node{Groups: []string{tc.group}}).String(); got != tc.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	only := load(t, replace(zoneMeasured, ", {ek_manufacturer: STM, format: tpm2}", ""), referenceDebian, filesDebian, zoneLab)
	if got := only.SelectionOf(policy.Node{Groups: []string{"bench"}}).String(); got != "ff0200" {
		t.Errorf("a node of another zone: %s", got)
	}
	if got := only.SelectionOf(policy.Node{Groups: []string{"rack-7"}}).String(); got != "ff0700" {
		t.Errorf("a node of the zone: %s", got)
	}
	if got := (*policy.Set)(nil).SelectionOf(policy.Node{}).String(); got != "ff0000" {
		t.Errorf("nil: %s", got)
	}
	if only.FileRules("lab") != "" || only.FileRules("none") != "" || (*policy.Set)(nil).FileRules("payments") != "" {
		t.Error("file rules of a zone without IMA")
	}
}

// TestFileSetLint: what is wrong is named where it stands.
func TestFileSetLint(t *testing.T) {
	set := func(old, new string) []string {
		return []string{zoneMeasured, referenceDebian, replace(filesDebian, old, new)}
	}
	zone := func(old, new string) []string {
		return []string{replace(zoneMeasured, old, new), referenceDebian, filesDebian}
	}
	many := strings.Repeat("  - x\n", 16385)
	for name, tc := range map[string]struct {
		docs []string
		want []at
	}{
		"sha1":           {set(digestOf("init"), "sha1:"+strings.Repeat("0", 40)), []at{{"c.yaml:6:5", reason.PolicyInvalid}}},
		"expression":     {set(`'\.ima'`, `'a)|(b'`), []at{{"c.yaml:8:11", reason.PolicyInvalid}}},
		"twice":          {set(digestOf("init"), digestOf("init")+"\n  - "+digestOf("init")), []at{{"c.yaml:7:5", reason.PolicyInvalid}}},
		"a_number":       {set(digestOf("init"), "17"), []at{{"c.yaml:6:5", reason.PolicyInvalid}}},
		"long":           {set(digestOf("init"), strings.Repeat("x", 16<<10+1)), []at{{"c.yaml:6:5", reason.PolicyInvalid}}},
		"no_list":        {set("['\\.ima']", "x"), []at{{"c.yaml:8:10", reason.PolicyInvalid}}},
		"empty_list":     {set("['\\.ima']", "[]"), []at{{"c.yaml:8:10", reason.PolicyInvalid}}},
		"too_many":       {set("paths: ", "keys:\n"+many+"paths: "), []at{{"c.yaml:8:3", reason.PolicyInvalid}}},
		"unknown_member": {set("buffers:", "exclude:"), []at{{"c.yaml:8:1", reason.PolicyInvalid}}},
		"no_key":         {set("buffers: ['\\.ima']", "keys: [key]"), []at{{"c.yaml:8:8", reason.PolicyInvalid}}},
		"no_member":      {[]string{zoneMeasured, referenceDebian, "apiVersion: zonebroker/v1\nkind: FileSet\nname: debian-12\n"}, []at{{"c.yaml:3:7", reason.PolicyInvalid}}},
		"two_of_a_name":  {[]string{zoneMeasured, referenceDebian, filesDebian, filesDebian}, []at{{"d.yaml:3:7", reason.PolicyInvalid}}},
		"no_such_set":    {zone("[debian-12]", "[debian-13]"), []at{{"a.yaml:8:100", reason.PolicyReferenceMissing}}},
		"no_files":       {zone("files: [debian-12]", "violations: deny"), []at{{"a.yaml:8:91", reason.PolicyInvalid}}},
		"empty_files":    {zone("[debian-12]", "[]"), []at{{"a.yaml:8:99", reason.PolicyInvalid}}},
		"violations":     {zone("[debian-12]", "[debian-12], violations: 3"), []at{{"a.yaml:8:124", reason.PolicyInvalid}}},
		"violations_no":  {zone("[debian-12]", "[debian-12], violations: maybe"), []at{{"a.yaml:8:124", reason.PolicyInvalid}}},
		"padded_sha1":    {zone("[debian-12]", "[debian-12], padded_sha1: maybe"), []at{{"a.yaml:8:125", reason.PolicyInvalid}}},
	} {
		t.Run(name, func(t *testing.T) {
			loaded, problems := policy.Load(files(tc.docs...))
			if diff := cmp.Diff(tc.want, problemsOf(problems), cmp.AllowUnexported(at{})); diff != "" || loaded != nil {
				t.Errorf("problems (-want +got):\n%s%v", diff, problems)
			}
		})
	}
}

// TestFileSetsAreCanonical: they are part of what the set's name is over, and
// load again; a set of thousands of files too.
func TestFileSetsAreCanonical(t *testing.T) {
	var many strings.Builder
	for i := range 9000 {
		fmt.Fprintf(&many, "  - %s /usr/lib/%d\n", digestOf(fmt.Sprint(i)), i)
	}
	large := replace(filesDebian, "digests:\n", "digests:\n"+many.String())
	set := load(t, zoneMeasured, referenceDebian, large)
	again, err := policy.LoadCanonical(set.Canonical())
	if err != nil || again.Hash() != set.Hash() || again.FileRules("payments") != set.FileRules("payments") {
		t.Fatalf("%v", err)
	}
	if other := load(t, zoneMeasured, referenceDebian, filesDebian); other.Hash() == set.Hash() {
		t.Error("two sets of files, one name")
	}
}
