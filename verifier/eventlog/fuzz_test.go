package eventlog_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// FuzzParse: no panic, errors have codes, what was parsed survives encoding, the
// log explains its own replay and nothing else.
func FuzzParse(f *testing.F) {
	f.Add(build.Machine{}.Log().Bytes())
	f.Add(build.New().Bytes())
	f.Add(build.New(startupLocality(0, "\x03"), secureBootVariable(1), separator(7)).Bytes())
	f.Add(build.New(measured(7, eventlog.TypeVariableDriverConfig, build.VariableData(build.ImageSecurity, "db", build.Hashes("x", 2)))).Bytes())
	f.Add(legacy())
	if dir := os.Getenv("ZONEBROKER_VECTORS"); dir != "" {
		logs, err := filepath.Glob(filepath.Join(dir, "tpm", "*", "*log*.bin"))
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range logs {
			raw, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var log eventlog.Log
		var err error
		evidencetest.Bounded(t, len(raw), 16, func() { log, err = eventlog.Parse(raw) })
		if err != nil {
			if reason.Of(err) == reason.Internal {
				t.Fatalf("refusal without a code: %v", err)
			}
			return
		}
		events := log.Events()
		if len(events) > len(raw)/46 {
			t.Fatalf("%d events in %d bytes", len(events), len(raw))
		}
		quoted := map[int][]byte{}
		for i, v := range log.Replay() {
			quoted[i] = v
		}
		var x eventlog.Explained
		evidencetest.Bounded(t, len(raw), 64, func() { x, err = log.Explain(quoted) })
		if err != nil {
			t.Fatalf("the log does not explain its own replay: %v", err)
		}
		if (x.SecureBoot() == eventlog.SecureBootUnknown) != (x.SecureBootUnproved() != nil) {
			t.Fatalf("secure boot %s, unproved %v", x.SecureBoot(), x.SecureBootUnproved())
		}
		kept := eventlog.Keep(raw)
		for range 2 { // worked out, and remembered
			again, err := kept.Explain(quoted)
			if diff := cmp.Diff(x, again, cmp.Exporter(func(reflect.Type) bool { return true })); err != nil || diff != "" {
				t.Fatalf("kept: %v\n%s", err, diff)
			}
		}
		same(t, events, quoted)
	})
}

// same encodes the events again and demands the same events and PCRs, then flips
// a bit of the first extending digest and demands a refusal.
func same(t *testing.T, events []eventlog.Event, quoted map[int][]byte) {
	t.Helper()
	var again []build.Event
	flip := -1
	for i, e := range events {
		b := build.Event{PCR: e.PCR, Type: e.Type, Data: e.Data}
		copy(b.SHA256[:], e.Digest)
		again = append(again, b)
		if flip < 0 && e.Type != eventlog.TypeNoAction {
			flip = i
		}
	}
	log, err := eventlog.Parse(build.New(again...).Bytes())
	if err != nil {
		t.Fatalf("encoded again: %v", err)
	}
	if diff := cmp.Diff(events, log.Events()); diff != "" {
		t.Fatalf("encoded again:\n%s", diff)
	}
	for i, v := range log.Replay() {
		if !bytes.Equal(v, quoted[i]) {
			t.Fatalf("PCR %d differs after encoding", i)
		}
	}
	if flip < 0 {
		return
	}
	again[flip].SHA256[0] ^= 1
	if _, err := explain(build.New(again...).Bytes(), quoted); reason.Of(err) != reason.EventLogReplayMismatch {
		t.Fatalf("a flipped digest bit: %v", err)
	}
}
