package eventlog_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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

// FuzzInspect: what can be judged can be listed and says the same; two logs differ
// exactly by what their diff names.
func FuzzInspect(f *testing.F) {
	good := build.Machine{}.Log().Bytes()
	f.Add(good, build.Machine{UKI: true}.Log().Bytes())
	f.Add(legacy(), good[:200])
	f.Add(build.New(separator(7), separator(7)).BytesIn(eventlog.SHA256, eventlog.SHA384), []byte("x"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		l, err := eventlog.Inspect(a)
		if err != nil && reason.Of(err) == reason.Internal {
			t.Fatalf("refusal without a code: %v", err)
		}
		if len(l.Records) > len(a)/16 {
			t.Fatalf("%d records in %d bytes", len(l.Records), len(a))
		}
		log, perr := eventlog.Parse(a)
		if perr != nil {
			return
		}
		if err != nil {
			t.Fatalf("judged and not listed: %v", err)
		}
		events := log.Events()
		if diff := cmp.Diff(events, l.Events(eventlog.SHA256), cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		values, _ := l.Replay(eventlog.SHA256)
		if diff := cmp.Diff(log.Replay(), values); diff != "" {
			t.Fatal(diff)
		}
		boot := log.Claims().Boot()
		for _, fact := range boot.Facts() {
			if (fact.Why == "") != (fact.Proved && fact.TextProved) || strings.Trim(fact.Text+fact.Name, printableASCII) != "" {
				t.Fatalf("fact %+v", fact)
			}
		}
		for _, k := range boot.KeyStores() {
			if n := len(k.Entries()); k.Certificates()+k.Hashes()+k.Others() < n {
				t.Fatalf("%s: %d entries", k, n)
			}
		}
		if c := boot.CommandLine(); c.Proved() && (!c.Known() || c.Why() != "") {
			t.Fatalf("command line %+v", c)
		}
		other, err := eventlog.Parse(b)
		if err != nil {
			return
		}
		if n := len(eventlog.Diff(events, events)); n != 0 {
			t.Fatalf("%d differences to itself", n)
		}
		changed := map[int]bool{}
		for _, c := range eventlog.Diff(events, other.Events()) {
			changed[c.PCR] = true
		}
		mine, theirs := log.Replay(), other.Replay()
		for pcr := 1; pcr < eventlog.PCRs; pcr++ { // PCR 0 may start elsewhere
			if changed[pcr] == bytes.Equal(mine[pcr], theirs[pcr]) {
				t.Fatalf("PCR %d: changed %v", pcr, changed[pcr])
			}
		}
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
