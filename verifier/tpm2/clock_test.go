package tpm2_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

func TestCompareClock(t *testing.T) {
	const hour = 3600 * 1000
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	prev := tpm2.Clock{Millis: 10 * hour, ResetCount: 5, RestartCount: 2, Safe: true}
	now := func(millis uint64, reset, restart uint32) tpm2.Clock {
		return tpm2.Clock{Millis: millis, ResetCount: reset, RestartCount: restart, Safe: true}
	}
	for _, c := range []struct {
		name    string
		cur     tpm2.Clock
		elapsed time.Duration
		events  []reason.Code
		code    reason.Code
	}{
		{"the same boot an hour later", now(11*hour, 5, 2), time.Hour, nil, ""},
		{"T13 equal clock", prev, 0, nil, ""},
		{"clock stood still while powered off", now(10*hour, 5, 2), time.Hour, nil, ""},
		{"tpm-28 T13 clock went back", now(10*hour-1, 5, 2), time.Hour, nil, reason.TPM2RolledBack},
		{"tpm-29 T13 resetCount went back", now(11*hour, 4, 9), time.Hour, nil, reason.TPM2RolledBack},
		{"tpm-29 resetCount 0 after TPM2_Clear", now(1, 0, 0), time.Hour, nil, reason.TPM2RolledBack},
		{"tpm-30 T13 restartCount went back", now(11*hour, 5, 1), time.Hour, nil, reason.TPM2RolledBack},
		{"rebooted", now(11*hour, 6, 0), time.Hour, []reason.Code{reason.TPM2Rebooted}, ""},
		{"rebooted, the clock lost a little", now(10*hour-5000, 6, 0), time.Hour, []reason.Code{reason.TPM2Rebooted}, ""},
		{"resumed", now(11*hour, 5, 3), time.Hour, []reason.Code{reason.TPM2Resumed}, ""},
		{"resumed, the clock lost a little", now(10*hour-5000, 5, 3), time.Hour, []reason.Code{reason.TPM2Resumed}, ""},
		{"tpm-32 T13 safe is no", tpm2.Clock{Millis: 11 * hour, ResetCount: 5, RestartCount: 2}, time.Hour, []reason.Code{reason.TPM2ClockUnsafe}, ""},
		{"tpm-33 30 percent ahead", now(10*hour+hour*13/10, 5, 2), time.Hour, []reason.Code{reason.TPM2ClockSet}, ""},
		{"25 percent ahead is drift", now(10*hour+hour*5/4, 5, 2), time.Hour, nil, ""},
		{"tpm-33 set ahead by 150 s within one second", now(10*hour+150_000, 5, 2), time.Second, []reason.Code{reason.TPM2ClockSet}, ""},
		{"a quote late in the life of its challenge", now(10*hour+50_000, 5, 2), time.Second, nil, ""},
		{"tpm-33 at the end of the range", now(math.MaxUint64, 5, 2), time.Hour, []reason.Code{reason.TPM2ClockSet}, ""},
		{"the broker's clock stepped back", now(10*hour+1000, 5, 2), -time.Hour, nil, ""},
		{"rebooted, unsafe and set", tpm2.Clock{Millis: 90 * hour, ResetCount: 6}, time.Hour, []reason.Code{reason.TPM2Rebooted, reason.TPM2ClockUnsafe, reason.TPM2ClockSet}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			events, err := tpm2.CompareClock(prev, at, c.cur, at.Add(c.elapsed))
			wantCode(t, err, c.code)
			if diff := cmp.Diff(c.events, events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSelection(t *testing.T) {
	s := tpm2.SelectionOf(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14)
	if s.String() != "ff4300" {
		t.Errorf("PCR 0-9 and 14 are %s", s)
	}
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14}, s.Indexes()); diff != "" {
		t.Error(diff)
	}
	if s != tpm2.SelectionOf(14, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, -1, 24, 1<<40) {
		t.Error("order, repetition or impossible indexes matter")
	}
	for _, i := range []int{-1, 10, 24, 1 << 40} {
		if s.Has(i) {
			t.Errorf("PCR %d is selected", i)
		}
	}
	for _, text := range []string{"ff4300", "000000", "ffffff", "000001"} {
		if got, err := tpm2.ParseSelection(text); err != nil || got.String() != text {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "ff43", "ff430000", "FF4300", "ff430g", "0xff43", "ff43 0"} {
		_, err := tpm2.ParseSelection(text)
		wantCode(t, err, reason.RequestMalformed)
	}
}
