package eventlog_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/celog"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func bootWith(t *testing.T, m build.Machine, u *build.Userspace) eventlog.Boot {
	t.Helper()
	raw, user, quoted := lived(t, m, u)
	x, err := explainWith(t, raw, quoted, user)
	if err != nil {
		t.Fatal(err)
	}
	return x.Boot()
}

// TestManyRecordsHideNoPhase: nothing authenticates an order between PCRs, so
// that root may put seventy records of PCR 15 before the phases. A boot that is
// ready must not pass for one that still has its initrd.
func TestManyRecordsHideNoPhase(t *testing.T) {
	u := build.Booted("ready", machineID)
	crowd := &build.Userspace{}
	for i := range 70 {
		crowd.Measure(15, "key", fmt.Sprint(i))
	}
	events := build.Machine{}.Log().Events()
	for _, e := range append(crowd.Extends(), u.Extends()...) {
		events = append(events, build.Event{PCR: e.PCR, Type: eventlog.TypeIPL, SHA256: e.SHA256})
	}
	x, err := explainWith(t, build.Machine{}.Log().Bytes(), extend(events), cel(t, append(crowd.Bytes(), u.Bytes()...)))
	if err != nil {
		t.Fatal(err)
	}
	b := x.Boot()
	if b.Phase() != "ready" || len(b.Of(eventlog.KindSystem)) != 64 || b.Omitted() != 70+2-64 {
		t.Errorf("phase %q, %d others, %d omitted", b.Phase(), len(b.Of(eventlog.KindSystem)), b.Omitted())
	}
	for n, omitted := range map[int]int{64: 0, 65: 1, 70: 6} {
		u := &build.Userspace{}
		for i := range n {
			u.Measure(11, "phase", fmt.Sprint("phase ", i))
		}
		b := bootWith(t, build.Machine{}, u)
		if want := fmt.Sprint("phase ", n-1); b.Phase() != want || len(b.Of(eventlog.KindPhase)) != 64 || b.Omitted() != omitted {
			t.Errorf("phase %q of %d, %d omitted", b.Phase(), n, b.Omitted())
		}
		u.MeasureAs(11, "phase", []byte("what it is"), "what it is called")
		if got := bootWith(t, build.Machine{}, u).Phase(); got != fmt.Sprint("phase ", n-1) {
			t.Errorf("phase %q behind %d", got, n)
		}
	}
}

// TestRecordThatCannotBeShown: its digest covers it, and what a person would see
// is something else.
func TestRecordThatCannotBeShown(t *testing.T) {
	u := &build.Userspace{}
	u.Measure(15, "machine-id", "a\tb")
	f := one(t, bootWith(t, build.Machine{}, u), eventlog.KindSystem, "machine-id")
	if f.Proved || f.TextProved || f.Text != "a?b" || f.Why != "a record before it is not covered by its digest, or it cannot be shown" {
		t.Errorf("%+v", f)
	}
}

// TestRecordsOfOtherPlaces: a record of an NV index extends no PCR, and a PCR
// that no record extends is judged by the firmware's log alone.
func TestRecordsOfOtherPlaces(t *testing.T) {
	u := build.Booted("ready", machineID)
	raw, _, quoted := lived(t, build.Machine{}, u)
	other := &build.Userspace{}
	other.Measure(11, "nvpcr", "x")
	index := bytes.Replace(other.Bytes(), []byte(`"pcr":11`), []byte(`"nv_index":30474752`), 1)
	x, err := explainWith(t, raw, quoted, cel(t, append(index, u.Bytes()...)))
	if err != nil || len(x.Boot().Of(eventlog.KindPhase)) != 4 {
		t.Errorf("%v: %+v", err, x.Boot().Of(eventlog.KindPhase))
	}
	delete(quoted, 9)
	quoted[13] = bytes.Repeat([]byte{1}, 32)
	_, err = explainWith(t, raw, quoted, cel(t, u.Bytes()))
	wantCode(t, err, reason.TPM2PCRUnexplained)
}

// TestDoubtIsOfOneQuote: the facts of a log are shared by the quotes of all its
// hosts. A host that hides a command line takes no proof from another, and two
// boots of which one is doubted are not the same.
func TestDoubtIsOfOneQuote(t *testing.T) {
	crowd := func(last int) *build.Userspace {
		u := &build.Userspace{}
		for i := range 64 {
			u.Measure(15, "key", fmt.Sprint(i))
		}
		u.Measure(last, "key", "left out of the facts")
		return u
	}
	m := build.Machine{CommandLine: "ro"}
	raw, good, quoted := lived(t, m, crowd(15))
	_, bad, doubted := lived(t, m, crowd(12))
	kept := eventlog.Keep(raw)
	ask := func(with map[int][]byte, user celog.Log) eventlog.Boot {
		x, err := kept.ExplainWith(with, eventlog.SHA256, user)
		if err != nil {
			t.Fatal(err)
		}
		return x.Boot()
	}
	before, other := ask(quoted, good), ask(doubted, bad)
	claims(t, other)
	after := ask(quoted, good)
	if diff := cmp.Diff(before.Facts(), after.Facts()); diff != "" || !after.CommandLine().Proved() {
		t.Errorf("the doubt stays: %s", diff)
	}
	if other.Digest() == before.Digest() {
		t.Error("a doubted boot has the digest of the other")
	}
}
