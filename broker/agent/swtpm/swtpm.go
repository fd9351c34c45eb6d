package swtpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is sizeof(sockaddr_un.sun_path) less the closing zero.
const maxSocketPath = 107

// commandTimeout bounds an exchange with the TPM where the caller's context has
// no deadline. A software TPM needs at most a few seconds, for an RSA key.
const commandTimeout = 30 * time.Second

// Install is the command that gets the program on Debian and Ubuntu.
const Install = "apt-get install swtpm"

// Config says which program runs and where the TPM lives.
type Config struct {
	// SWTPM is the program; empty means "swtpm" from PATH. Trusted: it sees and
	// makes all keys of the TPM.
	SWTPM string
	// Env is added to the environment of the program, for one that was unpacked
	// beside its libraries.
	Env []string
	// Dir holds the TPM's state; it is made with mode 0700. Trusted: an attacker
	// who can read it has every key of the TPM.
	Dir string
	// Sockets is the folder of the two sockets; empty means Dir. The kernel allows
	// 107 bytes for a socket's path, so a deep Dir needs a shorter one here.
	Sockets string
	// CA issues the EK certificates when the TPM is manufactured; nil makes a TPM
	// without certificates, as some cloud machines have.
	CA *CA
}

// TPM is a running software TPM. Its methods may be called from several
// goroutines; commands that change power state exclude each other.
type TPM struct {
	cfg    Config
	socket string
	lock   *os.File // held while the TPM runs: one process a folder
	cmd    *exec.Cmd
	done   chan struct{} // closed when the process is gone

	mu       sync.Mutex // one power operation at a time
	released sync.Once
}

// Start starts the TPM of cfg.Dir, manufactures it if the folder is new, and
// powers it on (TPM2_Startup(CLEAR)), so that PCRs are at their reset values.
// ctx bounds the start only: the process runs until Stop, Kill or the end of the
// parent.
func Start(ctx context.Context, cfg Config) (*TPM, error) {
	t, err := prepare(cfg)
	if err != nil {
		return nil, err
	}
	if err := t.run(ctx); err != nil {
		t.release()
		return nil, fmt.Errorf("start software TPM: %w", err)
	}
	if err := t.powerOn(ctx); err != nil {
		t.Kill()
		return nil, fmt.Errorf("power on software TPM: %w", err)
	}
	return t, nil
}

// powerOn starts up and, in a new folder, manufactures.
func (t *TPM) powerOn(ctx context.Context) error {
	if err := t.startup(ctx); err != nil {
		return err
	}
	if t.manufactured() {
		return nil
	}
	return t.manufacture(ctx)
}

// prepare checks what can be checked before a process exists, and takes the
// folder.
func prepare(cfg Config) (*TPM, error) {
	if cfg.SWTPM == "" {
		cfg.SWTPM = "swtpm"
	}
	program, err := exec.LookPath(cfg.SWTPM)
	if err != nil {
		return nil, fmt.Errorf("the program %s is missing; install it: %s: %w", cfg.SWTPM, Install, err)
	}
	cfg.SWTPM = program
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if cfg.Sockets == "" {
		cfg.Sockets = cfg.Dir
	}
	if cfg.Sockets, err = filepath.Abs(cfg.Sockets); err != nil {
		return nil, err
	}
	t := &TPM{cfg: cfg, socket: filepath.Join(cfg.Sockets, "tpm.sock"), done: make(chan struct{})}
	if n := len(t.control()); n > maxSocketPath {
		return nil, fmt.Errorf("socket path %s has %d bytes, the kernel allows %d: choose a shorter folder", t.control(), n, maxSocketPath)
	}
	if strings.ContainsRune(cfg.Dir+cfg.Sockets, ',') {
		return nil, errors.New("swtpm splits its options at commas: choose folders without one")
	}
	for _, dir := range []string{cfg.Dir, cfg.Sockets} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return t, t.take()
}

// take locks the folder, so that a second start neither shares the state nor
// pulls the sockets from under the first. The lock goes with this process, as
// the TPM does.
func (t *TPM) take() error {
	f, err := os.OpenFile(filepath.Join(t.cfg.Dir, "owner"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("%s is in use by another software TPM: %w", t.cfg.Dir, err)
	}
	t.lock = f
	return nil
}

// release takes the sockets away and frees the folder. Once only: after the
// lock is gone the sockets may be those of the next owner.
func (t *TPM) release() {
	t.released.Do(func() {
		os.Remove(t.socket)
		os.Remove(t.control())
		t.lock.Close()
	})
}

// Socket returns the path of the data socket, on which TPM commands travel. It
// serves one connection at a time: others wait until it is closed. tpm2-tools
// reach it as "swtpm:path=" plus this path.
func (t *TPM) Socket() string { return t.socket }

// control is the path of the control socket, where the TCTI of tpm2-tools looks
// for it.
func (t *TPM) control() string { return t.socket + ".ctrl" }

// Dir returns the folder of the TPM's state, absolute.
func (t *TPM) Dir() string { return t.cfg.Dir }

// PID returns the process id of the program.
func (t *TPM) PID() int { return t.cmd.Process.Pid }

// Done is closed when the process has ended, for whatever reason.
func (t *TPM) Done() <-chan struct{} { return t.done }

// Stop shuts the TPM down in order, which keeps its clock and counters, and
// waits for the process to end. When ctx ends first the process is killed, which
// is a power cut to the TPM, and the context's error is returned. A client that
// keeps its connection open makes that happen: stop clients first.
func (t *TPM) Stop(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.done:
		return nil
	default:
	}
	err := t.shutdown(ctx)
	if err == nil {
		err = t.command(ctx, cmdShutdown, nil)
	}
	if err != nil {
		t.Kill()
		return fmt.Errorf("stop software TPM: %w", err)
	}
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		t.Kill()
		return fmt.Errorf("stop software TPM: %w", context.Cause(ctx))
	}
}

// Kill ends the process without a word to the TPM, as a power cut does, and waits
// until it is gone. After two or three of those a TPM locks keys that have
// dictionary attack protection.
func (t *TPM) Kill() {
	// An error means that the process is gone already.
	_ = t.cmd.Process.Kill()
	<-t.done
}
