package eventlog_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// bootOf is the boot that a log says, with the quote that it leads to.
func bootOf(t *testing.T, events []build.Event) eventlog.Boot {
	t.Helper()
	return mustExplain(t, events, extend(events)).Boot()
}

// one returns the only fact of a kind and name.
func one(t *testing.T, b eventlog.Boot, kind eventlog.Kind, name string) eventlog.Fact {
	t.Helper()
	var found []eventlog.Fact
	for _, f := range b.Of(kind) {
		if f.Name == name {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d facts %s %q: %+v", len(found), kind, name, b.Of(kind))
	}
	return found[0]
}

// TestBootFacts: what a common boot says, and what of it is proved.
func TestBootFacts(t *testing.T) {
	events, _ := machine(build.Machine{KernelVersion: "6.12.1", CommandLine: `ro lockdown=integrity dm="a b" "c d" -- single`})
	b := bootOf(t, events)
	type row struct {
		Kind               eventlog.Kind
		Name, Text         string
		Proved, TextProved bool
	}
	var got []row
	for _, f := range b.Facts() {
		if f.Why == "" != (f.Proved && f.TextProved) {
			t.Errorf("%s %q: proved %v, %v, why %q", f.Kind, f.Name, f.Proved, f.TextProved, f.Why)
		}
		if e := events[f.Event-1]; e.PCR != f.PCR || f.Kind != eventlog.KindSecureBoot && string(e.SHA256[:]) != string(f.Digest) {
			t.Errorf("%s %q is not of event %d", f.Kind, f.Name, f.Event)
		}
		got = append(got, row{f.Kind, strings.Fields(f.Name + f.Authority + " -")[0], f.Text, f.Proved, f.TextProved})
	}
	var authorities []string
	for i, r := range got {
		if r.Kind == eventlog.KindAuthority {
			authorities = append(authorities, r.Text)
			got[i].Text = ""
		}
	}
	want := []row{
		{eventlog.KindFirmware, "-", "Zonebroker Virtual Firmware v1", true, true},
		{eventlog.KindSecureBoot, "-", "on", true, true},
		{eventlog.KindKeys, "PK", "1 certificates, 0 hashes", true, true},
		{eventlog.KindKeys, "KEK", "2 certificates, 0 hashes", true, true},
		{eventlog.KindKeys, "db", "2 certificates, 0 hashes", true, true},
		{eventlog.KindKeys, "dbx", "0 certificates, 270 hashes", true, true},
		{eventlog.KindAuthority, "db", "", true, false},
		{eventlog.KindAuthority, "Shim", "", true, false},
		{eventlog.KindRevocations, "SbatLevel", "sbat,1,2023012900", true, false},
		{eventlog.KindMOK, "MokList", "", false, false},
		{eventlog.KindMOK, "MokListX", "", false, false},
		{eventlog.KindMOK, "MokListTrusted", "", false, false},
		{eventlog.KindApplication, "db", `\EFI\debian\shimx64.efi`, true, false},
		{eventlog.KindApplication, "Shim", `\EFI\debian\grubx64.efi`, true, false},
		{eventlog.KindApplication, "-", "/boot/vmlinuz-6.12.1", true, false},
		{eventlog.KindKernel, "-", "/boot/vmlinuz-6.12.1", false, true},
		{eventlog.KindInitrd, "-", "/boot/initrd.img-6.12.1", false, true},
		{eventlog.KindCommandLine, "-", `ro lockdown=integrity dm="a b" "c d" -- single`, true, true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"1516 bytes", "1516 bytes"}, authorities); diff != "" { // stand-ins, no DER
		t.Error(diff)
	}
	c := b.CommandLine()
	if !c.Known() || !c.Proved() || c.Why() != "" || c.PCR() != 8 || string(c.Digest()) != string(events[c.Event()-1].SHA256[:]) {
		t.Errorf("command line: %+v", c)
	}
	if diff := cmp.Diff([]string{"ro", "lockdown=integrity", "dm=a b", "c d"}, c.Tokens()); diff != "" {
		t.Error(diff)
	}
}

func keyStore(t *testing.T, b eventlog.Boot, name string) eventlog.KeyStore {
	t.Helper()
	stores := b.KeyStores()
	i := slices.IndexFunc(stores, func(k eventlog.KeyStore) bool { return k.Name() == name })
	if i < 0 {
		t.Fatalf("no key store %s", name)
	}
	return stores[i]
}

// TestKeyStores: entries by type, with their digests.
func TestKeyStores(t *testing.T) {
	events, _ := machine(build.Machine{})
	b := bootOf(t, events)
	dbx := keyStore(t, b, "dbx")
	if !dbx.Proved() || dbx.Hashes() != 270 || dbx.Certificates() != 0 || dbx.Others() != 0 {
		t.Errorf("dbx: %s, proved %v", dbx, dbx.Proved())
	}
	if len(b.KeyStores()) != 4 || string(dbx.Digest()) != string(events[dbx.Event()-1].SHA256[:]) {
		t.Errorf("%d key stores; dbx is event %d", len(b.KeyStores()), dbx.Event())
	}
	entries := dbx.Entries()
	if len(entries) != 270 || entries[0].Type != eventlog.EntrySHA256 || len(entries[0].Digest) != 64 || entries[0].Owner != "77fa9abd-0359-4d32-bd60-28f4e78f784b" {
		t.Errorf("%d entries, first %+v", len(entries), entries[0])
	}
	list := build.SignatureList(build.GUID{1}, nil, make([]byte, 48))
	with := func(value []byte) eventlog.KeyStore {
		at := at(t, events, 7, eventlog.TypeVariableDriverConfig, 3)
		forged := slices.Clone(events)
		forged[at] = measured(7, eventlog.TypeVariableDriverConfig, build.VariableData(build.ImageSecurity, "db", value))
		return keyStore(t, bootOf(t, forged), "db")
	}
	if k := with(list); k.Others() != 1 || !k.Proved() || k.Entries()[0].Type != eventlog.EntryOther {
		t.Errorf("an unknown type: %s", k)
	}
	if k := with(list[:40]); k.Proved() || k.Entries() != nil || !strings.Contains(k.String(), "no signature lists") {
		t.Errorf("a list cut short: %s, proved %v", k, k.Proved())
	}
	if k := with(build.Hashes("x", 2000)); k.Hashes() != 2000 || len(k.Entries()) != 1024 {
		t.Errorf("%s, %d entries", k, len(k.Entries()))
	}
}

// TestFirmwareVersionIsTheFirmwares: behind the separator anybody can extend one.
func TestFirmwareVersionIsTheFirmwares(t *testing.T) {
	base, _ := machine(build.Machine{})
	own := build.New()
	own.FirmwareVersion("v9")
	version, sep := own.Events()[0], at(t, base, 0, eventlog.TypeSeparator, 0)
	for name, events := range map[string][]build.Event{
		"appended":                     append(slices.Clone(base), version),
		"appended and own one renamed": append(withType(base, 0, eventlog.TypePostCode), version),
		"separator renamed":            append(withType(withType(base, 0, eventlog.TypePostCode), sep, eventlog.TypePostCode), version, separator(0)),
		"two before the separator":     insert(base, 1, version),
		"no separator":                 remove(base, sep),
		"data edited":                  withData(base, 0, "v9"),
	} {
		t.Run(name, func(t *testing.T) {
			for _, f := range bootOf(t, events).Of(eventlog.KindFirmware) {
				if f.Text == "v9" && (f.Proved || f.TextProved || f.Why == "") {
					t.Errorf("proved: %+v", f)
				}
			}
		})
	}
	x := mustExplain(t, withType(base, sep, eventlog.TypePostCode), extend(base))
	wantFinding(t, x, 0, reason.EventLogSeparator)
}

// TestAttemptIsNoApplication: an action of PCR 4 that is called an image would
// stand in the list of what was booted.
func TestAttemptIsNoApplication(t *testing.T) {
	base, _ := machine(build.Machine{})
	forged := withType(base, at(t, base, 4, eventlog.TypeEFIAction, 0), eventlog.TypeBootServicesApp)
	x := mustExplain(t, forged, extend(base))
	wantFinding(t, x, 4, reason.EventLogPCR4Grammar)
	for _, f := range x.Boot().Of(eventlog.KindApplication) {
		if f.Proved {
			t.Errorf("proved: %+v", f)
		}
	}
}

// TestStrays: events in a PCR where they do not belong.
func TestStrays(t *testing.T) {
	base, _ := machine(build.Machine{})
	authority := base[at(t, base, 7, eventlog.TypeVariableAuthority, 0)]
	app := base[at(t, base, 4, eventlog.TypeBootServicesApp, 0)]
	for name, c := range map[string]struct {
		event build.Event
		pcr   int
		code  reason.Code
	}{
		"authority in 1":        {authority, 1, reason.EventLogPCR7Grammar},
		"application in 5":      {app, 5, reason.EventLogPCR4Grammar},
		"firmware version in 1": {base[0], 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			events := append(slices.Clone(base), moved(c.event, c.pcr))
			x := mustExplain(t, events, extend(events))
			wantFinding(t, x, c.pcr, c.code)
			if diff := cmp.Diff(len(bootOf(t, base).Facts()), len(x.Boot().Facts())); diff != "" {
				t.Errorf("facts: %s", diff)
			}
		})
	}
}

