package eventlog_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// specIDSize is the length of the first record of a generated log.
var specIDSize = len(build.New().Bytes())

// extend is the TPM's part: the PCRs after these events.
func extend(events []build.Event) map[int][]byte {
	out := map[int][]byte{}
	for i := range eventlog.PCRs {
		out[i] = make([]byte, sha256.Size)
		if i >= 17 && i <= 22 {
			out[i] = bytes.Repeat([]byte{0xff}, sha256.Size)
		}
	}
	for _, e := range events {
		if e.Type != eventlog.TypeNoAction {
			h := sha256.Sum256(append(bytes.Clone(out[e.PCR]), e.SHA256[:]...))
			out[e.PCR] = h[:]
		}
	}
	return out
}

// machine returns the events of a boot and the PCRs that it left.
func machine(m build.Machine) ([]build.Event, map[int][]byte) {
	events := m.Log().Events()
	return events, extend(events)
}

// explain parses and explains; it returns the first error.
func explain(raw []byte, quoted map[int][]byte) (eventlog.Explained, error) {
	log, err := eventlog.Parse(raw)
	if err != nil {
		return eventlog.Explained{}, err
	}
	return log.Explain(quoted)
}

func mustExplain(t *testing.T, events []build.Event, quoted map[int][]byte) eventlog.Explained {
	t.Helper()
	x, err := explain(build.New(events...).Bytes(), quoted)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func wantCode(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if reason.Of(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// wantFinding demands a finding of that PCR and code.
func wantFinding(t *testing.T, x eventlog.Explained, pcr int, code reason.Code) {
	t.Helper()
	for _, f := range x.Findings() {
		if f.PCR == pcr && f.Code == code {
			return
		}
	}
	t.Errorf("no finding %s in PCR %d: %v", code, pcr, x.Findings())
}

// at returns the index of the n-th event (from 0) of a PCR and type.
func at(t *testing.T, events []build.Event, pcr int, typ uint32, n int) int {
	t.Helper()
	for i, e := range events {
		if e.PCR == pcr && e.Type == typ {
			if n == 0 {
				return i
			}
			n--
		}
	}
	t.Fatalf("no event %d of type 0x%x in PCR %d", n, typ, pcr)
	return 0
}

// measured returns an event whose digests are those of its data.
func measured(pcr int, typ uint32, data []byte) build.Event {
	return build.Event{PCR: pcr, Type: typ, SHA1: sha1.Sum(data), SHA256: sha256.Sum256(data), Data: data}
}

func secureBootVariable(state ...byte) build.Event {
	return measured(7, eventlog.TypeVariableDriverConfig, build.VariableData(build.GlobalVariable, "SecureBoot", state))
}

func separator(pcr int) build.Event { return measured(pcr, eventlog.TypeSeparator, make([]byte, 4)) }

func startupLocality(pcr int, data string) build.Event {
	return build.Event{PCR: pcr, Type: eventlog.TypeNoAction, Data: []byte("StartupLocality\x00" + data)}
}

// put32 returns a copy of raw with a little-endian value written at an offset.
func put32(raw []byte, offset int, v uint32) []byte {
	out := bytes.Clone(raw)
	binary.LittleEndian.PutUint32(out[offset:], v)
	return out
}

func put16(raw []byte, offset int, v uint16) []byte {
	out := bytes.Clone(raw)
	binary.LittleEndian.PutUint16(out[offset:], v)
	return out
}

func insert(events []build.Event, i int, e ...build.Event) []build.Event {
	return slices.Insert(slices.Clone(events), i, e...)
}

func remove(events []build.Event, i int) []build.Event {
	return slices.Delete(slices.Clone(events), i, i+1)
}
