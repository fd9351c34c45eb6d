package agent_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// TestUserspaceLogIsSentWhereItIsAskedFor: with every quote of a PCR that systemd
// extends, on the same boot too, and with no other.
func TestUserspaceLogIsSentWhereItIsAskedFor(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	u := build.Booted("ready", "0123456789abcdef0123456789abcdef")
	log := build.Machine{UKI: true}.Log()
	if err := h.tpm.Reboot(t.Context(), append(log.Extends(), u.Extends()...)); err != nil {
		t.Fatal(err)
	}
	h.cfg.UserspaceLog = filepath.Join(h.dir, "userspace")
	for path, raw := range map[string][]byte{h.cfg.EventLog: log.Bytes(), h.cfg.UserspaceLog: u.Bytes()} {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.selection = "ff0100" // 0 to 8
	h.attest(t)
	if len(b.last().TPM2.UserspaceLog) != 0 {
		t.Error("sent, and no PCR of systemd's was asked for")
	}
	for _, selection := range []string{"ffba00", "ff0800"} { // 9, 11 to 13, 15; 11 alone
		b.selection = selection
		for range 2 {
			h.attest(t)
			if !bytes.Equal(b.last().TPM2.UserspaceLog, u.Bytes()) {
				t.Errorf("%s: %d bytes sent", selection, len(b.last().TPM2.UserspaceLog))
			}
		}
		if len(b.last().TPM2.EventLog) != 0 {
			t.Error("the event log is sent again on the same boot")
		}
	}
	if err := os.Remove(h.cfg.UserspaceLog); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.cfg.UserspaceLog, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := agent.Attest(t.Context(), h.cfg)
	if f, ok := errors.AsType[*agent.Fault](err); !ok || f.Kind != agent.FaultFile {
		t.Errorf("a log that cannot be read: %v", err)
	}
}
