package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// at is where a problem must be found, and with which code.
type at struct {
	place string
	code  reason.Code
}

func problemsOf(problems []policy.Problem) []at {
	var out []at
	for _, p := range problems {
		out = append(out, at{p.Place(), p.Code})
	}
	return out
}

func TestWireDocumentsLoad(t *testing.T) {
	set := load(t, zonePayments, referenceDebian, zoneLab)
	if got := set.Selection(); got != [3]byte{0xff, 0x02, 0} {
		t.Errorf("selection = %x, want PCR 0-7 and 9", got)
	}
	if !set.AnyGenuine() || !set.AdmitsOperator() {
		t.Error("the ways of admission of zone lab are not seen")
	}
	zones := set.Zones()
	if len(zones) != 2 || zones[0].Name != "lab" || zones[1].Name != "payments" {
		t.Errorf("zones = %+v", zones)
	}
	if only := load(t, zonePayments, referenceDebian); only.AnyGenuine() {
		t.Error("payments does not admit any genuine machine")
	}
}

func TestNilSetIsEmpty(t *testing.T) {
	var set *policy.Set
	if set.AnyGenuine() || set.AdmitsOperator() || set.Hash() != "" || set.Canonical() != nil || set.Zones() != nil {
		t.Error("a nil set says something")
	}
	if set.Selection() != [3]byte{0xff, 0, 0} {
		t.Errorf("selection of nil = %x", set.Selection())
	}
}

// replace returns zonePayments with one line changed, so that places in the
// tables below stay readable.
func replace(doc, old, new string) string {
	if !strings.Contains(doc, old) {
		panic("no " + old)
	}
	return strings.Replace(doc, old, new, 1)
}

