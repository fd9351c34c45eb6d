package eventlog_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// options is a command line as systemd's loader measures it.
func options(line string) build.Event {
	b := build.New()
	b.LoadOptions(line)
	return b.Events()[0]
}

// utf16LE is the data of an event that calls itself so.
func utf16LE(s string) string {
	var out []byte
	for _, c := range s + "\x00" {
		out = binary.LittleEndian.AppendUint16(out, uint16(c))
	}
	return string(out)
}

// otherThan returns the events of all other PCRs.
func otherThan(events []build.Event, pcrs ...int) []build.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e build.Event) bool { return slices.Contains(pcrs, e.PCR) })
}

// claims demands that a boot proves no command line, and says why not.
func claims(t *testing.T, b eventlog.Boot) {
	t.Helper()
	c := b.CommandLine()
	if c.Proved() || c.Digest() != nil && c.Why() == "" {
		t.Errorf("proved: %q (%s)", c.Text(), c.Why())
	}
	for _, f := range b.Of(eventlog.KindCommandLine) {
		if f.Proved || f.TextProved || f.Why == "" {
			t.Errorf("proved: %+v", f)
		}
	}
	for _, k := range []eventlog.Kind{eventlog.KindKernel, eventlog.KindInitrd} {
		for _, f := range b.Of(k) {
			if f.PCR == 9 && f.TextProved {
				t.Errorf("a path is proved by a line that is not: %+v", f)
			}
		}
	}
}

// TestHiddenCommandLine: the kernel was started with one line, root extends a PCR
// that is free with another, and gives the events of the first one any type and
// data. An event in PCR 8, 11 or 12 is a possible line, whatever it calls itself.
func TestHiddenCommandLine(t *testing.T) {
	grub, _ := machine(build.Machine{CommandLine: "ro lockdown=none"})
	loader, _ := machine(build.Machine{SystemdBoot: true, CommandLine: "ro lockdown=none"})
	uki, _ := machine(build.Machine{UKI: true, CommandLine: "lockdown=none"})
	good := options("ro lockdown=confidentiality")
	hide := func(events []build.Event, pcr int, typ uint32, data string) []build.Event {
		out := slices.Clone(events)
		for i := range out {
			if out[i].PCR == pcr {
				out[i].Type, out[i].Data = typ, []byte(data)
			}
		}
		return out
	}
	line := at(t, loader, 12, eventlog.TypeIPL, 0)
	const kernel = "/vmlinuz ro lockdown=integrity"
	own := build.New()
	own.GRUBCommand("linux " + kernel)
	own.CommandLine(kernel)
	for name, events := range map[string][]build.Event{
		"GRUB's events retyped":             append(hide(grub, 8, eventlog.TypePostCode, "x"), good),
		"GRUB's events with other data":     append(hide(grub, 8, eventlog.TypeIPL, "x"), good),
		"one event of PCR 8":                append(otherThan(loader, 12), measured(8, eventlog.TypePostCode, []byte("x")), good),
		"loader's line with other data":     append(withData(otherThan(loader, 9), indexIn(otherThan(loader, 9), loader[line]), "zz"), own.Events()...),
		"loader's line is an archive":       append(withData(loader, line, utf16LE("Credentials initrd")), good),
		"loader's line is an addon":         append(withType(withData(loader, line, "\x51\xf7\x46\x6c\x02\x00\x00\x00a\x00"), line, eventlog.TypeEventTag), good),
		"GRUB's line, an event in PCR 12":   append(slices.Clone(grub), measured(12, eventlog.TypePostCode, []byte("x"))),
		"the line of a unified kernel":      append(otherThan(uki, 12), good),
		"a unified kernel's, PCR 8 made up": append(otherThan(uki, 12), own.Events()...),
		"sections renamed":                  append(hide(otherThan(uki, 12), 11, eventlog.TypePostCode, ""), good),
		"no section, but an event":          append(otherThan(loader, 12), measured(11, eventlog.TypePostCode, []byte("x")), good),
		"bytes that are no UTF-16":          append(otherThan(loader, 12), measured(12, eventlog.TypeIPL, []byte("r\x00o\x00x"))),
	} {
		t.Run(name, func(t *testing.T) { claims(t, bootOf(t, events)) })
	}
	for name, events := range map[string][]build.Event{"GRUB": grub, "loader": loader} {
		if c := bootOf(t, events).CommandLine(); !c.Proved() || !strings.HasSuffix(c.Text(), "lockdown=none") {
			t.Errorf("%s unchanged: %q (%s)", name, c.Text(), c.Why())
		}
		for _, pcr := range []int{8, 11, 12} {
			quoted := extend(events)
			delete(quoted, pcr)
			claims(t, mustExplain(t, events, quoted).Boot())
		}
	}
}

func indexIn(events []build.Event, e build.Event) int {
	return slices.IndexFunc(events, func(o build.Event) bool { return o.PCR == e.PCR && o.SHA256 == e.SHA256 })
}

