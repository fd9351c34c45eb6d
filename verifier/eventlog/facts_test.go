package eventlog_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestGrammar changes a boot so that it still replays, and looks at what is left
// of its facts. The quote is that of the changed log: the digests are the TPM's,
// types and data are the sender's.
func TestGrammar(t *testing.T) {
	on, _ := machine(build.Machine{})
	off, _ := machine(build.Machine{SecureBootOff: true})
	sb := at(t, on, 7, eventlog.TypeVariableDriverConfig, 0)
	db := at(t, on, 7, eventlog.TypeVariableDriverConfig, 3)
	sep7 := at(t, on, 7, eventlog.TypeSeparator, 0)
	sep5 := at(t, on, 5, eventlog.TypeSeparator, 0)
	app := at(t, on, 4, eventlog.TypeBootServicesApp, 0)
	authority := at(t, on, 7, eventlog.TypeVariableAuthority, 0)
	retype := func(events []build.Event, i int, typ uint32) []build.Event {
		out := slices.Clone(events)
		out[i].Type = typ
		return out
	}
	redata := func(events []build.Event, i int, data []byte) []build.Event {
		out := slices.Clone(events)
		out[i].Data = data
		return out
	}
	replace := func(events []build.Event, i int, e build.Event) []build.Event {
		out := slices.Clone(events)
		out[i] = e
		return out
	}
	variable := func(name string, value []byte) build.Event {
		return measured(7, eventlog.TypeVariableDriverConfig, build.VariableData(build.ImageSecurity, name, value))
	}
	list := build.Hashes("x", 3)

	const none = reason.Code("")
	for name, c := range map[string]struct {
		events []build.Event
		boot   string      // Secure Boot
		why    reason.Code // why it is unknown
		pcr    int         // of the finding
		code   reason.Code // none: no finding with a code
	}{
		"unchanged, on":                         {on, "on", none, 0, none},
		"unchanged, off":                        {off, "off", none, 0, none},
		"SecureBoot without data counts as off": {replace(on, sb, secureBootVariable()), "off", none, 0, none},
		"separator of ones":                     {replace(on, sep7, measured(7, eventlog.TypeSeparator, []byte("\xff\xff\xff\xff"))), "on", none, 0, none},

		"tpm-75_T23_retyped_and_own_one_appended":        {append(retype(off, sb, eventlog.TypeUnused), secureBootVariable(1)), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-75_T23_retyped_to_authority":                {append(retype(off, sb, eventlog.TypeVariableAuthority), secureBootVariable(1)), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-75_T23_own_one_and_own_separator_appended":  {append(retype(off, sb, eventlog.TypeUnused), secureBootVariable(1), separator(7)), "unknown", reason.EventLogSeparator, 7, reason.EventLogSeparator},
		"tpm-75_T24_variable_after_the_separator":        {append(slices.Clone(on), variable("dbt", nil)), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-75_SecureBoot_twice":                        {insert(on, sb, secureBootVariable(1)), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-75_SecureBoot_on_then_off":                  {insert(on, sb+1, secureBootVariable(0)), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-75_no_SecureBoot":                           {remove(on, sb), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-75_SecureBoot_2":                            {replace(on, sb, secureBootVariable(2)), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-75_SecureBoot_of_two_bytes":                 {replace(on, sb, secureBootVariable(1, 0)), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-75_SecureBoot_of_another_vendor":            {replace(on, sb, variable("SecureBoot", []byte{1})), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-75_SecureBoot_in_other_letters":             {replace(on, sb, measured(7, eventlog.TypeVariableDriverConfig, build.VariableData(build.GlobalVariable, "Secureboot", []byte{1}))), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-75_SecureBoot_with_high_bytes":              {replace(on, sb, measured(7, eventlog.TypeVariableDriverConfig, build.VariableData(build.GlobalVariable, "\u0153ecureBoot", []byte{1}))), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-75_action_before_the_separator":             {insert(on, sb, measured(7, eventlog.TypeEFIAction, []byte("UEFI Debug Mode"))), "unknown", reason.EventLogPCR7Grammar, 7, reason.EventLogPCR7Grammar},
		"tpm-76_SecureBoot_in_pcr_1":                     {insert(remove(on, sb), sb, moved(secureBootVariable(1), 1)), "unknown", reason.EventLogPCR7Grammar, 1, reason.EventLogPCR7Grammar},
		"tpm-76_SecureBoot_in_pcr_5_beside_the_real_one": {insert(off, sb, moved(secureBootVariable(1), 5)), "off", none, 5, reason.EventLogPCR7Grammar},
		"tpm-77_T25_SecureBoot_data_edited":              {redata(off, sb, secureBootVariable(1).Data), "unknown", reason.EventLogDataDigest, 7, reason.EventLogDataDigest},
		"tpm-77_T25_db_data_edited":                      {redata(on, db, variable("db", list).Data), "unknown", reason.EventLogDataDigest, 7, reason.EventLogDataDigest},
		"tpm-77_T25_separator_data_edited":               {redata(on, sep7, []byte("\xff\xff\xff\xff")), "unknown", reason.EventLogDataDigest, 7, reason.EventLogDataDigest},
		"tpm-77_T25_authority_data_edited_is_a_note":     {redata(on, authority, on[authority].Data[1:]), "on", none, 7, reason.EventLogDataDigest},
		"tpm-77_T25_firmware_version_edited":             {redata(on, 0, []byte("v9")), "on", none, 0, reason.EventLogDataDigest},
		"tpm-78_T24_two_separators_in_pcr_7":             {append(slices.Clone(on), separator(7)), "unknown", reason.EventLogSeparator, 7, reason.EventLogSeparator},
		"tpm-78_T24_no_separator_in_pcr_7":               {remove(on, sep7), "unknown", reason.EventLogSeparator, 7, reason.EventLogSeparator},
		"tpm-78_T24_error_separator_in_pcr_7":            {replace(on, sep7, measured(7, eventlog.TypeSeparator, []byte{1, 0, 0, 0})), "unknown", reason.EventLogSeparator, 7, reason.EventLogSeparator},
		"tpm-78_T24_two_separators_in_pcr_5":             {append(slices.Clone(on), separator(5)), "on", none, 5, reason.EventLogSeparator},
		"tpm-78_T24_no_separator_in_pcr_5":               {remove(on, sep5), "on", none, 5, reason.EventLogSeparator},
		"tpm-78_T24_separator_of_five_bytes":             {replace(on, sep5, measured(5, eventlog.TypeSeparator, make([]byte, 5))), "on", none, 5, reason.EventLogSeparator},
		"tpm-79_application_retyped":                     {retype(on, app, eventlog.TypePlatformFirmwareBlob), "on", none, 4, reason.EventLogPCR4Grammar},
		"tpm-80_T28_signature_header":                    {replace(on, db, variable("db", build.SignatureList(build.GUID{}, make([]byte, 48), make([]byte, 48)))), "on", none, 7, reason.EventLogSignatureList},
		"tpm-80_T28_signature_size_12":                   {replace(on, db, variable("db", patched(list, 24, 12))), "on", none, 7, reason.EventLogSignatureList},
		"tpm-80_T28_signature_size_0":                    {replace(on, db, variable("db", patched(list, 24, 0))), "on", none, 7, reason.EventLogSignatureList},
		"tpm-80_T28_signature_size_ffffffff":             {replace(on, db, variable("db", patched(list, 24, 0xffffffff))), "on", none, 7, reason.EventLogSignatureList},
		"tpm-80_T28_list_size_27":                        {replace(on, db, variable("dbx", patched(list, 16, 27))), "on", none, 7, reason.EventLogSignatureList},
		"tpm-80_T28_list_size_27_that_would_divide":      {replace(on, db, variable("dbx", append(patched(patched(list, 16, 27), 24, 17)[:27:27], build.SignatureList(build.GUID{}, nil, make([]byte, 48))...))), "on", none, 7, reason.EventLogSignatureList},
		"tpm-80_T28_list_size_0":                         {replace(on, db, variable("dbx", patched(list, 16, 0))), "on", none, 7, reason.EventLogSignatureList},
		"tpm-80_T28_list_longer_than_the_variable":       {replace(on, db, variable("dbx", patched(list, 16, uint32(len(list)+48)))), "on", none, 7, reason.EventLogSignatureList},
		"tpm-80_T28_list_cut_short":                      {replace(on, db, variable("KEK", list[:27])), "on", none, 7, reason.EventLogSignatureList},
		"tpm-81_name_length_2_63":                        {replace(on, sb, measured(7, eventlog.TypeVariableDriverConfig, wide(secureBootVariable(1).Data, 16, 1<<63))), "unknown", reason.EventLogVariable, 7, reason.EventLogVariable},
		"tpm-81_name_length_that_wraps_to_the_right_one": {replace(on, sb, measured(7, eventlog.TypeVariableDriverConfig, wide(secureBootVariable(1).Data, 16, 1<<63+10))), "unknown", reason.EventLogVariable, 7, reason.EventLogVariable},
		"tpm-81_data_length_2_64":                        {replace(on, sb, measured(7, eventlog.TypeVariableDriverConfig, wide(secureBootVariable(1).Data, 24, 1<<64-1))), "unknown", reason.EventLogVariable, 7, reason.EventLogVariable},
		"tpm-81_bytes_behind_the_data":                   {replace(on, sb, measured(7, eventlog.TypeVariableDriverConfig, append(secureBootVariable(1).Data, 0))), "unknown", reason.EventLogVariable, 7, reason.EventLogVariable},
		"tpm-81_data_cut_off":                            {replace(on, sb, measured(7, eventlog.TypeVariableDriverConfig, secureBootVariable(1).Data[:len(secureBootVariable(1).Data)-1])), "unknown", reason.EventLogVariable, 7, reason.EventLogVariable},
		"tpm-81_header_cut_short":                        {replace(on, sb, measured(7, eventlog.TypeVariableDriverConfig, secureBootVariable(1).Data[:31])), "unknown", reason.EventLogVariable, 7, reason.EventLogVariable},
	} {
		t.Run(name, func(t *testing.T) {
			x := mustExplain(t, c.events, extend(c.events))
			if got := x.SecureBoot(); got != c.boot {
				t.Errorf("secure boot = %s, want %s (%v)", got, c.boot, x.Findings())
			}
			wantCode(t, x.SecureBootUnproved(), c.why)
			if c.code != none {
				wantFinding(t, x, c.pcr, c.code)
				return
			}
			if f := x.Findings(); len(f) != 0 {
				t.Errorf("findings: %v", f)
			}
		})
	}
}

func moved(e build.Event, pcr int) build.Event {
	e.PCR = pcr
	return e
}

func patched(b []byte, offset int, v uint32) []byte { return put32(b, offset, v) }

func wide(b []byte, offset int, v uint64) []byte {
	out := slices.Clone(b)
	binary.LittleEndian.PutUint64(out[offset:], v)
	return out
}

// TestT23_NoRetypingTurnsSecureBootOn: a host booted without Secure Boot. Its
// owner appends what a boot with Secure Boot would measure, and may present the
// firmware's events of PCR 7 under any type and with any data. Whatever the
// mixture, the log never proves Secure Boot.
func TestT23_NoRetypingTurnsSecureBootOn(t *testing.T) {
	base, _ := machine(build.Machine{SecureBootOff: true})
	tail := []build.Event{secureBootVariable(1), separator(7)}
	events := append(base, tail...)
	quoted := extend(events)
	lies := [][]byte{nil, secureBootVariable(1).Data, build.VariableData(build.ImageSecurity, "dbt", nil), make([]byte, 4)}
	types := []uint32{
		eventlog.TypeUnused, eventlog.TypeSeparator, eventlog.TypeEFIAction, eventlog.TypeVariableDriverConfig,
		eventlog.TypeVariableAuthority, eventlog.TypeVariableBoot, eventlog.TypeIPL, eventlog.TypeHCRTMEvent, 0xffffffff,
	}
	var firmware []int
	for i, e := range base {
		if e.PCR == 7 {
			firmware = append(firmware, i)
		}
	}
	tries := 0
	for _, typ := range types {
		for li, lie := range append(lies, []byte("keep")) {
			for from := range firmware {
				forged := slices.Clone(events)
				for _, i := range firmware[from:] {
					forged[i].Type = typ
					if li < len(lies) {
						forged[i].Data = lie
					}
				}
				tries++
				if got := mustExplain(t, forged, quoted).SecureBoot(); got == eventlog.SecureBootOn {
					t.Fatalf("type 0x%x, data %d, from event %d: Secure Boot is proved to be on", typ, li, firmware[from])
				}
			}
		}
	}
	t.Logf("%d forgeries", tries)
}

// TestFindingsAreBounded: twenty thousand slips are one line a PCR and code, and
// hold nothing of the log.
func TestFindingsAreBounded(t *testing.T) {
	var events []build.Event
	for i := range 20_000 {
		e := separator(i % 8)
		e.Data = []byte("\x1b[31mowned\n")
		events = append(events, e)
	}
	x := mustExplain(t, events, extend(events))
	if n := len(x.Findings()); n > 32 {
		t.Errorf("%d findings", n)
	}
	for _, f := range x.Findings() {
		if want := fmt.Sprintf("pcr=%d: ", f.PCR); len(f.Detail) > 120 || f.Detail[:len(want)] != want {
			t.Errorf("detail %q", f.Detail)
		}
		for _, c := range f.Detail {
			if c < ' ' {
				t.Errorf("detail %q holds bytes of the log", f.Detail)
			}
		}
	}
}

// TestApplicationBeforeBootAttemptIsANote: ten of the real logs have it.
func TestApplicationBeforeBootAttemptIsANote(t *testing.T) {
	events, _ := machine(build.Machine{})
	events = remove(events, at(t, events, 4, eventlog.TypeEFIAction, 0))
	x := mustExplain(t, events, extend(events))
	wantFinding(t, x, 4, "")
	if x.SecureBoot() != eventlog.SecureBootOn {
		t.Error("a note about PCR 4 weakens PCR 7")
	}
}