// The seven bad inputs of the dependency study, and what else a YAML file can
// hide. Each stands alone in an otherwise good zone.
func TestYAMLHygiene(t *testing.T) {
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	rows := []struct {
		name, doc string
		want      []at
	}{
		{"1 unknown key", replace(zoneLab, "tier: 1", "tire: 1\ntier: 1"), []at{{"a.yaml:4:1", reason.PolicyInvalid}}},
		{"2 duplicate key", replace(zoneLab, "tier: 1", "tier: 1\ntier: 0"), []at{{"a.yaml:5:1", reason.PolicyInvalid}}},
		{"3 wrong type", replace(zoneLab, "tier: 1", "tier: [1]"), []at{{"a.yaml:4:7", reason.PolicyInvalid}}},
		{"4 alias bomb", replace(zoneLab, "[any_genuine, operator]", "[&a operator, *a, *a]"), []at{
			{"a.yaml:6:9", reason.PolicyInvalid}, {"a.yaml:6:22", reason.PolicyInvalid}, {"a.yaml:6:26", reason.PolicyInvalid},
		}},
		{"5 second document", zoneLab + "---\nkind: Zone\n", []at{{"a.yaml:7:1", reason.PolicyInvalid}}},
		{"5 second document empty", zoneLab + "---\n", []at{{"a.yaml:7:1", reason.PolicyInvalid}}},
		{"6 yes is not true", replace(zonePayments, "secure_boot: true", "secure_boot: yes"), []at{{"a.yaml:8:80", reason.PolicyInvalid}}},
		{"6 True is not true", replace(zonePayments, "secure_boot: true", "secure_boot: True"), []at{{"a.yaml:8:80", reason.PolicyInvalid}}},
		{"7 key in other case", replace(zoneLab, "tier: 1", "Tier: 1\ntier: 1"), []at{{"a.yaml:4:1", reason.PolicyInvalid}}},
		{"anchor without alias", replace(zoneLab, "tier: 1", "tier: &x 1"), []at{{"a.yaml:4:7", reason.PolicyInvalid}}},
		{"merge key", replace(zoneLab, "tier: 1", "<<: {tier: 1}\ntier: 1"), []at{{"a.yaml:4:1", reason.PolicyInvalid}}},
		{"tag", replace(zoneLab, "name: lab", "name: !!str lab"), []at{{"a.yaml:3:7", reason.PolicyInvalid}}},
		{"local tag", replace(zoneLab, "name: lab", "name: !x lab"), []at{{"a.yaml:3:7", reason.PolicyInvalid}, {"a.yaml:3:7", reason.PolicyInvalid}}},
		{"non-specific tag", replace(zoneLab, "name: lab", "name: ! lab"), []at{{"a.yaml:3:7", reason.PolicyInvalid}}},
		{"tagged mapping", replace(zoneLab, "{any:", "!!map {any:"), []at{{"a.yaml:5:12", reason.PolicyInvalid}}},
		{"tagged block mapping", replace(zoneLab, "selectors: {", "selectors: !!map\n  {"), []at{{"a.yaml:5:12", reason.PolicyInvalid}}},
		{"tagged block in the next line", replace(zoneLab, "{any: [{group: bench}]}", "\n  !!map\n  any: [{group: bench}]"), []at{{"a.yaml:6:3", reason.PolicyInvalid}}},
		{"name that looks like a number", replace(zoneLab, "name: lab", "name: 12e4"), []at{{"a.yaml:3:7", reason.PolicyInvalid}}},
		{"tier in another base", replace(zoneLab, "tier: 1", "tier: 0x1"), []at{{"a.yaml:4:7", reason.PolicyInvalid}}},
		{"null", replace(zoneLab, "tier: 1", "tier:"), []at{{"a.yaml:4:6", reason.PolicyInvalid}}},
		{"key that is a list", zoneLab + "? [a]\n: b\n", []at{{"a.yaml:7:3", reason.PolicyInvalid}}},
		{"too deep", zoneLab + "workloads: " + deep + "\n", []at{{"a.yaml:7:13", reason.PolicyInvalid}, {"a.yaml:7:43", reason.PolicyInvalid}}},
		{"not UTF-8", zoneLab + "#\xff\n", []at{{"a.yaml:1:1", reason.PolicyInvalid}}},
		{"UTF-16", "\xff\xfe" + strings.Join(strings.Split(zoneLab, ""), "\x00") + "\x00", []at{{"a.yaml:1:1", reason.PolicyInvalid}}},
		{"duration that is a list", zoneLab + "evidence: {max_age: [5m]}\n", []at{{"a.yaml:7:21", reason.PolicyInvalid}}},
		{"empty file", "", []at{{"a.yaml:1:1", reason.PolicyInvalid}}},
		{"only a comment", "# nothing\n", []at{{"a.yaml:1:1", reason.PolicyInvalid}}},
		{"not a mapping", "- a\n", []at{{"a.yaml:1:1", reason.PolicyInvalid}}},
		{"not YAML", "a: b\n c: d\n", []at{{"a.yaml:2:1", reason.PolicyInvalid}}},
		{"list without end", replace(zoneLab, "any_genuine, operator", strings.Repeat("operator, ", 1025)), []at{{"a.yaml:6:8", reason.PolicyInvalid}}},
		{"1 MiB and a byte", zoneLab + "#" + strings.Repeat("x", policy.MaxFile) + "\n", []at{{"a.yaml:1:1", reason.PolicyInvalid}}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			docs := []string{r.doc}
			if strings.Contains(r.doc, "debian-12-6.1") {
				docs = append(docs, referenceDebian)
			}
			set, problems := policy.Load(files(docs...))
			if diff := cmp.Diff(r.want, problemsOf(problems), cmp.AllowUnexported(at{})); diff != "" {
				t.Errorf("problems (-want +got):\n%s%v", diff, problems)
			}
			if set != nil {
				t.Error("a set with a problem is in force")
			}
		})
	}
}

