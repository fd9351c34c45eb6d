package eventlog_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// recordOf is a record of the crypto-agile form with any count and bytes.
func recordOf(pcr, typ, count uint32, rest ...byte) []byte {
	le := binary.LittleEndian
	out := le.AppendUint32(nil, pcr)
	out = le.AppendUint32(out, typ)
	return append(le.AppendUint32(out, count), rest...)
}

// TestLimitsOfTheForm: what stands at a limit of the form is read, and what is one
// beyond it is refused by the code of that limit.
func TestLimitsOfTheForm(t *testing.T) {
	good := build.Machine{}.Log().Bytes()
	sixteen := make([]build.Algorithm, 15)
	for i := range sixteen {
		sixteen[i] = build.Algorithm{ID: uint16(0x1000 + i), Size: 64}
	}
	sixteen = append(sixteen, build.Algorithm{ID: uint16(eventlog.SHA256), Size: 32})
	specID00 := build.Legacy(0, eventlog.TypeNoAction, [sha1.Size]byte{}, []byte("Spec ID Event00\x00\x00\x00"))
	const specUintn = 32 + 23
	for name, c := range map[string]struct {
		raw  []byte
		want reason.Code
	}{
		"event in PCR 23":                            {build.New(measured(23, eventlog.TypeIPL, nil)).Bytes(), ""},
		"sixteen algorithms":                         {build.SpecID(sixteen...), ""},
		"UINTN of 32 bits":                           {put32(good, specUintn-3, 0x01020200), ""},
		"UINTN of no bits":                           {put32(good, specUintn-3, 0x00020200), reason.EventLogSpecID},
		"digest of an unnamed algorithm at the end":  {append(bytes.Clone(good), recordOf(0, 1, 1, 0x99, 0, 0)...), reason.EventLogDigests},
		"two bytes for a digest at the end":          {append(bytes.Clone(good), recordOf(0, 1, 1, 0x99, 0)...), reason.EventLogTruncated},
		"fill bytes that are no record header":       {append(bytes.Clone(good), 0xff, 0xff, 0xff, 0xff, 0xff), reason.EventLogTruncated},
		"legacy record in PCR 23":                    {build.Legacy(23, eventlog.TypeIPL, [sha1.Size]byte{}, nil), reason.EventLogSHA1Only},
		"one legacy record without data":             {build.Legacy(0, eventlog.TypeSCRTMVersion, [sha1.Size]byte{1}, nil), reason.EventLogSHA1Only},
		"legacy records behind their Spec ID record": {append(specID00, legacy()...), reason.EventLogSHA1Only},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := eventlog.Parse(c.raw)
			wantCode(t, err, c.want)
		})
	}
}

// TestListingOfOddLogs: a log that no boot leaves is listed as what it is, or
// refused with the code that Parse gives.
func TestListingOfOddLogs(t *testing.T) {
	good := build.Machine{}.Log().Bytes()
	const specSignature = 32 + 13
	for name, c := range map[string]struct {
		raw  []byte
		want reason.Code
		form string
		n    int
	}{
		"nothing at all":                      {nil, reason.EventLogTruncated, "", 0},
		"Spec ID record alone":                {good[:specIDSize], "", eventlog.FormCryptoAgile, 0},
		"Spec ID record of a later version":   {put16(good, specSignature, 0x3034), reason.EventLogSpecID, "", 0},
		"event in PCR 23":                     {build.New(measured(23, eventlog.TypeIPL, nil)).Bytes(), "", eventlog.FormCryptoAgile, 1},
		"cut inside the header of a record":   {append(bytes.Clone(good[:specIDSize]), recordOf(0, 1, 0)[:9]...), reason.EventLogTruncated, eventlog.FormCryptoAgile, 0},
		"cut behind the header of a record":   {append(bytes.Clone(good[:specIDSize]), recordOf(0, 1, 1)...), reason.EventLogTruncated, eventlog.FormCryptoAgile, 0},
		"record without digests":              {append(bytes.Clone(good[:specIDSize]), recordOf(0, 1, 0, 0, 0, 0, 0)...), "", eventlog.FormCryptoAgile, 1},
		"two SHA-256 digests in a record":     {twoDigests(good, specIDSize), reason.EventLogDigests, eventlog.FormCryptoAgile, 0},
		"more digests than there are banks":   {put32(good, specIDSize+8, 17), reason.EventLogDigests, eventlog.FormCryptoAgile, 0},
		"more digests than a log could carry": {put32(good, specIDSize+8, 0xffffffff), reason.EventLogTruncated, eventlog.FormCryptoAgile, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := eventlog.Inspect(c.raw)
			wantCode(t, err, c.want)
			if l.Form != c.form || len(l.Records) != c.n || (l.Form != "") != (len(l.Banks) == 2) {
				t.Errorf("%q with %d records of banks %v", l.Form, len(l.Records), l.Banks)
			}
		})
	}
}

