package eventlog_test

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestKept: a log that explained one quote explains no other by that, and what it
// proves is what was quoted this time.
func TestKept(t *testing.T) {
	events, quoted := machine(build.Machine{})
	raw := build.New(events...).Bytes()
	kept := eventlog.Keep(raw)
	if kept.Digest() != sha256.Sum256(raw) || !bytes.Equal(kept.Bytes(), raw) {
		t.Error("not the log that was given")
	}
	for range 2 {
		x, err := kept.Explain(quoted)
		if err != nil || x.SecureBoot() != eventlog.SecureBootOn {
			t.Fatalf("secure boot %q (%v)", x.SecureBoot(), err)
		}
		for name, change := range map[string]func(map[int][]byte){
			"other_value": func(q map[int][]byte) { q[4] = bytes.Repeat([]byte{1}, 32) },
			"at_reset":    func(q map[int][]byte) { q[7] = make([]byte, 32) },
		} {
			other := maps.Clone(quoted)
			change(other)
			if _, err := kept.Explain(other); reason.Of(err) != reason.EventLogReplayMismatch {
				t.Errorf("%s: %v", name, err)
			}
		}
		fewer := maps.Clone(quoted)
		delete(fewer, 7)
		if x, err := kept.Explain(fewer); err != nil || x.SecureBoot() != eventlog.SecureBootUnknown || x.EventDigests(7) != nil {
			t.Errorf("without PCR 7: secure boot %q, %d digests (%v)", x.SecureBoot(), len(x.EventDigests(7)), err)
		}
	}
}

func TestKeptOfNoLog(t *testing.T) {
	if eventlog.Keep(nil) != nil {
		t.Error("no bytes are kept")
	}
	kept := eventlog.Keep([]byte("no log"))
	for range 2 {
		if _, err := kept.Explain(nil); reason.Of(err) != reason.EventLogTruncated {
			t.Errorf("%v", err)
		}
	}
}

// TestKeptBySelection: more selections than are remembered, by many at once.
func TestKeptBySelection(t *testing.T) {
	events, quoted := machine(build.Machine{})
	kept := eventlog.Keep(build.New(events...).Bytes())
	var wg sync.WaitGroup
	for without := range 9 {
		wg.Go(func() {
			some := maps.Clone(quoted)
			delete(some, without)
			want, err := explain(kept.Bytes(), some)
			got, kerr := kept.Explain(some)
			if err != nil || kerr != nil {
				t.Errorf("%v, %v", err, kerr)
			}
			for pcr := range eventlog.PCRs {
				if diff := cmp.Diff(want.EventDigests(pcr), got.EventDigests(pcr)); diff != "" {
					t.Errorf("without %d, PCR %d: %s", without, pcr, diff)
				}
			}
			if diff := cmp.Diff(want.Findings(), got.Findings()); diff != "" {
				t.Error(diff)
			}
		})
	}
	wg.Wait()
}
