package eventlog_test

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// TestFirmwareVersionForms: UTF-16, ASCII, a GUID, and what is none of them.
func TestFirmwareVersionForms(t *testing.T) {
	utf16le := func(s string) (out []byte) {
		for _, c := range utf16.Encode([]rune(s)) {
			out = append(out, byte(c), byte(c>>8))
		}
		return append(out, 0, 0)
	}
	guid := []byte{0x1e, 0xfb, 0x6b, 0x54, 0x0c, 0x1d, 0x55, 0x40, 0xa4, 0xad, 0x4e, 0xf4, 0xbf, 0x17, 0xb8, 0x3a}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"UTF-16":          {utf16le(" v1 "), "v1"},
		"ASCII":           {[]byte("BIOS 1.2\x00\x00"), "BIOS 1.2"},
		"GUID":            {guid, "guid 546bfb1e-1d0c-4055-a4ad-4ef4bf17b83a"},
		"other bytes":     {guid[:15], ""},
		"none":            {nil, ""},
		"escape":          {utf16le("v12\x1b[31m"), ""},
		"empty in UTF-16": {[]byte{0, 0}, ""},
		"GUID with zeros": {append([]byte{0, 0}, guid[2:]...), "guid 546b0000-1d0c-4055-a4ad-4ef4bf17b83a"},
		"GUID of zeros":   {make([]byte, 16), "guid 00000000-0000-0000-0000-000000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			f := bootOf(t, []build.Event{measured(0, eventlog.TypeSCRTMVersion, c.data), separator(0)}).Of(eventlog.KindFirmware)
			if len(f) != 1 || f[0].Text != c.want || !f[0].Proved {
				t.Errorf("%+v, want %q", f, c.want)
			}
		})
	}
}

// TestAuthorityForms: an entry of db has its owner before it, shim measures the
// bare certificate, and some variables of shim's are settings.
func TestAuthorityForms(t *testing.T) {
	der := append([]byte{0x30, 0x82}, make([]byte, 100)...)
	owner := make([]byte, 16)
	hash := sha256.Sum256(nil)
	print := func(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }
	for name, c := range map[string]struct {
		variable string
		value    []byte
		kind     eventlog.Kind
		text     string
	}{
		"certificate with owner": {"db", append(slices.Clone(owner), der...), eventlog.KindAuthority, "certificate " + print(der)},
		"bare certificate":       {"Shim", der, eventlog.KindAuthority, "certificate " + print(der)},
		"hash with owner":        {"db", append(slices.Clone(owner), hash[:]...), eventlog.KindAuthority, "hash " + hex.EncodeToString(hash[:])},
		"neither":                {"db", owner, eventlog.KindAuthority, "16 bytes"},
		"nothing":                {"db", nil, eventlog.KindAuthority, "0 bytes"},
		"SBAT level":             {"SbatLevel", []byte("sbat,1,2025051000\nshim,4\n\x00"), eventlog.KindRevocations, "sbat,1,2025051000"},
		"MOK list":               {"MokListX", make([]byte, 7), eventlog.KindMOK, "7 bytes"},
		"MOK trusted":            {"MokListTrusted", []byte{1}, eventlog.KindMOK, "1 bytes"},
		"MOK state":              {"MokSBState", []byte{1}, eventlog.KindMOK, "1 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			b := build.New(secureBootVariable(1), separator(7))
			b.Authority(build.ShimLock, c.variable, c.value)
			b.Application("x", nil)
			boot := bootOf(t, append(b.Events(), separator(4)))
			f := one(t, boot, c.kind, c.variable)
			if f.Text != c.text || !f.Proved || f.TextProved || f.Why != "measured, perhaps after the boot" {
				t.Errorf("%+v, want %q", f, c.text)
			}
			app := boot.Of(eventlog.KindApplication)[0]
			if want := c.variable + " " + c.text; (app.Authority == want) != (c.kind == eventlog.KindAuthority) {
				t.Errorf("vouched for by %q", app.Authority)
			}
		})
	}
	b := build.New(secureBootVariable(1), separator(7))
	b.Authority(build.ImageSecurity, "db", der)
	b.Application("x", nil)
	b.Application("y", nil)
	if apps := bootOf(t, b.Events()).Of(eventlog.KindApplication); apps[0].Authority == "" || apps[1].Authority != "" {
		t.Errorf("one authority vouches for both: %+v", apps)
	}
}

// TestGRUBForms: quotes stand in the line and not in the command, files have a
// device or not, several initrds are one command.
func TestGRUBForms(t *testing.T) {
	b := build.New(separator(4))
	b.GRUBCommand(`linuxefi /vmlinuz dm=1 vroot a\b`)
	b.File("(hd0,gpt2)/other/vmlinuz", []byte("no"))
	b.File("(hd0,gpt2)/vmlinuz", []byte("kernel"))
	b.CommandLine(`/vmlinuz "dm=1 vroot" a\\b`)
	b.GRUBCommand("initrd /ucode /initrd")
	b.File("(hd0,gpt2)/ucode", []byte("ucode"))
	b.File("(hd0,gpt2)/initrd", []byte("initrd"))
	boot := bootOf(t, b.Events())
	c := boot.CommandLine()
	if diff := cmp.Diff([]string{"dm=1 vroot", `a\\b`}, c.Tokens()); diff != "" || !c.Proved() {
		t.Errorf("%s (%s)", diff, c.Why())
	}
	kernel := build.Hashed(0, 0, []byte("kernel"), nil)
	if f := boot.Of(eventlog.KindKernel); len(f) != 1 || string(f[0].Digest) != string(kernel.SHA256[:]) || f[0].Event != 4 {
		t.Errorf("kernel: %+v", f)
	}
	var names []string
	for _, f := range boot.Of(eventlog.KindInitrd) {
		names = append(names, f.Text)
		if f.Proved || !f.TextProved {
			t.Errorf("initrd: %+v", f)
		}
	}
	if diff := cmp.Diff([]string{"/ucode", "/initrd"}, names); diff != "" {
		t.Error(diff)
	}
	b.GRUBCommand("initrd /initrd")
	if f := bootOf(t, b.Events()).Of(eventlog.KindInitrd); len(f) != 0 {
		t.Errorf("two commands name initrds: %+v", f)
	}
}

