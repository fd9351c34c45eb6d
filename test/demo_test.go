package test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// runningDemo is a demo as a user sees it: its lines, and how it ends.
type runningDemo struct {
	t     *testing.T
	tmp   string // where its folder lies
	cmd   *exec.Cmd
	notes *bytes.Buffer
	lines chan string
	ended chan error

	mu   sync.Mutex // guards said
	said []string
}

// newDemo starts one with its folder under a new TMPDIR.
func newDemo(t *testing.T, args ...string) *runningDemo {
	t.Helper()
	r := getRig(t)
	d := &runningDemo{t: t, tmp: demoTmp(t), notes: &bytes.Buffer{}, lines: make(chan string, 4096), ended: make(chan error, 1)}
	d.cmd = exec.Command(filepath.Join(r.bin, "zonebroker"), append([]string{"demo"}, args...)...)
	d.cmd.Env = append(append(os.Environ(), r.programs.Environ()...), "TMPDIR="+d.tmp)
	d.cmd.Stderr = d.notes
	out, err := d.cmd.StdoutPipe()
	must(t, err)
	must(t, d.cmd.Start())
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			d.mu.Lock()
			d.said = append(d.said, lines.Text())
			d.mu.Unlock()
			d.lines <- lines.Text()
		}
		close(d.lines)
		d.ended <- d.cmd.Wait()
	}()
	return d
}

// startDemo returns once the demo has told its story and says what to try.
func startDemo(t *testing.T, args ...string) *runningDemo {
	t.Helper()
	d := newDemo(t, args...)
	d.until("Ctrl-C ends everything")
	return d
}

// until reads lines up to the one that has a text.
func (d *runningDemo) until(text string) {
	d.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line, ok := <-d.lines:
			if !ok {
				d.t.Fatalf("the demo ended before it said %q: %v\n%s\n%s", text, <-d.ended, d.text(), d.notes)
			}
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			d.t.Fatalf("the demo does not say %q in a minute:\n%s", text, d.text())
		}
	}
}

// text is everything that the demo has said.
func (d *runningDemo) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.said, "\n") + "\n"
}

// exit waits for the end and returns the exit code.
func (d *runningDemo) exit() int {
	d.t.Helper()
	select {
	case <-d.ended:
		return d.cmd.ProcessState.ExitCode()
	case <-time.After(time.Minute):
		d.t.Fatalf("the demo does not end in a minute:\n%s", d.text())
		return -1
	}
}

// dir is the folder of the demo, "" before it is made.
func (d *runningDemo) dir() string {
	found, err := filepath.Glob(filepath.Join(d.tmp, "zonebroker-demo-*"))
	must(d.t, err)
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

// postgres is the number of the postmaster.
func (d *runningDemo) postgres() int {
	d.t.Helper()
	return (&replica{dir: d.dir()}).postgresPID(d.t)
}

// swtpm is the number of the process of a host's TPM.
func (d *runningDemo) swtpm(host string) (pid int) {
	d.t.Helper()
	for _, p := range processesOf(d.t, filepath.Join(d.dir(), host)) {
		if strings.Contains(p, "swtpm socket") {
			_, err := fmt.Sscan(p, &pid)
			must(d.t, err)
		}
	}
	if pid == 0 {
		d.t.Fatalf("%s has no TPM", host)
	}
	return pid
}

// wantGone fails unless nothing of the demo is left, within the time that
// cleaning up after a kill may take.
func (d *runningDemo) wantGone() {
	d.t.Helper()
	eventually(d.t, 20*time.Second, "the folder is removed", func() bool { return d.dir() == "" })
	eventually(d.t, 5*time.Second, "the processes are ended", func() bool { return len(processesOf(d.t, d.tmp)) == 0 })
	left, err := os.ReadDir(d.tmp)
	must(d.t, err)
	if len(left) > 0 {
		d.t.Errorf("left %v", left)
	}
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
	d := startDemo(t)
	// A process between fork and exec shows the name of its parent: a count may be
	// off by one for a moment, never for long.
	want := map[string]int{"postgres -D": 1, "swtpm socket": 12, "keeper": 1}
	var before string
	eventually(t, 15*time.Second, fmt.Sprintf("the demo runs %v", want), func() bool {
		before = strings.Join(processesOf(t, d.dir()), "\n")
		for what, n := range want {
			if strings.Count(before, what) != n {
				return false
			}
		}
		return true
	})
	must(t, d.cmd.Process.Kill())
	began := time.Now()
	d.wantGone()
	t.Logf("%d processes and the folder were gone %s after the kill", strings.Count(before, "\n")+1, time.Since(began).Round(time.Millisecond))
}

// TestDemoKilledAtAnyMoment: while a database is made, while hosts boot, while
// they attest.
func TestDemoKilledAtAnyMoment(t *testing.T) {
	for _, tt := range []struct {
		name, said string
		later      time.Duration
	}{
		{"while the database is made", "", 300 * time.Millisecond},
		{"later, while it is made", "", 900 * time.Millisecond},
		{"when the broker answers", "broker answers", 0},
		{"while hosts boot", "broker answers", 150 * time.Millisecond},
		{"while hosts attest", "operator admitted", 30 * time.Millisecond},
		{"after the denial", "denied", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDemo(t, "--hosts", "5")
			if tt.said != "" {
				d.until(tt.said)
			}
			time.Sleep(tt.later)
			must(t, d.cmd.Process.Kill())
			d.wantGone()
		})
	}
}

