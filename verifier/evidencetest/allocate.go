package evidencetest

import (
	"runtime"
	"testing"
)

// Bounded runs parse, a parser of foreign bytes, and fails if it allocates more
// than factor times the length of what it was given and 64 KiB on top: an input
// that claims a size must not make a verifier reserve it. It reads the totals of
// the whole process, so a test that uses it does not run beside others; the
// 64 KiB leave room for what the runtime allocates meanwhile.
func Bounded(t testing.TB, length, factor int, parse func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	parse()
	runtime.ReadMemStats(&after)
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(factor*length+64<<10); got > most {
		t.Errorf("allocated %d bytes for an input of %d, at most %d are allowed", got, length, most)
	}
}
