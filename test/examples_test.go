package test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	imabuild "github.com/zonebroker/zonebroker/verifier/ima/build"
)

// scene is what the examples find: a broker with nodes, some of them waiting and
// one refused, and a host whose agent runs.
type scene struct {
	rig *rig
	dir string
	env []string
}

const exampleZone = `apiVersion: zonebroker/v1
kind: Zone
name: payments
tier: 1
selectors: {any: [{group: rack-7}]}
admit: [inventory, join_token, operator]
requires: {class: A, format: [tpm2]}
evidence: {max_age: 5m}
issue: {x509_ttl: 1h, jwt_ttl: 5m, grace: 55m, audiences: ["payments-api"]}
workloads:
  - {name: shop, uid: UID}
`

func exampleZoneForMe() string {
	return strings.Replace(exampleZone, "UID", fmt.Sprint(os.Geteuid()), 1)
}

func newScene(t *testing.T) *scene {
	t.Helper()
	c := newCluster(t, exampleZoneForMe())
	p := c.start(t)
	a, b, waiting, d := newHost(t, c.rig), newHost(t, c.rig), newHost(t, c.rig), newHost(t, c.rig)
	a.admit(p)
	s := &scene{rig: c.rig, dir: filepath.Join(c.rig.dir, "scene")}
	must(t, os.MkdirAll(filepath.Join(s.dir, ".config/fish/completions"), 0o755))
	must(t, os.Chmod(s.dir, 0o755)) // Postgres runs as another user
	a.state = filepath.Join(s.dir, "state")
	first := a.mustAttest(p)
	denied := refuseOnce(t, p, a, first.Node)
	res := a.mustAttest(p)
	must(t, res.Save(filepath.Join(s.dir, "svid.pem")))
	serial := hex.EncodeToString(leafOf(t, filepath.Join(s.dir, "svid.pem")).SerialNumber.Bytes())
	must(t, os.Rename(filepath.Join(s.dir, "svid.pem.bundle.json"), filepath.Join(s.dir, "bundle.json")))
	for _, h := range []*host{b, waiting} {
		if _, err := h.attest(p); err == nil {
			t.Fatal("a host that nobody admitted earned a zone")
		}
		must(t, os.RemoveAll(h.state))
	}
	other := newHost(t, c.rig)
	other.admit(p)
	copyTree(t, filepath.Join(s.dir, "zones"), filepath.Join(p.dir, "zones"))
	must(t, os.MkdirAll(filepath.Join(s.dir, "broken"), 0o755))
	must(t, os.WriteFile(filepath.Join(s.dir, "retention.yaml"), []byte("apiVersion: zonebroker/v1\nkind: Retention\ndefault: {decisions: forever, evidence: 90d, svids: 400d}\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(s.dir, "broken", "a.yaml"), []byte("kind: Zone\ncolour: red\n"), 0o600))
	writeVectors(t, s.dir)
	must(t, os.WriteFile(filepath.Join(s.dir, "cluster.json"), []byte(`{"format":"k8s.psat","issuer":"https://k8s.example.org","jwks":{"keys":[{"kty":"EC","kid":"1","use":"sig","alg":"ES256","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}}`), 0o600))
	must(t, os.WriteFile(filepath.Join(s.dir, "list"), imabuild.New(imabuild.Aggregate(nil), imabuild.File("/usr/bin/sh", nil)).Bytes(), 0o600))
	must(t, os.WriteFile(filepath.Join(s.dir, "machines.csv"), []byte("machine,model,site,ek_sha256\nrack7-n1,R650,berlin,\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(s.dir, "ek.pem"), somePublicKey(t), 0o600))
	anchor, err := os.ReadFile(filepath.Join(p.dir, "anchor.pem"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.dir, "anchor.pem"), anchor, 0o600))
	replica := c.replica(t)
	s.env = []string{
		"PATH=" + c.rig.bin + ":" + pathOf(c.rig), "HOME=" + s.dir, "ZONEBROKER_DIR=" + p.dir,
		"NODE=" + first.Node, "OTHER=" + other.mustAttest(p).Node, "RECORD=" + first.AttestationID, "SERIAL=" + serial, "DENIED=" + denied,
		"WAITING=" + b.ekHashes()[0], "WAITING_TOO=" + waiting.ekHashes()[0], "UNSEEN=" + someHash(), "UNSEEN_TOO=" + someHash(),
		"URL=" + p.url, "PIN=" + p.pin, "NOW=" + time.Now().UTC().Format(time.RFC3339),
		"REPLICA=" + replica.dir, "DSN=" + c.writer, "OWNER=" + c.owner,
		"ZONEAGENT_TPM=swtpm:" + b.tpm.Socket(), "LOG_B=" + b.log, "TPM_D=swtpm:" + d.tpm.Socket(), "LOG_D=" + d.log,
		"SPIFFE_ENDPOINT_SOCKET=unix://" + filepath.Join(s.dir, "workload.sock"),
	}
	s.background(t, "zoneagent run --server $URL --pin $PIN --workload-api ./workload.sock --state ./state"+
		" --tpm swtpm:"+a.tpm.Socket()+" --event-log "+a.log)
	eventually(t, 30*time.Second, "the agent is ready", func() bool {
		_, err := s.shell(t.Context(), "zoneagent health --state ./state")
		return err == nil
	})
	return s
}

// leafOf is the first certificate of a file.
func leafOf(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	raw, err := os.ReadFile(file)
	must(t, err)
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			cert, err := x509.ParseCertificate(block.Bytes)
			must(t, err)
			return cert
		}
	}
	t.Fatalf("%s holds no certificate", file)
	return nil
}

// pathOf is the PATH by which the found programs of the host come first.
func pathOf(r *rig) string {
	for _, v := range r.programs.Environ() {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			return path
		}
	}
	return os.Getenv("PATH")
}

func someHash() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// somePublicKey is an EK's key as its cloud gives it, of a machine that never asks.
func somePublicKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// refuseOnce makes the zone ask for what the host booted, boots another kernel,
// and returns the record of the refusal. The host is left as it was.
func refuseOnce(t *testing.T, p *replica, h *host, node string) string {
	t.Helper()
	file := filepath.Join(p.dir, "zones", "good.yaml")
	p.cluster.rig.run(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "reference", "learn", "--node", node, "-o", file)
	zone := strings.Replace(exampleZoneForMe(), "format: [tpm2]}", "format: [tpm2], references: [good]}", 1)
	must(t, os.WriteFile(filepath.Join(p.dir, "zones", "z0.yaml"), []byte(zone), 0o600))
	p.hangup(t)
	h.boot(build.Machine{KernelVersion: "6.1.0-99-other"}.Log())
	if _, err := h.attest(p); err == nil {
		t.Fatal("another kernel was not refused")
	}
	h.boot(build.Machine{}.Log())
	var denials []struct {
		ID string `json:"id"`
	}
	p.ctl(t, &denials, "history", "list", "--verdict", "deny", "--node", node)
	if len(denials) == 0 {
		t.Fatal("the refusal is not in the history")
	}
	return denials[0].ID
}

func (s *scene) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "--norc", "-c", "set -o pipefail; "+line)
	cmd.Dir = s.dir
	cmd.Env = append(append(os.Environ(), s.rig.programs.Environ()...), s.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// shell runs a line to its end.
func (s *scene) shell(ctx context.Context, line string) (stdout string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	cmd := s.command(ctx, line)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w\n%s%s", err, out.String(), said.String())
	}
	return out.String(), nil
}

// launch starts a command whose end is told once. The parent-death signal follows
// the thread that starts the child, so a thread is kept for each.
func launch(cmd *exec.Cmd) (ended <-chan error) {
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	end := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		close(started)
		if err == nil {
			err = cmd.Wait()
		}
		end <- err
	}()
	<-started
	return end
}

