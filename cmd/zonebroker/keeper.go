package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// demoPrefix begins the name of every folder of a demo. The keeper removes no
// other: it is a command that anybody can type.
const demoPrefix = "zonebroker-demo-"

// keeperDone is the last line of a demo that cleaned up itself.
const keeperDone = "done"

// Patience of the keeper with what the demo left: an order to end is followed
// in well under a second, and a folder can be removed once nobody writes in it.
const (
	endPatience    = 5 * time.Second
	removePatience = 10 * time.Second
	keeperTick     = 20 * time.Millisecond
)

func newKeeperCmd() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:    "keeper DIR",
		Hidden: true,
		Short:  "Clean up after a demo that was killed",
		Long: `Keeper is started by "zonebroker demo" and listens to it on standard input. When
the demo dies without saying that it is done, the keeper ends the processes that
the demo named and removes the demo's folder.`,
		Example: "  zonebroker keeper /tmp/" + demoPrefix + "1 --keep",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir := args[0]; dir != filepath.Clean(dir) || !filepath.IsAbs(dir) || !strings.HasPrefix(filepath.Base(dir), demoPrefix) {
				return usageError{"only the demo starts a keeper: " + dir + " is no folder of a demo"}
			}
			return tidyAfter(cmd.InOrStdin(), args[0], keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the folder")
	return cmd
}

// tidyAfter returns when the demo said that it is done, or when it died and
// nothing of it is left.
func tidyAfter(in io.Reader, dir string, keep bool) error {
	var named []namedProcess
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if lines.Text() == keeperDone {
			return nil
		}
		if p, ok := parseNamed(lines.Text()); ok {
			named = append(named, p)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		for _, p := range named {
			p.signal(sig)
		}
		if waitFor(endPatience, func() bool { return !slices.ContainsFunc(named, namedProcess.alive) }) {
			break
		}
	}
	if keep {
		return nil
	}
	// A process that was just being started when the demo died has not been
	// named; the kernel ends it with the demo, and until then it may write.
	var err error
	if !waitFor(removePatience, func() bool { err = os.RemoveAll(dir); return err == nil }) {
		return err
	}
	return nil
}

// waitFor asks until it is so, and says whether it became so in time.
func waitFor(patience time.Duration, so func() bool) bool {
	end := time.NewTimer(patience)
	defer end.Stop()
	tick := time.NewTicker(keeperTick)
	defer tick.Stop()
	for !so() {
		select {
		case <-end.C:
			return so()
		case <-tick.C:
		}
	}
	return true
}

// namedProcess is a process by number and start time: the kernel uses numbers
// again, and the keeper may run as root.
type namedProcess struct {
	pid   int
	start string // clock ticks since boot, as /proc writes them
}

func (p namedProcess) line() string { return fmt.Sprintf("%d %s\n", p.pid, p.start) }

func parseNamed(line string) (namedProcess, bool) {
	pid, start, ok := strings.Cut(line, " ")
	n, err := strconv.Atoi(pid)
	return namedProcess{n, start}, ok && err == nil && n > 1 && start != ""
}

// alive is false for a process that has ended and waits for its parent: in a
// container there may be nobody who collects it.
func (p namedProcess) alive() bool {
	start, state := procStat(p.pid)
	return start == p.start && state != "Z" && state != "X"
}

// signal takes hold of the process before it looks whose number it is, so that
// no other can come in between.
func (p namedProcess) signal(sig syscall.Signal) {
	held, err := os.FindProcess(p.pid)
	if err != nil {
		return
	}
	defer func() { _ = held.Release() }()
	if p.alive() {
		_ = held.Signal(sig) // one that has ended meanwhile is what is wanted
	}
}

// procStat returns start time and state of a process, "" where there is none.
func procStat(pid int) (start, state string) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", ""
	}
	// The second field is the program's name and may hold anything; state is the
	// third and start time the 22nd (proc_pid_stat(5)).
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(f) < 20 {
		return "", ""
	}
	return f[19], f[0]
}

// keeper is the demo's end of the pipe.
type keeper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

// startKeeper starts the keeper in a session of its own: neither Ctrl-C nor the
// end of the terminal reaches it.
func startKeeper(dir string, keep bool) (*keeper, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	k := &keeper{cmd: exec.Command(self, "keeper", dir, "--keep="+strconv.FormatBool(keep))}
	k.cmd.Dir = "/"
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if k.in, err = k.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := k.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	return k, nil
}

// name entrusts a process to the keeper. A keeper that is gone shows at release.
func (k *keeper) name(pid int) {
	if start, _ := procStat(pid); start != "" {
		_, _ = io.WriteString(k.in, namedProcess{pid, start}.line())
	}
}

// release tells the keeper that nothing is left to do.
func (k *keeper) release() error {
	_, err := io.WriteString(k.in, keeperDone+"\n")
	return errors.Join(err, k.in.Close(), k.cmd.Wait())
}
