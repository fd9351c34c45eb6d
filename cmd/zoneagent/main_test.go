package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/agent/collect/metadatatest"
	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/deploy/hostdeps/hostdepstest"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"zoneagent": main})
}

// TestScripts runs the built command: what it prints where, and how it exits.
func TestScripts(t *testing.T) {
	trusted := startBroker(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// One each: an agent flushes what it finds in a TPM without resource manager.
			env.Setenv("TPM", "swtpm:"+startTPM(t))
			env.Setenv("SERVER", trusted.url)
			env.Setenv("PIN", trusted.pin)
			env.Setenv("NOBODY", closedPort(t))
			env.Setenv("AZURE", metadatatest.Azure(t, nil).URL)
			return os.WriteFile(filepath.Join(env.WorkDir, "anchor.pem"), trusted.anchor, 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "eventually": eventually},
	})
}

// exits runs a command that has to end with the given code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// eventually runs a command until the output has what the test waits for: a
// denial, written by a loop that runs beside the script.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: eventually COMMAND…")
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ts.Exec(args[0], args[1:]...) == nil && strings.Contains(ts.ReadFile("stdout"), "node.not_admitted") {
			return
		}
	}
	ts.Fatalf("not within 20 s")
}

func startTPM(t *testing.T) string {
	t.Helper()
	program := hostdepstest.Program(t, hostdeps.SWTPM, "swtpm")
	dir, err := os.MkdirTemp("", "zbc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	tpm, err := swtpm.Start(t.Context(), swtpm.Config{SWTPM: program, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tpm.Kill)
	return tpm.Socket()
}

func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "https://" + listener.Addr().String()
}

type fakeBroker struct {
	url, pin string
	anchor   []byte // PEM
}

// startBroker starts a broker that admits nobody.
func startBroker(t *testing.T) fakeBroker {
	t.Helper()
	anchorKey, anchor := certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test anchor"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	id, err := url.Parse("spiffe://example.org/broker")
	if err != nil {
		t.Fatal(err)
	}
	key, leaf := certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "broker"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, URIs: []*url.URL{id},
	}, anchor, anchorKey)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{
		Listener: listener, EnableHTTP2: true,
		TLS: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, anchor.Raw}, PrivateKey: key}}},
		Config: &http.Server{
			ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Second,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				refusal := reason.New(reason.NodeNotAdmitted, "nothing admits\x1b[2J this machine")
				var asked api.ChallengeRequest
				if err := json.NewDecoder(r.Body).Decode(&asked); err == nil && asked.Agent != nil {
					if asked.Format == verifier.FormatAzureIMDS {
						w.Header().Set("Content-Type", "application/json")
						json.NewEncoder(w).Encode(api.Challenge{
							Token: "t", Purpose: api.PurposeEnrol, ExpiresAt: time.Now().Add(time.Minute), Select: "ff4300",
							Nonce: make([]byte, 32), Evidence: []string{verifier.FormatAzureMSI},
						})
						return
					}
					refusal = reason.New(reason.PolicyNoZone, "no zone takes nodes by that format of evidence")
				}
				problem := api.NewProblem(refusal, "req-42")
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(problem.Status)
				json.NewEncoder(w).Encode(problem)
			}),
		},
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return fakeBroker{
		url: server.URL, pin: client.PinOf(anchor),
		anchor: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: anchor.Raw}),
	}
}

func certify(t *testing.T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, by = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, c
}

// TestExamples: every example of the help is a command line that parses, and
// belongs to its command or one below it.
func TestExamples(t *testing.T) {
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		if !cmd.IsAvailableCommand() || cmd.Name() == "completion" || cmd.Name() == "help" {
			return
		}
		if cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			words := strings.Fields(line)
			if len(words) > 0 && words[0] != "zoneagent" {
				continue // another program's
			}
			if !strings.HasPrefix(strings.Join(words, " ")+" ", cmd.CommandPath()+" ") {
				t.Errorf("%s: example %q", cmd.CommandPath(), line)
				continue
			}
			fresh, rest, err := command().Find(words[1:])
			if err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if err := fresh.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", line, err)
			} else if err := fresh.ValidateArgs(fresh.Flags().Args()); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
		for _, below := range cmd.Commands() {
			check(below)
		}
	}
	for _, cmd := range command().Commands() {
		check(cmd)
	}
}
