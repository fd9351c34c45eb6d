package eventlog_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

func parsed(t *testing.T, events []build.Event) []eventlog.Event {
	t.Helper()
	log, err := eventlog.Parse(build.New(events...).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return log.Events()
}

func says(changes []eventlog.Change) []string {
	var out []string
	for _, c := range changes {
		line := fmt.Sprintf("%d %s", c.PCR, c.Kind)
		if c.Before != nil {
			line += " -" + c.Before.Describe()
		}
		if c.After != nil {
			line += " +" + c.After.Describe()
		}
		out = append(out, line)
	}
	return out
}

// TestDiffNamesWhatChanged between two boots of one machine.
func TestDiffNamesWhatChanged(t *testing.T) {
	base, _ := machine(build.Machine{})
	for name, c := range map[string]struct {
		machine build.Machine
		want    []string
	}{
		"nothing":         {build.Machine{}, nil},
		"firmware":        {build.Machine{Firmware: "v2"}, []string{"0 changed -Zonebroker Virtual Firmware v1 +v2", "0 changed -firmware volume at 0xff000000, 4096 bytes +firmware volume at 0xff000000, 4096 bytes"}},
		"initrd":          {build.Machine{Initrd: []byte("x")}, []string{"9 changed -/boot/initrd.img-6.1.0-28-amd64 +/boot/initrd.img-6.1.0-28-amd64"}},
		"secure boot off": {build.Machine{SecureBootOff: true}, []string{"7 changed -variable SecureBoot +variable SecureBoot", "7 removed -variable db", "7 removed -variable Shim"}},
	} {
		t.Run(name, func(t *testing.T) {
			now, _ := machine(c.machine)
			if diff := cmp.Diff(c.want, says(eventlog.Diff(parsed(t, base), parsed(t, now)))); diff != "" {
				t.Error(diff)
			}
		})
	}
	longer := insert(base, indexOf(t, base, "grub_cmd: set default=0"), grubText("set evil=1"))
	if diff := cmp.Diff([]string{"8 added +grub_cmd: set evil=1"}, says(eventlog.Diff(parsed(t, base), parsed(t, longer)))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"8 removed -grub_cmd: set evil=1"}, says(eventlog.Diff(parsed(t, longer), parsed(t, base)))); diff != "" {
		t.Error(diff)
	}
}

// TestDiffIsADiff: what is left out is common to both in order, and as long as it
// can be.
func TestDiffIsADiff(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func() []eventlog.Event {
		var out []eventlog.Event
		for i := range rng.IntN(9) {
			d := sha256.Sum256([]byte{byte(rng.IntN(3))})
			out = append(out, eventlog.Event{Index: i + 1, PCR: 4, Type: uint32(1 + 4*rng.IntN(2)), Digest: d[:]})
		}
		return out
	}
	for range 2000 {
		a, b := random(), random()
		gone, came := map[int]bool{}, map[int]bool{}
		for _, c := range eventlog.Diff(a, b) {
			if c.Before != nil {
				gone[c.Before.Index] = true
			}
			if c.After != nil {
				came[c.After.Index] = true
			}
			if (c.Kind == eventlog.Added) != (c.Before == nil) || (c.Kind == eventlog.Removed) != (c.After == nil) {
				t.Fatalf("change %+v", c)
			}
			if c.Kind == eventlog.Changed && c.Before.Type != c.After.Type {
				t.Fatalf("changed into another type: %+v", c)
			}
		}
		keptA, keptB := without(a, gone), without(b, came)
		if keptA != keptB {
			t.Fatalf("left out %s and %s", keptA, keptB)
		}
		if n := longest(a, b); len(keptA)/2 != n {
			t.Fatalf("%d in common, could be %d", len(keptA)/2, n)
		}
	}
}

func without(events []eventlog.Event, drop map[int]bool) string {
	var out strings.Builder
	for _, e := range events {
		if !drop[e.Index] {
			fmt.Fprintf(&out, "%x", e.Digest[:1])
		}
	}
	return out.String()
}

// longest is the length of a longest common subsequence, by trying all.
func longest(a, b []eventlog.Event) int {
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	if string(a[0].Digest) == string(b[0].Digest) {
		return 1 + longest(a[1:], b[1:])
	}
	return max(longest(a[1:], b), longest(a, b[1:]))
}

// TestDiffOfLargeLogs is bounded: beyond the table everything between what the
// two begin and end with is removed and added.
func TestDiffOfLargeLogs(t *testing.T) {
	many := func(name string, n int) []eventlog.Event {
		out := []eventlog.Event{{Index: 1, PCR: 8, Type: 0xfe, Digest: make([]byte, 32)}}
		for i := range n {
			d := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, i))
			out = append(out, eventlog.Event{Index: i + 2, PCR: 8, Type: uint32(i + 100), Digest: d[:]})
		}
		return out
	}
	if n := len(eventlog.Diff(many("a", 20_000), many("b", 20_000))); n != 20_000 {
		t.Errorf("%d changes", n)
	}
}

// TestDiffUpToTheTable: as long as the table holds both, what they have in common
// is found in the middle of them too.
func TestDiffUpToTheTable(t *testing.T) {
	middle := func(name string, n int) []eventlog.Event {
		out := make([]eventlog.Event, n)
		for i := range out {
			text := fmt.Sprint(name, i)
			if i == n/2 {
				text = "common"
			}
			d := sha256.Sum256([]byte(text))
			out[i] = eventlog.Event{Index: i + 1, PCR: 8, Type: eventlog.TypeIPL, Digest: d[:]}
		}
		return out
	}
	// A table of n events by n has a row and a column more.
	for n, want := range map[int]int{1023: 1022, 1024: 1024} {
		if got := len(eventlog.Diff(middle("a", n), middle("b", n))); got != want {
			t.Errorf("%d changes among %d events, want %d", got, n, want)
		}
	}
}

// TestDiffLeavesOutWhatExtendsNothing: no PCR differs by it.
func TestDiffLeavesOutWhatExtendsNothing(t *testing.T) {
	d := sha256.Sum256(nil)
	for name, e := range map[string]eventlog.Event{
		"EV_NO_ACTION": {PCR: 0, Type: eventlog.TypeNoAction, Digest: make([]byte, 32)},
		"PCR -1":       {PCR: -1, Type: eventlog.TypeIPL, Digest: d[:]},
		"PCR 24":       {PCR: eventlog.PCRs, Type: eventlog.TypeIPL, Digest: d[:]},
	} {
		if got := eventlog.Diff(nil, []eventlog.Event{e}); len(got) != 0 {
			t.Errorf("%s: %v", name, says(got))
		}
	}
	last := []eventlog.Event{{PCR: 23, Type: eventlog.TypeIPL, Digest: d[:]}}
	if got := eventlog.Diff(nil, last); len(got) != 1 || got[0].PCR != 23 {
		t.Errorf("PCR 23: %v", says(got))
	}
}

// TestDiffOfTwoThatChangedPlaces: the one that came first before is what moved; a
// pair of logs has one story.
func TestDiffOfTwoThatChangedPlaces(t *testing.T) {
	a, b := grubText("set a=1"), grubText("set b=1")
	before, after := parsed(t, []build.Event{a, b}), parsed(t, []build.Event{b, a})
	want := []string{"8 removed -grub_cmd: set a=1", "8 added +grub_cmd: set a=1"}
	if diff := cmp.Diff(want, says(eventlog.Diff(before, after))); diff != "" {
		t.Error(diff)
	}
}
