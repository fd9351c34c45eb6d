package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/embedded"
)

// The rig is what the end-to-end tests share: the built binaries, a private
// Postgres with fsync on, the programs of the host, a lab CA for software TPMs.
// It is made at its first use, so that tests without it stay fast.
type rig struct {
	dir      string
	bin      string
	programs hostdeps.Found
	pg       *embedded.Server
	ca       *swtpm.CA
	replicas atomic.Int64
}

var theRig = struct {
	once sync.Once
	rig  *rig
	err  error
}{}

func TestMain(m *testing.M) {
	code := m.Run()
	if r := theRig.rig; r != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if r.pg != nil {
			if err := r.pg.Stop(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "stop postgres:", err)
				code = max(code, 1)
			}
		}
		cancel()
		_ = os.RemoveAll(r.dir)
	}
	os.Exit(code)
}

// getRig makes the rig, or fails with the command that installs what is missing.
func getRig(t testing.TB) *rig {
	t.Helper()
	theRig.once.Do(func() { theRig.rig, theRig.err = newRig() })
	if theRig.err != nil {
		t.Fatal(theRig.err)
	}
	return theRig.rig
}

func newRig() (*rig, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	r := &rig{}
	var err error
	if r.programs, err = hostdeps.Ensure(ctx, hostdeps.Options{}); err != nil {
		return nil, err
	}
	if r.dir, err = embedded.TempDir("zb-test-"); err != nil {
		return nil, err
	}
	r.bin = filepath.Join(r.dir, "bin")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "failpoint", "-o", r.bin+"/", "../cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the binaries: %w\n%s", err, out)
	}
	r.pg, err = embedded.Start(ctx, embedded.Config{
		Dir: filepath.Join(r.dir, "pg"), Bin: filepath.Dir(r.programs.Path("postgres")), Env: r.programs.Env(hostdeps.Postgres),
	})
	if err != nil {
		return nil, err
	}
	r.ca, err = swtpm.OpenCA(filepath.Join(r.dir, "ca"), time.Now())
	return r, err
}

const trustDomain = "test.example"

// cluster is one trust domain: a folder with keys, zones and roots, and a
// database. Replicas share both.
type cluster struct {
	rig           *rig
	dir           string
	owner, writer string
	super         *pgx.Conn // as the superuser: what an attacker in the database could do
}

// newCluster makes a trust domain whose zone "lab" takes every admitted host of
// group rack-7, tier 1, without reference values. More documents replace it.
func newCluster(t testing.TB, zones ...string) *cluster {
	t.Helper()
	r := getRig(t)
	n := r.replicas.Add(1)
	c := &cluster{rig: r, dir: filepath.Join(r.dir, fmt.Sprintf("c%d", n))}
	r.run(t, nil, "zonebroker", "init", c.dir, "--trust-domain", trustDomain, "--listen", "127.0.0.1:0")
	if len(zones) == 0 {
		zones = []string{labZone}
	}
	for i, z := range zones {
		c.write(t, fmt.Sprintf("zones/z%d.yaml", i), z)
	}
	c.write(t, "roots/lab.pem", string(r.ca.RootPEM()))
	c.append(t, "zonebroker.yaml", fmt.Sprintf("extra_vendors: [%q]\n", swtpm.Manufacturer))

	ctx := t.Context()
	name := fmt.Sprintf("zb%d", n)
	admin, err := pgx.Connect(ctx, r.pg.DSN(embedded.Superuser, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctx)
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	c.owner, c.writer = r.pg.DSN(embedded.Superuser, name), r.pg.DSN(store.WriterRole, name)
	if c.super, err = pgx.Connect(ctx, c.owner); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.super.Close(context.Background()) })
	return c
}

const labZone = `apiVersion: zonebroker/v1
kind: Zone
name: lab
tier: 1
selectors: {any: [{group: rack-7}]}
admit: [inventory, join_token, operator]
requires: {class: A, format: [tpm2]}
evidence: {max_age: 5m}
issue: {x509_ttl: 1h, grace: 55m}
`