// TestAuthorities: one that its digest does not cover takes the proof from all,
// because the real one may stand under it.
func TestAuthorities(t *testing.T) {
	base, _ := machine(build.Machine{})
	first := at(t, base, 7, eventlog.TypeVariableAuthority, 0)
	for _, f := range bootOf(t, withData(base, first, "x")).Facts() {
		if f.PCR == 7 && f.Event > first && f.Proved {
			t.Errorf("proved: %+v", f)
		}
	}
	if f := one(t, bootOf(t, base), eventlog.KindAuthority, "db"); !f.Proved {
		t.Errorf("not proved: %+v", f)
	}
}

// TestOmitted: facts are bounded, and what is left out is counted.
func TestOmitted(t *testing.T) {
	b := build.New()
	for range 100 {
		b.Application("x", nil)
	}
	boot := bootOf(t, b.Events())
	if n := len(boot.Of(eventlog.KindApplication)); n != 64 || boot.Omitted() != 36 {
		t.Errorf("%d facts, %d omitted", n, boot.Omitted())
	}
}

// TestOnlyQuotedPCRsSpeak: without PCR 8 in the quote there is no command line.
func TestOnlyQuotedPCRsSpeak(t *testing.T) {
	events, quoted := machine(build.Machine{})
	delete(quoted, 8)
	delete(quoted, 9)
	b := mustExplain(t, events, quoted).Boot()
	if c := b.CommandLine(); c.Known() || len(b.Of(eventlog.KindKernel)) != 0 {
		t.Errorf("%+v", b.Facts())
	}
	if len(eventlog.Explained{}.Boot().Facts()) != 0 {
		t.Error("a log that explained nothing has facts")
	}
}

