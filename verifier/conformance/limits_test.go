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

// TestFilesOfAFolder: a row whose file cannot be read in full is broken, and so
// neither an accepted case nor a refused one.
func TestFilesOfAFolder(t *testing.T) {
	const largest = 32 << 20
	files := map[string]string{"dir/x": "x", "large": strings.Repeat("x", largest+1), "full": strings.Repeat("x", largest)}
	for path, want := range map[string]string{
		"dir":   "dir is not a file",
		"large": "larger than 32 MiB",
		"gone":  "gone does not exist",
	} {
		if r := one(t, path+"\teventlog\taccept\t\t", files); r.Status != conformance.Broken || !strings.Contains(r.Detail, want) {
			t.Errorf("%s: %+v", path, r)
		}
	}
	if r := one(t, "full\teventlog\taccept\t\t", files); r.Status != conformance.Differs {
		t.Errorf("the largest file was not judged: %+v", r)
	}
	if _, err := conformance.Run(fstest.MapFS{conformance.Manifest: {Mode: fs.ModeDir}}, nil); err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("a folder as manifest: %v", err)
	}
}

// TestTablesAreBounded: by bytes, by lines, and in what is said of their errors.
func TestTablesAreBounded(t *testing.T) {
	const largest, most = 8 << 20, 100_000
	row := "a\teventlog\taccept\t\t\n"
	rows := header + strings.Repeat(row, most-1)
	if got, err := conformance.ParseManifest([]byte(rows)); err != nil || len(got) != most-1 {
		t.Errorf("%d rows: %v", len(got), err)
	}
	if _, err := conformance.ParseManifest([]byte(rows + row)); err == nil || !strings.Contains(err.Error(), "MANIFEST.tsv:100001: more lines") {
		t.Errorf("a line too many: %v", err)
	}
	long := header + "a\teventlog\taccept\t\tas="
	long += strings.Repeat("x", largest-len(long))
	if got, err := conformance.ParseManifest([]byte(long)); err != nil || len(got) != 1 {
		t.Errorf("the largest manifest: %v", err)
	}
	if _, err := conformance.ParseManifest([]byte(long + "x")); err == nil || !strings.Contains(err.Error(), "larger than 8 MiB") {
		t.Errorf("a byte too many: %v", err)
	}
	bad := "a\teventlog\tmaybe\t\t\n"
	for n, want := range map[int]string{1: "support", 10: "MANIFEST.tsv:11: ", 11: "\nand 1 more", 12: "\nand 2 more"} {
		_, err := conformance.ParseManifest([]byte(header + strings.Repeat(bad, n)))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "more") != (n > 10) {
			t.Errorf("%d bad lines: %v", n, err)
		} else if got := strings.Count(err.Error(), "\n"); got != min(n-1, 10) {
			t.Errorf("%d bad lines are told in %d: %q", n, got+1, err)
		}
	}
}

// TestOverrideIsOfOneDifference: it explains the case that it names in every
// member, and none that is as it should be.
func TestOverrideIsOfOneDifference(t *testing.T) {
	log := string(build.Machine{}.Log().Bytes())
	dir := folder(header+
		"log\teventlog\treject\teventlog.spec_id\tcheck=replay\n"+
		"log\teventlog\taccept\t\t\n", map[string]string{"log": log})
	good := conformance.Override{Line: 7, Path: "log", Context: "check=replay", Wanted: "eventlog.spec_id", Ours: "accept", Reason: "fine"}
	report, err := conformance.Run(dir, []conformance.Override{good})
	if err != nil || report.Results[0].Status != conformance.Overridden || report.Results[0].Reason != "fine" || len(report.Differences()) != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	for name, change := range map[string]func(o *conformance.Override){
		"path":    func(o *conformance.Override) { o.Path = "other" },
		"context": func(o *conformance.Override) { o.Context = "" },
		"wanted":  func(o *conformance.Override) { o.Wanted = "eventlog.truncated" },
		"ours":    func(o *conformance.Override) { o.Ours = "eventlog.truncated" },
		"same":    func(o *conformance.Override) { o.Context, o.Wanted = "", "accept" },
	} {
		o := good
		change(&o)
		report, err := conformance.Run(dir, []conformance.Override{o})
		if err == nil || !strings.Contains(err.Error(), "overrides:7: no case differs in this way") || len(report.Results) != 0 {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
	}
}

// TestSumOfAFile: the right sum is silent in either case of its digits, and a
// file that is not there is told once.
func TestSumOfAFile(t *testing.T) {
	long := strings.TrimSuffix(header, "\n") + "\twhat\tsource\tcommit\tlicense\tsha256\n"
	const sum = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" // of "x"
	for _, given := range []string{sum, strings.ToUpper(sum), "-", ""} {
		for _, path := range []string{"x", "gone"} {
			report, err := conformance.Run(folder(long+path+"\tnitro\taccept\t\t\t\t\t\t\t"+given+"\n", map[string]string{"x": "x"}), nil)
			if err != nil || report.Results[0].Note != "" {
				t.Errorf("%s %s: %+v, %v", path, given, report, err)
			}
		}
	}
	for _, given := range []string{sum[:62], sum + "00", "zz" + sum[2:]} {
		_, err := conformance.ParseManifest([]byte(long + "x\tnitro\taccept\t\t\t\t\t\t\t" + given + "\n"))
		if err == nil || !strings.Contains(err.Error(), "sha256 is not 64 hex digits") {
			t.Errorf("%s: %v", given, err)
		}
	}
}

// faulty is a file system whose files fail when they are opened, asked for or
// read, and that counts those that are open.
type faulty struct {
	fs.FS
	open int
}

type faultyFile struct {
	fs.File
	dir  *faulty
	name string
}

func (f *faulty) Open(name string) (fs.File, error) {
	if name == "closed" {
		return nil, fs.ErrPermission
	}
	file, err := f.FS.Open(name)
	if err == nil {
		f.open++
	}
	return faultyFile{file, f, name}, err
}

func (f faultyFile) Stat() (fs.FileInfo, error) {
	if f.name == "lost" {
		return nil, fs.ErrInvalid
	}
	return f.File.Stat()
}

func (f faultyFile) Read(b []byte) (int, error) {
	if f.name == "x" {
		return 0, errors.New("the disk is gone")
	}
	return f.File.Read(b)
}

func (f faultyFile) Close() error {
	f.dir.open--
	return f.File.Close()
}

// TestFileThatFails is no empty file, and stays open no more than another.
func TestFileThatFails(t *testing.T) {
	row := "\teventlog\taccept\t\t\n"
	dir := &faulty{FS: folder(header+"x"+row+"closed"+row+"lost"+row, map[string]string{"x": "x", "lost": "x"})}
	report, err := conformance.Run(dir, nil)
	if err != nil || len(report.Results) != 3 {
		t.Fatalf("%+v, %v", report, err)
	}
	for i, want := range []string{"x cannot be read: the disk is gone", "closed cannot be read: permission denied", "lost is not a file"} {
		if r := report.Results[i]; r.Status != conformance.Broken || r.Detail != want {
			t.Errorf("%+v", r)
		}
	}
	if dir.open != 0 {
		t.Errorf("%d files stay open", dir.open)
	}
}
