package eventlog_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestExplainRefuses: the quote is that of a good boot, the log was changed.
func TestExplainRefuses(t *testing.T) {
	events, quoted := machine(build.Machine{})
	app := func(n int) int { return at(t, events, 4, eventlog.TypeBootServicesApp, n) }
	without := func(pcr int) (out []build.Event) {
		for _, e := range events {
			if e.PCR != pcr {
				out = append(out, e)
			}
		}
		return out
	}
	flip := func(i int) []build.Event {
		out := build.New(events...).Events()
		out[i].SHA256[31] ^= 1
		return out
	}
	swapped := build.New(events...).Events()
	swapped[app(0)], swapped[app(1)] = swapped[app(1)], swapped[app(0)]
	retyped := build.New(events...).Events()
	retyped[app(1)] = build.Event{PCR: 4, Type: eventlog.TypeNoAction, Data: retyped[app(1)].Data}
	moved := build.New(events...).Events()
	moved[app(1)].PCR = 5
	unbooted := len(events) - 1
	resetPCR := func(pcr int) map[int][]byte {
		out := maps.Clone(quoted)
		out[pcr] = make([]byte, 32)
		return out
	}

	for name, c := range map[string]struct {
		events []build.Event
		quoted map[int][]byte
		want   reason.Code
		pcr    string
	}{
		"tpm-68_T29_all_events_of_pcr_4_left_out":       {without(4), quoted, reason.TPM2PCRUnexplained, "pcr=4 "},
		"tpm-68_T29_all_events_of_pcr_14_left_out":      {without(14), quoted, reason.TPM2PCRUnexplained, "pcr=14 "},
		"tpm-68_T29_no_events_at_all":                   {nil, quoted, reason.TPM2PCRUnexplained, "pcr=0 "},
		"T29_events_but_the_pcr_is_at_its_reset_value":  {events, resetPCR(4), reason.EventLogReplayMismatch, "pcr=4:"},
		"tpm-69_event_dropped":                          {remove(events, app(1)), quoted, reason.EventLogReplayMismatch, "pcr=4:"},
		"tpm-69_event_twice":                            {insert(events, app(1), events[app(1)]), quoted, reason.EventLogReplayMismatch, "pcr=4:"},
		"tpm-69_events_swapped":                         {swapped, quoted, reason.EventLogReplayMismatch, "pcr=4:"},
		"tpm-69_event_moved_to_another_pcr":             {moved, quoted, reason.EventLogReplayMismatch, "pcr=4:"},
		"tpm-69_event_added":                            {append(events, measured(9, eventlog.TypeIPL, []byte("x"))), quoted, reason.EventLogReplayMismatch, "pcr=9:"},
		"tpm-74_T26_event_turned_into_no_action":        {retyped, quoted, reason.EventLogReplayMismatch, "pcr=4:"},
		"tpm-82_sha1_digest_right_sha256_digest_wrong":  {flip(app(0)), quoted, reason.EventLogReplayMismatch, "pcr=4:"},
		"T30_exit_boot_services_missing":                {events[:unbooted], quoted, reason.EventLogReplayMismatch, "pcr=5:"},
		"tpm-74_T26_startup_locality_that_was_not_so":   {append([]build.Event{startupLocality(0, "\x03")}, events...), quoted, reason.EventLogReplayMismatch, "pcr=0:"},
		"a_pcr_of_20_bytes":                             {events, map[int][]byte{0: make([]byte, 20)}, reason.TPM2PCRLength, "pcr=0 "},
		"a_pcr_without_a_value":                         {events, map[int][]byte{0: nil}, reason.TPM2PCRLength, "pcr=0 "},
		"tpm-73_a_quoted_pcr_24":                        {events, map[int][]byte{24: make([]byte, 32)}, reason.EventLogPCRIndex, "24"},
		"tpm-73_a_quoted_pcr_minus_1":                   {events, map[int][]byte{-1: make([]byte, 32)}, reason.EventLogPCRIndex, "-1"},
		"tpm-68_dynamic_launch_pcr_17_quoted_as_zeros":  {events, map[int][]byte{17: make([]byte, 32)}, reason.TPM2PCRUnexplained, "pcr=17 "},
		"tpm-68_pcr_10_of_ima_without_its_log":          {events, map[int][]byte{10: bytes.Repeat([]byte{7}, 32)}, reason.TPM2PCRUnexplained, "pcr=10 "},
		"tpm-69_two_pcrs_wrong_the_lowest_is_named":     {nil, map[int][]byte{9: quoted[9], 4: quoted[4], 5: quoted[5]}, reason.TPM2PCRUnexplained, "pcr=4 "},
		"tpm-69_sha1_values_offered_in_the_sha256_bank": {events, map[int][]byte{4: append(make([]byte, 12), quoted[4][:20]...)}, reason.EventLogReplayMismatch, "pcr=4:"},
	} {
		t.Run(name, func(t *testing.T) {
			x, err := explain(build.New(c.events...).Bytes(), c.quoted)
			wantCode(t, err, c.want)
			if !strings.Contains(reason.Detail(err), c.pcr) {
				t.Errorf("detail %q does not name %q", reason.Detail(err), c.pcr)
			}
			if x.SecureBoot() != eventlog.SecureBootUnknown || x.EventDigests(4) != nil || x.Findings() != nil {
				t.Error("a refused log has facts")
			}
		})
	}
}

