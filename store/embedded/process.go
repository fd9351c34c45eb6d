package embedded

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is a started program. err may be read once done is closed.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// start runs cmd on an OS thread of its own that lives as long as the process:
// the kernel sends the parent-death signal when the *thread* that forked ends,
// and Go ends idle threads.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal ignores a process that has ended: that is what its senders want.
func (p *process) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// shutDown ends a postmaster and waits for it: fast, then immediately, then by
// force, which the next start recovers from.
func (p *process) shutDown() {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		p.signal(sig)
		t := time.NewTimer(quitPatience)
		select {
		case <-p.done:
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// command prepares a program to run as the user of the folder, with a fixed
// environment: PG* variables of the caller must not reach it.
func (g programs) command(f *folder, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(g.bin, name), args...)
	// GMT needs no time zone files, which small machines do not have.
	cmd.Env = append([]string{"PATH=" + g.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=GMT"}, g.env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = attributes(f.runAs)
	return cmd
}

// output runs a short program to its end and returns what it printed; an error
// carries its last line on standard error.
func (g programs) output(ctx context.Context, f *folder, name string, args ...string) (string, error) {
	cmd := g.command(f, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	p, err := start(cmd)
	if err != nil {
		return "", err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.signal(syscall.SIGKILL)
		<-p.done
		return "", fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	if p.err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, p.err, lastLine(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// launch starts the postmaster and waits until it accepts connections.
func (s *Server) launch(ctx context.Context) (*process, error) {
	f := s.folder
	if err := f.clearLeftovers(ctx, s.log); err != nil {
		return nil, err
	}
	if err := checkDurable(ctx, s.programs, f); err != nil {
		return nil, err
	}
	log, err := f.openLog()
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := s.programs.command(f, "postgres", serverArgs(f)...)
	cmd.Stdout, cmd.Stderr = log, log
	from := f.logSize()
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	s.onStart(p.pid())
	if err := waitReady(ctx, f, p); err != nil {
		p.shutDown()
		if why := f.logSince(from); why != "" {
			err = fmt.Errorf("%w: %s", err, why)
		}
		return nil, err
	}
	return p, nil
}

// serverArgs are the settings that nothing in the cluster can override.
func serverArgs(f *folder) []string {
	args := []string{"-D", f.data}
	for _, setting := range []string{
		"listen_addresses=",
		"unix_socket_directories=" + quoteList(f.socketDir),
		"unix_socket_permissions=0700",
		"port=" + socketPort,
		"fsync=on",
		"full_page_writes=on",
		"jit=off", // short statements only; planning time is all it would add
		"logging_collector=off",
		"log_destination=stderr",
		"cluster_name=zonebroker",
	} {
		args = append(args, "-c", setting)
	}
	return args
}

// quoteList writes one element of a Postgres list setting, so that a comma or a
// space in a path does not split it.
func quoteList(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// waitReady polls the status that the postmaster writes into its pid file.
func waitReady(ctx context.Context, f *folder, p *process) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if pid, status := f.readPID(); pid == p.pid() && status == "ready" {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("postgres ended while starting: %w", exitError(p.err))
		case <-ctx.Done():
			return fmt.Errorf("wait for postgres to start: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func exitError(err error) error {
	if err == nil {
		return os.ErrProcessDone
	}
	return err
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
