package eventlog_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// BenchmarkParseReplay is a first contact or a reboot: form and values.
func BenchmarkParseReplay(b *testing.B) {
	raw := build.Machine{}.Log().Bytes()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		log, err := eventlog.Parse(raw)
		if err != nil {
			b.Fatal(err)
		}
		log.Replay()
	}
}

// TestReplayAllocations: a log of ten thousand events costs as many allocations as
// one of seventy.
func TestReplayAllocations(t *testing.T) {
	long := build.New()
	for i := range 10_000 {
		long.File("/x", []byte{byte(i)})
	}
	count := func(raw []byte) float64 {
		return testing.AllocsPerRun(10, func() {
			log, err := eventlog.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			log.Replay()
		})
	}
	few, many := count(build.Machine{}.Log().Bytes()), count(long.Bytes())
	t.Logf("%v and %v allocations", few, many)
	if few != many || many > 4 {
		t.Errorf("%v allocations for 70 events, %v for 10 000", few, many)
	}
}

// BenchmarkParseExplain adds the comparison with a quote, the grammar and its
// hashing of event data.
func BenchmarkParseExplain(b *testing.B) {
	events, quoted := machine(build.Machine{})
	raw := build.New(events...).Bytes()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := explain(raw, quoted); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkKept is a renewal on the same boot.
func BenchmarkKept(b *testing.B) {
	events, quoted := machine(build.Machine{})
	kept := eventlog.Keep(build.New(events...).Bytes())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := kept.Explain(quoted); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHostileLog is the dearest log of 1 MiB that still parses: as many
// events as fit, each of a type whose data is hashed.
func BenchmarkHostileLog(b *testing.B) {
	const record = 12 + 2 + 20 + 2 + 32 + 4 + 4
	events := make([]build.Event, (1<<20-specIDSize)/record)
	for i := range events {
		events[i] = separator(i % 8)
	}
	raw, quoted := build.New(events...).Bytes(), extend(events)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := explain(raw, quoted); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHostileGRUB is 1 MiB whose events are compared with the files of a
// command line: sixteen words that end as the names of all of them.
func BenchmarkHostileGRUB(b *testing.B) {
	events := grubOf("initrd " + strings.Repeat(strings.Repeat("a", 1000)+" ", 16))
	for range 480 {
		events = append(events, measured(9, eventlog.TypeIPL, bytes.Repeat([]byte("a"), 2000)))
	}
	raw, quoted := build.New(events...).Bytes(), extend(events)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := explain(raw, quoted); err != nil {
			b.Fatal(err)
		}
	}
}