// TestVectorFacts: what the real logs say about their boots.
func TestVectorFacts(t *testing.T) {
	dir := vectors(t)
	want := map[string]struct {
		firmware, token string
		proved          bool
		dbx             string
	}{
		"google+go-tpm-tools/confidential-gke-debug-251000_eventlog.bin": {"GCE Virtual Firmware v2", "init=/usr/lib/systemd/systemd", true, "4 certificates, 0 hashes"},
		"google+go-tpm-tools/ubuntu-2404-amd-sevsnp.bin":                 {"GCE Virtual Firmware v2", "panic=-1", true, "0 certificates, 371 hashes"},
		"google+go-tpm-tools/arch-linux-workstation.bin":                 {"guid 546bfb1e-1d0c-4055-a4ad-4ef4bf17b83a", "intel_iommu=on", false, "0 certificates, 77 hashes"},
		"keylime+rust-keylime/uefi_log.bin":                              {"N3VET59W", "quiet", true, "2 certificates, 480 hashes"},
		"kgoldman+ibmtss/deb1.log":                                       {"SDV.RP.B11.04 Release Build", "quiet", true, ""},
		"kgoldman+ibmtss/dell1.log":                                      {"", "", false, "1 certificates, 83 hashes"},
	}
	ran, facts := 0, 0
	for _, row := range manifest(t, dir, "eventlog") {
		if row.verdict != "accept" || row.context["check"] != "replay" || row.context["replay"] == "" {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, row.path))
		if err != nil {
			t.Fatal(err)
		}
		x := selfExplained(t, raw)
		b := x.Boot()
		ran++
		facts += len(b.Facts())
		w, ok := want[row.path]
		if !ok {
			continue
		}
		if f := b.Of(eventlog.KindFirmware); len(f) != 1 || !f[0].Proved || f[0].Text != w.firmware {
			t.Errorf("%s: firmware %+v", row.path, f)
		}
		c := b.CommandLine()
		if c.Proved() != w.proved || w.token != "" && !slices.Contains(c.Tokens(), w.token) {
			t.Errorf("%s: command line %q proved %v (%s)", row.path, c.Text(), c.Proved(), c.Why())
		}
		if w.dbx != "" {
			if k := keyStore(t, b, "dbx"); k.String() != w.dbx || !k.Proved() {
				t.Errorf("%s: dbx %s proved %v", row.path, k, k.Proved())
			}
		}
	}
	t.Logf("%d logs, %d facts", ran, facts)
	if ran < 20 {
		t.Errorf("only %d logs ran", ran)
	}
}

