package eventlog_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// ccEvent is a record of a guest's log; digest is that of data where nil.
type ccEvent struct {
	register uint32
	typ      uint32
	data     []byte
	digest   []byte
}

// ccLog writes a log with its Spec ID record in register 1, as TDX firmware does.
func ccLog(events ...ccEvent) []byte {
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 48, 0, 0)
	out := binary.LittleEndian.AppendUint32(nil, 1)
	out = binary.LittleEndian.AppendUint32(out, eventlog.TypeNoAction)
	out = append(out, make([]byte, 20)...)
	out = append(binary.LittleEndian.AppendUint32(out, uint32(len(spec))), spec...)
	for _, e := range events {
		if e.digest == nil {
			sum := sha512.Sum384(e.data)
			e.digest = sum[:]
		}
		for _, n := range []uint32{e.register, e.typ, 1} {
			out = binary.LittleEndian.AppendUint32(out, n)
		}
		out = append(append(out, 0x0c, 0), e.digest...)
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(e.data))), e.data...)
	}
	return out
}

// ccReplay is the replay by the words of the specification.
func ccReplay(events ...ccEvent) (out [4][]byte) {
	for i := range out {
		v := make([]byte, 48)
		for _, e := range events {
			if int(e.register) != i+1 || e.typ == eventlog.TypeNoAction {
				continue
			}
			digest := e.digest
			if digest == nil {
				sum := sha512.Sum384(e.data)
				digest = sum[:]
			}
			sum := sha512.Sum384(append(bytes.Clone(v), digest...))
			v = sum[:]
		}
		out[i] = v
	}
	return out
}

func ccVariableData(value ...byte) []byte {
	out := []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	out = binary.LittleEndian.AppendUint64(out, 10)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(value)))
	for _, c := range "SecureBoot" {
		out = append(out, byte(c), 0)
	}
	return append(out, value...)
}

var (
	ccVariableOn  = ccEvent{1, eventlog.TypeVariableDriverConfig, ccVariableData(1), nil}
	ccVariableOff = ccEvent{1, eventlog.TypeVariableDriverConfig, ccVariableData(0), nil}
	ccSeparator   = ccEvent{1, eventlog.TypeSeparator, make([]byte, 4), nil}
	ccBlob        = ccEvent{1, eventlog.TypePlatformFirmwareBlob2, []byte("firmware volume"), bytes.Repeat([]byte{7}, 48)}
	ccKernel      = ccEvent{3, eventlog.TypeIPL, []byte("/vmlinuz\x00"), bytes.Repeat([]byte{9}, 48)}
	ccInfo        = ccEvent{0, eventlog.TypeNoAction, []byte("info"), make([]byte, 48)}
)