// TestHiddenInUserspace: the events that tell of another line are handed in as
// userspace records, whose digests are as good as any.
func TestHiddenInUserspace(t *testing.T) {
	grub, _ := machine(build.Machine{CommandLine: "ro lockdown=none"})
	loader, _ := machine(build.Machine{SystemdBoot: true, CommandLine: "ro lockdown=none"})
	uki, _ := machine(build.Machine{UKI: true, CommandLine: "lockdown=none"})
	own := build.New()
	own.GRUBCommand("linux /k lockdown=integrity")
	own.CommandLine("/k lockdown=integrity")
	good := options("ro lockdown=confidentiality")
	for name, c := range map[string]struct {
		events []build.Event
		moved  []int
		want   reason.Code
	}{
		"GRUB's":           {append(slices.Clone(grub), good), []int{8}, reason.TPM2PCRUnexplained},
		"shim's":           {grub, []int{14}, reason.TPM2PCRUnexplained},
		"GRUB's and shim":  {append(slices.Clone(grub), good), []int{8, 14}, reason.TPM2PCRUnexplained},
		"loader's":         {append(otherThan(loader, 9), own.Events()...), []int{12}, ""},
		"unified kernel's": {append(otherThan(uki, 12, 13), own.Events()...), []int{11}, ""},
		"sections, loader": {append(otherThan(uki, 12), good), []int{11}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var user bytes.Buffer
			for _, e := range c.events {
				if slices.Contains(c.moved, e.PCR) {
					fmt.Fprintf(&user, `{"pcr":%d,"digests":[{"hashAlg":"sha256","digest":"%x"}],"content_type":"systemd","content":{"string":"x"}}`+"\n", e.PCR, e.SHA256)
				}
			}
			raw := build.New(otherThan(c.events, c.moved...)...).Bytes()
			x, err := explainWith(t, raw, extend(c.events), cel(t, user.Bytes()))
			wantCode(t, err, c.want)
			if err == nil && x.Boot().CommandLine().Why() == "" {
				t.Error("no reason")
			}
			claims(t, x.Boot())
		})
	}
}

// TestUserspaceKeepsTheCommandLine: what systemd measures after the boot is no
// reason to doubt, and a doubt is of one quote: the log is shared.
func TestUserspaceKeepsTheCommandLine(t *testing.T) {
	for name, m := range map[string]build.Machine{"GRUB": {CommandLine: "ro"}, "loader": {SystemdBoot: true, CommandLine: "ro"}} {
		raw, user, quoted := lived(t, m, build.Booted("ready", machineID))
		kept := eventlog.Keep(raw)
		x, err := kept.ExplainWith(quoted, eventlog.SHA256, user)
		if err != nil {
			t.Fatal(err)
		}
		good := x.Boot()
		if c := good.CommandLine(); !c.Proved() {
			t.Errorf("%s: %s", name, c.Why())
		}
		u := build.Booted("ready", machineID)
		u.Measure(12, "x", "x")
		_, user, doubted := lived(t, m, u)
		if x, err = kept.ExplainWith(doubted, eventlog.SHA256, user); err != nil {
			t.Fatal(err)
		}
		claims(t, x.Boot())
		if x.Boot().Digest() == good.Digest() {
			t.Errorf("%s: a proof less has the same digest", name)
		}
		if again, _ := kept.ExplainWith(quoted, eventlog.SHA256, user); !again.Boot().CommandLine().Proved() || again.Boot().Digest() != good.Digest() {
			t.Errorf("%s: the doubt about one quote stays in another", name)
		}
	}
}

// TestGRUBStopsMeasuring: commands behind which something runs that GRUB did not
// measure, or that hand over a line without being called "linux".
func TestGRUBStopsMeasuring(t *testing.T) {
	base, _ := machine(build.Machine{CommandLine: "lockdown=integrity"})
	text := func(prefix, s string) build.Event {
		b := build.New()
		b.MeasureAs(8, eventlog.TypeIPL, []byte(s), []byte(prefix+s+"\x00"))
		return b.Events()[0]
	}
	var cases [][]build.Event
	for _, command := range []string{
		"exit", "rmmod tpm", "write_byte 0x1 0x2", "write_word 0x1 0x2", "write_dword 0x1 0x2",
		"legacy_kernel /k lockdown=none", "uki /x.efi", "pxechain x", "appleloader x",
	} {
		cases = append(cases, []build.Event{grubText(command)})
	}
	for _, line := range []string{"/k lockdown=none", `"/k" lockdown=none`, `\/k`, "(hd0,gpt2)/k x", "+8 x", "0+8 x", "9+8"} {
		cases = append(cases, []build.Event{text("grub_cmd: ", line)})
	}
	for _, c := range cases {
		events := append(slices.Clone(base), c...)
		t.Run(string(c[0].Data), func(t *testing.T) { claims(t, bootOf(t, events)) })
	}
	t.Run("a hypervisor's line", func(t *testing.T) {
		claims(t, bootOf(t, append(otherThan(base, 8), grubText("multiboot2 /xen lockdown=integrity"), text("kernel_cmdline: ", "/xen lockdown=integrity"))))
	})
	if c := bootOf(t, append(slices.Clone(base), grubText("echo 1"), grubText(""))).CommandLine(); !c.Proved() {
		t.Errorf("an honest command: %s", c.Why())
	}
}

// TestLineThatTheKernelCuts: x86 takes 2047 bytes and a zero. GRUB puts
// "BOOT_IMAGE=" and the path before.
func TestLineThatTheKernelCuts(t *testing.T) {
	for _, c := range []struct {
		length int
		proved bool
	}{{2047, true}, {2048, false}, {2500, false}} {
		loaded := bootOf(t, []build.Event{options(strings.Repeat("x", c.length))}).CommandLine()
		line := "/k " + strings.Repeat("x", c.length-len("BOOT_IMAGE=/k "))
		b := build.New(separator(4))
		b.GRUBCommand("linux " + line)
		b.CommandLine(line)
		grub := bootOf(t, b.Events()).CommandLine()
		for _, got := range []eventlog.CommandLine{loaded, grub} {
			if got.Proved() != c.proved || !got.Known() || got.Text() == "" {
				t.Errorf("PCR %d, %d bytes: proved %v, known %v", got.PCR(), c.length, got.Proved(), got.Known())
			}
		}
	}
}
