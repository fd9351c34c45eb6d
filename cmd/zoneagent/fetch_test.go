package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const checkout = "spiffe://example.org/zone/payments/workload/checkout"

// heldAgent is an agent that holds one identity for the user of this test.
type heldAgent struct {
	t         *testing.T
	rootKey   *ecdsa.PrivateKey
	root      *x509.Certificate
	bundle    *spiffebundle.Bundle
	workloads []api.Workload
	err       error
	signer    *ecdsa.PrivateKey // of tokens
}

func newHeldAgent(t *testing.T) *heldAgent {
	t.Helper()
	uid := os.Geteuid()
	a := &heldAgent{t: t, workloads: []api.Workload{{Name: "checkout", UID: &uid}}}
	td := spiffeid.RequireTrustDomainFromString("example.org")
	a.rootKey, a.root = certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "root"}, URIs: []*url.URL{td.ID().URL()}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	var err error
	if a.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.bundle = spiffebundle.FromX509Authorities(td, []*x509.Certificate{a.root})
	if err := a.bundle.AddJWTAuthority("k1", a.signer.Public()); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *heldAgent) Changed() <-chan struct{}          { return nil }
func (a *heldAgent) Workloads() []api.Workload         { return a.workloads }
func (a *heldAgent) TrustBundle() *spiffebundle.Bundle { return a.bundle }
func (a *heldAgent) TrustDomain() spiffeid.TrustDomain { return a.bundle.TrustDomain() }

func (a *heldAgent) X509SVID(context.Context, string) (workloadapi.Identity, error) {
	if a.err != nil {
		return workloadapi.Identity{}, a.err
	}
	key, leaf := certify(a.t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "checkout"}, URIs: []*url.URL{spiffeid.RequireFromString(checkout).URL()}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}, a.root, a.rootKey)
	return workloadapi.Identity{SPIFFEID: checkout, Chain: []*x509.Certificate{leaf}, Key: key, ExpiresAt: leaf.NotAfter, FreshUntil: leaf.NotAfter}, nil
}

func (a *heldAgent) JWTSVID(_ context.Context, _, audience string) (workloadapi.Token, error) {
	if a.err != nil {
		return workloadapi.Token{}, a.err
	}
	end := time.Now().Add(5 * time.Minute)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: a.signer}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
	if err != nil {
		a.t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{Subject: checkout, Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(end)}).Serialize()
	if err != nil {
		a.t.Fatal(err)
	}
	return workloadapi.Token{SPIFFEID: checkout, Audience: audience, Token: text, ExpiresAt: end}, nil
}

// serve serves a on a socket of its own.
func (a *heldAgent) serve() string {
	a.t.Helper()
	dir, err := os.MkdirTemp("", "zbf")
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "w.sock")
	server, err := workloadapi.New(workloadapi.Config{Socket: socket, Source: a})
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	a.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			a.t.Error(err)
		}
	})
	return socket
}

// fetch runs the command and returns exit code, data and notes.
func fetch(args ...string) (int, string, string) {
	var out, notes bytes.Buffer
	code := run(append([]string{"fetch"}, args...), &out, &notes)
	return code, out.String(), notes.String()
}

func TestFetchX509(t *testing.T) {
	socket := newHeldAgent(t).serve()
	dir := filepath.Join(t.TempDir(), "svid")
	for range 2 { // the second time over what is there
		code, out, notes := fetch("x509", "--socket", socket, "--write", dir, "-o", "json")
		if code != 0 {
			t.Fatal(notes)
		}
		var got fetchedX509
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		want := []string{filepath.Join(dir, "key.pem"), filepath.Join(dir, "svid.pem"), filepath.Join(dir, "bundle.pem")}
		if got.SPIFFEID != checkout || got.Workload != "checkout" || !cmp.Equal(got.Written, want) {
			t.Errorf("%+v", got)
		}
		if strings.Contains(out+notes, "PRIVATE") {
			t.Error("the key is printed")
		}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "svid.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	text, err := os.ReadFile(filepath.Join(dir, "bundle.pem"))
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatalf("%v: %s", err, text)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("%v, %v", entries, err)
	}
	for name, want := range map[string]os.FileMode{"key.pem": 0o600, "svid.pem": 0o644, "bundle.pem": 0o644, ".": 0o700 | os.ModeDir} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	t.Run("table", func(t *testing.T) {
		t.Setenv("SPIFFE_ENDPOINT_SOCKET", "unix://"+socket)
		code, out, notes := fetch("x509")
		for _, want := range []string{"spiffe id  " + checkout, "workload   checkout", "trusts     1 authorities of example.org"} {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("exit %d, no %q in\n%s%s", code, want, out, notes)
			}
		}
	})
}

func TestFetchWritesOnlyWhereOthersDoNot(t *testing.T) {
	socket := newHeldAgent(t).serve()
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{open: "chmod go-w", file: "not a folder", filepath.Join(file, "x"): "not a directory"} {
		if code, _, notes := fetch("x509", "--socket", socket, "--write", dir); code != terminal.ExitError || !strings.Contains(notes, want) {
			t.Errorf("%s: exit %d, %s", dir, code, notes)
		}
	}
	t.Run("a_link_is_replaced_and_not_followed", func(t *testing.T) {
		dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
		if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(victim, filepath.Join(dir, "key.pem")); err != nil {
			t.Fatal(err)
		}
		if code, _, notes := fetch("x509", "--socket", socket, "--write", dir); code != 0 {
			t.Fatal(notes)
		}
		if text, _ := os.ReadFile(victim); string(text) != "precious" {
			t.Error("written through the link")
		}
		if info, err := os.Lstat(filepath.Join(dir, "key.pem")); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	})
	t.Run("nothing_stays_of_a_failure", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "svid.pem"), 0o700); err != nil {
			t.Fatal(err)
		}
		if code, _, _ := fetch("x509", "--socket", socket, "--write", dir); code != terminal.ExitError {
			t.Errorf("exit %d", code)
		}
		hidden, err := filepath.Glob(filepath.Join(dir, ".*.pem.*"))
		if err != nil || len(hidden) != 0 {
			t.Errorf("%v, %v", hidden, err)
		}
	})
}

