package eventlog_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestWhatTheGrammarNotes adds events to a boot that is in order and looks at all
// that is then noted, by PCR and code.
func TestWhatTheGrammarNotes(t *testing.T) {
	base, _ := machine(build.Machine{})
	sep6 := at(t, base, 6, eventlog.TypeSeparator, 0)
	app := base[at(t, base, 4, eventlog.TypeBootServicesApp, 0)]
	ones := measured(6, eventlog.TypeEFIAction, []byte("\xff\xff\xff\xff"))
	zeros := measured(6, eventlog.TypeEFIAction, make([]byte, 4))
	failed := measured(6, eventlog.TypeSeparator, []byte{1, 0, 0, 0})
	bootOrder := build.VariableData(build.GlobalVariable, "BootOrder", []byte{1, 0})
	returned := measured(4, eventlog.TypeEFIAction, []byte("Returning from EFI Application from Boot Option"))
	type note struct {
		PCR  int
		Code reason.Code
	}
	separators := []note{{6, reason.EventLogSeparator}}
	for name, c := range map[string]struct {
		events []build.Event
		want   []note
	}{
		"separator of ones under another type before its own":    {insert(base, sep6, ones), separators},
		"separator of zeros under another type behind its own":   {insert(base, sep6+1, zeros), separators},
		"separator of a failed firmware behind its own":          {insert(base, sep6+1, failed), separators},
		"separator in a PCR of the operating system":             {append(slices.Clone(base), separator(8), separator(8), separator(23)), nil},
		"second separators in two PCRs":                          {append(slices.Clone(base), separator(3), separator(5)), []note{{3, reason.EventLogSeparator}, {5, reason.EventLogSeparator}}},
		"application behind an attempt and its return":           {append(slices.Clone(base), returned, app), nil},
		"application that an option ROM measured":                {append(slices.Clone(base), moved(app, 2)), nil},
		"firmware volume of another PCR":                         {append(slices.Clone(base), measured(1, eventlog.TypeSCRTMContents, []byte("x"))), []note{{1, ""}}},
		"authority that is no variable":                          {append(slices.Clone(base), measured(7, eventlog.TypeVariableAuthority, []byte("x"))), []note{{7, reason.EventLogVariable}}},
		"configuration that is no variable":                      {append(slices.Clone(base), measured(1, eventlog.TypeVariableDriverConfig, []byte("x"))), []note{{1, reason.EventLogVariable}}},
		"configuration in a PCR that is not that of Secure Boot": {append(slices.Clone(base), measured(1, eventlog.TypeVariableDriverConfig, bootOrder)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			x := mustExplain(t, c.events, extend(c.events))
			var got []note
			for _, f := range x.Findings() {
				got = append(got, note{f.PCR, f.Code})
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNotesWeakenNothing: what many real logs do leaves the images proved.
func TestNotesWeakenNothing(t *testing.T) {
	base, _ := machine(build.Machine{})
	events := remove(base, at(t, base, 4, eventlog.TypeEFIAction, 0))
	x := mustExplain(t, events, extend(events))
	wantFinding(t, x, 4, "")
	for _, f := range x.Boot().Of(eventlog.KindApplication) {
		if !f.Proved {
			t.Errorf("not proved: %+v", f)
		}
	}
}

// TestSecureBootNamesTheFirstSlip: of several the first one is told to the
// operator; the later ones may follow from it.
func TestSecureBootNamesTheFirstSlip(t *testing.T) {
	base, _ := machine(build.Machine{})
	sep := at(t, base, 7, eventlog.TypeSeparator, 0)
	events := slices.Clone(base)
	events[sep] = measured(7, eventlog.TypeSeparator, []byte{1, 0, 0, 0})
	events = append(events, separator(7))
	err := mustExplain(t, events, extend(events)).SecureBootUnproved()
	wantCode(t, err, reason.EventLogSeparator)
	if !strings.Contains(reason.Detail(err), "other data") {
		t.Errorf("detail %q", reason.Detail(err))
	}
}

// TestSecureBootIsOneByte: of a longer value another reader takes another byte.
func TestSecureBootIsOneByte(t *testing.T) {
	base, _ := machine(build.Machine{})
	for _, value := range [][]byte{{0, 1}, {0, 0}, {1, 1}} {
		events := slices.Clone(base)
		events[at(t, base, 7, eventlog.TypeVariableDriverConfig, 0)] = secureBootVariable(value...)
		if got := mustExplain(t, events, extend(events)).SecureBoot(); got != eventlog.SecureBootUnknown {
			t.Errorf("%x: Secure Boot is %s", value, got)
		}
	}
}
