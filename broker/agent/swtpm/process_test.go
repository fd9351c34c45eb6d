package swtpm_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

func TestStateOutlivesTheProcess(t *testing.T) {
	dir := folder(t)
	ca, err := swtpm.OpenCA(filepath.Join(dir, "ca"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cfg := swtpm.Config{Dir: filepath.Join(dir, "tpm"), CA: ca}
	m := start(t, cfg)
	first, before := endorsements(t, m), clock(t, open(t, m))
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Errorf("second stop: %v", err)
	}
	again := start(t, cfg)
	for i, e := range endorsements(t, again) {
		if !bytes.Equal(e.SPKI, first[i].SPKI) || !bytes.Equal(e.Certificate, first[i].Certificate) {
			t.Errorf("%s changed with a restart", e.Name)
		}
	}
	if after := clock(t, open(t, again)); after.ResetCount <= before.ResetCount || !bool(after.Safe) {
		t.Errorf("clock before %+v, after %+v", before, after)
	}
}

func TestDisconnectDoesNotEndTheTPM(t *testing.T) {
	m := start(t, swtpm.Config{})
	for range 20 { // more than the socket's queue holds: some are refused
		if c, err := net.Dial("unix", m.Socket()); err == nil {
			c.Close()
		}
	}
	if err := m.Boot(t.Context(), build.Machine{}.Log().Extends()); err != nil {
		t.Error(err)
	}
}

// TestCrowdedSocket: the queue of the socket is full, and commands wait for room
// instead of failing.
func TestCrowdedSocket(t *testing.T) {
	m := start(t, swtpm.Config{})
	var crowd []net.Conn
	for range 8 {
		if c, err := net.Dial("unix", m.Socket()); err == nil {
			crowd = append(crowd, c)
		}
	}
	if len(crowd) == 8 {
		t.Skip("the queue of this swtpm has room for eight")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := m.Reset(ctx); err == nil || !strings.Contains(err.Error(), "another client") {
		t.Errorf("reset with a full queue: %v", err)
	}
	for _, c := range crowd {
		c.Close()
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if err := m.Reset(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

func TestHeldSocketIsATimeoutNotAHang(t *testing.T) {
	m := start(t, swtpm.Config{})
	holder, err := net.Dial("unix", m.Socket())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := m.Boot(ctx, build.Machine{}.Log().Extends()); err == nil || !strings.Contains(err.Error(), "another client") {
		t.Errorf("boot while the socket is held: %v", err)
	}
	holder.Close()
	if err := m.Reboot(t.Context(), build.Machine{}.Log().Extends()); err != nil {
		t.Errorf("after the holder is gone: %v", err)
	}
}

func TestSecondStartInOneFolder(t *testing.T) {
	m := start(t, swtpm.Config{})
	_, err := swtpm.Start(t.Context(), swtpm.Config{SWTPM: program(t), Dir: m.Dir()})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second start: %v", err)
	}
	clock(t, open(t, m)) // the first one still answers on its socket
}

func TestRefusedConfigurations(t *testing.T) {
	dir := folder(t)
	for name, c := range map[string]struct {
		cfg  swtpm.Config
		want string
	}{
		"missing program":    {swtpm.Config{SWTPM: "/nonexistent/swtpm", Dir: dir}, swtpm.Install},
		"program that fails": {swtpm.Config{SWTPM: "/bin/false", Dir: dir}, "swtpm ended"},
		"long socket path":   {swtpm.Config{SWTPM: "/bin/false", Dir: filepath.Join(dir, strings.Repeat("d", 100))}, "107"},
		"comma in the path":  {swtpm.Config{SWTPM: "/bin/false", Dir: filepath.Join(dir, "a,b")}, "comma"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := swtpm.Start(t.Context(), c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestLongFolderWithShortSockets(t *testing.T) {
	dir := folder(t)
	m := start(t, swtpm.Config{Dir: filepath.Join(dir, strings.Repeat("d", 120)), Sockets: filepath.Join(dir, "s")})
	clock(t, open(t, m))
}

// TestParentDeathEndsTheTPM runs a parent, kills it with SIGKILL, and looks for
// the child.
func TestParentDeathEndsTheTPM(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperParent$")
	cmd.Env = append(os.Environ(), "SWTPM_PARENT="+program(t), "SWTPM_DIR="+folder(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for s := bufio.NewScanner(out); pid == 0 && s.Scan(); {
		if text, ok := strings.CutPrefix(s.Text(), "swtpm pid "); ok {
			pid, err = strconv.Atoi(text)
		} else {
			t.Log(s.Text())
		}
	}
	if pid == 0 || err != nil {
		t.Fatalf("no pid from the parent (%v)", err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the TPM does not run: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(5 * time.Second); alive(pid); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived its parent", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// alive reports whether pid runs; a zombie that nobody reaps does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return !bytes.HasPrefix(rest, []byte("Z")) && !bytes.HasPrefix(rest, []byte("X"))
}

// TestHelperParent is the parent of TestParentDeathEndsTheTPM.
func TestHelperParent(t *testing.T) {
	program := os.Getenv("SWTPM_PARENT")
	if program == "" {
		t.Skip("runs as a process of its own only")
	}
	m, err := swtpm.Start(t.Context(), swtpm.Config{SWTPM: program, Dir: os.Getenv("SWTPM_DIR")})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("swtpm pid %d\n", m.PID())
	<-m.Done()
}
