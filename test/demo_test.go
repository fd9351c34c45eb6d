package test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runningDemo is a demo that has told its story and waits.
type runningDemo struct {
	cmd   *exec.Cmd
	dir   string
	notes *bytes.Buffer
	ended chan error
}

var demoDir = regexp.MustCompile(`\. '([^']+)/env'`)

// startDemo returns once the demo says what can be tried. tmp is where its
// folder lies.
func startDemo(t *testing.T, tmp string, args ...string) *runningDemo {
	t.Helper()
	r := getRig(t)
	d := &runningDemo{notes: &bytes.Buffer{}, ended: make(chan error, 1)}
	d.cmd = exec.Command(filepath.Join(r.bin, "zonebroker"), append([]string{"demo"}, args...)...)
	d.cmd.Env = append(append(os.Environ(), r.programs.Environ()...), "TMPDIR="+tmp)
	d.cmd.Stderr = d.notes
	out, err := d.cmd.StdoutPipe()
	must(t, err)
	must(t, d.cmd.Start())
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	told := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if m := demoDir.FindStringSubmatch(lines.Text()); m != nil {
				told <- m[1]
			}
		}
		_, _ = io.Copy(io.Discard, out)
		d.ended <- d.cmd.Wait()
	}()
	select {
	case d.dir = <-told:
	case err := <-d.ended:
		t.Fatalf("the demo ended before its story did: %v\n%s", err, d.notes)
	case <-time.After(time.Minute):
		t.Fatal("the demo does not come to its end in a minute")
	}
	return d
}

// demoTmp is a short folder that an unprivileged Postgres can pass through.
func demoTmp(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(getRig(t).dir, fmt.Sprintf("d%d", getRig(t).replicas.Add(1)))
	must(t, os.Mkdir(dir, 0o711))
	return dir
}

// processesOf lists the processes that speak of a folder: the postmaster with
// its data, the TPM, the keeper, the demo's own children.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	var found []string
	for _, p := range entries {
		cmdline, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		if line := string(bytes.ReplaceAll(cmdline, []byte{0}, []byte(" "))); strings.Contains(line, dir) || strings.HasPrefix(cwd, dir) {
			found = append(found, filepath.Base(p)+" "+line)
		}
	}
	return found
}

func gone(dir string) bool {
	_, err := os.Lstat(dir)
	return os.IsNotExist(err)
}

// TestKilledDemoLeavesNothing: not even kill -9 leaves processes or files.
func TestKilledDemoLeavesNothing(t *testing.T) {
	d := startDemo(t, demoTmp(t))
	before := processesOf(t, d.dir)
	for _, want := range []string{"postgres", "swtpm", "keeper"} {
		if !strings.Contains(strings.Join(before, "\n"), want) {
			t.Errorf("the demo runs no %s: %q", want, before)
		}
	}
	must(t, d.cmd.Process.Kill())
	<-d.ended
	began := time.Now()
	eventually(t, 15*time.Second, "the folder is removed", func() bool { return gone(d.dir) })
	eventually(t, 5*time.Second, "the processes are ended", func() bool { return len(processesOf(t, d.dir)) == 0 })
	t.Logf("%d processes and the folder were gone %s after the kill", len(before), time.Since(began).Round(time.Millisecond))
}

// TestKilledDemoKeepsItsFolder where it was asked to, and only the folder.
func TestKilledDemoKeepsItsFolder(t *testing.T) {
	d := startDemo(t, demoTmp(t), "--keep")
	must(t, d.cmd.Process.Kill())
	<-d.ended
	eventually(t, 15*time.Second, "the processes are ended", func() bool { return len(processesOf(t, d.dir)) == 0 })
	if gone(filepath.Join(d.dir, "broker.log")) {
		t.Error("the folder was removed in spite of --keep")
	}
}

