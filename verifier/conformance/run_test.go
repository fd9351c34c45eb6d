package conformance_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

const header = "path\tkind\tverdict\tcode\tcontext\n"

// folder is a folder of vectors in memory.
func folder(manifest string, files map[string]string) fs.FS {
	out := fstest.MapFS{conformance.Manifest: {Data: []byte(manifest)}}
	for name, content := range files {
		out[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return out
}

// one judges a folder of one case.
func one(t *testing.T, row string, files map[string]string) conformance.Result {
	t.Helper()
	report, err := conformance.Run(folder(header+row+"\n", files), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Results) != 1 {
		t.Fatalf("%d results", len(report.Results))
	}
	return report.Results[0]
}

func TestManifestIsStrict(t *testing.T) {
	for name, c := range map[string]struct{ manifest, want string }{
		"empty":            {"", "MANIFEST.tsv:1: the file is empty"},
		"no header":        {"a\teventlog\taccept\t\t\n", "MANIFEST.tsv:1: the header has to be"},
		"columns swapped":  {"kind\tpath\tverdict\tcode\tcontext\n", "MANIFEST.tsv:1: the header"},
		"too few columns":  {header + "a\teventlog\taccept\t\n", "MANIFEST.tsv:2: 4 columns where the header has 5"},
		"too many columns": {header + "a\teventlog\taccept\t\t\tx\n", "MANIFEST.tsv:2: 6 columns"},
		"empty line":       {header + "\n", "MANIFEST.tsv:2: 1 columns"},
		"above":            {header + "../a\teventlog\taccept\t\t\n", "MANIFEST.tsv:2: path has to lie below"},
		"absolute":         {header + "/a\teventlog\taccept\t\t\n", "MANIFEST.tsv:2: path"},
		"no kind":          {header + "a\t\taccept\t\t\n", "MANIFEST.tsv:2: kind is missing"},
		"verdict":          {header + "a\teventlog\tmaybe\t\t\n", "MANIFEST.tsv:2: verdict has to be"},
		"no code":          {header + "a\teventlog\treject\t\t\n", "MANIFEST.tsv:2: code is none"},
		"unknown code":     {header + "a\teventlog\treject\teventlog.odd\t\n", "MANIFEST.tsv:2: code is none"},
		"code of accept":   {header + "a\teventlog\taccept\teventlog.truncated\t\n", "MANIFEST.tsv:2: a code belongs"},
		"pair":             {header + "a\teventlog\taccept\t\tbank\n", `MANIFEST.tsv:2: context is not key=value, joined by semicolons: "bank"`},
		"key twice":        {header + "a\teventlog\taccept\t\tbank=sha256;bank=sha256\n", `MANIFEST.tsv:2: context names "bank" twice`},
		"sum":              {strings.TrimSuffix(header, "\n") + "\twhat\tsource\tcommit\tlicense\tsha256\na\teventlog\taccept\t\t\t\t\t\t\t12\n", "MANIFEST.tsv:2: sha256"},
		"two lines":        {header + "a\teventlog\tmaybe\t\t\nb\teventlog\tmaybe\t\t\n", "MANIFEST.tsv:3: verdict"},
		"binary":           {header + "a\x00\teventlog\taccept\t\t\n", "not text"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := conformance.ParseManifest([]byte(c.manifest))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestManifestWithAllColumns(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	raw := "path\tkind\tverdict\tcode\tcontext\twhat\tsource\tcommit\tlicense\tsha256\tnote\r\n" +
		"a/b\tquote\treject\ttpm2.pcr.bank\tbank=sha1;pcr.3=ab\tw\ts\tc\tl\t" + sum + "\tn\r\n" +
		"c\ttrust\tsupport\t\t\tw\ts\t-\tl\t-\t\r\n"
	rows, err := conformance.ParseManifest([]byte(raw))
	if err != nil || len(rows) != 2 {
		t.Fatal(err, rows)
	}
	if r := rows[0]; r.Line != 2 || r.Path != "a/b" || r.Code != "tpm2.pcr.bank" || r.Context != "bank=sha1;pcr.3=ab" || r.Sum != sum {
		t.Errorf("%+v", r)
	}
	if rows[1].Sum != "" {
		t.Errorf("%+v", rows[1])
	}
}

func TestStatus(t *testing.T) {
	log := string(build.Machine{}.Log().Bytes())
	files := map[string]string{"log": log, "cut": log[:len(log)-1]}
	for name, c := range map[string]struct {
		row, got, detail string
		status           conformance.Status
	}{
		"same accept":     {"log\teventlog\taccept\t\tcheck=replay", "accept", "", conformance.Same},
		"same reject":     {"cut\teventlog\treject\teventlog.truncated\tcheck=replay", "eventlog.truncated", "the log ends", conformance.Same},
		"accept, refused": {"cut\teventlog\taccept\t\tcheck=replay", "eventlog.truncated", "the log ends", conformance.Differs},
		"other code":      {"cut\teventlog\treject\teventlog.spec_id\tcheck=replay", "eventlog.truncated", "the log ends", conformance.Differs},
		"reject, passed":  {"log\teventlog\treject\teventlog.spec_id\tcheck=replay", "accept", "", conformance.Differs},
		"kind":            {"log\tsgx\taccept\t\t", "", "no verifier", conformance.NotImplemented},
		"no file":         {"gone\teventlog\taccept\t\t", "", "gone does not exist", conformance.Broken},
		"value":           {"log\teventlog\taccept\t\tcheck=repaly", "", "check=repaly is not known here", conformance.Broken},
		"bank":            {"log\teventlog\taccept\t\tbank=sha3", "", "bank has to be", conformance.Broken},
		"unknown key":     {"log\teventlog\taccept\t\tbanks=sha256", "", `an unknown key: "banks"`, conformance.Broken},
		"pcr 24":          {"log\teventlog\taccept\t\tpcr.24=00", "", "an unknown key", conformance.Broken},
		"pcr 07":          {"log\teventlog\taccept\t\tpcr.07=00", "", "an unknown key", conformance.Broken},
		"fact":            {"log\teventlog\taccept\t\tcheck=secure_boot;secure_boot=off", "accept", "", conformance.Differs},
		"fact that holds": {"log\teventlog\taccept\t\tcheck=secure_boot;secure_boot=on", "accept", "", conformance.Same},
		"fact of another": {"log\teventlog\taccept\t\tcheck=replay;entries=4", "accept", "", conformance.Differs},
	} {
		t.Run(name, func(t *testing.T) {
			r := one(t, c.row, files)
			if r.Status != c.status || r.Got != c.got || !strings.Contains(r.Detail, c.detail) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestReport(t *testing.T) {
	log := string(build.Machine{}.Log().Bytes())
	dir := folder(header+
		"log\teventlog\taccept\t\tcheck=replay\n"+
		"log\teventlog\treject\teventlog.spec_id\t\n"+
		"log\teventlog\treject\teventlog.truncated\tcheck=replay\n"+
		"log\tsupport\tsupport\t\t\n"+
		"log\tteapot\treject\ttpm2.pcr.bank\t\n", map[string]string{"log": log})
	meant := []conformance.Override{{Line: 2, Path: "log", Context: "", Wanted: "eventlog.spec_id", Ours: "accept", Reason: "the record is fine"}}
	report, err := conformance.Run(dir, meant)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(report.Differences()); n != 2 || report.Companions != 1 || len(report.Results) != 4 {
		t.Errorf("%d differ: %+v", n, report)
	}
	want := []conformance.Total{
		{Kind: "eventlog", Verdict: "accept", Cases: 1, Same: 1},
		{Kind: "eventlog", Verdict: "reject", Cases: 2, Differs: 1, Overridden: 1},
		{Kind: "teapot", Verdict: "reject", Cases: 1, NotImplemented: 1},
	}
	got := report.Totals()
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
	meant[0].Ours = "eventlog.truncated"
	if _, err := conformance.Run(dir, meant); err == nil || !strings.Contains(err.Error(), "no case differs in this way") {
		t.Errorf("an override without a difference: %v", err)
	}
}

func TestRunWithoutManifest(t *testing.T) {
	if _, err := conformance.Run(fstest.MapFS{}, nil); err == nil {
		t.Error("a folder without manifest was judged")
	}
	_, err := conformance.Run(folder(header+"a\tx\todd\t\t\n", nil), nil)
	if e, ok := errors.AsType[*conformance.LineError](err); ok && e.Line != 2 || err == nil {
		t.Error(err)
	}
}

func TestOverridesAreStrict(t *testing.T) {
	const head = "path\tcontext\twanted\tours\treason\n"
	for name, c := range map[string]struct{ raw, want string }{
		"header":    {"path\tcontext\twanted\tours\n", "x.tsv:1: the header"},
		"no reason": {head + "a\tb\taccept\teventlog.truncated\t \n", "x.tsv:2: reason is missing"},
		"columns":   {head + "a\tb\n", "x.tsv:2: 2 columns"},
	} {
		if _, err := conformance.ParseOverrides("x.tsv", []byte(c.raw)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	list, err := conformance.ParseOverrides("x.tsv", []byte(head+"a\tb=c\taccept\teventlog.truncated\twhy\n"))
	if err != nil || len(list) != 1 || list[0] != (conformance.Override{Line: 2, Path: "a", Context: "b=c", Wanted: "accept", Ours: "eventlog.truncated", Reason: "why"}) {
		t.Error(list, err)
	}
}

// TestFileOfAnotherSum: a stale manifest is said, and refuses nothing.
func TestFileOfAnotherSum(t *testing.T) {
	long := strings.TrimSuffix(header, "\n") + "\twhat\tsource\tcommit\tlicense\tsha256\n"
	log := string(build.Machine{}.Log().Bytes())
	report, err := conformance.Run(folder(long+"log\teventlog\taccept\t\t\t\t\t\t\t"+strings.Repeat("00", 32)+"\n", map[string]string{"log": log}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := report.Results[0]; r.Status != conformance.Same || r.Note == "" {
		t.Errorf("%+v", r)
	}
}

// TestTotalsInOrder: two runs over the same vectors print the same table.
func TestTotalsInOrder(t *testing.T) {
	var r conformance.Report
	for i := range 20 {
		r.Results = append(r.Results, conformance.Result{Kind: string(rune('t' - i/2)), Wanted: []string{"reject", conformance.Accept}[i%2]})
	}
	for i, got := range r.Totals() {
		want := conformance.Total{Kind: string(rune('k' + i/2)), Verdict: []string{conformance.Accept, conformance.Reject}[i%2], Cases: 1}
		if got != want {
			t.Errorf("%d: %+v, want %+v", i, got, want)
		}
	}
}
