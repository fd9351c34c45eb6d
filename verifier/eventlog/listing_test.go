package eventlog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestInspect: the same events and values as the log that is judged, with the
// digests of all banks.
func TestInspect(t *testing.T) {
	events, quoted := machine(build.Machine{})
	events = append([]build.Event{startupLocality(0, "\x03")}, events...)
	raw := build.New(events...).Bytes()
	l, err := eventlog.Inspect(raw)
	if err != nil || l.Form != eventlog.FormCryptoAgile {
		t.Fatalf("form %s: %v", l.Form, err)
	}
	if diff := cmp.Diff([]eventlog.Bank{eventlog.SHA1, eventlog.SHA256}, l.Banks); diff != "" {
		t.Error(diff)
	}
	log, err := eventlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(log.Events(), l.Events(eventlog.SHA256)); diff != "" {
		t.Error(diff)
	}
	if r := l.Records[1]; !r.Covered() || !bytes.Equal(r.In(eventlog.SHA1), events[1].SHA1[:]) || r.In(eventlog.SHA384) != nil {
		t.Errorf("record 1: %+v", r)
	}
	if l.Records[2].Covered() {
		t.Error("a firmware volume is covered by the digest of its address")
	}
	values, ok := l.Replay(eventlog.SHA256)
	if !ok || !bytes.Equal(values[7], quoted[7]) || !bytes.Equal(values[0], log.Replay()[0]) || values[17][0] != 0xff {
		t.Error("the listing replays to other values")
	}
	if sha1, ok := l.Replay(eventlog.SHA1); !ok || len(sha1[0]) != 20 || bytes.Equal(sha1[7], make([]byte, 20)) {
		t.Error("no SHA-1 values")
	}
	if _, ok := l.Replay(0x0012); ok {
		t.Error("values of a bank without a hash")
	}
}

// TestInspectLegacy: listed, though never judged.
func TestInspectLegacy(t *testing.T) {
	l, err := eventlog.Inspect(legacy())
	if err != nil || l.Form != eventlog.FormLegacy || len(l.Records) != 2 || len(l.Events(eventlog.SHA1)) != 2 || len(l.Events(eventlog.SHA256)) != 0 {
		t.Fatalf("%+v: %v", l, err)
	}
	if _, err := eventlog.Parse(legacy()); reason.Of(err) != reason.EventLogSHA1Only {
		t.Errorf("judged: %v", err)
	}
}

// TestInspectShowsWhatIsThere: up to the record that cannot be read, with the
// refusal that Parse gives.
func TestInspectShowsWhatIsThere(t *testing.T) {
	events, _ := machine(build.Machine{})
	good := build.New(events...).Bytes()
	at := len(build.New(events[:5]...).Bytes())
	for name, c := range map[string]struct {
		raw  []byte
		want reason.Code
		n    int
	}{
		"cut":                   {good[:at+20], reason.EventLogTruncated, 5},
		"pcr index":             {put32(good, at, 24), reason.EventLogPCRIndex, 5},
		"digest count 2^31":     {put32(good, at+8, 1<<31), reason.EventLogTruncated, 5},
		"digest count 3":        {put32(good, at+8, 3), reason.EventLogDigests, 5},
		"unknown algorithm":     {put16(good, at+12, 0x27), reason.EventLogDigests, 5},
		"a digest twice":        {put16(good, at+12, 0x0b), reason.EventLogDigests, 5},
		"no digest is no fault": {onlySHA1(good, specIDSize), "", len(events)},
		"no log":                {[]byte("x"), reason.EventLogTruncated, 0},
		"data of 2^32-1 bytes":  {put32(good, at+12+22+34, 0xffffffff), reason.EventLogTruncated, 5},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := eventlog.Inspect(c.raw)
			if c.want != "" {
				wantCode(t, err, c.want)
			} else if err != nil {
				t.Error(err)
			}
			if len(l.Records) != c.n {
				t.Errorf("%d records, want %d", len(l.Records), c.n)
			}
		})
	}
}

// TestClaims: what a file would prove, if its own values were quoted.
func TestClaims(t *testing.T) {
	events, quoted := machine(build.Machine{})
	raw := build.New(events...).Bytes()
	log, err := eventlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	x := mustExplain(t, events, quoted)
	if diff := cmp.Diff(facts(x), facts(log.Claims())); diff != "" {
		t.Error(diff)
	}
}

func facts(x eventlog.Explained) []eventlog.Fact { return x.Boot().Facts() }

// TestVectorListings: each log of the vectors can be listed, and its listing
// replays to the values of the manifest.
func TestVectorListings(t *testing.T) {
	dir := vectors(t)
	ran, legacies := 0, 0
	for _, row := range manifest(t, dir, "eventlog") {
		raw, err := os.ReadFile(filepath.Join(dir, row.path))
		if err != nil {
			t.Fatal(err)
		}
		l, err := eventlog.Inspect(raw)
		if row.verdict == "accept" && err != nil {
			t.Errorf("%s: %v", row.path, err)
		}
		if l.Form == eventlog.FormLegacy {
			legacies++
		}
		want := row.context["replay"]
		if want == "" {
			continue
		}
		ran++
		h := sha256.New()
		values, _ := l.Replay(eventlog.SHA256)
		for _, v := range values {
			h.Write(v)
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("%s: replay %s, want %s", row.path, got, want)
		}
	}
	t.Logf("%d replayed, %d legacy", ran, legacies)
	if ran < 20 || legacies < 5 {
		t.Errorf("%d replayed, %d legacy", ran, legacies)
	}
}