// TestListingTakesTheLocalityThatCounts: the record that Parse would take, and
// nothing that looks like it. The value decides where PCR 0 starts.
func TestListingTakesTheLocalityThatCounts(t *testing.T) {
	record := func(pcr int, typ uint32, data string) build.Event {
		return build.Event{PCR: pcr, Type: typ, Data: []byte(data)}
	}
	for name, c := range map[string]struct {
		event build.Event
		want  byte
	}{
		"locality 3":            {startupLocality(0, "\x03"), 3},
		"a record of one byte":  {record(0, eventlog.TypeNoAction, "\x03"), 0},
		"an event that extends": {record(0, eventlog.TypeIPL, "StartupLocality\x00\x03"), 0},
		"another PCR":           {startupLocality(1, "\x03"), 0},
		"no value":              {startupLocality(0, ""), 0},
		"a value of two bytes":  {startupLocality(0, "\x03\x00"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := eventlog.Inspect(build.New(c.event).Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if got := l.Locality(); got != c.want {
				t.Errorf("locality %d, want %d", got, c.want)
			}
		})
	}
}

// TestListingReplaysOneBank: a record that has no digest of a bank leaves its PCR
// in that bank alone, as the TPM did.
func TestListingReplaysOneBank(t *testing.T) {
	raw := onlySHA1(build.New(measured(9, eventlog.TypeIPL, []byte("x"))).Bytes(), specIDSize)
	l, err := eventlog.Inspect(raw)
	if err != nil {
		t.Fatal(err)
	}
	for bank, extended := range map[eventlog.Bank]bool{eventlog.SHA1: true, eventlog.SHA256: false} {
		values, _ := l.Replay(bank)
		if got := !bytes.Equal(values[9], make([]byte, len(values[9]))); got != extended {
			t.Errorf("%s: PCR 9 is %x", bank, values[9])
		}
	}
}

// TestMismatchFollowsTheLog: the event that the TPM never saw is named where PCR
// 0 starts at another locality too, and across records that extend nothing.
func TestMismatchFollowsTheLog(t *testing.T) {
	first, second := measured(0, eventlog.TypeIPL, []byte("a")), measured(0, eventlog.TypeIPL, []byte("b"))
	note := build.Event{Type: eventlog.TypeNoAction, Data: []byte("SP800-155 Event3")}
	at3 := func(e ...build.Event) []build.Event { return append([]build.Event{startupLocality(0, "\x03")}, e...) }
	for name, c := range map[string]struct {
		log, tpm []build.Event
		want     string
	}{
		"started at locality 3":              {at3(first, second), at3(first), "before event 3 (EV_IPL)"},
		"a record that extends nothing":      {[]build.Event{note, first, second}, []build.Event{first}, "before event 3 (EV_IPL)"},
		"such a record behind the last seen": {[]build.Event{first, note, second}, []build.Event{first}, "before event 3 (EV_IPL)"},
	} {
		t.Run(name, func(t *testing.T) {
			tpm, err := eventlog.Parse(build.New(c.tpm...).Bytes())
			if err != nil {
				t.Fatal(err)
			}
			reached := tpm.Replay()
			_, err = explain(build.New(c.log...).Bytes(), map[int][]byte{0: reached[0]})
			wantCode(t, err, reason.EventLogReplayMismatch)
			if detail := reason.Detail(err); !bytes.Contains([]byte(detail), []byte(c.want)) {
				t.Errorf("detail %q, want %q in it", detail, c.want)
			}
		})
	}
}

// TestDigestsOfTheOuterPCRs: the first and the last PCR are proved as any other.
func TestDigestsOfTheOuterPCRs(t *testing.T) {
	events := []build.Event{measured(0, eventlog.TypeIPL, []byte("first")), measured(23, eventlog.TypeIPL, []byte("last"))}
	x := mustExplain(t, events, extend(events))
	for i, pcr := range []int{0, 23} {
		if got := x.EventDigests(pcr); len(got) != 1 || !bytes.Equal(got[0], events[i].SHA256[:]) {
			t.Errorf("PCR %d: %x", pcr, got)
		}
	}
	raw, user, quoted := lived(t, build.Machine{UKI: true}, build.Booted("ready", machineID))
	both, err := explainWith(t, raw, quoted, user)
	if err != nil {
		t.Fatal(err)
	}
	for _, pcr := range []int{-1, 24} {
		if got := both.EventDigests(pcr); got != nil {
			t.Errorf("PCR %d has digests", pcr)
		}
	}
}
