package verifier_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// TestKernelParameters: only a command line that a log explains, with every PCR
// quoted that may hold another one, reaches policy.
func TestKernelParameters(t *testing.T) {
	boot := func(t *testing.T, selection ...int) *attempt {
		a := newRenew(t)
		a.tpm.Boot(build.Machine{CommandLine: "ro lockdown=integrity"}.Log())
		a.want.Selection = tpm2.SelectionOf(selection...)
		a.answer(t)
		return a
	}
	got := mustAppraise(t, boot(t, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12))
	if parameters, ok := got.KernelParameters(); !ok || !slices.Equal(parameters, []string{"ro", "lockdown=integrity"}) {
		t.Errorf("%q, %v", parameters, ok)
	}
	for missing, selection := range map[string][]int{
		"PCR 8":  {0, 1, 2, 3, 4, 5, 6, 7, 11, 12},
		"PCR 11": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12},
		"PCR 12": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11},
	} {
		if parameters, ok := mustAppraise(t, boot(t, selection...)).KernelParameters(); ok || parameters != nil {
			t.Errorf("%s was not quoted, and %q is proved", missing, parameters)
		}
	}
	a := newRenew(t)
	a.tpm.PCRs, a.tpm.EventLog, a.want.Baseline = [24][32]byte{}, nil, nil
	a.answer(t)
	if _, ok := mustAppraise(t, a).KernelParameters(); ok {
		t.Error("a machine without a log proves a command line")
	}
}

// TestKernelParametersClaimed: a command line that does not hash to what was
// measured is not the kernel's.
func TestKernelParametersClaimed(t *testing.T) {
	a := newRenew(t)
	booted := build.Machine{CommandLine: "ro lockdown=none"}.Log()
	a.tpm.Boot(booted)
	events := booted.Events()
	changed := 0
	for i, e := range events {
		if lie := bytes.ReplaceAll(e.Data, []byte("lockdown=none"), []byte("lockdown=integrity")); e.PCR == 8 && !bytes.Equal(lie, e.Data) {
			events[i].Data = lie
			changed++
		}
	}
	a.tpm.EventLog = build.New(events...).Bytes()
	a.answer(t)
	got := mustAppraise(t, a)
	if parameters, ok := got.KernelParameters(); ok || parameters != nil || changed == 0 {
		t.Errorf("%d events changed, and %q is proved", changed, parameters)
	}
}