// A file within the limits must not keep the broker busy, whatever it holds.
func TestHostileFilesEndSoon(t *testing.T) {
	fill := func(head, item, tail string) string {
		return head + strings.Repeat(item, (policy.MaxFile-len(head)-len(tail))/len(item)) + tail
	}
	for name, doc := range map[string]string{
		"one line of scalars": fill("[", "a,", "a]"),
		"nested lists":        fill("", "[", ""),
		"nested keys":         fill("", "? ", ""),
		"equal keys":          fill("{", "a: 1, ", "}"),
		"quoted line":         fill("a: \"", "\\n", "\""),
		"anchors":             fill("[&a x", ", *a", "]"),
		"comments":            fill("a: b\n", "# c\n", ""),
		"documents":           fill("", "---\n", ""),
	} {
		start := time.Now()
		if set, problems := policy.Load(files(doc)); set != nil || len(problems) == 0 {
			t.Errorf("%s: accepted", name)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s took %s", name, took)
		} else {
			t.Logf("%s: %s", name, took)
		}
	}
}

func TestZoneNamedNoIsAString(t *testing.T) {
	set := load(t, replace(zoneLab, "name: lab", "name: no"))
	if got := set.Zones()[0].Name; got != "no" {
		t.Errorf("name = %q", got)
	}
}

// One run of lint shows everything, in the order of files, lines and columns.
func TestAllProblemsAtOnce(t *testing.T) {
	_, problems := policy.Load(files(
		"kind: Zone\nname: a/b\ntier: 7\npriority: -1\nselectors: {any: []}\nadmit: [any_genuine, friend]\n",
		strings.Replace(referenceDebian, "kind: ReferenceSet", "kind: Exception", 1),
	))
	want := []at{
		{"a.yaml:1:1", reason.PolicyInvalid},         // apiVersion
		{"a.yaml:2:7", reason.PolicyIdentityInvalid}, // name
		{"a.yaml:3:7", reason.PolicyInvalid},         // tier
		{"a.yaml:4:11", reason.PolicyInvalid},        // priority
		{"a.yaml:5:18", reason.PolicyInvalid},        // any
		{"a.yaml:6:22", reason.PolicyInvalid},        // friend
		{"b.yaml:2:7", reason.PolicyInvalid},         // kind
	}
	if diff := cmp.Diff(want, problemsOf(problems), cmp.AllowUnexported(at{})); diff != "" {
		t.Errorf("problems (-want +got):\n%s%v", diff, problems)
	}
}

func TestT49_names(t *testing.T) {
	for name, value := range map[string]string{
		"parent":           `"../admin"`,
		"dot":              `"."`,
		"dots":             `".."`,
		"slash":            `"a/b"`,
		"percent escape":   `"a%2fb"`,
		"unicode":          `"zahlung€"`,
		"unicode look":     `"pаyments"`, // Cyrillic а
		"space":            `"a b"`,
		"newline":          `"a\nb"`,
		"empty":            `""`,
		"too long":         strings.Repeat("x", 129),
		"reserved zone":    `zone`,
		"reserved trial":   `trial`,
		"reserved exc":     `exception`,
		"reserved quarant": `quarantine`,
		"reserved broker":  `broker`,
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := policy.Load(files(replace(zoneLab, "name: lab", "name: "+value)))
			want := []at{{"a.yaml:3:7", reason.PolicyIdentityInvalid}}
			if diff := cmp.Diff(want, problemsOf(problems), cmp.AllowUnexported(at{})); diff != "" {
				t.Errorf("zone name: %s", diff)
			}
			_, problems = policy.Load(files(zoneLab + "workloads: [{uid: 1, name: " + value + "}]\n"))
			want = []at{{"a.yaml:7:28", reason.PolicyIdentityInvalid}}
			if diff := cmp.Diff(want, problemsOf(problems), cmp.AllowUnexported(at{})); diff != "" {
				t.Errorf("workload name: %s", diff)
			}
		})
	}
}

