package agent_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/deploy/hostdeps/hostdepstest"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// host is a machine with a software TPM that was booted through a log.
type host struct {
	program string
	tpm     *swtpm.TPM
	dir     string
	cfg     agent.Config
	ek      [32]byte
}

func newHost(t testing.TB, b *broker) *host {
	t.Helper()
	program := hostdepstest.Program(t, hostdeps.SWTPM, "swtpm")
	dir, err := os.MkdirTemp("", "zba") // short: the path of a socket has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &host{dir: dir, program: program}
	h.startTPM(t)
	tpm := h.tpm
	h.cfg = agent.Config{
		Server: b.url, Trust: b.trust(), StateDir: filepath.Join(dir, "state"), Device: "swtpm:" + tpm.Socket(),
		EK: tpm2collect.P256, EventLog: filepath.Join(dir, "log"), Progress: func(line string) { t.Log(line) },
	}
	h.boot(t, build.Machine{})
	h.ek = h.endorsement(t)
	b.admitted[h.ek] = true
	return h
}

func (h *host) startTPM(t testing.TB) {
	t.Helper()
	tpm, err := swtpm.Start(t.Context(), swtpm.Config{SWTPM: h.program, Dir: filepath.Join(h.dir, "tpm")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tpm.Kill)
	h.tpm = tpm
}

// restartTPM is the end and the next start of the TPM's process, with the same
// boot measured into it.
func (h *host) restartTPM(t testing.TB) {
	t.Helper()
	h.tpm.Kill()
	h.startTPM(t)
	h.boot(t, build.Machine{})
}

// boot starts the machine through the firmware that m describes.
func (h *host) boot(t testing.TB, m build.Machine) {
	t.Helper()
	b := m.Log()
	if err := h.tpm.Reboot(t.Context(), b.Extends()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.cfg.EventLog, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (h *host) endorsement(t testing.TB) [32]byte {
	t.Helper()
	tpm, err := tpm2collect.Open(t.Context(), tpm2collect.Config{Device: h.cfg.Device, EK: h.cfg.EK})
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	ek, err := tpm.EK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ek.Hash
}

func (h *host) attest(t testing.TB) agent.Result {
	t.Helper()
	r, err := agent.Attest(t.Context(), h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (h *host) state(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.cfg.StateDir, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