// TestEveryDigestCounts: one bit of any digest, and the quote is not explained.
func TestEveryDigestCounts(t *testing.T) {
	events, quoted := machine(build.Machine{})
	for i := range events {
		forged := build.New(events...).Events()
		forged[i].SHA256[i%32] ^= 1 << (i % 8)
		_, err := explain(build.New(forged...).Bytes(), quoted)
		if reason.Of(err) != reason.EventLogReplayMismatch {
			t.Fatalf("event %d: %v", i, err)
		}
	}
}

func TestMismatchNamesTheFirstEventOfThePCR(t *testing.T) {
	events, quoted := machine(build.Machine{})
	first := at(t, events, 4, eventlog.TypeEFIAction, 0) + 1 // the Spec ID record is event 0
	_, err := explain(build.New(events[:len(events)-30]...).Bytes(), map[int][]byte{4: quoted[4]})
	wantCode(t, err, reason.EventLogReplayMismatch)
	detail := reason.Detail(err)
	for _, want := range []string{"begin with event " + strconv.Itoa(first) + ":", "quoted is " + hex.EncodeToString(quoted[4])} {
		if !strings.Contains(detail, want) {
			t.Errorf("detail %q, want %q in it", detail, want)
		}
	}
}

// TestMismatchNamesTheEventTooMuch: an event that the log has and the TPM has not.
func TestMismatchNamesTheEventTooMuch(t *testing.T) {
	events, quoted := machine(build.Machine{})
	longer := append(events, separator(5))
	_, err := explain(build.New(longer...).Bytes(), quoted)
	wantCode(t, err, reason.EventLogReplayMismatch)
	replayed := extend(longer)
	for _, want := range []string{"before event " + strconv.Itoa(len(longer)) + " (EV_SEPARATOR)", "leads to " + hex.EncodeToString(replayed[5]), "quoted is " + hex.EncodeToString(quoted[5])} {
		if !strings.Contains(reason.Detail(err), want) {
			t.Errorf("detail %q, want %q in it", reason.Detail(err), want)
		}
	}
}

// TestUnexplainedNamesBothValues: what the quote says, and where the PCR starts.
func TestUnexplainedNamesBothValues(t *testing.T) {
	_, err := explain(build.New().Bytes(), map[int][]byte{17: make([]byte, 32)})
	wantCode(t, err, reason.TPM2PCRUnexplained)
	for _, want := range []string{"pcr=17", strings.Repeat("00", 32), strings.Repeat("ff", 32)} {
		if !strings.Contains(reason.Detail(err), want) {
			t.Errorf("detail %q, want %q in it", reason.Detail(err), want)
		}
	}
}

