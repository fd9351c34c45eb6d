package eventlog_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/celog"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// lived is a boot of a machine whose systemd got as far as a phase: the events of
// the firmware, systemd's log, and the PCRs that both left.
func lived(t *testing.T, m build.Machine, u *build.Userspace) (raw []byte, user celog.Log, quoted map[int][]byte) {
	t.Helper()
	b := m.Log()
	events := b.Events()
	for _, e := range u.Extends() {
		events = append(events, build.Event{PCR: e.PCR, Type: eventlog.TypeIPL, SHA256: e.SHA256})
	}
	return b.Bytes(), cel(t, u.Bytes()), extend(events)
}

func cel(t *testing.T, raw []byte) celog.Log {
	t.Helper()
	user, err := celog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func explainWith(t *testing.T, raw []byte, quoted map[int][]byte, user celog.Log) (eventlog.Explained, error) {
	t.Helper()
	log, err := eventlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	x, err := log.ExplainWith(quoted, user)
	kept, kerr := eventlog.Keep(raw).ExplainWith(quoted, eventlog.SHA256, user)
	if reason.Of(err) != reason.Of(kerr) {
		t.Errorf("%v, kept %v", err, kerr)
	}
	if diff := cmp.Diff(facts(x), facts(kept)); diff != "" {
		t.Error(diff)
	}
	return x, err
}

const machineID = "0123456789abcdef0123456789abcdef"

// TestUserspaceExplains: PCR 9, 11 and 15 are explained by both logs together,
// and by neither alone.
func TestUserspaceExplains(t *testing.T) {
	u := build.Booted("ready", machineID)
	raw, user, quoted := lived(t, build.Machine{UKI: true}, u)
	x, err := explainWith(t, raw, quoted, user)
	if err != nil {
		t.Fatal(err)
	}
	b := x.Boot()
	if b.Phase() != "ready" {
		t.Errorf("phase %q", b.Phase())
	}
	var got []string
	for _, f := range b.Facts() {
		if f.Userspace {
			got = append(got, string(f.Kind)+" "+f.Name+" "+f.Text)
			if !f.Proved || !f.TextProved || f.Why != "" {
				t.Errorf("not proved: %+v", f)
			}
		}
	}
	nv := b.Of(eventlog.KindSystem)[0].Text
	want := []string{"phase phase enter-initrd", "system nvpcr-init " + nv, "phase phase leave-initrd", "phase phase sysinit", "system machine-id machine-id:" + machineID, "phase phase ready"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(x.EventDigests(11)); n != 12+4 || !bytes.Equal(x.EventDigests(15)[0], u.Extends()[4].SHA256[:]) {
		t.Errorf("%d digests in PCR 11", n)
	}
	for pcr, code := range map[int]reason.Code{9: reason.TPM2PCRUnexplained, 11: reason.EventLogReplayMismatch, 15: reason.TPM2PCRUnexplained} {
		_, err := explain(raw, map[int][]byte{pcr: quoted[pcr]})
		wantCode(t, err, code)
	}
	_, err = eventlog.Log{}.ExplainWith(map[int][]byte{15: quoted[15]}, user)
	if err != nil {
		t.Errorf("PCR 15 has userspace records alone: %v", err)
	}
}

// TestUserspaceLogIsLongerThanTheQuote: what was measured since the quote explains
// nothing and is no fact.
func TestUserspaceLogIsLongerThanTheQuote(t *testing.T) {
	raw, _, quoted := lived(t, build.Machine{UKI: true}, build.Booted("sysinit", machineID))
	user := cel(t, build.Booted("ready", machineID).Bytes())
	x, err := explainWith(t, raw, quoted, user)
	if err != nil {
		t.Fatal(err)
	}
	if got := x.Boot().Phase(); got != "sysinit" {
		t.Errorf("phase %q", got)
	}
	if n := len(x.Boot().Of(eventlog.KindPhase)); n != 3 {
		t.Errorf("%d phases", n)
	}
}

// TestUserspaceRefusals: a log that is too short, altered, in another order, or
// that would explain what is not systemd's.
func TestUserspaceRefusals(t *testing.T) {
	u := build.Booted("ready", machineID)
	raw, user, quoted := lived(t, build.Machine{UKI: true}, u)
	lines := strings.SplitAfter(string(u.Bytes()), "\n")
	other := &build.Userspace{}
	other.Measure(4, "phase", "x")
	foreign := maps.Clone(quoted)
	foreign[4] = extend([]build.Event{{PCR: 4, Type: 13, SHA256: other.Extends()[0].SHA256}})[4]
	withoutSHA256 := strings.ReplaceAll(string(u.Bytes()), `"sha256"`, `"sha3_256"`)
	swapped := slices.Clone(lines)
	swapped[0], swapped[2] = lines[2], lines[0]
	for name, c := range map[string]struct {
		log    string
		quoted map[int][]byte
		want   reason.Code
	}{
		"shorter":         {strings.Join(lines[:5], ""), map[int][]byte{11: quoted[11]}, reason.EventLogReplayMismatch},
		"record left out": {strings.Join(lines[1:], ""), map[int][]byte{11: quoted[11]}, reason.EventLogReplayMismatch},
		"another order":   {strings.Join(swapped, ""), map[int][]byte{11: quoted[11]}, reason.EventLogReplayMismatch},
		"record twice":    {lines[0] + string(u.Bytes()), map[int][]byte{11: quoted[11]}, reason.EventLogReplayMismatch},
		"no SHA-256":      {withoutSHA256, map[int][]byte{11: quoted[11]}, reason.EventLogDigests},
		"PCR 4":           {string(other.Bytes()), map[int][]byte{4: foreign[4]}, reason.EventLogReplayMismatch},
		"a lower PCR":     {strings.Join(lines[:5], ""), map[int][]byte{4: make([]byte, 32), 11: quoted[11]}, reason.EventLogReplayMismatch},
		"PCR of 20 bytes": {string(u.Bytes()), map[int][]byte{11: quoted[11][:20]}, reason.TPM2PCRLength},
		"PCR 24":          {string(u.Bytes()), map[int][]byte{24: quoted[11]}, reason.EventLogPCRIndex},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := explainWith(t, raw, c.quoted, cel(t, []byte(c.log)))
			wantCode(t, err, c.want)
			if name == "a lower PCR" && !strings.Contains(reason.Detail(err), "pcr=4") {
				t.Errorf("the lowest PCR is not named: %v", err)
			}
		})
	}
	if _, err := explainWith(t, raw, quoted, user); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// TestUserspaceTextIsAClaim where the digest does not cover it, as for a volume
// key, and then for what follows in that PCR: the real record may stand there.
func TestUserspaceTextIsAClaim(t *testing.T) {
	u := build.Booted("enter-initrd", machineID)
	u.MeasureAs(11, "phase", []byte("final"), "ready")
	u.Measure(11, "phase", "sysinit")
	u.MeasureAs(15, "volume-key", []byte("hmac"), "cryptsetup:root:uuid")
	raw, user, quoted := lived(t, build.Machine{UKI: true}, u)
	x, err := explainWith(t, raw, quoted, user)
	if err != nil {
		t.Fatal(err)
	}
	if got := x.Boot().Phase(); got != "enter-initrd" {
		t.Errorf("phase %q", got)
	}
	for _, f := range x.Boot().Facts() {
		if f.Userspace && f.Name == "volume-key" && (f.Proved || f.Why == "") {
			t.Errorf("proved: %+v", f)
		}
	}
}

// TestUnifiedKernel: sections are proved by the digests of their names.
func TestUnifiedKernel(t *testing.T) {
	events, _ := machine(build.Machine{UKI: true, CommandLine: "quiet"})
	b := bootOf(t, events)
	var names []string
	for _, f := range b.Of(eventlog.KindSection) {
		names = append(names, f.Name)
		if !f.Proved || !f.TextProved {
			t.Errorf("not proved: %+v", f)
		}
	}
	if diff := cmp.Diff([]string{".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"}, names); diff != "" {
		t.Error(diff)
	}
	c := b.CommandLine()
	line := build.Hashed(0, 0, []byte("quiet"), nil)
	if c.Known() || c.Proved() || c.PCR() != 11 || !bytes.Equal(c.Digest(), line.SHA256[:]) || c.Why() == "" {
		t.Errorf("command line: %+v", c)
	}
	for _, kind := range []eventlog.Kind{eventlog.KindKernel, eventlog.KindInitrd} {
		if f := b.Of(kind); len(f) != 1 || !f[0].Proved {
			t.Errorf("%s: %+v", kind, f)
		}
	}
	var config []string
	for _, f := range b.Of(eventlog.KindConfig) {
		config = append(config, f.Text)
		if f.Proved || f.Why == "" {
			t.Errorf("proved: %+v", f)
		}
	}
	if diff := cmp.Diff([]string{"loader.conf", "Credentials initrd", "System extension initrd"}, config); diff != "" {
		t.Error(diff)
	}
}

// TestForgedSections: a name under another record, a section twice, out of order,
// without content, or anything else in PCR 11.
func TestForgedSections(t *testing.T) {
	base, _ := machine(build.Machine{UKI: true})
	first := at(t, base, 11, eventlog.TypeIPL, 0)
	pair := func(name string) []build.Event {
		b := build.New()
		b.Section(name, []byte("x"))
		return b.Events()
	}
	for name, events := range map[string][]build.Event{
		"twice":         append(slices.Clone(base), pair(".linux")...),
		"out of order":  append(slices.Clone(base), pair(".osrel")...),
		"no content":    append(slices.Clone(base), pair(".profile")[0]),
		"another":       append(slices.Clone(base), measured(11, eventlog.TypeIPL, []byte("x"))),
		"name left out": remove(base, first),
		"first is not":  insert(base, first, measured(11, eventlog.TypeIPL, []byte("x"))),
	} {
		t.Run(name, func(t *testing.T) {
			x := mustExplain(t, events, extend(events))
			for _, f := range x.Boot().Of(eventlog.KindSection) {
				if f.Proved || f.Why == "" {
					t.Errorf("proved: %+v", f)
				}
			}
			if len(x.Boot().Of(eventlog.KindSection)) > 0 {
				wantFinding(t, x, 11, "")
			}
		})
	}
	// Types and data of PCR 11 are nobody's: the digests say all.
	retyped := slices.Clone(base)
	for i := range retyped {
		if retyped[i].PCR == 11 {
			retyped[i].Type, retyped[i].Data = eventlog.TypeEventTag, nil
		}
	}
	if diff := cmp.Diff(bootOf(t, base).Of(eventlog.KindSection), bootOf(t, retyped).Of(eventlog.KindSection)); diff != "" {
		t.Error(diff)
	}
	if f := bootOf(t, append(slices.Clone(base), pair(".profile")...)).Of(eventlog.KindSection); len(f) != 7 || !f[6].Proved {
		t.Errorf("one more section: %+v", f)
	}
}

// TestLoaderCommandLine: of systemd-boot, in PCR 12.
func TestLoaderCommandLine(t *testing.T) {
	base, _ := machine(build.Machine{SystemdBoot: true, KernelVersion: "6.12", CommandLine: "ro lockdown=integrity"})
	c := bootOf(t, base).CommandLine()
	if !c.Proved() || c.PCR() != 12 || !slices.Equal(c.Tokens(), []string{`initrd=\initrd-6.12`, "ro", "lockdown=integrity"}) {
		t.Errorf("%+v (%s)", c, c.Why())
	}
	line := at(t, base, 12, eventlog.TypeIPL, 0)
	own := build.New()
	own.LoadOptions("lockdown=integrity")
	own.Section(".linux", nil)
	own.Section(".cmdline", []byte("init=/bin/sh"))
	uki, options := own.Events()[1:], own.Events()[0]
	grub := build.New()
	grub.GRUBCommand("linux /k ro")
	grub.CommandLine("/k ro")
	for name, events := range map[string][]build.Event{
		"two":                      append(slices.Clone(base), options),
		"data edited":              withData(base, line, string(options.Data)),
		"real one retyped":         append(withType(base, line, eventlog.TypePostCode), options),
		"real one is an archive":   append(withData(base, line, "x\x00"), options),
		"built in and added":       append(slices.Clone(base), uki...),
		"GRUB measured one too":    append(slices.Clone(base), grub.Events()...),
		"cannot be shown":          optionsInstead(base, line, "ro \x1b[31m"),
		"longer than any kernel's": optionsInstead(base, line, strings.Repeat("x", 5000)),
	} {
		t.Run(name, func(t *testing.T) {
			b := bootOf(t, events)
			if c := b.CommandLine(); c.Proved() {
				t.Errorf("proved: %q", c.Text())
			}
			for _, f := range b.Of(eventlog.KindCommandLine) {
				if f.Proved || f.TextProved || f.Why == "" {
					t.Errorf("proved: %+v", f)
				}
			}
		})
	}
}

func optionsInstead(events []build.Event, i int, line string) []build.Event {
	b := build.New()
	b.LoadOptions(line)
	out := slices.Clone(events)
	out[i] = b.Events()[0]
	return out
}

// TestSHA384: a quote of that bank is explained by that bank, with the same facts
// and findings.
func TestSHA384(t *testing.T) {
	for _, m := range []build.Machine{{}, {UKI: true}, {SecureBootOff: true}} {
		events, quoted := machine(m)
		raw := build.New(events...).BytesIn(eventlog.SHA1, eventlog.SHA256, eventlog.SHA384)
		log, err := eventlog.ParseBank(raw, eventlog.SHA384)
		if err != nil || log.Bank() != eventlog.SHA384 {
			t.Fatal(err)
		}
		wide := map[int][]byte{}
		for pcr, v := range log.Replay() {
			wide[pcr] = v
		}
		if len(wide[17]) != 48 || wide[17][47] != 0xff {
			t.Errorf("PCR 17 starts at %x", wide[17])
		}
		x, err := log.Explain(wide)
		if err != nil {
			t.Fatal(err)
		}
		narrow, err := explain(raw, quoted)
		if err != nil {
			t.Fatal(err)
		}
		undigested := func(x eventlog.Explained) []eventlog.Fact {
			f := x.Boot().Facts()
			for i := range f {
				f[i].Digest = nil
			}
			return f
		}
		if diff := cmp.Diff(undigested(narrow), undigested(x)); diff != "" {
			t.Error(diff)
		}
		if x.SecureBoot() != narrow.SecureBoot() || len(x.EventDigests(4)) != len(narrow.EventDigests(4)) || len(x.EventDigests(4)[0]) != 48 {
			t.Errorf("secure boot %s", x.SecureBoot())
		}
		kept := eventlog.Keep(raw)
		for range 2 {
			if _, err := kept.ExplainBank(wide, eventlog.SHA384); err != nil {
				t.Error(err)
			}
			if _, err := kept.Explain(quoted); err != nil {
				t.Error(err)
			}
		}
		_, err = kept.ExplainBank(quoted, eventlog.SHA384)
		wantCode(t, err, reason.TPM2PCRLength)
		_, err = kept.ExplainBank(quoted, eventlog.SHA1)
		wantCode(t, err, reason.EventLogDigests)
		wide[4][0] ^= 1
		_, err = log.Explain(wide)
		wantCode(t, err, reason.EventLogReplayMismatch)
		_, err = eventlog.ParseBank(build.New(events...).Bytes(), eventlog.SHA384)
		wantCode(t, err, reason.EventLogDigests)
		_, err = eventlog.ParseBank(raw, eventlog.SHA1)
		wantCode(t, err, reason.EventLogDigests)
	}
	if eventlog.BankNamed("sha384") != eventlog.SHA384 || eventlog.BankNamed("sha1") != 0 || eventlog.SHA256.String() != "sha256" || eventlog.Bank(0x99).String() != "0x0099" {
		t.Error("names of banks")
	}
	if err := eventlog.Unlogged(map[int][]byte{0: make([]byte, 48)}); err != nil {
		t.Errorf("PCR 0 at reset: %v", err)
	}
	wantCode(t, eventlog.Unlogged(map[int][]byte{0: make([]byte, 48), 1: make([]byte, 32)}), reason.TPM2PCRLength)
}
