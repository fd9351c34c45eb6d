package eventlog_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// grubEvent is an event of PCR 8 whose digest is that of its text.
func grubEvent(prefix, text string) build.Event {
	b := build.New()
	b.MeasureAs(8, eventlog.TypeIPL, []byte(text), []byte(prefix+text+"\x00"))
	return b.Events()[0]
}

// TestGRUBLineIsTheOneHandedOver: each of these hides another line, or may.
func TestGRUBLineIsTheOneHandedOver(t *testing.T) {
	const foreign, twice = "PCR 8 holds an event that is not GRUB's", "PCR 8 does not hold exactly one command line, that of the kernel it starts"
	start := grubEvent("grub_cmd: ", "linux /k a=1")
	echo := grubEvent("grub_cmd: ", "echo")
	posing := grubEvent("grub_cmd: ", "/k a=2")
	posing.Data = echo.Data
	for name, c := range map[string]struct {
		events []build.Event
		want   string
	}{
		"an event of another type":    {append(grubOf(), withType([]build.Event{echo}, 0, eventlog.TypePostCode)[0]), foreign},
		"a line that poses as a text": {append(grubOf(), posing), "the digest of an event of PCR 8 does not cover its text"},
		"a line without a path":       {append(grubOf(), grubEvent("kernel_cmdline: ", "k a=2")), twice},
		"a longer line":               {[]build.Event{separator(4), start, grubEvent("kernel_cmdline: ", "/k a=1 b")}, twice},
		"a line of the same length":   {[]build.Event{separator(4), start, grubEvent("kernel_cmdline: ", "/k a=2")}, twice},
	} {
		boot := bootOf(t, c.events)
		claims(t, boot)
		if got := boot.CommandLine(); !got.Known() || got.Why() != c.want {
			t.Errorf("%s: %q (%s)", name, got.Text(), got.Why())
		}
	}
}

// TestGRUBLineThatHolds: what a prefix says decides nothing, and a command that
// hands over no line hides none.
func TestGRUBLineThatHolds(t *testing.T) {
	start, line := grubEvent("grub_cmd: ", "linux k ro"), grubEvent("grub_cmd: ", "k ro")
	for name, events := range map[string][]build.Event{
		"a path without its root, renamed": {separator(4), start, line},
		"a command of no words before":     {separator(4), grubEvent("grub_cmd: ", ""), start, line},
		"a script that is read":            append(grubOf(), grubEvent("grub_cmd: ", ". (hd0)/more.cfg")),
	} {
		if c := bootOf(t, events).CommandLine(); !c.Proved() || c.Text() != "ro" {
			t.Errorf("%s: %q (%s)", name, c.Text(), c.Why())
		}
	}
}

// TestKernelIsAFileThatWasRead: an event of PCR 9 that no GRUB logs, or that has
// no path, is not the file that the command line names.
func TestKernelIsAFileThatWasRead(t *testing.T) {
	file := build.New()
	file.File("(hd0,gpt2)/k", []byte("kernel"))
	events := append(grubOf(),
		measured(14, eventlog.TypeIPL, []byte("/k")),
		measured(9, eventlog.TypePostCode, []byte("/k")),
		measured(9, eventlog.TypeIPL, nil),
		measured(9, eventlog.TypeIPL, []byte("(hd0)")),
		file.Events()[0])
	if f := one(t, bootOf(t, events), eventlog.KindKernel, ""); f.Event != len(events) || f.Text != "/k" {
		t.Errorf("%+v", f)
	}
	nameless := []build.Event{
		separator(4), grubEvent("grub_cmd: ", "linux"), grubEvent("kernel_cmdline: ", ""),
		measured(9, eventlog.TypeIPL, []byte("(hd0)")), measured(9, eventlog.TypeIPL, nil),
	}
	if f := bootOf(t, nameless).Of(eventlog.KindKernel); len(f) != 0 {
		t.Errorf("a kernel without a path: %+v", f)
	}
}

// TestLoaderEventsOfAnotherPlace: a command line is an EV_IPL of PCR 12 that
// hashes, an archive one of PCR 12 or 13.
func TestLoaderEventsOfAnotherPlace(t *testing.T) {
	line := options("ro")
	for name, e := range map[string]build.Event{
		"line of another type": withType([]build.Event{line}, 0, eventlog.TypePostCode)[0],
		"line in PCR 13":       moved(line, 13),
		"line in PCR 5":        moved(line, 5),
		"archive in PCR 5":     measured(5, eventlog.TypeIPL, []byte(utf16LE("Credentials initrd"))),
	} {
		boot := bootOf(t, []build.Event{e})
		if c := boot.CommandLine(); c.Known() || c.Digest() != nil || len(boot.Of(eventlog.KindConfig)) != 0 {
			t.Errorf("%s: %q, %+v", name, c.Text(), boot.Facts())
		}
	}
}

// TestSectionsInOrder: PCR 11 of a unified kernel is pairs of name and content,
// each section once; what else stands there is named.
func TestSectionsInOrder(t *testing.T) {
	base, _ := machine(build.Machine{UKI: true})
	pair := func(name string) []build.Event {
		b := build.New()
		b.Section(name, []byte("x"))
		return b.Events()
	}
	foreign := measured(11, eventlog.TypeIPL, []byte("x"))
	for name, c := range map[string]struct {
		events   []build.Event
		sections int
		why      string
	}{
		"as they are":        {base, 6, ""},
		"the last one twice": {append(base[:len(base):len(base)], pair(".sbat")...), 7, "is a section out of order"},
		"an earlier one":     {append(base[:len(base):len(base)], pair(".osrel")...), 7, "is a section out of order"},
		"something else":     {append(base[:len(base):len(base)], foreign), 6, "is no section"},
		"nothing else":       {[]build.Event{foreign}, 0, ""},
	} {
		x := mustExplain(t, c.events, extend(c.events))
		sections := x.Boot().Of(eventlog.KindSection)
		if len(sections) != c.sections {
			t.Errorf("%s: %d sections", name, len(sections))
		}
		for _, f := range sections {
			if f.Proved != (c.why == "") || !strings.HasSuffix(f.Why, c.why) {
				t.Errorf("%s: %+v", name, f)
			}
		}
		noted := 0
		for _, f := range x.Findings() {
			if f.PCR == 11 {
				noted++
			}
		}
		if (noted > 0) != (c.why != "") {
			t.Errorf("%s: findings %+v", name, x.Findings())
		}
	}
}