func TestZoneLint(t *testing.T) {
	lab := func(old, new string) string { return replace(zoneLab, old, new) }
	pay := func(old, new string) string { return replace(zonePayments, old, new) }
	rows := []struct {
		name, doc, place string
		code             reason.Code
	}{
		{"any_genuine above tier 1", pay("[inventory, join_token", "[any_genuine, join_token"), "a.yaml:7:9", reason.PolicyInvalid},
		{"tier 4 is for confidential VMs", replace(pay("tier: 2", "tier: 4"), "grace: 55m", "grace: 0"), "a.yaml:8:11", reason.PolicyInvalid},
		{"tier 3 without IMA", replace(pay("tier: 2", "tier: 3"), "grace: 55m", "grace: 0"), "a.yaml:8:11", reason.PolicyInvalid},
		{"tier 5", lab("tier: 1", "tier: 5"), "a.yaml:4:7", reason.PolicyInvalid},
		{"tier 2 that requires nothing", pay("references: [debian-12-6.1], secure_boot: true", "secure_boot: false"), "a.yaml:8:11", reason.PolicyInvalid},
		{"no admission", lab("admit: [any_genuine, operator]\n", ""), "a.yaml:1:1", reason.PolicyInvalid},
		{"empty admission", lab("[any_genuine, operator]", "[]"), "a.yaml:6:8", reason.PolicyInvalid},
		{"admission twice", lab("any_genuine, operator", "operator, operator"), "a.yaml:6:19", reason.PolicyInvalid},
		{"no selectors", lab("selectors: {any: [{group: bench}]}\n", ""), "a.yaml:1:1", reason.PolicyInvalid},
		{"selector for everybody", lab("{group: bench}", "{}"), "a.yaml:5:19", reason.PolicyInvalid},
		{"selector of a bad node id", lab("group: bench", "node: NODE"), "a.yaml:5:26", reason.PolicyIdentityInvalid},
		{"class D", pay("class: A", "class: D"), "a.yaml:8:19", reason.PolicyInvalid},
		{"reports whose measurement nobody compares", pay("format: [tpm2]", "format: [snp]"), "a.yaml:8:11", reason.PolicyInvalid},
		{"lab format", pay("format: [tpm2]", "format: [tpm2.lab]"), "a.yaml:8:31", reason.PolicyInvalid},
		{"unknown format", pay("format: [tpm2]", "format: [tmp2]"), "a.yaml:8:31", reason.PolicyInvalid},
		{"lab zone of tier 1", zoneSoft("tier: 0", "tier: 1"), "a.yaml:5:6", reason.PolicyInvalid},
		{"lab zone that admits hardware", zoneSoft("admit: [lab]", "admit: [lab, inventory]"), "a.yaml:7:14", reason.PolicyInvalid},
		{"lab zone of a hardware format", zoneSoft("format: [tpm2.lab]", "format: [tpm2]"), "a.yaml:8:21", reason.PolicyInvalid},
		{"hardware zone that admits software", lab("admit: [any_genuine", "admit: [lab"), "a.yaml:6:9", reason.PolicyInvalid},
		{"max_age 0", pay("max_age: 5m", "max_age: 0s"), "a.yaml:9:21", reason.PolicyInvalid},
		{"max_age negative", pay("max_age: 5m", "max_age: -5m"), "a.yaml:9:21", reason.PolicyInvalid},
		{"max_age of half a second", pay("max_age: 5m", "max_age: 1.5s"), "a.yaml:9:21", reason.PolicyInvalid},
		{"max_age without unit", pay("max_age: 5m", "max_age: 300"), "a.yaml:9:21", reason.PolicyInvalid},
		{"x509_ttl above a day", pay("x509_ttl: 1h", "x509_ttl: 25h"), "a.yaml:10:19", reason.PolicyInvalid},
		{"jwt_ttl above max_age", pay("jwt_ttl: 5m", "jwt_ttl: 6m"), "a.yaml:10:32", reason.PolicyInvalid},
		{"jwt_ttl above its own limit", replace(pay("jwt_ttl: 5m", "jwt_ttl: 20m"), "max_age: 5m", "max_age: 1h"), "a.yaml:10:32", reason.PolicyInvalid},
		{"grace above the tier's", pay("grace: 55m", "grace: 56m"), "a.yaml:10:43", reason.PolicyInvalid},
		{"audience wildcard", pay(`"payments-api"`, `"*"`), "a.yaml:10:60", reason.PolicyInvalid},
		{"audience with a space", pay(`"payments-api"`, `"payments api"`), "a.yaml:10:60", reason.PolicyInvalid},
		{"audience too long", pay(`"payments-api"`, `"`+strings.Repeat("x", 256)+`"`), "a.yaml:10:60", reason.PolicyInvalid},
		{"workload for every caller", pay("name: checkout, uid: 1001, path: /usr/bin/checkout, ", "name: checkout, "), "a.yaml:12:5", reason.PolicyInvalid},
		{"workload path trick", pay("/usr/bin/checkout", "/usr/bin/../checkout"), "a.yaml:12:39", reason.PolicyInvalid},
		{"workload path of everything", pay("/usr/bin/checkout", "/"), "a.yaml:12:39", reason.PolicyInvalid},
		{"workload path of somewhere", pay("/usr/bin/checkout", "bin/checkout"), "a.yaml:12:39", reason.PolicyInvalid},
		{"group too long", pay("rack-7}, {ek", strings.Repeat("x", 256)+"}, {ek"), "a.yaml:6:27", reason.PolicyInvalid},
		{"group with a control character", pay("rack-7}, {ek", `"rack\x1b7"}, {ek`), "a.yaml:6:27", reason.PolicyInvalid},
		{"other apiVersion", pay("zonebroker/v1", "zonebroker/v2"), "a.yaml:1:13", reason.PolicyInvalid},
		{"workload uid of nobody", pay("uid: 1001", "uid: 4294967295"), "a.yaml:12:27", reason.PolicyInvalid},
		{"T50_reference missing", pay("references: [debian-12-6.1]", "references: [debian-12-6.1, no-such]"), "a.yaml:8:66", reason.PolicyReferenceMissing},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			_, problems := policy.Load(files(r.doc, referenceDebian))
			if diff := cmp.Diff([]at{{r.place, r.code}}, problemsOf(problems), cmp.AllowUnexported(at{})); diff != "" {
				t.Errorf("problems (-want +got):\n%s%v", diff, problems)
			}
		})
	}
}