// TestInterruptedDemoCleansUp: Ctrl-C is success.
func TestInterruptedDemoCleansUp(t *testing.T) {
	d := startDemo(t, demoTmp(t))
	must(t, d.cmd.Process.Signal(syscall.SIGINT))
	if err := <-d.ended; err != nil {
		t.Errorf("ended with %v\n%s", err, d.notes)
	}
	if left := processesOf(t, d.dir); !gone(d.dir) || len(left) > 0 {
		t.Errorf("left %s and %q", d.dir, left)
	}
}

// TestDemoWhoseBrokerEndsSaysSo: a demo that shows nothing any more must not
// wait in silence.
func TestDemoWhoseBrokerEndsSaysSo(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until the database is given up")
	}
	d := startDemo(t, demoTmp(t))
	p := &replica{dir: d.dir}
	pid := p.postgresPID(t)
	must(t, os.RemoveAll(filepath.Join(d.dir, "pg", "data", "global")))
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	select {
	case err := <-d.ended:
		if err == nil || !strings.Contains(d.notes.String(), "the broker ended by itself") {
			t.Errorf("ended with %v\n%s", err, d.notes)
		}
	case <-time.After(time.Minute):
		t.Fatal("the demo goes on without a broker")
	}
	if left := processesOf(t, d.dir); !gone(d.dir) || len(left) > 0 {
		t.Errorf("left %s and %q", d.dir, left)
	}
}

// TestEnvFile: the file that serve leaves is all that both commands need.
func TestEnvFile(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	script := fmt.Sprintf("set -a; . '%s/env'; zonebroker node list && zoneagent verify-broker", p.dir)
	sh := exec.Command("sh", "-euc", script)
	sh.Dir = "/"
	sh.Env = []string{"PATH=" + c.rig.bin}
	if out, err := sh.CombinedOutput(); err != nil || !strings.Contains(string(out), "trusted        yes") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestKeeperTouchesOnlyDemos: anybody can type the command.
func TestKeeperTouchesOnlyDemos(t *testing.T) {
	r := getRig(t)
	dir := filepath.Join(r.dir, "no-demo")
	must(t, os.MkdirAll(dir, 0o700))
	for _, arg := range []string{dir, "zonebroker-demo-relative", r.dir + "/zonebroker-demo-x/../no-demo"} {
		if _, stderr, code := r.try(t, nil, "zonebroker", "keeper", arg); code == 0 || gone(dir) {
			t.Errorf("%s: exit %d, folder gone %v\n%s", arg, code, gone(dir), stderr)
		}
	}
}

// TestKeeperEndsWhatWasNamed: a process whose number was used again is not the
// one that was named.
func TestKeeperEndsWhatWasNamed(t *testing.T) {
	r := getRig(t)
	for _, tt := range []struct {
		name          string
		start, last   string // no start: the true one
		ended, tidied bool
	}{
		{"named, then the demo died", "", "", true, true},
		{"another process has the number", "1", "", false, true},
		{"the demo was done", "", "done\n", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			child := exec.Command("sleep", "60")
			must(t, child.Start())
			ended := make(chan struct{})
			go func() { defer close(ended); _ = child.Wait() }()
			defer func() { _ = child.Process.Kill(); <-ended }()
			if tt.start == "" {
				stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child.Process.Pid))
				must(t, err)
				tt.start = strings.Fields(string(stat))[21]
			}
			dir := filepath.Join(demoTmp(t), "zonebroker-demo-x")
			must(t, os.Mkdir(dir, 0o700))
			keeper := exec.Command(filepath.Join(r.bin, "zonebroker"), "keeper", dir)
			keeper.Stdin = strings.NewReader(fmt.Sprintf("%d %s\n%s", child.Process.Pid, tt.start, tt.last))
			if out, err := keeper.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			isEnded := false
			select {
			case <-ended:
				isEnded = true
			case <-time.After(100 * time.Millisecond):
			}
			if isEnded != tt.ended || gone(dir) != tt.tidied {
				t.Errorf("ended %v, folder gone %v", isEnded, gone(dir))
			}
		})
	}
}
