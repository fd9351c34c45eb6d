package eventlog_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// TestForgedCommandLine: root extends PCR 8 with a command line of choice, and
// hands in the events under any prefix and type. The texts stay as they are, so
// nothing that root adds is ever proved, and what GRUB ran is never hidden.
func TestForgedCommandLine(t *testing.T) {
	base, _ := machine(build.Machine{CommandLine: "ro"})
	start := indexOf(t, base, "grub_cmd: linux /boot/vmlinuz-6.1.0-28-amd64 ro")
	line := indexOf(t, base, "kernel_cmdline: /boot/vmlinuz-6.1.0-28-amd64 ro")
	add := func(events []build.Event, prefix, text string) []build.Event {
		b := build.New(events...)
		b.MeasureAs(8, eventlog.TypeIPL, []byte(text), []byte(prefix+text+"\x00"))
		return b.Events()
	}
	rename := func(events []build.Event, i int, prefix string) []build.Event {
		out := slices.Clone(events)
		_, text, _ := strings.Cut(string(out[i].Data), ": ")
		out[i].Data = []byte(prefix + text)
		return out
	}
	retype := func(events []build.Event, i int) []build.Event {
		out := slices.Clone(events)
		out[i].Type = eventlog.TypePostCode
		return out
	}
	const own = "/boot/vmlinuz-6.1.0-28-amd64 lockdown=integrity"
	both := add(add(base, "grub_cmd: ", "linux "+own), "kernel_cmdline: ", own)
	for name, events := range map[string][]build.Event{
		"line appended":                         add(base, "kernel_cmdline: ", own),
		"line appended and own one renamed":     add(rename(base, line, "grub_cmd: "), "kernel_cmdline: ", own),
		"both appended":                         both,
		"both appended and own ones renamed":    rename(rename(both, line, "grub_cmd: "), start, "module_cmdline: "),
		"both appended and own ones retyped":    retype(retype(both, line), start),
		"both appended and own ones foreign":    rename(rename(both, line, "x: "), start, "x: "),
		"own start with other data":             withData(both, start, "grub_cmd: true\x00"),
		"own line with other data":              withData(base, line, "kernel_cmdline: "+own+"\x00"),
		"the same line with other quotes":       add(base, "kernel_cmdline: ", `/boot/vmlinuz-6.1.0-28-amd64 "ro"`),
		"another loader was started before":     insert(base, start, grubText("chainloader /evil.efi")),
		"the line stands before its command":    swapped(base, start, line),
		"an image of PCR 4 has another type":    withType(base, at(t, base, 4, eventlog.TypeBootServicesApp, 0), eventlog.TypePlatformFirmwareBlob),
		"no command starts the kernel":          remove(base, start),
		"a line that cannot be shown":           swapText(base, start, line, "/k \x1b[31m"),
		"a line longer than any kernel's":       swapText(base, start, line, "/k "+strings.Repeat("x", 5000)),
		"an event that hashes without a prefix": append(slices.Clone(base), measured(8, eventlog.TypeIPL, []byte("x"))),
	} {
		t.Run(name, func(t *testing.T) {
			c := bootOf(t, events).CommandLine()
			if c.Proved() || c.Why() == "" {
				t.Errorf("proved: %q (%s)", c.Text(), c.Why())
			}
		})
	}
	if c := bootOf(t, base).CommandLine(); !c.Proved() || c.Text() != "ro" {
		t.Errorf("unchanged: %+v", c)
	}
}

func indexOf(t *testing.T, events []build.Event, data string) int {
	t.Helper()
	i := slices.IndexFunc(events, func(e build.Event) bool { return string(e.Data) == data+"\x00" })
	if i < 0 {
		t.Fatalf("no event %q", data)
	}
	return i
}

func grubText(text string) build.Event {
	b := build.New()
	b.GRUBCommand(text)
	return b.Events()[0]
}

func withData(events []build.Event, i int, data string) []build.Event {
	out := slices.Clone(events)
	out[i].Data = []byte(data)
	return out
}

func withType(events []build.Event, i int, typ uint32) []build.Event {
	out := slices.Clone(events)
	out[i].Type = typ
	return out
}

func swapped(events []build.Event, i, j int) []build.Event {
	out := slices.Clone(events)
	out[i], out[j] = out[j], out[i]
	return out
}

// swapText lets GRUB start a kernel with another line.
func swapText(events []build.Event, start, line int, text string) []build.Event {
	b := build.New()
	b.GRUBCommand("linux " + text)
	b.CommandLine(text)
	out := slices.Clone(events)
	out[start], out[line] = b.Events()[0], b.Events()[1]
	return out
}
