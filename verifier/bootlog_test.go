package verifier_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// unified is a machine that booted a unified kernel and whose systemd measured.
func unified(t *testing.T, a *attempt, u *build.Userspace) {
	t.Helper()
	a.tpm.Boot(build.Machine{UKI: true}.Log())
	for _, e := range u.Extends() {
		a.tpm.Extend(e.PCR, e.SHA256)
	}
	a.want.Selection = tpm2.SelectionOf(0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 15)
	a.answer(t)
	a.ev.TPM2.UserspaceLog = u.Bytes()
}

// TestAppraiseUserspaceLog: with the firmware's log, and with the one that was
// kept; the userspace log itself comes with each quote.
func TestAppraiseUserspaceLog(t *testing.T) {
	u := build.Booted("ready", "0123456789abcdef0123456789abcdef")
	a := newRenew(t)
	unified(t, a, u)
	got := mustAppraise(t, a)
	if got.Boot().Phase() != "ready" || len(got.EventDigests(11)) != 16 {
		t.Errorf("phase %q, %d events in PCR 11", got.Boot().Phase(), len(got.EventDigests(11)))
	}
	a.want.Baseline.Log = eventlog.Keep(a.ev.TPM2.EventLog)
	a.want.Baseline.Clock.ResetCount = a.tpm.Clock.ResetCount
	a.ev.TPM2.EventLog = nil
	if got := mustAppraise(t, a); got.Boot().Phase() != "ready" || got.EventLog() == nil {
		t.Errorf("on the kept log: phase %q", got.Boot().Phase())
	}
	sameForm(t, got)
	for name, tt := range map[string]struct {
		change func(a *attempt)
		want   reason.Code
	}{
		"no userspace log":        {func(a *attempt) { a.ev.TPM2.UserspaceLog = nil }, reason.TPM2PCRUnexplained},
		"cut":                     {func(a *attempt) { a.ev.TPM2.UserspaceLog = u.Bytes()[:len(u.Bytes())-9] }, reason.EventLogTruncated},
		"no JSON":                 {func(a *attempt) { a.ev.TPM2.UserspaceLog = []byte("x\n") }, reason.RequestMalformed},
		"kept log, no userspace":  {func(a *attempt) { a.ev.TPM2.EventLog, a.ev.TPM2.UserspaceLog = nil, nil }, reason.EventLogMissing},
		"userspace log alone":     {func(a *attempt) { a.ev.TPM2.EventLog, a.want.Baseline = nil, nil }, reason.EventLogMissing},
		"extended since the log":  {func(a *attempt) { a.tpm.Extend(15, [32]byte{1}) }, reason.EventLogReplayMismatch},
		"a PCR of the firmware's": {func(a *attempt) { a.tpm.Extend(2, [32]byte{1}) }, reason.EventLogReplayMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			a := newRenew(t)
			unified(t, a, u)
			a.want.Baseline.Log = eventlog.Keep(a.ev.TPM2.EventLog)
			tt.change(a)
			log, user := a.ev.TPM2.EventLog, a.ev.TPM2.UserspaceLog
			a.answer(t)
			a.ev.TPM2.EventLog, a.ev.TPM2.UserspaceLog = log, user
			got, err := a.appraise()
			if reason.Of(err) != tt.want {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if got.Boot().Phase() != "" || len(got.Boot().Facts()) != 0 {
				t.Error("a log that explains nothing left facts behind")
			}
		})
	}
}