// TestSystemdBootInPCR8: before version 251 the options stood in PCR 8. The text
// is shown, and never proved: nothing tells what else stands there.
func TestSystemdBootInPCR8(t *testing.T) {
	opts := build.New()
	opts.LoadOptions("root=/dev/sda1 quiet")
	e := moved(opts.Events()[0], 8)
	c := bootOf(t, []build.Event{e}).CommandLine()
	if !c.Known() || c.Proved() || c.Text() != "root=/dev/sda1 quiet" || !strings.Contains(c.Why(), "what else") {
		t.Errorf("%+v", c)
	}
	uncovered := e
	uncovered.SHA256[0] ^= 1
	if c := bootOf(t, []build.Event{uncovered}).CommandLine(); c.Proved() || !strings.Contains(c.Why(), "does not cover") {
		t.Errorf("%+v", c)
	}
	for name, events := range map[string][]build.Event{
		"not first":  {grubText("set x=1"), e},
		"no text":    {measured(8, eventlog.TypeIPL, []byte{0, 0})},
		"not clean":  {measured(8, eventlog.TypeIPL, []byte{0x1b, 0, 'x', 0})},
		"other type": {withType([]build.Event{e}, 0, eventlog.TypePostCode)[0]},
	} {
		if c := bootOf(t, events).CommandLine(); c.Known() {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// TestTaggedEvents: what systemd and the kernel's stub load, by their tags. No
// digest covers a tag: whatever stands in PCR 12 takes the proof of its line.
func TestTaggedEvents(t *testing.T) {
	line := build.New()
	line.LoadOptions("ro")
	tagged := func(pcr int, id uint32, text string) build.Event {
		b := build.New()
		b.Tagged(pcr, id, []byte(text), []byte("content"))
		return b.Events()[0]
	}
	for name, c := range map[string]struct {
		event build.Event
		kind  eventlog.Kind // "" for no fact
		text  string
		holds bool // the command line of PCR 12 stays proved
	}{
		"initrd of the kernel's stub": {tagged(9, 0x8f3b22ec, "Linux initrd\x00"), eventlog.KindInitrd, "initrd that the kernel's EFI stub loaded", true},
		"options of the stub":         {tagged(9, 0x8f3b22ed, "LOADED_IMAGE::LoadOptions\x00"), eventlog.KindConfig, "load options that the kernel's EFI stub read", true},
		"device tree":                 {tagged(12, 0x6c46f751, "a\x00b\x00\x00\x00"), eventlog.KindConfig, "addon ab", false},
		"initrd addon":                {tagged(12, 0x49dffe0f, "a\x00\x00\x00"), eventlog.KindConfig, "addon a", false},
		"microcode addon":             {tagged(12, 0xdac08e1a, "a\x00\x00\x00"), eventlog.KindConfig, "addon a", false},
		"loader.conf":                 {tagged(5, 0xf5bc582a, ""), eventlog.KindConfig, "loader.conf", true},
		"another tag":                 {tagged(12, 1, "x"), "", "", false},
		"another tag in PCR 13":       {tagged(13, 1, "x"), "", "", true},
		"cut":                         {measured(12, eventlog.TypeEventTag, []byte{0x51, 0xf7, 0x46, 0x6c, 9, 0, 0, 0}), "", "", false},
		"no tag":                      {measured(12, eventlog.TypeEventTag, nil), "", "", false},
		"another type":                {measured(12, eventlog.TypeCompactHash, []byte("x")), "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			events := append(line.Events(), c.event)
			boot := bootOf(t, events)
			found := slices.Concat(boot.Of(eventlog.KindConfig), boot.Of(eventlog.KindInitrd))
			if c.kind == "" && len(found) != 0 || c.kind != "" && (len(found) != 1 || found[0].Kind != c.kind || found[0].Text != c.text || found[0].Proved) {
				t.Errorf("%+v", found)
			}
			if got := boot.CommandLine(); got.Proved() != c.holds {
				t.Errorf("command line proved %v (%s)", got.Proved(), got.Why())
			}
		})
	}
}

// TestTokens splits as the kernel does.
func TestTokens(t *testing.T) {
	for line, want := range map[string][]string{
		"":                       nil,
		`"a b" c`:                {"a b", "c"},
		`x="a b" y="c"`:          {"x=a b", "y=c"},
		`x="a b`:                 {"x=a b"},
		`a"b c"d e`:              {`a"b c"d`, "e"},
		"a -- b":                 {"a"},
		"a --b":                  {"a", "--b"},
		"lockdown=integrity -- ": {"lockdown=integrity"},
	} {
		b := build.New()
		b.LoadOptions("q " + line)
		got := bootOf(t, b.Events()).CommandLine().Tokens()
		want = append([]string{"q"}, want...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	}
}
