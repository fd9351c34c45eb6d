package ima_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// FuzzList: no panic, errors have codes, entries fit into the bytes, what can be
// skipped is what was parsed, and a list leads to its own replay alone.
func FuzzList(f *testing.F) {
	f.Add(machine(3).Bytes())
	f.Add(build.New(build.Measured("ima", append(make([]byte, 20), "/bin/sh"...)), build.Violation("/v"), build.Buffer("x", nil)).Bytes())
	f.Add(build.New(build.Signed("/a", nil, []byte{3, 2, 4, 0, 0, 0, 0, 0, 1, 0})).Bytes())
	if dir := os.Getenv("ZONEBROKER_VECTORS"); dir != "" {
		for _, pattern := range []string{"imatest.log", "sml-*.bin"} {
			names, err := filepath.Glob(filepath.Join(dir, "tpm", "*", pattern))
			if err != nil {
				f.Fatal(err)
			}
			for _, name := range names {
				raw, err := os.ReadFile(name)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(raw)
			}
		}
	}
	rules, problems := ima.Compile(ima.Allow{Paths: []string{"/usr/.*"}})
	if problems != nil {
		f.Fatal(problems)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var list ima.List
		var err error
		evidencetest.Bounded(t, len(raw), 4, func() { list, err = ima.Parse(raw) })
		if err != nil {
			hasCode(t, err)
			return
		}
		if list.Len() > len(raw)/29 {
			t.Fatalf("%d entries in %d bytes", list.Len(), len(raw))
		}
		if rest, ok := ima.Skip(raw, uint64(list.Len())); !ok || len(rest) != 0 {
			t.Fatalf("%d bytes behind the last entry", len(rest))
		}
		hasCode(t, list.Appraise())
		r := list.Replay(ima.SHA256)
		n := 0
		for range list.Files(0, rules) {
			n++
		}
		if n != list.Len() || r.Entries != n {
			t.Fatalf("%d entries, %d listed, %d replayed", list.Len(), n, r.Entries)
		}
		q := ima.Quoted{Bank: ima.SHA256, PCRs: firmware()}
		q.PCRs[10] = r.PCR10
		var a ima.Attested
		evidencetest.Bounded(t, len(raw), 4, func() { a, err = ima.Attest(ima.Segment{Raw: raw}, ima.State{}, boot, q) })
		if err != nil {
			hasCode(t, err)
			return
		}
		j, err := a.Judge(rules)
		if err != nil || a.New() != n || uint64(r.Violations) != a.Violations() {
			t.Fatalf("%+v (%v)", j, err)
		}
		q.PCRs[10] = append([]byte{r.PCR10[0] ^ 1}, r.PCR10[1:]...)
		if _, err := ima.Attest(ima.Segment{Raw: raw}, ima.State{}, boot, q); err == nil {
			t.Fatal("the list leads to two values")
		}
	})
}

func hasCode(t *testing.T, err error) {
	t.Helper()
	if reason.Of(err) == reason.Internal {
		t.Fatalf("refusal without a code: %v", err)
	}
}

// FuzzState: only what is written is read.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"reset_count":1,"restart_count":0,"entries":"1","bank":"sha1","extend":"bank","pcr":"0000000000000000000000000000000000000000","aggregate":"0000000000000000000000000000000000000000","violations":"0"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s ima.State
		var err error
		evidencetest.Bounded(t, len(text), 64, func() { err = s.UnmarshalText(text) })
		if err != nil {
			return
		}
		if again, err := s.MarshalText(); err != nil || string(again) != string(text) {
			t.Fatalf("%q is written as %q (%v)", text, again, err)
		}
	})
}
