package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/store/embedded"
)

// ownerVariable makes the test binary an owner of the folder it names, until it
// is killed or its standard input ends.
const ownerVariable = "ZONEBROKER_TEST_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerVariable); dir != "" {
		if err := own(dir); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func own(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := embedded.Start(ctx, embedded.Config{Dir: dir})
	if err != nil {
		return err
	}
	fmt.Println(s.PID())
	fmt.Println(s.DSN(embedded.Superuser, "postgres"))
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Stop(ctx)
}

// owner is a child process that owns a private Postgres.
type owner struct {
	cmd        *exec.Cmd
	stdin      io.Closer
	postmaster int
	dsn        string
}

// startOwner runs the test binary as an owner; as a user without rights if uid
// is not 0.
func startOwner(t *testing.T, dir string, uid uint32) *owner {
	t.Helper()
	binary := filepath.Join(scratch(t), "owner")
	// Copied by another process: a descriptor of ours that is open for writing
	// would be inherited by whatever a parallel test forks, and make the file busy.
	if out, err := exec.Command("cp", os.Args[0], binary).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	o := &owner{cmd: exec.Command(binary)}
	o.cmd.Env = append(os.Environ(), ownerVariable+"="+dir)
	o.cmd.Dir = "/"
	o.cmd.Stderr = os.Stderr
	if uid != 0 {
		o.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	o.stdin, _ = o.cmd.StdinPipe()
	out, _ := o.cmd.StdoutPipe()
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = o.cmd.Process.Kill()
		_ = o.cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for _, into := range []func(string) error{
		func(s string) (err error) { o.postmaster, err = strconv.Atoi(s); return },
		func(s string) error { o.dsn = s; return nil },
	} {
		if !lines.Scan() {
			t.Fatal("the owner ended before its Postgres ran")
		}
		if err := into(lines.Text()); err != nil {
			t.Fatal(lines.Text())
		}
	}
	return o
}

// killed ends the owner by force.
func (o *owner) killed(t *testing.T) {
	t.Helper()
	if err := o.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = o.cmd.Wait() // "signal: killed"
}

func gone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d to end", pid), func() bool {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

func TestPostgresKilledIsRestartedWithItsData(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Config{Dir: scratch(t) + "/pg"})
	remember(t, s, "before the kill")
	first := s.PID()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the restart", func() bool {
		got, err := tryAsk(s.DSN(embedded.Superuser, "postgres"), "SELECT note FROM kept")
		return err == nil && got == "before the kill"
	})
	if s.PID() == first {
		t.Error("the process number did not change")
	}
}

