package swtpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const logName = "swtpm.log"

// run starts the program and waits until it answers.
func (t *TPM) run(ctx context.Context) error {
	for _, stale := range []string{t.socket, t.control()} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	log, err := os.OpenFile(filepath.Join(t.cfg.Dir, logName), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// No --terminate: the end of a connection must not end the TPM.
	t.cmd = exec.Command(t.cfg.SWTPM, "socket", "--tpm2",
		"--tpmstate", "dir="+t.cfg.Dir+",mode=0600",
		"--server", "type=unixio,path="+t.socket+",mode=0600",
		"--ctrl", "type=unixio,path="+t.control()+",mode=0600",
		"--flags", "not-need-init")
	t.cmd.Env = append(os.Environ(), t.cfg.Env...)
	t.cmd.Dir = t.cfg.Dir
	t.cmd.Stdout, t.cmd.Stderr = log, log
	// A group of its own: Ctrl-C on a terminal goes to the parent, which then
	// stops the TPM in order.
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := t.spawn(); err != nil {
		return err
	}
	if err := t.ready(ctx); err != nil {
		t.Kill()
		return err
	}
	return nil
}

// spawn starts the process from a thread that lives as long as it does: the
// parent-death signal follows the thread, and the Go runtime ends threads when
// it likes.
func (t *TPM) spawn() error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with this goroutine
		err := t.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = t.cmd.Wait() // the exit status says nothing that the log does not
		t.release()
		close(t.done)
	}()
	return <-started
}

// ready waits until the control socket answers.
func (t *TPM) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errors.New("swtpm does not answer"))
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := t.command(ctx, cmdGetCapability, nil); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-t.done:
			return fmt.Errorf("swtpm ended: %s", t.lastWords())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// lastWords returns the end of the program's log.
func (t *TPM) lastWords() string {
	log, err := os.ReadFile(filepath.Join(t.cfg.Dir, logName))
	log = bytes.TrimSpace(log)
	if err != nil || len(log) == 0 {
		return "it said nothing"
	}
	return string(log[max(0, len(log)-400):])
}
