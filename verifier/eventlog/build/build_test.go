package build_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// extend does in software what a TPM does with the extends of a log.
func extend(extends []build.Extend) map[int][]byte {
	out := map[int][]byte{}
	for i := range eventlog.PCRs {
		out[i] = bytes.Repeat([]byte{0}, sha256.Size)
		if i >= 17 && i <= 22 {
			out[i] = bytes.Repeat([]byte{0xff}, sha256.Size)
		}
	}
	for _, e := range extends {
		h := sha256.Sum256(append(bytes.Clone(out[e.PCR]), e.SHA256[:]...))
		out[e.PCR] = h[:]
	}
	return out
}

func explain(t *testing.T, b *build.Builder) eventlog.Explained {
	t.Helper()
	log, err := eventlog.Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	explained, err := log.Explain(extend(b.Extends()))
	if err != nil {
		t.Fatal(err)
	}
	return explained
}

func TestLogExplainsWhatItExtends(t *testing.T) {
	for name, m := range map[string]build.Machine{
		"defaults":        {},
		"secure boot off": {SecureBootOff: true},
		"other kernel":    {KernelVersion: "6.12.1", Kernel: []byte("another kernel")},
		"empty files":     {Kernel: []byte{}, Initrd: []byte{}},
	} {
		t.Run(name, func(t *testing.T) {
			b := m.Log()
			x := explain(t, b)
			if f := x.Findings(); len(f) != 0 {
				t.Errorf("findings: %v", f)
			}
			want := eventlog.SecureBootOn
			if m.SecureBootOff {
				want = eventlog.SecureBootOff
			}
			if got := x.SecureBoot(); got != want {
				t.Errorf("secure boot = %s, want %s: %v", got, want, x.SecureBootUnproved())
			}
			if n := len(b.Bytes()); n < 20_000 || n > 60_000 {
				t.Errorf("log of %d bytes; real ones have 25 to 59 kB", n)
			}
		})
	}
}

// TestParsedEventsAreThoseBuilt: parse(encode(x)) == x.
func TestParsedEventsAreThoseBuilt(t *testing.T) {
	b := build.New()
	b.StartupLocality(3)
	events := append(b.Events(), build.Machine{}.Log().Events()...)
	log, err := eventlog.Parse(build.New(events...).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var want []eventlog.Event
	for i, e := range events {
		want = append(want, eventlog.Event{Index: i + 1, PCR: e.PCR, Type: e.Type, Digest: e.SHA256[:], Data: e.Data})
	}
	if diff := cmp.Diff(want, log.Events()); diff != "" {
		t.Error(diff)
	}
}

// TestOneChangeMovesOnlyItsPCRs: reference sets name few PCRs, and a demo's
// refusal has to name the right one.
func TestOneChangeMovesOnlyItsPCRs(t *testing.T) {
	base := extend(build.Machine{}.Log().Extends())
	for name, c := range map[string]struct {
		machine build.Machine
		moved   []int
	}{
		"same machine":    {build.Machine{}, nil},
		"kernel content":  {build.Machine{Kernel: []byte("another")}, []int{4, 9}},
		"initrd content":  {build.Machine{Initrd: []byte("another")}, []int{9}},
		"kernel version":  {build.Machine{KernelVersion: "6.12.1"}, []int{4, 8, 9}},
		"command line":    {build.Machine{CommandLine: "init=/bin/sh"}, []int{8, 9}},
		"firmware":        {build.Machine{Firmware: "v2"}, []int{0}},
		"disk":            {build.Machine{Disk: "other"}, []int{1, 5}},
		"secure boot off": {build.Machine{SecureBootOff: true}, []int{7}},
	} {
		t.Run(name, func(t *testing.T) {
			var moved []int
			for i, v := range extend(c.machine.Log().Extends()) {
				if !bytes.Equal(v, base[i]) {
					moved = append(moved, i)
				}
			}
			if diff := cmp.Diff(sorted(c.moved), sorted(moved)); diff != "" {
				t.Errorf("moved PCRs (-want +got):\n%s", diff)
			}
		})
	}
}

func sorted(s []int) map[int]bool {
	out := map[int]bool{}
	for _, v := range s {
		out[v] = true
	}
	return out
}

// TestKernelDigestIsTheFile: a reference set's events 9 are the SHA-256 of the
// files, which an operator can compute without our help.
func TestKernelDigestIsTheFile(t *testing.T) {
	kernel, initrd := []byte("bzImage"), []byte("cpio")
	x := explain(t, build.Machine{Kernel: kernel, Initrd: initrd}.Log())
	digests := x.EventDigests(9)
	for name, content := range map[string][]byte{"kernel": kernel, "initrd": initrd} {
		want := sha256.Sum256(content)
		found := false
		for _, d := range digests {
			found = found || bytes.Equal(d, want[:])
		}
		if !found {
			t.Errorf("PCR 9 has no event with the digest of the %s", name)
		}
	}
}