// TestEveryPostmasterIsNamed: whoever cleans up after the owner has to know the
// one that was started again, and know it before it writes.
func TestEveryPostmasterIsNamed(t *testing.T) {
	named := make(chan int, 8)
	s := start(t, embedded.Config{Dir: scratch(t), OnStart: func(pid int) { named <- pid }})
	first := <-named
	if first != s.PID() {
		t.Errorf("named %d, running is %d", first, s.PID())
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := <-named
	eventually(t, "the database answers again", func() bool { return s.PID() == second })
	if second == first {
		t.Error("the dead one was named twice")
	}
}

func TestPostgresThatCannotStartAgainEndsWait(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	s, err := embedded.Start(deadline(t), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	configure(t, dir, "no_such_setting = 1")
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err == nil {
		t.Fatal("Wait returned nil for a server that cannot start")
	}
	if err := s.Stop(deadline(t)); err == nil {
		t.Error("Stop returned nil for a server that had failed")
	}
}

func TestOwnerKilledTakesPostgresAlong(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	o := startOwner(t, dir, 0)
	if _, err := tryAsk(o.dsn, "SELECT 'x'"); err != nil {
		t.Fatal(err)
	}
	o.killed(t)
	gone(t, o.postmaster)
	ask(t, start(t, embedded.Config{Dir: dir}), "SELECT 'x'")
}

// An owner that dies with a client connected, and is started again at once,
// finds the old server in the middle of its shutdown.
func TestOwnerKilledAndStartedAtOnceKeepsData(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	o := startOwner(t, dir, 0)
	rememberAt(t, o.dsn, "committed")
	o.killed(t)
	s := start(t, embedded.Config{Dir: dir})
	if got := ask(t, s, "SELECT note FROM kept"); got != "committed" {
		t.Errorf("read %q", got)
	}
}

func TestOwnerKilledWhilePostgresIsFrozen(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	o := startOwner(t, dir, 0)
	if err := syscall.Kill(o.postmaster, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	o.killed(t)
	s := start(t, embedded.Config{Dir: dir})
	ask(t, s, "SELECT 'x'")
	gone(t, o.postmaster)
}

// A server that no signal of a dying owner has reached: started by hand, say, or
// frozen since.
func TestStrangePostgresInTheFolderIsEnded(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	s, err := embedded.Start(deadline(t), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	bin, err := embedded.FindBin()
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	strange := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir+"/run", "-c", "listen_addresses=")
	if os.Geteuid() == 0 {
		uid := ownerOf(t, data)
		strange.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	if err := strange.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = strange.Wait()
		close(ended)
	}()
	t.Cleanup(func() { _ = strange.Process.Kill() })
	eventually(t, "the strange server", func() bool {
		_, err := tryAsk(s.DSN(embedded.Superuser, "postgres"), "SELECT 'x'")
		return err == nil
	})
	if err := strange.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ask(t, start(t, embedded.Config{Dir: dir}), "SELECT 'x'")
	<-ended
}

func TestOwnerAndPostgresKilledTogether(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	o := startOwner(t, dir, 0)
	rememberAt(t, o.dsn, "committed")
	if err := syscall.Kill(o.postmaster, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	o.killed(t)
	if got := ask(t, start(t, embedded.Config{Dir: dir}), "SELECT note FROM kept"); got != "committed" {
		t.Errorf("read %q", got)
	}
}

// A pid file whose number another program has by now keeps Postgres itself from
// starting.
func TestProcessNumberUsedAgainDoesNotStopTheStart(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	s, err := embedded.Start(deadline(t), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(dir, "data", "postmaster.pid")
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	other := livingStranger(t, dir)
	_, rest, _ := strings.Cut(string(text), "\n")
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(other)+"\n"+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	ask(t, start(t, embedded.Config{Dir: dir}), "SELECT 'x'")
	if err := syscall.Kill(other, 0); err != nil {
		t.Error("the stranger with that number was ended")
	}
}

// livingStranger runs a harmless program as the user of the cluster.
func livingStranger(t *testing.T, dir string) int {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if os.Geteuid() == 0 {
		uid := ownerOf(t, filepath.Join(dir, "data"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func TestOrdinaryUserOwnsPostgres(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("every other test here runs as an ordinary user already")
	}
	const uid = 65534 // initdb wants a user with a name
	home := scratch(t)
	if err := os.Chown(home, uid, uid); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(home, "pg")
	o := startOwner(t, dir, uid)
	for _, name := range []string{"", "data", "run"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 || ownerOf(t, filepath.Join(dir, name)) != uid {
			t.Errorf("%q: mode %v, owner %d", name, info.Mode(), ownerOf(t, filepath.Join(dir, name)))
		}
	}
	rememberAt(t, o.dsn, "mine")
	if err := o.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := o.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	again := startOwner(t, dir, uid)
	if got, err := tryAsk(again.dsn, "SELECT note FROM kept"); err != nil || got != "mine" {
		t.Errorf("read %q, %v", got, err)
	}
}

// The parent-death signal belongs to the thread that forked; the caller's may
// end long before the server is stopped.
func TestPostgresOutlivesTheThreadThatAskedForIt(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	ctx := deadline(t)
	type result struct {
		s   *embedded.Server
		err error
	}
	started := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		s, err := embedded.Start(ctx, embedded.Config{Dir: dir})
		started <- result{s, err}
	}()
	r := <-started
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { stop(t, r.s) })
	before := r.s.PID()
	for range 10 {
		ask(t, r.s, "SELECT pg_sleep(0.05)::text")
	}
	if after := r.s.PID(); after != before {
		t.Errorf("postgres %d was replaced by %d", before, after)
	}
}
