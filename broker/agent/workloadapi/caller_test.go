package workloadapi_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/broker/api"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a caller of another user needs root to start it: run this test as root")
	}
}

func denied(text string) string { return "PermissionDenied: " + text }

func TestCallerOfAnotherUser(t *testing.T) {
	needRoot(t)
	src := newSource(t, "payments", me("checkout"))
	socket, bin := serve(t, src), program(t, "workload")
	other := start(t, bin, socket, nobody)
	if got := other.ask(); !strings.HasPrefix(got, denied("no workload of this node's zone matches uid 65534 and path ")) {
		t.Errorf("%s", got)
	}
	if got := start(t, bin, socket, 0).ask(); got != idOf("payments", "checkout") {
		t.Errorf("%s", got)
	}
	src.set(func() { src.workloads = []api.Workload{me("checkout"), {Name: "ledger", UID: uid(nobody)}} })
	if got := other.ask(); got != idOf("payments", "ledger") {
		t.Errorf("%s", got)
	}
}

func TestCallerOfAnotherExecutable(t *testing.T) {
	checkout, ledger := program(t, "checkout"), program(t, "ledger")
	src := newSource(t, "payments", api.Workload{Name: "checkout", Path: checkout}, api.Workload{Name: "ledger", UID: uid(os.Geteuid()), Path: ledger})
	socket := serve(t, src)
	for path, want := range map[string]string{
		checkout:               idOf("payments", "checkout"),
		ledger:                 idOf("payments", "ledger"),
		program(t, "checkout"): denied(fmt.Sprintf("no workload of this node's zone matches uid %d and path ", os.Geteuid())),
	} {
		if got := start(t, path, socket, os.Geteuid()).ask(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	t.Run("same_executable_other_user", func(t *testing.T) {
		needRoot(t)
		if got := start(t, ledger, socket, nobody).ask(); !strings.HasPrefix(got, denied("no workload")) {
			t.Errorf("%s", got)
		}
		if got := start(t, checkout, socket, nobody).ask(); got != idOf("payments", "checkout") {
			t.Errorf("%s", got)
		}
	})
	t.Run("link_to_it", func(t *testing.T) {
		link := filepath.Join(filepath.Dir(program(t, "x")), "link")
		if err := os.Symlink(checkout, link); err != nil {
			t.Fatal(err)
		}
		if got := start(t, link, socket, os.Geteuid()).ask(); got != idOf("payments", "checkout") {
			t.Errorf("%s: a link runs what it leads to", got)
		}
	})
}

func TestRulesAreTriedInTheOrderOfTheDocument(t *testing.T) {
	bin := program(t, "workload")
	euid := os.Geteuid()
	for name, test := range map[string]struct {
		rules []api.Workload
		want  string
	}{
		"first_of_two":      {[]api.Workload{{Name: "a", UID: uid(euid)}, {Name: "b", Path: bin}}, idOf("payments", "a")},
		"first_is_the_path": {[]api.Workload{{Name: "a", Path: bin}, {Name: "b", UID: uid(euid)}}, idOf("payments", "a")},
		"both_have_to_fit":  {[]api.Workload{{Name: "a", UID: uid(euid + 1), Path: bin}, {Name: "b", UID: uid(euid), Path: bin + "x"}, {Name: "c", UID: uid(euid)}}, idOf("payments", "c")},
		"one_for_everybody": {[]api.Workload{{Name: "a"}}, denied("no workload")},
		"none":              {[]api.Workload{}, denied("no workload")},
		"no_zone":           {nil, denied("this node has no zone")},
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource(t, "payments")
			src.workloads = test.rules
			if got := start(t, bin, serve(t, src), euid).ask(); !strings.HasPrefix(got, test.want) {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// TestExecutableReplaced: an update of the file takes the identity of the old
// process back, and a file of the name that the kernel gives it changes nothing.
func TestExecutableReplaced(t *testing.T) {
	bin := program(t, "workload")
	src := newSource(t, "payments", api.Workload{Name: "checkout", Path: bin}, me("other"))
	p := start(t, bin, serve(t, src), os.Geteuid())
	if got := p.ask(); got != idOf("payments", "checkout") {
		t.Fatal(got)
	}
	if err := os.Remove(bin); err != nil {
		t.Fatal(err)
	}
	want := denied(`workload "checkout" names an executable: ` + workloadapi.ErrDeleted.Error())
	if got := p.ask(); got != want {
		t.Errorf("removed: %s", got)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, self, bin)
	copyFile(t, self, bin+" (deleted)")
	if got := p.ask(); got != want {
		t.Errorf("replaced: %s", got)
	}
	src.set(func() { src.workloads = []api.Workload{{Name: "x", Path: bin + " (deleted)"}} })
	if got := p.ask(); !strings.HasPrefix(got, denied("no workload")) {
		t.Errorf("rule for the kernel's name of it: %s", got)
	}
}

// TestExecutableOfAPrivateView: anybody can mount a file of his own over a path
// in a mount namespace of his own; the path alone then reads as the real one.
func TestExecutableOfAPrivateView(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("needs unshare of util-linux")
	}
	bin, evil := program(t, "workload"), program(t, "evil")
	empty := filepath.Join(filepath.Dir(bin), "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	unseen := filepath.Join(empty, "workload")
	for name, test := range map[string]struct{ path, mount string }{
		"over_the_file":            {bin, fmt.Sprintf("mount --bind %s %s", evil, bin)},
		"where_the_agent_has_none": {unseen, fmt.Sprintf("mount -t tmpfs none %s && cp %s %s", empty, evil, unseen)},
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource(t, "payments", api.Workload{Name: "checkout", Path: test.path}, me("other"))
			wrapper := filepath.Join(filepath.Dir(evil), name)
			script := fmt.Sprintf("#!/bin/sh\nexec unshare -m --propagation private sh -c '%s && exec %s'\n", test.mount, test.path)
			if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			got := start(t, wrapper, serve(t, src), 0).ask()
			if got != denied(`workload "checkout" names an executable: `+workloadapi.ErrElsewhere.Error()) {
				t.Errorf("%s", got)
			}
		})
	}
}

// TestPidReuse: a pid says nothing once its process has ended.
func TestPidReuse(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	short := exec.Command("cat")
	in, err := short.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := short.Start(); err != nil {
		t.Fatal(err)
	}
	pinned := workloadapi.OpenPidfd(short.Process.Pid)
	if pinned == nil {
		t.Fatal("no pidfd")
	}
	t.Cleanup(func() { pinned.Close() })
	if path, err := workloadapi.Looked(0, short.Process.Pid, pinned); err != nil || path == "" {
		t.Fatalf("alive: %q, %v", path, err)
	}
	in.Close()
	if err := short.Wait(); err != nil {
		t.Fatal(err)
	}
	// This process stands for the one that got the pid next.
	if path, err := workloadapi.Looked(0, os.Getpid(), pinned); err != workloadapi.ErrGone || path != "" {
		t.Errorf("reused pid: %q, %v", path, err)
	}
	mine := workloadapi.OpenPidfd(os.Getpid())
	t.Cleanup(func() { mine.Close() })
	if path, err := workloadapi.Looked(0, os.Getpid(), mine); err != nil || path != self {
		t.Errorf("own: %q, %v", path, err)
	}
	if path, err := workloadapi.Looked(0, os.Getpid(), nil); err != workloadapi.ErrGone || path != "" {
		t.Errorf("without pidfd: %q, %v", path, err)
	}
	if path, err := workloadapi.Looked(0, 0, mine); err != workloadapi.ErrMayNot || path != "" {
		t.Errorf("outside of the pid namespace: %q, %v", path, err)
	}
	gone := workloadapi.OpenPidfd(os.Getpid())
	gone.Close()
	if path, err := workloadapi.Looked(0, os.Getpid(), gone); err != workloadapi.ErrGone || path != "" {
		t.Errorf("after the connection: %q, %v", path, err)
	}
}

// TestHandedOn: a connection that outlives its process is nobody's executable.
func TestHandedOn(t *testing.T) {
	bin := program(t, "workload")
	src := newSource(t, "payments", api.Workload{Name: "checkout", Path: bin}, me("other"))
	p := start(t, bin, serve(t, src), os.Geteuid(), handEnv+"=1")
	if got := p.ask(); got != denied(`workload "checkout" names an executable: `+workloadapi.ErrGone.Error()) {
		t.Errorf("%s", got)
	}
}

// TestAgentThatMayNotLook: without the right to see what another user's process
// runs, a rule with a path refuses and says why.
func TestAgentThatMayNotLook(t *testing.T) {
	needRoot(t)
	bin := program(t, "workload")
	dir, err := os.MkdirTemp("", "zbn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "w.sock")
	agent := start(t, bin, socket, nobody, serveEnv+"="+bin)
	if got := agent.ask(); got != "serving" {
		t.Fatal(got)
	}
	if got := start(t, bin, socket, 0).ask(); got != denied(`workload "checkout" names an executable: `+workloadapi.ErrMayNot.Error()) {
		t.Errorf("%s", got)
	}
	if got := start(t, bin, socket, nobody).ask(); got != idOf("payments", "checkout") {
		t.Errorf("of its own user: %s", got)
	}
}