func TestFetchJWT(t *testing.T) {
	socket := newHeldAgent(t).serve()
	code, out, notes := fetch("jwt", "--socket", socket, "--audience", "ledger")
	if code != 0 || strings.Count(strings.TrimSpace(out), ".") != 2 || !strings.Contains(notes, "a token of "+checkout+" for ledger, good for 4m") {
		t.Errorf("exit %d\n%s\n%s", code, out, notes)
	}
	code, out, notes = fetch("jwt", "--socket", "unix:"+socket, "--audience", "ledger", "--spiffe-id", checkout, "-o", "json")
	var got fetchedJWT
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatalf("%v, exit %d: %s", err, code, notes)
	}
	if got.SPIFFEID != checkout || got.Audience != "ledger" || got.Workload != "checkout" || got.Token == "" {
		t.Errorf("%+v", got)
	}
}

func TestFetchBundle(t *testing.T) {
	agent := newHeldAgent(t)
	dir := t.TempDir()
	code, out, notes := fetch("bundle", "--socket", agent.serve(), "--write", dir, "-o", "json")
	var got fetchedBundle
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatalf("%v, exit %d: %s", err, code, notes)
	}
	if got.TrustDomain != "example.org" || got.X509Authorities != 1 || !cmp.Equal(got.JWTAuthorities, []string{"k1"}) {
		t.Errorf("%+v", got)
	}
	kept, err := spiffebundle.Load(agent.bundle.TrustDomain(), filepath.Join(dir, "bundle.json"))
	if err != nil || !kept.Equal(agent.bundle) {
		t.Errorf("another bundle: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bundle.pem")); err != nil {
		t.Error(err)
	}
}

// TestFetchFailures: scripts branch on the exit code, people read what to do.
func TestFetchFailures(t *testing.T) {
	good := newHeldAgent(t).serve()
	with := func(change func(*heldAgent)) string {
		a := newHeldAgent(t)
		change(a)
		return a.serve()
	}
	nobody := filepath.Join(t.TempDir(), "none.sock")
	for name, test := range map[string]struct {
		args []string
		want int
		text string
	}{
		"nothing_named":     {nil, terminal.ExitUsage, "x509, jwt or bundle"},
		"unknown_kind":      {[]string{"ssh"}, terminal.ExitUsage, "unknown argument ssh"},
		"no_audience":       {[]string{"jwt", "--socket", good}, terminal.ExitUsage, "--audience is missing"},
		"id_that_is_none":   {[]string{"jwt", "--socket", good, "--audience", "a", "--spiffe-id", "x"}, terminal.ExitUsage, "--spiffe-id"},
		"socket_elsewhere":  {[]string{"x509", "--socket", "tcp://127.0.0.1:1"}, terminal.ExitUsage, "--socket"},
		"socket_empty":      {[]string{"x509", "--socket", ""}, terminal.ExitUsage, "--socket"},
		"output":            {[]string{"x509", "--socket", good, "-o", "xml"}, terminal.ExitUsage, "-o"},
		"nobody_listens":    {[]string{"x509", "--socket", nobody, "--timeout", "5s"}, terminal.ExitUnreachable, "start it with zoneagent run"},
		"no_zone":           {[]string{"x509", "--socket", with(func(a *heldAgent) { a.workloads = nil })}, terminal.ExitDenied, "this node has no zone"},
		"not_for_this_user": {[]string{"bundle", "--socket", with(func(a *heldAgent) { a.workloads = []api.Workload{} })}, terminal.ExitDenied, "no workload of this node's zone matches uid"},
		"id_of_another":     {[]string{"jwt", "--socket", good, "--audience", "a", "--spiffe-id", checkout + "x"}, terminal.ExitDenied, "is not the identity of this caller"},
		"audience_denied":   {[]string{"jwt", "--socket", with(func(a *heldAgent) { a.err = reason.New(reason.PolicyAudience, "") }), "--audience", "a"}, terminal.ExitDenied, "policy.audience"},
		"broker_away":       {[]string{"x509", "--socket", with(func(a *heldAgent) { a.err = os.ErrDeadlineExceeded })}, terminal.ExitError, "agent.unavailable"},
		"other_authority":   {[]string{"x509", "--socket", with(func(a *heldAgent) { a.bundle.SetX509Authorities(newHeldAgent(t).bundle.X509Authorities()) })}, terminal.ExitUnproved, "does not verify"},
		"other_token_key":   {[]string{"jwt", "--audience", "a", "--socket", with(func(a *heldAgent) { a.signer = newHeldAgent(t).signer })}, terminal.ExitUnproved, "does not verify"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, notes := fetch(test.args...)
			if code != test.want || !strings.Contains(notes, test.text) || out != "" {
				t.Errorf("exit %d, want %d\n%s%s", code, test.want, out, notes)
			}
		})
	}
}