// TestCCSecureBoot: the variable counts where the firmware alone could have
// measured it.
func TestCCSecureBoot(t *testing.T) {
	wrong := ccVariableOff
	wrong.digest = bytes.Repeat([]byte{1}, 48)
	odd := ccEvent{1, eventlog.TypeVariableDriverConfig, ccVariableData(2), nil}
	empty := ccEvent{1, eventlog.TypeVariableDriverConfig, ccVariableData(), nil}
	elsewhere := ccVariableOn
	elsewhere.register = 2
	for name, c := range map[string]struct {
		events []ccEvent
		want   string
	}{
		"on":                            {[]ccEvent{ccBlob, ccVariableOn, ccSeparator, ccKernel}, eventlog.SecureBootOn},
		"off":                           {[]ccEvent{ccBlob, ccVariableOff, ccSeparator, ccKernel}, eventlog.SecureBootOff},
		"deleted":                       {[]ccEvent{empty, ccSeparator}, eventlog.SecureBootOff},
		"none":                          {[]ccEvent{ccBlob, ccSeparator}, ""},
		"behind the separator":          {[]ccEvent{ccSeparator, ccVariableOn}, ""},
		"off, and on by a kernel":       {[]ccEvent{ccVariableOff, ccSeparator, ccVariableOn}, eventlog.SecureBootOff},
		"twice":                         {[]ccEvent{ccVariableOff, ccVariableOn, ccSeparator}, ""},
		"no separator":                  {[]ccEvent{ccVariableOn, ccKernel}, ""},
		"a variable that does not hash": {[]ccEvent{wrong, ccVariableOn, ccSeparator}, ""},
		"a value of 2":                  {[]ccEvent{odd, ccSeparator}, ""},
		"in another register":           {[]ccEvent{elsewhere, ccSeparator}, ""},
		"not extended":                  {[]ccEvent{{1, eventlog.TypeNoAction, ccVariableData(1), nil}, ccSeparator}, ""},
	} {
		log, err := eventlog.ParseCC(ccLog(c.events...))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := log.ExplainCC(ccReplay(c.events...))
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}

// TestCCForm: fill ends a log only where a record could begin, and no register is
// extended but those of a guest. Row 117 of the catalogue: a log of another boot.
func TestCCForm(t *testing.T) {
	good := []ccEvent{ccInfo, ccBlob, ccVariableOn, ccSeparator, ccKernel}
	raw := ccLog(good...)
	fill := func(b []byte, n int, v byte) []byte { return append(bytes.Clone(b), bytes.Repeat([]byte{v}, n)...) }
	for name, c := range map[string]struct {
		raw  []byte
		want reason.Code
	}{
		"whole":                  {raw, ""},
		"one byte of fill":       {fill(raw, 1, 0xff), ""},
		"much fill":              {fill(raw, 60000, 0xff), ""},
		"fill of zeros":          {fill(raw, 64, 0), reason.EventLogDigests},
		"fill and a record":      {append(fill(raw, 16, 0xff), 1, 0, 0, 0), reason.EventLogPCRIndex},
		"cut":                    {raw[:len(raw)-1], reason.EventLogTruncated},
		"nothing":                {nil, reason.EventLogTruncated},
		"fill only":              {fill(nil, 200, 0xff), reason.EventLogSpecID},
		"register 0 extended":    {ccLog(append(good, ccEvent{0, eventlog.TypeIPL, nil, nil})...), reason.EventLogPCRIndex},
		"register 5 extended":    {ccLog(append(good, ccEvent{5, eventlog.TypeIPL, nil, nil})...), reason.EventLogPCRIndex},
		"row 117 another boot":   {ccLog(append(good, ccKernel)...), reason.EventLogReplayMismatch},
		"an event less":          {ccLog(good[:4]...), reason.EventLogReplayMismatch},
		"a log of another bank":  {bytes.Replace(raw, []byte{1, 0, 0, 0, 0x0c, 0, 48, 0}, []byte{1, 0, 0, 0, 0x0b, 0, 32, 0}, 1), reason.EventLogDigests},
		"header in register 5":   {append([]byte{5}, raw[1:]...), reason.EventLogSpecID},
		"header that extends it": {append(append(bytes.Clone(raw[:8]), 1), raw[9:]...), reason.EventLogSpecID},
	} {
		log, err := eventlog.ParseCC(c.raw)
		if err == nil {
			_, err = log.ExplainCC(ccReplay(good...))
		}
		if reason.Of(err) != c.want && (err != nil || c.want != "") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// FuzzParseCC: a log that is taken never explains other registers than those it
// replays to.
func FuzzParseCC(f *testing.F) {
	f.Add(ccLog(ccInfo, ccBlob, ccVariableOn, ccSeparator, ccKernel))
	f.Add(append(ccLog(ccVariableOff, ccSeparator), bytes.Repeat([]byte{0xff}, 40)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var log eventlog.Log
		var err error
		evidencetest.Bounded(t, len(b), 4, func() { log, err = eventlog.ParseCC(b) })
		if err != nil {
			return
		}
		replayed := log.Replay()
		rtmrs := [4][]byte{replayed[1], replayed[2], replayed[3], replayed[4]}
		if _, err := log.ExplainCC(rtmrs); err != nil {
			t.Errorf("its own replay: %v", err)
		}
		rtmrs[2] = append([]byte{rtmrs[2][0] ^ 1}, rtmrs[2][1:]...)
		if _, err := log.ExplainCC(rtmrs); reason.Of(err) != reason.EventLogReplayMismatch {
			t.Errorf("another register: %v", err)
		}
	})
}
