package ima_test

import (
	"bytes"
	"crypto/sha1" // of old captures
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestAttestAtTheEdge: what stands beside the refusals of TestAttestRefuses.
func TestAttestAtTheEdge(t *testing.T) {
	l := machine(3)
	raw := l.Bytes()
	withPCR10 := func(bank ima.Bank, value []byte) ima.Quoted {
		q := quoted(l.Extends())
		q.Bank, q.PCRs[10] = bank, value
		return q
	}
	agg := build.Aggregate(firmware())
	renamed := build.New(append([]build.Entry{build.Measured("ima-ng", bytes.Replace(agg.Data, []byte("boot_aggregate"), []byte("/etc/shadow\x00no"), 1)[:len(agg.Data)])}, l.Entries()[1:]...)...)
	posing := with(l, 0, func(e *build.Entry) {
		*e = build.Measured("ima-ng", bytes.Replace(agg.Data, []byte("boot_aggregate"), []byte("/boot_aggregat"), 1))
	})
	late := build.New(l.Entries()[0], with(l, 1, func(e *build.Entry) { e.PCR = 11 }).Entries()[1], build.File("/a\nb", nil))
	for name, tc := range map[string]struct {
		raw  []byte
		q    ima.Quoted
		code reason.Code
	}{
		"unknown bank and no value":            {raw, withPCR10("sm3", nil), reason.IMAMissing},
		"value of another length":              {raw, withPCR10(ima.SHA256, make([]byte, 20)), reason.IMAMissing},
		"aggregate of the right value by name": {posing.Bytes(), quoted(posing.Extends()), reason.IMABootAggregate},
		"name with NUL in the first":           {renamed.Bytes(), quoted(renamed.Extends()), reason.IMAEncoding},
		"fields of all before the PCR of one":  {late.Bytes(), quoted(late.Extends()), reason.IMAEncoding},
		"algorithm that is not closed":         {build.New(agg, file([]byte("abc"), build.Name("/a"))).Bytes(), quoted(l.Extends()), reason.IMAEncoding},
		"algorithm that begins with NUL":       {build.New(agg, file(append([]byte("\x00a:\x00"), make([]byte, 32)...), build.Name("/a"))).Bytes(), quoted(l.Extends()), reason.IMAEncoding},
		"sha512 with the length of sha256":     {build.New(agg, file(append([]byte("sha512:\x00"), make([]byte, 32)...), build.Name("/a"))).Bytes(), quoted(l.Extends()), reason.IMAEncoding},
		"path that begins with NUL":            {build.New(agg, build.File("\x00a", nil)).Bytes(), quoted(l.Extends()), reason.IMAEncoding},
		"path that begins with a line break":   {build.New(agg, build.File("\na", nil)).Bytes(), quoted(l.Extends()), reason.IMAEncoding},
		"template ima without a path":          {build.New(agg, build.Measured("ima", make([]byte, 20))).Bytes(), quoted(l.Extends()), reason.IMAEncoding},
		"template name with a tilde":           {build.New(agg, build.Measured("a~b", nil)).Bytes(), quoted(l.Extends()), reason.IMATemplateUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ima.Attest(ima.Segment{Raw: tc.raw}, ima.State{}, boot, tc.q)
			wantCode(t, err, tc.code)
		})
	}
}