// selfExplained explains the values that the log itself leads to.
func selfExplained(t *testing.T, raw []byte) eventlog.Explained {
	t.Helper()
	log, err := eventlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	quoted := map[int][]byte{}
	for i, v := range log.Replay() {
		quoted[i] = v
	}
	x, err := log.Explain(quoted)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestBootDigest: two boots have one digest exactly if they say the same.
func TestBootDigest(t *testing.T) {
	base, _ := machine(build.Machine{})
	app := at(t, base, 4, eventlog.TypeBootServicesApp, 0)
	first := bootOf(t, base).Digest()
	if again := bootOf(t, base).Digest(); again != first {
		t.Error("the same boot has another digest")
	}
	seen := map[[32]byte]string{first: "base"}
	many := build.New(base...)
	for range 70 {
		many.Application("x", nil)
	}
	more := build.New(many.Events()...)
	more.Application("x", nil)
	for name, events := range map[string][]build.Event{
		"another path":          withData(base, app, ""),
		"another kernel":        build.Machine{Kernel: []byte("x")}.Log().Events(),
		"another command line":  build.Machine{CommandLine: "x"}.Log().Events(),
		"a proof less":          withType(base, app, eventlog.TypePlatformFirmwareBlob),
		"facts left out":        many.Events(),
		"one more is left out":  more.Events(),
		"an event in between":   insert(base, 0, measured(0, eventlog.TypePostCode, nil)),
		"nothing but userspace": nil,
	} {
		d := bootOf(t, events).Digest()
		if other, ok := seen[d]; ok {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[d] = name
	}
	raw, user, quoted := lived(t, build.Machine{}, build.Booted("ready", machineID))
	x, err := explainWith(t, raw, quoted, user)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := seen[x.Boot().Digest()]; ok {
		t.Error("the phases of the boot are not in the digest")
	}
}