// zoneSoft is a zone of software keys, with one line changed.
func zoneSoft(old, new string) string {
	return replace(`apiVersion: zonebroker/v1
kind: Zone
name: load
tier: 0
lab: true
selectors: {any: [{group: load}]}
admit: [lab]
requires: {format: [tpm2.lab]}
`, old, new)
}

func TestLabZoneLoads(t *testing.T) {
	load(t, zoneSoft("tier: 0", "tier: 0"))
	load(t, zoneSoft("requires: {format: [tpm2.lab]}\n", ""))
}

func TestBindingClassesParse(t *testing.T) {
	for _, class := range []string{"A", "B", "C"} {
		load(t, replace(zonePayments, "class: A", "class: "+class), referenceDebian)
	}
}

func TestReferenceLint(t *testing.T) {
	ref := func(old, new string) string { return replace(referenceDebian, old, new) }
	pcr := func(i int) string { return ref("{0: [", fmt.Sprintf("{%d: [", i)) }
	rows := []struct{ name, doc, place string }{
		{"tpm-100_PCR 16 is resettable", pcr(16), "b.yaml:5:8"},
		{"tpm-100_PCR 23 is resettable", pcr(23), "b.yaml:5:8"},
		{"PCR 10 changes with every file", pcr(10), "b.yaml:5:8"},
		{"PCR 17 waits for dynamic launch", pcr(17), "b.yaml:5:8"},
		{"PCR 24", pcr(24), "b.yaml:5:8"},
		{"PCR with a leading zero", ref("{0: [", "{00: ["), "b.yaml:5:8"},
		{"same PCR twice", ref("{0: [", "{4: ["), "b.yaml:5:79"},
		{"PCR list empty", ref("0: ["+digest0+"]", "0: []"), "b.yaml:5:11"},
		{"digest short", ref(digest0, digest0[2:]), "b.yaml:5:12"},
		{"digest in capitals", ref(digest0, strings.ToUpper(digest0)), "b.yaml:5:12"},
		{"digest twice", ref(initrd, kernel), "b.yaml:6:80"},
		{"bank sha1", ref("bank: sha256", "bank: sha1"), "b.yaml:4:7"},
		{"validity backwards", ref("2027-11-20", "2025-11-20"), "b.yaml:8:8"},
		{"validity not a time", ref("2027-11-20T00:00:00Z", "tomorrow"), "b.yaml:8:54"},
	}
	for _, systemd := range []int{11, 12, 13, 15} {
		if set := load(t, zonePayments, pcr(systemd)); !set.Selection().Has(systemd) {
			t.Errorf("PCR %d is not asked for", systemd)
		}
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			_, problems := policy.Load(files(zonePayments, r.doc))
			if diff := cmp.Diff([]at{{r.place, reason.PolicyInvalid}}, problemsOf(problems), cmp.AllowUnexported(at{})); diff != "" {
				t.Errorf("problems (-want +got):\n%s%v", diff, problems)
			}
			if strings.HasPrefix(r.name, "tpm-100") && !strings.Contains(problems[0].Text, "resettable") {
				t.Errorf("text = %q", problems[0].Text)
			}
		})
	}
	empty := "apiVersion: zonebroker/v1\nkind: ReferenceSet\nname: debian-12-6.1\nbank: sha256\n"
	if _, problems := policy.Load(files(zonePayments, empty)); len(problems) != 1 || problems[0].Place() != "b.yaml:3:7" {
		t.Errorf("a reference set that accepts every machine: %v", problems)
	}
	load(t, zonePayments, ref("{0: [", "{14: ["))
}