func (c *cluster) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) append(t testing.TB, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(c.dir, name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// replica is a broker process.
type replica struct {
	cluster *cluster
	dir     string
	name    string
	url     string
	pin     string
	cmd     *exec.Cmd
	log     *os.File
	done    chan struct{}
}

// start starts a replica with a folder of its own: the cluster's keys, zones and
// roots, and a log anchor that nobody else writes. env may set a failpoint.
func (c *cluster) start(t testing.TB, env ...string) *replica {
	t.Helper()
	p := c.replica(t)
	p.launch(t, env...)
	return p
}

// startEmbedded starts a replica with a private Postgres of its own.
func (c *cluster) startEmbedded(t testing.TB) *replica {
	t.Helper()
	p := c.replica(t)
	p.launchEmbedded(t)
	return p
}

func (c *cluster) replica(t testing.TB) *replica {
	t.Helper()
	n := c.rig.replicas.Add(1)
	p := &replica{cluster: c, dir: filepath.Join(c.rig.dir, fmt.Sprintf("r%d", n)), name: fmt.Sprintf("replica-%d", n)}
	copyTree(t, p.dir, c.dir)
	return p
}

// launch runs the process of a replica; again after it ended.
func (p *replica) launch(t testing.TB, env ...string) {
	t.Helper()
	p.exec(t, env, "--database", p.cluster.writer, "--database-owner", p.cluster.owner)
}

func (p *replica) launchEmbedded(t testing.TB) {
	t.Helper()
	p.exec(t, p.cluster.rig.programs.Environ(), "--database", "embedded:pg")
}

func (p *replica) exec(t testing.TB, env []string, args ...string) {
	t.Helper()
	var err error
	if p.log, err = os.OpenFile(filepath.Join(p.dir, "serve.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(filepath.Join(p.cluster.rig.bin, "zonebroker"),
		append([]string{"serve", "--dir", p.dir, "--replica", p.name, "--listen", "127.0.0.1:0"}, args...)...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	ready := make(chan string, 1)
	p.done = make(chan struct{})
	go func() {
		// The parent-death signal follows the thread that starts the child.
		runtime.LockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		line := make([]byte, 512)
		n, _ := out.Read(line)
		ready <- string(line[:n])
		_, _ = io.Copy(io.Discard, out)
		_ = p.cmd.Wait()
	}()
	must(t, <-started)
	t.Cleanup(p.kill)
	select {
	case line := <-ready:
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "ready" {
			p.kill()
			t.Fatalf("the broker did not start: %q\n%s", line, p.logText())
		}
		p.url, p.pin = f[1], f[2]
	case <-time.After(30 * time.Second):
		p.kill()
		t.Fatalf("the broker did not start in 30 s\n%s", p.logText())
	}
}

// postgresPID finds the postmaster of an embedded database by its pid file.
func (p *replica) postgresPID(t testing.TB) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.dir, "pg", "data", "postmaster.pid"))
	must(t, err)
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(first)
	must(t, err)
	return pid
}

func (p *replica) logText() string {
	raw, _ := os.ReadFile(filepath.Join(p.dir, "serve.log"))
	return string(raw)
}

// kill ends the process without a word to it.
func (p *replica) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Kill()
	<-p.done
	_ = p.log.Close()
}

// stop ends the process in order and reports its exit code.
func (p *replica) stop(t testing.TB) int {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		t.Fatalf("the broker did not stop in 20 s\n%s", p.logText())
	}
	return p.cmd.ProcessState.ExitCode()
}

// run runs a binary of the project and returns its standard output.
func (r *rig) run(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	out, errOut, code := r.try(t, env, name, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit %d\n%s%s", name, strings.Join(args, " "), code, out, errOut)
	}
	return out
}

func (r *rig) try(t testing.TB, env []string, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(r.bin, name), args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// ctl runs an operator's command against a replica and decodes its JSON.
func (p *replica) ctl(t testing.TB, into any, args ...string) {
	t.Helper()
	out := p.cluster.rig.run(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", append(args, "-o", "json")...)
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

func hashHex(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}
