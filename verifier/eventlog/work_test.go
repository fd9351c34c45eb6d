package eventlog_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// grubOf is a boot whose PCR 8 has these commands around the line of a kernel.
func grubOf(commands ...string) []build.Event {
	b := build.New(separator(4))
	b.GRUBCommand("linux /k ro")
	b.CommandLine("/k ro")
	for _, c := range commands {
		b.GRUBCommand(c)
	}
	return b.Events()
}

// hostile are logs of about n bytes, half of them in one text and half in events
// with which a careless reader compares it.
var hostile = map[string]func(n int) []build.Event{
	"words_of_initrd": func(n int) []build.Event {
		return files(grubOf("initrd "+strings.Repeat("a ", n/4)), n)
	},
	"words_that_no_digest_covers": func(n int) []build.Event {
		events := grubOf("initrd x")
		last := &events[len(events)-1]
		last.Data = []byte("grub_cmd: initrd " + strings.Repeat("a ", n/4))
		return files(events, n)
	},
	"quotes_of_the_kernel": func(n int) []build.Event {
		b := build.New(separator(4))
		b.GRUBCommand("linux " + strings.Repeat(`"`, n/2) + "x")
		for range n / 2 / 84 {
			b.GRUBCommand("")
		}
		return b.Events()
	},
	"blanks_before_the_kernel": func(n int) []build.Event {
		b := build.New(separator(4))
		b.GRUBCommand("linux " + strings.Repeat(" ", n/2) + "x")
		for range n / 2 / 84 {
			b.GRUBCommand("")
		}
		return b.Events()
	},
	"images": func(n int) []build.Event {
		b := build.New(separator(4))
		for range n / 84 {
			b.MeasureAs(4, eventlog.TypeBootServicesApp, nil, nil)
		}
		return b.Events()
	},
}

func files(events []build.Event, n int) []build.Event {
	for range n / 2 / 84 {
		events = append(events, measured(9, eventlog.TypeIPL, []byte("x")))
	}
	return events
}

// TestWorkGrowsWithTheLog: four times the bytes cost about four times the work.
// Sixteen times would be a reader that compares each part with each other: 1 MiB
// from a stranger would then cost a core for minutes.
func TestWorkGrowsWithTheLog(t *testing.T) {
	took := func(events []build.Event) time.Duration {
		raw, quoted := build.New(events...).Bytes(), extend(events)
		best := time.Hour
		for range 7 {
			start := threadTime(t)
			if _, err := explain(raw, quoted); err != nil {
				t.Fatal(err)
			}
			best = min(best, threadTime(t)-start)
		}
		return best
	}
	for name, of := range hostile {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			few, many := took(of(100_000)), took(of(400_000))
			t.Logf("%v for 100 kB, %v for 400 kB", few, many)
			if many > 10*few {
				t.Errorf("%v for 100 kB, %v for 400 kB", few, many)
			}
		})
	}
}

// threadTime is the time that this thread has computed. By the clock on the wall
// a machine with other work looks like a reader that is too slow.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at); err != nil {
		t.Fatal(err)
	}
	return time.Duration(at.Nano())
}

// TestInitrdsAreBounded: sixteen files of one command are looked for.
func TestInitrdsAreBounded(t *testing.T) {
	var words []string
	b := build.New()
	for i := range 20 {
		name := "/" + string(bytes.Repeat([]byte{byte('a' + i)}, 3))
		words = append(words, name)
		b.File(name, []byte(name))
		b.File(name, []byte("read again"))
	}
	b.File("/k", []byte("kernel"))
	events := append(grubOf("initrd "+strings.Join(words, " ")), b.Events()...)
	boot := bootOf(t, events)
	found := boot.Of(eventlog.KindInitrd)
	if len(found) != 16 || found[15].Text != "/ppp" || !found[15].TextProved || len(boot.Of(eventlog.KindKernel)) != 1 {
		t.Errorf("%d files: %+v", len(found), found)
	}
	if first := measured(9, 0, []byte("/aaa")); string(found[0].Digest) != string(first.SHA256[:]) {
		t.Errorf("not the first that has the path: event %d", found[0].Event)
	}
	unquoted := extend(events)
	delete(unquoted, 9)
	if boot := mustExplain(t, events, unquoted).Boot(); len(boot.Of(eventlog.KindInitrd)) != 0 || !boot.CommandLine().Proved() {
		t.Error("files of a PCR that was not quoted")
	}
}
