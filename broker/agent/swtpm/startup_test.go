package swtpm_test

import (
	"bytes"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestRebootAs: PCR 0 begins where the log says that the TPM was started.
func TestRebootAs(t *testing.T) {
	m := start(t, swtpm.Config{})
	hcrtm := []byte("hardware core root of trust")
	rest := build.Machine{}.Log().Events()
	at3, at4 := build.New(), build.New()
	at3.StartupLocality(3)
	at4.StartupLocality(4)
	at4.MeasureAs(0, eventlog.TypeHCRTMEvent, hcrtm, []byte("HCRTM"))
	logs := map[string]*build.Builder{
		"0": build.New(rest...), "3": build.New(append(at3.Events(), rest...)...), "H-CRTM": build.New(append(at4.Events(), rest...)...),
	}
	for name, s := range map[string]swtpm.Startup{"0": {}, "3": {Locality: 3}, "H-CRTM": {HCRTM: hcrtm}} {
		t.Run(name, func(t *testing.T) {
			if err := m.RebootAs(t.Context(), s, build.New(rest...).Extends()); err != nil {
				t.Fatal(err)
			}
			c := open(t, m)
			pcrs := readPCRs(t, c, tpm2.TPMAlgSHA256)
			_ = c.Close()
			for other, log := range logs {
				_, err := explain(t, log, pcrs)
				if other == name && err != nil || other != name && reason.Of(err) != reason.EventLogReplayMismatch {
					t.Errorf("the log of a start at %s: %v", other, err)
				}
			}
		})
	}
	if err := m.RebootAs(t.Context(), swtpm.Startup{Locality: 5}, nil); err == nil {
		t.Error("a locality that no TPM has")
	}
}

// TestBootIntoTheBanksOfTheLog: a log of SHA-1 alone leaves SHA-256 at its reset
// value, as on the machine that wrote it.
func TestBootIntoTheBanksOfTheLog(t *testing.T) {
	m := start(t, swtpm.Config{})
	listing, err := eventlog.Inspect(build.Legacy(4, eventlog.TypeIPL, [20]byte{1}, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Reboot(t.Context(), build.ExtendsOf(listing)); err != nil {
		t.Fatal(err)
	}
	c := open(t, m)
	defer c.Close()
	if got := readPCRs(t, c, tpm2.TPMAlgSHA256)[4]; !bytes.Equal(got, make([]byte, 32)) {
		t.Errorf("SHA-256: %x", got)
	}
	want, _ := listing.Replay(eventlog.SHA1)
	if got := readPCRs(t, c, tpm2.TPMAlgSHA1)[4]; !bytes.Equal(got, want[4]) {
		t.Errorf("SHA-1: %x, want %x", got, want[4])
	}
}
