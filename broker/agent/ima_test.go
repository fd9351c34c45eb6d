package agent_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	eventlog "github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestMeasurementListIsSentFromWhereItIsKnown: what is new on the same boot, all
// of it in another one or where the broker says that its part does not fit.
func TestMeasurementListIsSentFromWhereItIsKnown(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.cfg.IMALog = filepath.Join(h.dir, "list")
	entries := []build.Entry{build.Aggregate(nil), build.File("/a", nil), build.File("/b", nil)}
	whole := build.New(entries...).Bytes()
	if err := os.WriteFile(h.cfg.IMALog, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	var known *api.IMAKnown
	b.challenge = func(c *api.Challenge) { c.IMA = known }
	sent := func(what string, first int64, size int) {
		t.Helper()
		if e := b.last().TPM2; e.IMAOffset != first || len(e.IMALog) != size {
			t.Errorf("%s: %d bytes from entry %d, want %d from %d", what, len(e.IMALog), e.IMAOffset, size, first)
		}
	}
	h.attest(t)
	sent("not asked for", 0, 0)
	known = &api.IMAKnown{}
	h.attest(t)
	sent("nothing known", 0, len(whole))
	known.Entries = 2
	h.attest(t)
	sent("two known", 2, len(build.New(entries[2]).Bytes()))
	if len(b.last().TPM2.EventLog) != 0 {
		t.Error("the event log is sent again on the same boot")
	}
	known.Entries = 3
	h.attest(t)
	sent("all known", 3, 0)
	known.Entries = 4
	h.attest(t)
	sent("more known than there are", 0, len(whole))
	known.Entries = -1
	h.attest(t)
	sent("less than none known", 0, len(whole))

	known.Entries = 2
	before := len(b.attests)
	b.refuseAttest = func(n int) error {
		if n == before {
			return reason.New(reason.IMAOffset, "")
		}
		return nil
	}
	h.attest(t)
	if len(b.attests) != before+2 {
		t.Errorf("%d tries", len(b.attests)-before)
	}
	sent("refused", 0, len(whole))
	b.refuseAttest = nil

	h.boot(t, eventlog.Machine{})
	h.attest(t)
	sent("another boot", 0, len(whole))
	if err := os.Remove(h.cfg.IMALog); err != nil {
		t.Fatal(err)
	}
	h.attest(t)
	sent("no list", 0, 0)
}
