package tpm2collect_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/deploy/hostdeps/hostdepstest"
)

// software is a real TPM in a process of its own.
type software struct {
	dir    string // its state
	socket string
	cmd    *exec.Cmd
}

func program(t testing.TB, name string) string {
	t.Helper()
	return hostdepstest.Program(t, hostdeps.SWTPM, name)
}

// startTPM starts a TPM over the state in dir; "" makes a new one.
func startTPM(t testing.TB, dir string) *software {
	t.Helper()
	path := program(t, "swtpm")
	if dir == "" {
		dir = stateDir(t)
	}
	s := &software{dir: dir, socket: filepath.Join(dir, "tpm.sock")}
	s.cmd = exec.Command(path, "socket", "--tpm2",
		"--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+s.socket,
		"--ctrl", "type=unixio,path="+s.socket+".ctrl",
		"--flags", "not-need-init,startup-clear")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("unix", s.socket)
		if err == nil {
			conn.Close()
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("swtpm does not listen: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stateDir is short: the path of a Unix socket has 108 bytes at most.
func stateDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "zbtpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// kill is a power loss: no TPM2_Shutdown.
func (s *software) kill() {
	if s.cmd.Process != nil && s.cmd.ProcessState == nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
	os.Remove(s.socket)
	os.Remove(s.socket + ".ctrl")
}

func (s *software) device() string { return "swtpm:" + s.socket }

// open opens s for the product under test.
func (s *software) open(t testing.TB, cfg tpm2collect.Config) *tpm2collect.TPM {
	t.Helper()
	cfg.Device = s.device()
	tpm, err := tpm2collect.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm.Close() })
	return tpm
}

// raw opens s with go-tpm alone, to do what other software on a host does.
func (s *software) raw(t testing.TB) transport.TPMCloser {
	t.Helper()
	tpm, err := linuxudstpm.Open(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	return tpm
}

func (s *software) extend(t testing.TB, pcr int, fill byte) {
	t.Helper()
	digest := []byte(strings.Repeat(string(rune(fill)), 32))
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest}}},
	}.Execute(s.raw(t))
	if err != nil {
		t.Fatal(err)
	}
}

func (s *software) transient(t testing.TB) int {
	t.Helper()
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: 0x80000000, PropertyCount: 16}.Execute(s.raw(t))
	if err != nil {
		t.Fatal(err)
	}
	handles, err := rsp.CapabilityData.Data.Handles()
	if err != nil {
		t.Fatal(err)
	}
	return len(handles.Handle)
}

// undefine removes an NV index as the platform's firmware may.
func (s *software) undefine(t testing.TB, index uint32) {
	t.Helper()
	raw := s.raw(t)
	pub, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(raw)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.NVUndefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: pub.NVName},
	}.Execute(raw)
	if err != nil {
		t.Fatal(err)
	}
}

// manufacture makes a TPM with an RSA and a P-384 EK and their certificates of
// a CA of the test's own, as a vendor does.
func manufacture(t testing.TB) string {
	t.Helper()
	setup, localca := program(t, "swtpm_setup"), program(t, "swtpm_localca")
	dir := stateDir(t)
	ca := filepath.Join(dir, "ca")
	state := filepath.Join(dir, "state")
	for _, d := range []string{ca, state} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	options := write("options", "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n")
	localcaConf := write("localca.conf", fmt.Sprintf("statedir = %[1]s\nsigningkey = %[1]s/key.pem\nissuercert = %[1]s/cert.pem\ncertserial = %[1]s/serial\n", ca))
	setupConf := write("setup.conf", fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n", localca, localcaConf, options))
	args := []string{"--tpm2", "--tpmstate", state, "--config", setupConf, "--create-ek-cert", "--overwrite"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, setup, args...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup: %v\n%s", err, out)
	}
	return state
}