func TestExplainAccepts(t *testing.T) {
	events, quoted := machine(build.Machine{})
	subset := map[int][]byte{0: quoted[0], 4: quoted[4], 7: quoted[7], 9: quoted[9], 14: quoted[14]}
	for name, q := range map[string]map[int][]byte{
		"all PCRs":                          quoted,
		"some PCRs":                         subset,
		"PCRs at reset values, no events":   {10: make([]byte, 32), 16: make([]byte, 32), 17: bytes.Repeat([]byte{0xff}, 32), 22: bytes.Repeat([]byte{0xff}, 32), 23: make([]byte, 32)},
		"nothing quoted, nothing explained": {},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := explain(build.New(events...).Bytes(), q); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEventDigestsAreProvedOnly: for a PCR that was not quoted the log is the
// sender's word alone.
func TestEventDigestsAreProvedOnly(t *testing.T) {
	events, quoted := machine(build.Machine{})
	x := mustExplain(t, events, map[int][]byte{9: quoted[9], 10: quoted[10]})
	var want [][]byte
	for _, e := range events {
		if e.PCR == 9 {
			want = append(want, e.SHA256[:])
		}
	}
	if diff := cmp.Diff(want, x.EventDigests(9)); diff != "" {
		t.Error(diff)
	}
	for _, pcr := range []int{-1, 4, 7, 10, 24} {
		if got := x.EventDigests(pcr); got != nil {
			t.Errorf("PCR %d has digests", pcr)
		}
	}
	if x.SecureBoot() != eventlog.SecureBootUnknown {
		t.Error("Secure Boot is known although PCR 7 was not quoted")
	}
	wantCode(t, x.SecureBootUnproved(), reason.EventLogPCR7Grammar)
	if len(x.Findings()) != 0 {
		t.Errorf("findings about PCRs that were not quoted: %v", x.Findings())
	}
}

// TestFactsDoNotShareMemory: the buffer of a request is used again.
func TestFactsDoNotShareMemory(t *testing.T) {
	events, quoted := machine(build.Machine{})
	raw := build.New(events...).Bytes()
	x, err := explain(raw, quoted)
	if err != nil {
		t.Fatal(err)
	}
	var want [][]byte
	for _, e := range events {
		if e.PCR == 9 {
			want = append(want, e.SHA256[:])
		}
	}
	clear(raw)
	x.EventDigests(9)[0][0] ^= 1
	if diff := cmp.Diff(want, x.EventDigests(9)); diff != "" {
		t.Error(diff)
	}
}

func TestZeroValuesProveNothing(t *testing.T) {
	var x eventlog.Explained
	if x.SecureBoot() != eventlog.SecureBootUnknown || x.SecureBootUnproved() == nil || x.EventDigests(0) != nil {
		t.Error("a zero value proves something")
	}
	var l eventlog.Log
	_, err := l.Explain(map[int][]byte{7: bytes.Repeat([]byte{1}, sha256.Size)})
	wantCode(t, err, reason.TPM2PCRUnexplained)
}

func TestUnlogged(t *testing.T) {
	_, booted := machine(build.Machine{})
	reset := extend(nil)
	for name, c := range map[string]struct {
		quoted map[int][]byte
		want   reason.Code
	}{
		"T29_every_pcr_at_its_reset_value": {reset, ""},
		"T29_booted_without_a_log":         {booted, reason.EventLogMissing},
		"T29_one_pcr_extended":             {map[int][]byte{0: reset[0], 14: booted[14]}, reason.EventLogMissing},
		"T29_pcr_17_at_zero":               {map[int][]byte{17: make([]byte, 32)}, reason.EventLogMissing},
		"pcr_of_20_bytes":                  {map[int][]byte{0: make([]byte, 20)}, reason.TPM2PCRLength},
		"pcr_24":                           {map[int][]byte{24: make([]byte, 32)}, reason.EventLogPCRIndex},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, eventlog.Unlogged(c.quoted), c.want) })
	}
}
