package verifier_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// TestInvariant3_AppraiseExplainsEveryQuotedPCR: every quoted PCR is explained by the log of this boot.
func TestInvariant3_AppraiseExplainsEveryQuotedPCR(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(a *attempt)               // the TPM, before it quotes
		after  func(t testing.TB, a *attempt) // the request
		want   reason.Code
	}{
		{"no log and nothing kept", nil, func(_ testing.TB, a *attempt) {
			a.ev.TPM2.EventLog, a.want.Baseline.Log = nil, nil
		}, reason.EventLogMissing},
		{"no log and no baseline", nil, func(_ testing.TB, a *attempt) {
			a.ev.TPM2.EventLog, a.want.Baseline = nil, nil
		}, reason.EventLogMissing},
		{"the kept log is of another boot", func(a *attempt) {
			a.tpm.PCRs[9] = [32]byte{9}
		}, func(_ testing.TB, a *attempt) { a.ev.TPM2.EventLog = nil }, reason.EventLogMissing},
		{"the kept log does not parse", nil, func(_ testing.TB, a *attempt) {
			a.ev.TPM2.EventLog, a.want.Baseline.Log = nil, eventlog.Keep([]byte("gone bad"))
		}, reason.EventLogMissing},
		{"rebooted into the same system without its log", func(a *attempt) {
			a.tpm.Boot(build.Machine{}.Log())
		}, func(_ testing.TB, a *attempt) { a.ev.TPM2.EventLog = nil }, reason.EventLogMissing},
		{"a log of another system", nil, func(_ testing.TB, a *attempt) {
			a.ev.TPM2.EventLog = build.Machine{KernelVersion: "6.9"}.Log().Bytes()
		}, reason.EventLogReplayMismatch},
		{"a log that does not parse", nil, func(_ testing.TB, a *attempt) {
			a.ev.TPM2.EventLog = a.ev.TPM2.EventLog[:100]
		}, reason.EventLogTruncated},
		{"extended after the log ended", func(a *attempt) {
			a.tpm.Extend(2, [32]byte{2})
		}, nil, reason.EventLogReplayMismatch},
		{"a quoted PCR without any event", func(a *attempt) {
			a.want.Selection = tpm2.SelectionOf(0, 4, 7, 16)
			a.tpm.Extend(16, [32]byte{16})
		}, nil, reason.TPM2PCRUnexplained},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newRenew(t)
			if tt.before != nil {
				tt.before(a)
				a.answer(t)
			}
			if tt.after != nil {
				tt.after(t, a)
			}
			got, err := a.appraise()
			if reason.Of(err) != tt.want {
				t.Fatalf("code %q, want %q (%v)", reason.Of(err), tt.want, err)
			}
			if !got.Authentic() {
				t.Error("the author is known, whatever the log says")
			}
			if got.EventLog() != nil || got.EventDigests(4) != nil || got.SecureBoot() != "unknown" || got.SecureBootUnproved() != nil {
				t.Error("a log that explains nothing left facts behind")
			}
		})
	}
	t.Run("no log is needed while every quoted PCR is at its reset value", func(t *testing.T) {
		a := newRenew(t)
		a.tpm.PCRs, a.tpm.EventLog, a.want.Baseline = [24][32]byte{}, nil, nil
		a.answer(t)
		got := mustAppraise(t, a)
		if got.SecureBoot() != "unknown" || got.EventDigests(0) != nil || len(got.PCRs()) != 11 {
			t.Errorf("secure boot %q, %d PCRs", got.SecureBoot(), len(got.PCRs()))
		}
		a.moveOn(t, got)
		if a.want.Baseline.Log != nil {
			t.Fatal("there was no log to keep")
		}
		mustAppraise(t, a)
	})
}

func TestT13_AppraiseClock(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(p *evidencetest.TPM) // since the baseline, a minute ago
		events []reason.Code
		want   reason.Code
	}{
		{"a minute later", func(*evidencetest.TPM) {}, nil, ""},
		{"rebooted", func(p *evidencetest.TPM) { p.Boot(build.Machine{}.Log()) }, []reason.Code{reason.TPM2Rebooted}, ""},
		{"resumed", func(p *evidencetest.TPM) { p.Clock.RestartCount++ }, []reason.Code{reason.TPM2Resumed}, ""},
		{"clock set ahead", func(p *evidencetest.TPM) { p.Wait(time.Hour) }, []reason.Code{reason.TPM2ClockSet}, ""},
		{"safe is no, said once", func(p *evidencetest.TPM) { p.Clock.Safe = false }, []reason.Code{reason.TPM2ClockUnsafe}, ""},
		{"other firmware", func(p *evidencetest.TPM) { p.Firmware++ }, []reason.Code{reason.TPM2FirmwareChanged}, ""},
		{"clock went back", func(p *evidencetest.TPM) { p.Clock.Millis -= 120_000 }, nil, reason.TPM2RolledBack},
		{"TPM2_Clear", func(p *evidencetest.TPM) { p.Clock = tpm2.Clock{Millis: 5, Safe: true} }, nil, reason.TPM2RolledBack},
		{"an older state, unsafe, other firmware", func(p *evidencetest.TPM) {
			p.Clock.ResetCount, p.Clock.Safe, p.Firmware = 1, false, 1
		}, []reason.Code{reason.TPM2ClockUnsafe, reason.TPM2FirmwareChanged}, reason.TPM2RolledBack},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newRenew(t)
			tt.change(a.tpm)
			a.answer(t)
			got, err := a.appraise()
			if reason.Of(err) != tt.want {
				t.Errorf("code %q, want %q (%v)", reason.Of(err), tt.want, err)
			}
			if diff := cmp.Diff(tt.events, got.Events()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if clean := slices.Contains(passed(got), "tpm2.clock"); clean != (tt.want == "") {
				t.Errorf("the clock passed: %t", clean)
			}
			for _, f := range got.Findings() {
				if reason.Lookup(f.Code).Class == reason.Event && f.Code != "" && f.Detail == "" {
					t.Errorf("event %s does not say what it means", f.Code)
				}
			}
		})
	}
	t.Run("safe is no at first contact", func(t *testing.T) {
		a := newEnrol(t)
		a.tpm.Clock.Safe = false
		a.answer(t)
		if got := mustAppraise(t, a); !slices.Equal(got.Events(), []reason.Code{reason.TPM2ClockUnsafe}) {
			t.Errorf("events %v", got.Events())
		}
	})
	t.Run("the issue time of the challenge counts, not the arrival", func(t *testing.T) {
		a := newRenew(t)
		a.tpm.Wait(10 * time.Minute)
		a.answer(t)
		a.now = a.now.Add(time.Hour)
		if got := mustAppraise(t, a); !slices.Equal(got.Events(), []reason.Code{reason.TPM2ClockSet}) {
			t.Errorf("events %v", got.Events())
		}
	})
}
