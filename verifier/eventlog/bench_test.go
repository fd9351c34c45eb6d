package eventlog_test

import (
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