// background runs a line until the test ends.
func (s *scene) background(t *testing.T, line string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := launch(s.command(ctx, "exec "+line))
	t.Cleanup(func() { cancel(); <-ended })
}

// watch runs a line until its output has a pattern, interrupts it as Ctrl-C
// does, and waits for its end.
func (s *scene) watch(ctx context.Context, line, pattern string) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	cmd := s.command(ctx, "exec "+line)
	w := &watcher{pattern: regexp.MustCompile("(?m)" + pattern), seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = w, w
	ended := launch(cmd)
	select {
	case <-w.seen:
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		if err := <-ended; err != nil {
			return fmt.Errorf("after the interrupt: %w\n%s", err, w.text())
		}
		return nil
	case err := <-ended:
		return fmt.Errorf("it ended without showing %q: %w\n%s", pattern, err, w.text())
	}
}

// watcher closes seen when what was written has the pattern.
type watcher struct {
	pattern *regexp.Regexp
	seen    chan struct{}

	mu   sync.Mutex
	all  bytes.Buffer
	once sync.Once
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all.Write(p)
	if w.pattern.Match(w.all.Bytes()) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

func (w *watcher) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

// runnable is the line of a step with the placeholders replaced.
func (st step) runnable() string {
	if st.run != "" {
		return st.run
	}
	line := st.line
	for _, p := range placeholders {
		line = strings.ReplaceAll(line, p[0], p[1])
	}
	return line
}

// TestExamples runs every example of every command, and judges every output in
// JSON by its published schema.
func TestExamples(t *testing.T) {
	commands := tree(t)
	covered(t, commands)
	if t.Failed() {
		t.FailNow()
	}
	s := newScene(t)
	shown := map[string]bool{}
	for _, st := range exampleSteps {
		t.Run(strings.ReplaceAll(st.line, "/", "∕"), func(t *testing.T) { s.perform(t, st, commands, shown) })
	}
	for _, c := range commands {
		if c.json != "" && !shown[c.path] {
			t.Errorf("no step shows the JSON of %s: add one", c.path)
		}
	}
}

// covered fails for an example without a step, and a step without an example.
func covered(t *testing.T, commands []leaf) {
	t.Helper()
	examples := map[string]string{}
	for _, c := range commands {
		for _, e := range c.examples {
			examples[e] = c.path
		}
	}
	for e, path := range examples {
		if !slices.ContainsFunc(exampleSteps, func(st step) bool { return st.line == e && !st.extra }) {
			t.Errorf("%s: the example %q is not run: add a line to exampleSteps", path, e)
		}
	}
	for _, st := range exampleSteps {
		if _, ok := examples[st.line]; !ok && !st.extra {
			t.Errorf("no command shows the example %q", st.line)
		}
	}
}

func (s *scene) perform(t *testing.T, st step, commands []leaf, shown map[string]bool) {
	line := st.runnable()
	if st.until != "" {
		if err := s.watch(t.Context(), line, st.until); err != nil {
			t.Errorf("%s\n%v", line, err)
		}
		return
	}
	command, _ := commandOf(line, commands)
	asJSON := command.json != "" && strings.Contains(line, command.json)
	out, err := s.shell(t.Context(), line)
	if got := exitOf(t, err); got != st.exit {
		t.Errorf("%s: exit %d, want %d\n%v", line, got, st.exit, err)
		return
	}
	if command.json != "" && !asJSON && !st.once {
		line += " " + command.json
		asJSON = true
		if out, err = s.shell(t.Context(), line); exitOf(t, err) != st.exit {
			t.Errorf("%s: %v", line, err)
			return
		}
	}
	if !asJSON {
		return
	}
	shown[command.path] = true
	if command.json == "--json" {
		validateLines(t, command.path, []byte(out))
		return
	}
	validate(t, command.path, []byte(out))
}

func exitOf(t *testing.T, err error) int {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	must(t, err)
	return 0
}

// commandOf finds the last command that a line runs.
func commandOf(line string, commands []leaf) (found leaf, ok bool) {
	words := strings.Fields(line)
	for i, w := range words {
		if w != "zonebroker" && w != "zoneagent" {
			continue
		}
		for end := i + 1; end <= len(words); end++ {
			path := strings.Join(words[i:end], " ")
			n := slices.IndexFunc(commands, func(c leaf) bool { return c.path == path })
			if n < 0 {
				break
			}
			found, ok = commands[n], true
		}
	}
	return found, ok
}
