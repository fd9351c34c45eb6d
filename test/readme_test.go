package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// reader is somebody who types what the README shows, line by line, and puts
// names of his own where it has placeholders.
type reader struct {
	t     *testing.T
	rig   *rig
	dir   string // stands for /var/lib/zonebroker
	typed []string
	shell []string // lines that change the shell, for all that come after
	names []string // placeholder, what is typed instead, …
}

// readmeZone is what the reader puts into zones/.
const readmeZone = `apiVersion: zonebroker/v1
kind: Zone
name: payments
tier: 1
selectors: {any: [{group: rack-7}]}
admit: [inventory]
requires: {class: A, format: [tpm2], secure_boot: true}
evidence: {max_age: 5m}
issue: {x509_ttl: 1h, jwt_ttl: 5m, audiences: [payments-api]}
workloads:
  - {name: checkout, uid: %d}
`

// TestReadmeCommands types everything from "Run a broker" on.
func TestReadmeCommands(t *testing.T) {
	r := getRig(t)
	work := demoTmp(t)
	h := newHost(t, r)
	d := &reader{t: t, rig: r, dir: filepath.Join(work, "broker")}
	socket := filepath.Join(h.dir, "agent", "workload.sock")
	d.names = []string{
		"/var/lib/zonebroker", d.dir, "/dev/tpmrm0", "swtpm:" + h.tpm.Socket(),
		"/run/zoneagent/workload.sock", socket, "/run/checkout", filepath.Join(work, "checkout"), "alice.pem", filepath.Join(work, "alice.pem"),
	}
	for _, block := range blocks(t, "README.md", "sh")[1:] { // the first one is make's
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "zonebroker init "):
				d.types(line)
				d.furnish()
			case strings.HasPrefix(line, "zonebroker serve "):
				d.serve(line)
			case strings.HasPrefix(line, "zoneagent ek "):
				d.name("HASH", field(t, d.types(line), "ek hash"))
			case strings.HasPrefix(line, "zoneagent run "):
				d.starts(line+" --state "+h.state+" --event-log "+h.log+" --workload-api "+socket, func(string) bool {
					_, health, err := agent.ReadStatus(h.state, time.Now())
					return err == nil && health.Attested
				})
			case strings.Contains(line, " RECORD "):
				d.name("RECORD", d.denial())
				d.types(line)
			case strings.HasPrefix(line, "set -a;"), strings.HasPrefix(line, "export "):
				d.types(line)
				d.shell = append(d.shell, d.filled(line))
			default:
				d.types(line)
			}
		}
	}
	if len(d.typed) < 12 {
		t.Errorf("only %d lines were typed: %q", len(d.typed), d.typed)
	}
	for _, want := range []string{"svid.pem", "key.pem", "bundle.pem"} {
		if gone(filepath.Join(work, "checkout", want)) {
			t.Errorf("the workload has no %s", want)
		}
	}
}

func field(t *testing.T, out, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + `\s+(\S+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no %s in\n%s", name, out)
	}
	return m[1]
}

func (d *reader) name(placeholder, name string) { d.names = append(d.names, placeholder, name) }

func (d *reader) filled(line string) string { return strings.NewReplacer(d.names...).Replace(line) }

// command is a line in the shell as it is by now.
func (d *reader) command(line string) *exec.Cmd {
	d.typed = append(d.typed, line)
	cmd := exec.Command("bash", "-euc", strings.Join(append(d.shell, "exec "+d.filled(line)), "\n"))
	if strings.HasPrefix(line, "set ") || strings.HasPrefix(line, "export ") {
		cmd = exec.Command("bash", "-euc", d.filled(line))
	}
	cmd.Dir = "/"
	cmd.Env = append(d.rig.programs.Environ(), "PATH="+d.rig.bin+":"+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"))
	return cmd
}

func (d *reader) types(line string) string {
	d.t.Helper()
	cmd := d.command(line)
	var out, notes bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &notes
	if err := cmd.Run(); err != nil {
		d.t.Fatalf("%s: %v\n%s%s", line, err, &out, &notes)
	}
	return out.String()
}

// starts runs a line that stays, until the test ends.
func (d *reader) starts(line string, ready func(out string) bool) {
	d.t.Helper()
	log := filepath.Join(d.rig.dir, fmt.Sprintf("readme%d.log", len(d.typed)))
	f, err := os.Create(log)
	must(d.t, err)
	cmd := d.command(line)
	cmd.Stdout, cmd.Stderr = f, f
	must(d.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	d.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		_ = f.Close()
	})
	text := func() string { raw, _ := os.ReadFile(log); return string(raw) }
	for late := time.Now().Add(time.Minute); !ready(text()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(late) {
			d.t.Fatalf("%s: not ready in a minute\n%s", line, text())
		}
	}
}

// furnish does what the README says in words: zone documents, the TPM vendors'
// CAs. The vendor is that of the software TPMs, and the port any free one.
func (d *reader) furnish() {
	d.t.Helper()
	config := filepath.Join(d.dir, "zonebroker.yaml")
	raw, err := os.ReadFile(config)
	must(d.t, err)
	raw = regexp.MustCompile(`(?m)^listen: .*$`).ReplaceAll(raw, []byte(`listen: "127.0.0.1:0"`))
	must(d.t, os.WriteFile(config, fmt.Appendf(raw, "extra_vendors: [%q]\n", swtpm.Manufacturer), 0o600))
	must(d.t, os.WriteFile(filepath.Join(d.dir, "zones", "payments.yaml"), fmt.Appendf(nil, readmeZone, os.Geteuid()), 0o600))
	must(d.t, os.WriteFile(filepath.Join(d.dir, "roots", "lab.pem"), d.rig.ca.RootPEM(), 0o600))
}

var readyLine = regexp.MustCompile(`(?m)^ready (\S+) (\S+)$`)

func (d *reader) serve(line string) {
	d.t.Helper()
	d.starts(line, func(out string) bool {
		m := readyLine.FindStringSubmatch(out)
		if m != nil {
			d.names = append(d.names, "https://broker.example.org:8443", m[1], "sha256:PIN", m[2])
		}
		return m != nil
	})
}

// denial makes a host come that the zone refuses, and returns its record.
func (d *reader) denial() string {
	d.t.Helper()
	h := newHost(d.t, d.rig)
	h.boot(build.Machine{SecureBootOff: true}.Log())
	env := []string{"ZONEBROKER_DIR=" + d.dir}
	d.rig.run(d.t, env, "zonebroker", append([]string{"node", "admit", "--group", "rack-7"}, h.ekHashes()...)...)
	p := &replica{url: strings.TrimSpace(d.filled("https://broker.example.org:8443")), pin: d.filled("sha256:PIN")}
	_, err := agent.Attest(d.t.Context(), h.config(p))
	wantCode(d.t, err, reason.PolicySecureBoot)
	var entries []api.Entry
	out := d.rig.run(d.t, env, "zonebroker", "history", "list", "--verdict", "deny", "-o", "json")
	must(d.t, json.Unmarshal([]byte(out), &entries))
	if len(entries) == 0 {
		d.t.Fatal("the denial is not in the history")
	}
	return entries[0].ID
}