func TestT50_emptySetIsMissing(t *testing.T) {
	for name, fs := range map[string][]policy.File{"no files": nil, "references only": files(referenceDebian)} {
		set, problems := policy.Load(fs)
		if set != nil || len(problems) != 1 || problems[0].Code != reason.PolicyMissing {
			t.Errorf("%s: set %v, problems %v", name, set, problems)
		}
	}
}

func TestDuplicatesAndOverlaps(t *testing.T) {
	second := replace(replace(zoneLab, "name: lab", "name: lab-2"), "{any: [{group: bench}]}", "{any: [{group: attic}, {group: bench, format: tpm2}]}")
	rows := []struct {
		name  string
		docs  []string
		place string
	}{
		{"same zone twice", []string{zoneLab, zoneLab}, "b.yaml:3:7"},
		{"same reference set twice", []string{zonePayments, referenceDebian, referenceDebian}, "c.yaml:3:7"},
		{"equal selectors", []string{zoneLab, replace(zoneLab, "name: lab", "name: lab-2")}, "b.yaml:5:19"},
		{"one selector inside another", []string{zoneLab, second}, "b.yaml:5:35"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			_, problems := policy.Load(files(r.docs...))
			if diff := cmp.Diff([]at{{r.place, reason.PolicyInvalid}}, problemsOf(problems), cmp.AllowUnexported(at{})); diff != "" {
				t.Errorf("problems (-want +got):\n%s%v", diff, problems)
			}
		})
	}
	load(t, zoneLab, second+"priority: 1\n")
	wider := replace(replace(zoneLab, "name: lab", "name: wider"), "{group: bench}", "{group: bench, format: tpm2}")
	if _, problems := policy.Load(files(wider, zoneLab)); len(problems) != 1 || problems[0].Place() != "b.yaml:5:19" {
		t.Errorf("a later selector that covers an earlier one: %v", problems)
	}
	broken := replace(replace(zoneLab, "name: lab", "name: broken"), "{group: bench}", "{group: 7}")
	if _, problems := policy.Load(files(zoneLab, broken)); len(problems) != 1 || problems[0].Place() != "b.yaml:5:27" {
		t.Errorf("a selector that does not parse is not compared: %v", problems)
	}
}
