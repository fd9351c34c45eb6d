package embedded

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clearLeftovers ends what a killed owner or a killed postmaster left running
// in the data folder, and removes the lock files that would keep a new
// postmaster out. The owner's lock is held, so nothing here can be somebody
// else's living server.
func (f *folder) clearLeftovers(ctx context.Context, log *slog.Logger) error {
	for _, step := range []struct {
		signal   syscall.Signal
		patience time.Duration
	}{{syscall.SIGINT, 10 * time.Second}, {syscall.SIGQUIT, quitPatience}} {
		left := serversIn(f.data)
		if len(left) == 0 {
			return f.removeStaleLocks()
		}
		postmaster, _ := f.readPID()
		log.Warn("ending a postgres left by a dead owner", "pids", left, "signal", step.signal.String())
		if slices.Contains(left, postmaster) {
			left = []int{postmaster} // it ends its backends in order
		} else if step.signal == syscall.SIGINT {
			left = nil // backends without a postmaster end by themselves
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, step.signal)
			_ = syscall.Kill(pid, syscall.SIGCONT) // a frozen one hears nothing else
		}
		if err := f.waitGone(ctx, step.patience); err != nil {
			return err
		}
	}
	if left := serversIn(f.data); len(left) > 0 {
		return fmt.Errorf("processes %v of an earlier postgres still work in %s", left, f.data)
	}
	return f.removeStaleLocks()
}

// waitGone returns when no server works in the folder, at the latest after
// patience.
func (f *folder) waitGone(ctx context.Context, patience time.Duration) error {
	end := time.NewTimer(patience)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(serversIn(f.data)) > 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// removeStaleLocks takes away the socket's files, and a pid file whose number
// belongs to another program by now: Postgres would refuse to start beside it.
func (f *folder) removeStaleLocks() error {
	for _, name := range []string{socketName, socketName + ".lock"} {
		if err := os.RemoveAll(filepath.Join(f.socketDir, name)); err != nil {
			return err
		}
	}
	pid, _ := f.readPID()
	if pid <= 0 || !canTellServers || syscall.Kill(pid, 0) != nil {
		return nil // gone, or not ours to judge: Postgres sees to it
	}
	return os.Remove(f.pidFile())
}

func (f *folder) pidFile() string { return filepath.Join(f.data, "postmaster.pid") }

// readPID returns the postmaster's number and status from its pid file (lines 1
// and 8), or 0 and "".
func (f *folder) readPID() (int, string) {
	text, err := os.ReadFile(f.pidFile())
	if err != nil {
		return 0, ""
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return 0, ""
	}
	if len(lines) < 8 {
		return pid, ""
	}
	return pid, strings.TrimSpace(lines[7])
}

func (f *folder) logPath() string { return filepath.Join(f.dir, "postgres.log") }

func (f *folder) openLog() (*os.File, error) {
	f.boundLog()
	return os.OpenFile(f.logPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
}

// boundLog cuts the log when it has grown too long. Postgres appends, so
// cutting under its hands is safe.
func (f *folder) boundLog() {
	if f.logSize() > maxLogBytes {
		_ = os.Truncate(f.logPath(), 0)
	}
}

func (f *folder) logSize() int64 {
	info, err := os.Stat(f.logPath())
	if err != nil {
		return 0
	}
	return info.Size()
}

// logSince returns the first fatal line that Postgres wrote after the offset,
// else its last line.
func (f *folder) logSince(offset int64) string {
	file, err := os.Open(f.logPath())
	if err != nil {
		return ""
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, offset, 64<<10))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if _, message, ok := strings.Cut(line, "FATAL:"); ok {
			return strings.TrimSpace(message)
		}
	}
	return lastLine(string(text))
}