func TestLegacyPathsAtTheEdge(t *testing.T) {
	for n, want := range map[int]reason.Code{255: "", 256: reason.IMAEncoding} {
		e := build.Measured("ima", append(make([]byte, 20), bytes.Repeat([]byte("a"), n)...))
		_, err := ima.Parse(build.New(e).Bytes())
		wantCode(t, err, want)
	}
	// A short path behind a long one: nothing of the long one is hashed again.
	digest := bytes.Repeat([]byte{7}, 20)
	l := build.New(
		build.Measured("ima", append(bytes.Clone(digest), bytes.Repeat([]byte("a"), 200)...)),
		build.Measured("ima", append(bytes.Clone(digest), "/b"...)),
	)
	list, err := ima.Parse(l.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got := list.Replay(ima.SHA256).PCR10; !bytes.Equal(got, build.PCR10(l.Extends())) {
		t.Errorf("PCR 10 is %x", got)
	}
}

func TestReplaySHA1(t *testing.T) {
	e := build.File("/bin/sh", []byte("sh"))
	list, err := ima.Parse(build.New(e).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	td := sha1.Sum(e.Data)
	want := sha1.Sum(append(make([]byte, 20), td[:]...))
	if got := list.Replay(ima.SHA1).PCR10; !bytes.Equal(got, want[:]) {
		t.Errorf("PCR 10 is %x, want %x", got, want)
	}
}

// TestFilesAreShownWhole: what cannot be printed is escaped, the rest stands as
// it is, up to 200 characters; nothing of one entry is said of the next.
func TestFilesAreShownWhole(t *testing.T) {
	long := "/" + strings.Repeat("a", 199)
	names := map[string]string{"/a ~\\\xff\x01": `/a ~\x5c\xff\x01`, long: long, long + "b": long + "..."}
	for path, want := range names {
		list, err := ima.Parse(build.New(build.Signed("/s", nil, []byte{3, 2, 4, 0, 0, 0, 0, 0, 0}), build.File(path, nil)).Bytes())
		if err != nil {
			t.Fatal(err)
		}
		var files []ima.File
		for f := range list.Files(0, nil) {
			files = append(files, f)
		}
		if files[1].Path != want || files[1].Signed || !files[0].Signed {
			t.Errorf("%+v, want %s", files, want)
		}
	}
}

func TestFirstViolation(t *testing.T) {
	l := build.New(append(machine(2).Entries(), build.Violation("/var/log/x"), build.Violation("/var/log/y"))...)
	a := attest(t, l.Bytes(), quoted(l.Extends()))
	if entry, path, ok := a.FirstViolation(); entry != 3 || path != "/var/log/x" || !ok {
		t.Errorf("%d, %s, %v", entry, path, ok)
	}
	l = machine(2)
	a = attest(t, l.Bytes(), quoted(l.Extends()))
	if entry, path, ok := a.FirstViolation(); ok {
		t.Errorf("%d, %s in a list without one", entry, path)
	}
}

func judged(t *testing.T, allow ima.Allow, entries ...build.Entry) ima.Judged {
	t.Helper()
	rules, problems := ima.Compile(allow)
	if problems != nil {
		t.Fatal(problems)
	}
	l := build.New(append([]build.Entry{build.Aggregate(firmware())}, entries...)...)
	j, err := attest(t, l.Bytes(), quoted(l.Extends())).Judge(rules)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func digestOf(content string) string {
	h := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(h[:])
}

func TestJudgeAtTheEdge(t *testing.T) {
	sh := digestOf("sh")
	file := func(path string) build.Entry { return build.File(path, []byte("sh")) }
	aggregate := build.Aggregate(firmware()).Data
	for name, tc := range map[string]struct {
		allow ima.Allow
		entry build.Entry
		why   string // "": allowed
	}{
		"any path, then one":               {ima.Allow{Digests: []string{sh, sh + " /x"}}, file("/y"), ""},
		"one of two paths":                 {ima.Allow{Digests: []string{sh + " /x", sh + " /y"}}, file("/y"), ""},
		"neither of two paths":             {ima.Allow{Digests: []string{sh + " /x", sh + " /y"}}, file("/z"), "under another path"},
		"signed, and no key is listed":     {ima.Allow{Paths: []string{"/usr/.*"}}, build.Signed("/y", []byte("sh"), []byte{3, 2, 4, 0, 0, 0, 0, 0, 0}), "in no digest list"},
		"data in memory":                   {ima.Allow{Paths: []string{"/.*"}}, build.Buffer("/kexec", []byte("x")), "no listed data"},
		"a file with the aggregate's hash": {ima.Allow{Paths: []string{"/usr/.*"}}, build.Measured("ima-ng", bytes.Replace(aggregate, []byte("boot_aggregate"), []byte("/boot_aggregat"), 1)), "in no digest list"},
	} {
		t.Run(name, func(t *testing.T) {
			j := judged(t, tc.allow, tc.entry)
			if tc.why == "" {
				if j.Denied != 0 || j.Files != 1 {
					t.Errorf("%+v", j)
				}
				return
			}
			if j.Denied != 1 || !strings.Contains(j.First[0].Why, tc.why) {
				t.Errorf("%+v, want %q", j, tc.why)
			}
		})
	}
}

func TestCompileRefusesWhatItCannotRead(t *testing.T) {
	for name, allow := range map[string]ima.Allow{
		"paths that leave the anchors": {Paths: []string{"/a)|(/b"}},
		"buffers that do not parse":    {Buffers: []string{"("}},
		"an expression of 256":         {Paths: []string{"/" + strings.Repeat("a", 255)}},
		"no hex":                       {Digests: []string{"sha256:" + strings.Repeat("zz", 32)}},
		"hex too short":                {Digests: []string{"sha256:00"}},
		"no PEM at all":                {Keys: []string{""}},
		"an empty public key":          {Keys: []string{"-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"}},
	} {
		if rules, problems := ima.Compile(allow); rules != nil || len(problems) != 1 {
			t.Errorf("%s: %v", name, problems)
		}
	}
	if _, problems := ima.Compile(ima.Allow{Paths: []string{"/" + strings.Repeat("a", 254)}}); problems != nil {
		t.Error(problems)
	}
	a, _ := ima.Compile(ima.Allow{Paths: []string{"/a"}})
	b, _ := ima.Compile(ima.Allow{Paths: []string{"/b"}})
	if a.Digest() == b.Digest() {
		t.Error("two sets of rules have one name")
	}
}

// TestStateOfNoBank: a state is read in the form that is written, of a bank and a
// way of extending that exist, and not without end.
func TestStateOfNoBank(t *testing.T) {
	text := func(bank, extend, pcr, more string) string {
		return `{"reset_count":1,"restart_count":0,"entries":"1","bank":"` + bank + `","extend":"` + extend + `","pcr":"` + pcr +
			`","aggregate":"` + pcr + `","violations":"0"` + more + `}`
	}
	zeros := strings.Repeat("00", 32)
	denials := `,"judged":{"rules":"sha256:x","files":"1","denied":"1","first":[` +
		strings.Repeat(`{"entry":"1","path":"/a","digest":"d","why":"w"},`, 400) + `{"entry":"1","path":"/a","digest":"d","why":"w"}]}`
	for name, tc := range map[string]struct {
		text string
		good bool
	}{
		"bank":             {text("sha256", "bank", zeros, ""), true},
		"padded":           {text("sha256", "sha1_padded", zeros, ""), true},
		"no bank":          {text("", "bank", "", ""), false},
		"unknown way":      {text("sha256", "twice", zeros, ""), false},
		"more than 16 KiB": {text("sha256", "bank", zeros, denials), false},
	} {
		var s ima.State
		if err := s.UnmarshalText([]byte(tc.text)); (err == nil) != tc.good || s.Known() != tc.good {
			t.Errorf("%s: %v, known %v", name, err, s.Known())
		}
	}
}
