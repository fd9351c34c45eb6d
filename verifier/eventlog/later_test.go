package eventlog_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// TestMeasuredPerhapsLater: root extends PCR 4 and 7 after the boot with events
// that hash. Their digests were measured; that they belong to the boot is never
// proved, of the firmware's own as little.
func TestMeasuredPerhapsLater(t *testing.T) {
	base, _ := machine(build.Machine{})
	b := build.New(base...)
	b.Authority(build.ImageSecurity, "db", make([]byte, 48))
	b.Application("never.efi", []byte("zz"))
	boot := bootOf(t, b.Events())
	seen := 0
	for _, f := range boot.Facts() {
		if k := f.Kind; f.PCR != 4 && k != eventlog.KindAuthority && k != eventlog.KindRevocations {
			continue
		}
		seen++
		if !f.Proved || f.TextProved || !strings.HasPrefix(f.Why, "measured, perhaps after the boot") {
			t.Errorf("%+v", f)
		}
	}
	if seen != 3+4+1 {
		t.Errorf("%d facts", seen)
	}
	if x := mustExplain(t, b.Events(), extend(b.Events())); x.SecureBoot() != eventlog.SecureBootOn {
		t.Errorf("secure boot %s", x.SecureBoot())
	}
}

// TestTwoRevocations: the level of shim's may be either of them.
func TestTwoRevocations(t *testing.T) {
	base, _ := machine(build.Machine{})
	b := build.New(base...)
	b.Authority(build.ShimLock, "SbatLevel", []byte("sbat,1,2099010100\n"))
	levels := bootOf(t, b.Events()).Of(eventlog.KindRevocations)
	if len(levels) != 2 {
		t.Fatalf("%d levels", len(levels))
	}
	for _, f := range levels {
		if f.Proved || f.TextProved || f.Why != "PCR 7 holds more than one SBAT level" {
			t.Errorf("%+v", f)
		}
	}
	for _, f := range bootOf(t, b.Events()).Of(eventlog.KindAuthority) {
		if !f.Proved {
			t.Errorf("an authority lost its proof: %+v", f)
		}
	}
	if f := bootOf(t, slices.Clone(base)).Of(eventlog.KindRevocations); len(f) != 1 || !f[0].Proved {
		t.Errorf("%+v", f)
	}
}
