package eventlog_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

func db(value []byte) build.Event {
	return measured(7, eventlog.TypeVariableDriverConfig, build.VariableData(build.ImageSecurity, "db", value))
}

// TestKeysOfABrokenPCR7: root extends a list of keys of choice behind the
// separator, or calls something else one. It is no key store, and what the
// firmware measured is only claimed as long as PCR 7 does not hold.
func TestKeysOfABrokenPCR7(t *testing.T) {
	base, _ := machine(build.Machine{})
	first := at(t, base, 7, eventlog.TypeVariableDriverConfig, 3)
	own := db(build.Hashes("root's own", 1))
	for name, events := range map[string][]build.Event{
		"keys behind the separator": append(slices.Clone(base), own),
		"keys of another type":      insert(base, first, withType([]build.Event{own}, 0, eventlog.TypeVariableBoot)[0]),
	} {
		boot := bootOf(t, events)
		if n := len(boot.KeyStores()); n != 4 {
			t.Errorf("%s: %d key stores", name, n)
		}
		for _, k := range boot.KeyStores() {
			if k.Proved() {
				t.Errorf("%s: %s is proved", name, k.Name())
			}
		}
		seen := 0
		for _, f := range boot.Facts() {
			if f.PCR != 7 {
				continue
			}
			seen++
			if f.Proved || f.TextProved || f.Why != "the grammar of PCR 7 does not hold" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if seen != 4+2+1 {
			t.Errorf("%s: %d facts of PCR 7", name, seen)
		}
	}
}

// TestUncoveredAuthority: the real entry may stand under another one, so that one
// without its digest takes the proof from all.
func TestUncoveredAuthority(t *testing.T) {
	base, _ := machine(build.Machine{})
	first := at(t, base, 7, eventlog.TypeVariableAuthority, 0)
	data := slices.Clone(base[first].Data)
	data[len(data)-1] ^= 1
	for _, f := range bootOf(t, withData(base, first, string(data))).Facts() {
		if f.PCR != 7 || f.Kind != eventlog.KindAuthority && f.Kind != eventlog.KindRevocations {
			continue
		}
		want := "another authority is not covered by its digest"
		if f.Event == first+1 {
			want = "its digest does not cover the entry, as from some versions of shim"
		}
		if f.Proved || f.TextProved || f.Why != want {
			t.Errorf("event %d: %+v", f.Event, f)
		}
	}
}

// TestWhyAFactIsAClaim: a person is told what is wrong with it.
func TestWhyAFactIsAClaim(t *testing.T) {
	base, _ := machine(build.Machine{})
	keys := at(t, base, 7, eventlog.TypeVariableDriverConfig, 3)
	app := at(t, base, 4, eventlog.TypeBootServicesApp, 0)
	list := build.Hashes("x", 3)
	for name, c := range map[string]struct {
		events []build.Event
		kind   eventlog.Kind
		name   string
		want   string
	}{
		"keys edited":            {withData(base, keys, string(db(list).Data)), eventlog.KindKeys, "db", "its digest does not cover the variable"},
		"keys that are none":     {withEvent(base, keys, db(list[:40])), eventlog.KindKeys, "db", "it holds an impossible signature list"},
		"no separator in PCR 0":  {remove(base, at(t, base, 0, eventlog.TypeSeparator, 0)), eventlog.KindFirmware, "", "PCR 0 has no separator"},
		"an image is called one": {withType(base, app, eventlog.TypePlatformFirmwareBlob), eventlog.KindApplication, "", "the grammar of PCR 4 does not hold"},
	} {
		seen := 0
		for _, f := range bootOf(t, c.events).Of(c.kind) {
			if f.Name != c.name {
				continue
			}
			seen++
			if f.Proved || f.TextProved || f.Why != c.want {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if seen == 0 {
			t.Errorf("%s: no fact", name)
		}
	}
}

func withEvent(events []build.Event, i int, e build.Event) []build.Event {
	out := slices.Clone(events)
	out[i] = e
	return out
}

// TestBoundsOfABoot: a log of seventy of everything is cut at 64 of a kind, and
// what is left out is counted.
func TestBoundsOfABoot(t *testing.T) {
	keys, sections := build.New(secureBootVariable(1)), build.New()
	for i := range 70 {
		keys = build.New(append(keys.Events(), db(build.Hashes(fmt.Sprint(i), 1)))...)
		sections.Section(".linux", []byte("x"))
	}
	boot := bootOf(t, append(keys.Events(), separator(7)))
	if n, facts := len(boot.KeyStores()), len(boot.Of(eventlog.KindKeys)); n != 64 || facts != 64 || boot.Omitted() != 6 {
		t.Errorf("%d key stores, %d facts, %d omitted", n, facts, boot.Omitted())
	}
	boot = bootOf(t, sections.Events())
	if n := len(boot.Of(eventlog.KindSection)); n != 64 || boot.Omitted() != 6 {
		t.Errorf("%d sections, %d omitted", n, boot.Omitted())
	}
}

// TestDigestTellsBootsApart that differ in one member of one fact: whoever keeps
// digests of boots would else take one for the other.
func TestDigestTellsBootsApart(t *testing.T) {
	tagged := func(pcr int) []build.Event {
		b := build.New()
		b.Tagged(pcr, 0x49dffe0f, []byte("a\x00\x00\x00"), []byte("content"))
		return b.Events()
	}
	if a, b := bootOf(t, tagged(12)), bootOf(t, tagged(13)); a.Digest() == b.Digest() {
		t.Error("the same thing in another PCR")
	}
	named := func(name string) eventlog.Boot {
		events := grubOf("initrd " + name)
		f := build.New()
		f.File(name, []byte("content"))
		return bootOf(t, append(events, f.Events()...))
	}
	proved, claimed := named("/a?b"), named("/a\x01b")
	a, b := one(t, proved, eventlog.KindInitrd, ""), one(t, claimed, eventlog.KindInitrd, "")
	if !a.TextProved || b.TextProved || a.Text != b.Text {
		t.Fatalf("%+v\n%+v", a, b)
	}
	if proved.Digest() == claimed.Digest() {
		t.Error("a proof of a text less")
	}
	lines := map[[32]byte]string{}
	for _, m := range []build.Machine{{CommandLine: "a"}, {CommandLine: "b"}} {
		raw, user, quoted := lived(t, m, build.Booted("ready", machineID))
		x, err := explainWith(t, raw, quoted, user)
		if err != nil {
			t.Fatal(err)
		}
		lines[x.Boot().Digest()] = m.CommandLine
	}
	if len(lines) != 2 {
		t.Error("two boots with the same userspace")
	}
}

// TestCommandLineForms: UTF-16 as loaders write it, with and without its end.
func TestCommandLineForms(t *testing.T) {
	open := func(s string) string { return strings.TrimSuffix(utf16LE(s), "\x00\x00") }
	for name, c := range map[string]struct {
		data, text    string
		known, proved bool
	}{
		"closing zero":             {utf16LE("ro"), "ro", true, true},
		"no closing zero":          {open("ro"), "ro", true, true},
		"half a closing zero":      {open("ro") + "\x00", "ro", true, true},
		"nothing":                  {"\x00\x00", "", true, true},
		"last printable character": {open("ro ~"), "ro ~", true, true},
		"first one behind":         {open("ro \x7f"), "ro ?", false, false},
		"ends with no ASCII":       {open("ro\u0100"), "ro?", false, false},
		"half a character more":    {open("ro") + "x", "", false, false},
		"the longest":              {open(strings.Repeat("x", 4096)), strings.Repeat("x", 4096), true, false},
		"longer":                   {open(strings.Repeat("x", 4097)), "", false, false},
	} {
		line := bootOf(t, []build.Event{measured(12, eventlog.TypeIPL, []byte(c.data))}).CommandLine()
		if line.Text() != c.text || line.Known() != c.known || line.Proved() != c.proved {
			t.Errorf("%s: %q, known %v, proved %v (%s)", name, line.Text(), line.Known(), line.Proved(), line.Why())
		}
	}
	both := bootOf(t, append(grubOf(), options("ro")))
	lines := both.Of(eventlog.KindCommandLine)
	if len(lines) != 2 || both.CommandLine().Why() != lines[0].Why {
		t.Errorf("%+v", lines)
	}
	for _, f := range lines {
		if f.Proved || f.TextProved || f.Why != "more than one loader measured a command line" {
			t.Errorf("%+v", f)
		}
	}
}
