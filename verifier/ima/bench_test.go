package ima_test

import (
	"syscall"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/ima"
)

// perSecond runs judge over a list and reports entries a second by the clock,
// and by the time that the process had a core: on a machine with other work the
// first says little.
func perSecond(b *testing.B, entries int, judge func()) {
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		judge()
	}
	done := float64(entries) * float64(b.N)
	b.ReportMetric(done/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(done/(cpu(b)-before), "entries/cpu-s")
}

func cpu(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// BenchmarkIMAAttest is a whole boot of 100 000 entries: structure, digests,
// replay, boot aggregate.
func BenchmarkIMAAttest(b *testing.B) {
	const n = 100_000
	l := machine(n - 1)
	raw, q := l.Bytes(), quoted(l.Extends())
	b.SetBytes(int64(len(raw)))
	perSecond(b, n, func() {
		if _, err := ima.Attest(ima.Segment{Raw: raw}, ima.State{}, boot, q); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkIMAJudge adds the verdict about each file, by digest.
func BenchmarkIMAJudge(b *testing.B) {
	const n = 100_000
	l := machine(n - 1)
	raw, q := l.Bytes(), quoted(l.Extends())
	allow := ima.Allow{}
	list, err := ima.Parse(raw)
	if err != nil {
		b.Fatal(err)
	}
	for f := range list.Files(0, nil) {
		allow.Digests = append(allow.Digests, f.Digest)
	}
	rules, problems := ima.Compile(allow)
	if problems != nil {
		b.Fatal(problems)
	}
	perSecond(b, n, func() {
		a, err := ima.Attest(ima.Segment{Raw: raw}, ima.State{}, boot, q)
		if err != nil {
			b.Fatal(err)
		}
		if j, err := a.Judge(rules); err != nil || j.Denied != 0 {
			b.Fatal(j, err)
		}
	})
}

// BenchmarkIMANothingNew is a renewal of a host that measured nothing since.
func BenchmarkIMANothingNew(b *testing.B) {
	l := machine(1000)
	q := quoted(l.Extends())
	a, err := ima.Attest(ima.Segment{Raw: l.Bytes()}, ima.State{}, boot, q)
	if err != nil {
		b.Fatal(err)
	}
	state := a.State(ima.Judged{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ima.Attest(ima.Segment{First: 1001}, state, boot, q); err != nil {
			b.Fatal(err)
		}
	}
}

// TestBoundedMemory: what a pass allocates does not grow with the list.
func TestBoundedMemory(t *testing.T) {
	rules, problems := ima.Compile(ima.Allow{Paths: []string{"/usr/lib/.*"}})
	if problems != nil {
		t.Fatal(problems)
	}
	allocs := func(n int) float64 {
		l := machine(n)
		raw, q := l.Bytes(), quoted(l.Extends())
		return testing.AllocsPerRun(3, func() {
			a, err := ima.Attest(ima.Segment{Raw: raw}, ima.State{}, boot, q)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Judge(rules); err != nil {
				t.Fatal(err)
			}
		})
	}
	small, large := allocs(10), allocs(20_000)
	t.Logf("%.0f allocations for 10 entries, %.0f for 20 000", small, large)
	if large > small+50 { // what else the process does meanwhile counts too
		t.Errorf("%.0f allocations for 10 entries, %.0f for 20 000", small, large)
	}
}