// TestKilledDemoKeepsItsFolder where it was asked to, and only the folder.
func TestKilledDemoKeepsItsFolder(t *testing.T) {
	d := startDemo(t, "--hosts", "2", "--keep")
	dir := d.dir()
	must(t, d.cmd.Process.Kill())
	eventually(t, 15*time.Second, "the processes are ended", func() bool { return len(processesOf(t, dir)) == 0 })
	if gone(filepath.Join(dir, "broker.log")) {
		t.Error("the folder was removed in spite of --keep")
	}
}

// TestInterruptedDemoCleansUp: once the story is told, Ctrl-C, the end of the
// terminal and a service manager's order are success; before, they are not.
func TestInterruptedDemoCleansUp(t *testing.T) {
	for _, tt := range []struct {
		name, said string
		signal     syscall.Signal
		exit       int
	}{
		{"Ctrl-C after the story", "Ctrl-C", syscall.SIGINT, 0},
		{"terminal closed", "Ctrl-C", syscall.SIGHUP, 0},
		{"Ctrl-C while hosts boot", "broker answers", syscall.SIGINT, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDemo(t, "--hosts", "3")
			d.until(tt.said)
			must(t, d.cmd.Process.Signal(tt.signal))
			if got := d.exit(); got != tt.exit {
				t.Errorf("exit %d, want %d\n%s", got, tt.exit, d.notes)
			}
			if left := processesOf(t, d.tmp); d.dir() != "" || len(left) > 0 {
				t.Errorf("left %s and %q", d.dir(), left)
			}
		})
	}
}

// TestUnheardDemoCleansUp: zonebroker demo | head -1.
func TestUnheardDemoCleansUp(t *testing.T) {
	r := getRig(t)
	d := &runningDemo{t: t, tmp: demoTmp(t)}
	sh := exec.Command("sh", "-c", "zonebroker demo --hosts 2 | head -n 1")
	sh.Env = append(append(os.Environ(), r.programs.Environ()...), "TMPDIR="+d.tmp, "PATH="+r.bin+":"+os.Getenv("PATH"))
	if out, err := sh.CombinedOutput(); err != nil || !strings.Contains(string(out), "Postgres runs") {
		t.Fatalf("%v\n%s", err, out)
	}
	d.wantGone()
}

// TestDemoOutlivesKills: the story goes on when its database or a TPM is killed
// under it, and what was started again ends with the demo too.
func TestDemoOutlivesKills(t *testing.T) {
	d := newDemo(t, "--hosts", "6")
	d.until("broker answers")
	must(t, syscall.Kill(d.postgres(), syscall.SIGKILL))
	d.until("booted, each with")
	must(t, syscall.Kill(d.swtpm("host-06"), syscall.SIGKILL))
	d.until("Ctrl-C")
	for _, want := range []string{"Postgres died and was started again", "the TPM of host-06 died", "6 first SVIDs", "history verified"} {
		if !strings.Contains(d.text(), want) {
			t.Errorf("the demo does not say %q:\n%s", want, d.text())
		}
	}
	must(t, syscall.Kill(d.swtpm("host-01"), syscall.SIGKILL))
	d.until("host-01 lost power")
	first := d.postgres()
	must(t, syscall.Kill(first, syscall.SIGKILL))
	d.until("Postgres died")
	eventually(t, 20*time.Second, "the broker finds its database again", func() bool {
		_, _, code := getRig(t).try(t, []string{"ZONEBROKER_DIR=" + d.dir()}, "zonebroker", "health")
		return code == 0 && d.postgres() != first
	})
	must(t, d.cmd.Process.Kill())
	d.wantGone()
}

// TestDemoWhoseBrokerEndsSaysSo: a demo that shows nothing any more must not
// wait in silence.
func TestDemoWhoseBrokerEndsSaysSo(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until the database is given up")
	}
	d := startDemo(t, "--hosts", "2")
	pid := d.postgres()
	must(t, os.RemoveAll(filepath.Join(d.dir(), "pg", "data", "global")))
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	if code := d.exit(); code != 1 || !strings.Contains(d.notes.String(), "the broker ended by itself") {
		t.Errorf("exit %d\n%s", code, d.notes)
	}
	d.wantGone()
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
