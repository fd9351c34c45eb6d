package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/store/embedded"
)

// TestStartStopsWithOneSentence: what must not be guessed stops the start.
func TestStartStopsWithOneSentence(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, p *replica)
		env   []string
		want  string
	}{
		{"an unknown key in the configuration", func(t *testing.T, p *replica) { appendTo(t, p, "zonebroker.yaml", "trust_domian: x\n") }, nil, "trust_domian"},
		{"a trust domain that is not the log key's", func(t *testing.T, p *replica) {
			edit(t, p, "zonebroker.yaml", "trust_domain: "+trustDomain, "trust_domain: other.example")
		}, nil, "trust_domain or log_id in zonebroker.yaml is not that of the key"},
		{"a log that is not the log key's", func(t *testing.T, p *replica) { appendTo(t, p, "zonebroker.yaml", "log_id: second\n") }, nil, "trust_domain or log_id in zonebroker.yaml is not that of the key"},
		{"an unknown key in a zone", func(t *testing.T, p *replica) { appendTo(t, p, "zones/z0.yaml", "tire: 4\n") }, nil, "z0.yaml:10:1"},
		{"an empty policy folder", func(t *testing.T, p *replica) { must(t, os.Remove(filepath.Join(p.dir, "zones", "z0.yaml"))) }, nil, "policy.missing"},
		{"a key file that others can read", func(t *testing.T, p *replica) {
			must(t, os.Chmod(filepath.Join(p.dir, "secrets", "cluster.key"), 0o644))
		}, nil, "0600"},
		{"a missing key file", func(t *testing.T, p *replica) { must(t, os.Remove(filepath.Join(p.dir, "secrets", "log.key"))) }, nil, "log.key"},
		{"a schema newer than the binary", func(t *testing.T, p *replica) {
			p.cluster.start(t).stop(t)
			p.cluster.as(t, `INSERT INTO schema_file (version, name, sha256) VALUES (9999, '9999_later.sql', sha256(''))`)
		}, nil, "schema 9999"},
		{"a clock that is off", func(*testing.T, *replica) {}, []string{"ZONEBROKER_CLOCK_OFFSET=5s"}, "clock"},
		{"a database that is away", func(t *testing.T, p *replica) { p.cluster.writer = "postgres://zb_writer@127.0.0.1:1/none" }, nil, "store.unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			p := c.replica(t)
			tt.spoil(t, p)
			_, stderr, code := c.rig.try(t, tt.env, "zonebroker", "serve", "--dir", p.dir, "--replica", p.name,
				"--listen", "127.0.0.1:0", "--database", c.writer, "--database-owner", c.owner)
			if code == 0 || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit %d, want a sentence with %q:\n%s", code, tt.want, stderr)
			}
		})
	}
}

func appendTo(t *testing.T, p *replica, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(p.dir, name), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString(text)
	must(t, err)
}

func edit(t *testing.T, p *replica, name, from, to string) {
	t.Helper()
	path := filepath.Join(p.dir, name)
	raw, err := os.ReadFile(path)
	must(t, err)
	if !strings.Contains(string(raw), from) {
		t.Fatalf("%s does not hold %q", name, from)
	}
	must(t, os.WriteFile(path, []byte(strings.Replace(string(raw), from, to, 1)), 0o600))
}

// TestReloadRefusesAHalfPolicy: a bad folder at SIGHUP leaves the old policy.
func TestReloadRefusesAHalfPolicy(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	appendTo(t, p, "zones/z0.yaml", "tire: 4\n")
	p.hangup(t)
	if !strings.Contains(p.logText(), "the old one stays") {
		t.Errorf("log:\n%s", p.logText())
	}
	h.mustAttest(p)
}

// strangersClient speaks the real TLS. The test is the stranger here: it
// authenticates nobody and sends nothing worth protecting.
func strangersClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13},
		ForceAttemptHTTP2: true,
	}}
}

// TestMalformedRequests sends what no honest client sends, over the real TLS.
func TestMalformedRequests(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	client := strangersClient()
	valid := `{"format":"tpm2","purpose":"renew","ak_name":"AAsAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`
	for _, tt := range []struct {
		name, path, body string
		status           int
		code             string
	}{
		{"unknown AK", "/v1/challenge", valid, 403, "node.not_admitted"},
		{"tpm-97 duplicate member", "/v1/challenge", strings.Replace(valid, `{`, `{"format":"tpm2",`, 1), 400, "request.malformed"},
		{"tpm-97 wrong case", "/v1/challenge", strings.Replace(valid, "format", "Format", 1), 400, "request.malformed"},
		{"tpm-97 unknown member", "/v1/challenge", strings.Replace(valid, `{`, `{"node":"x",`, 1), 400, "request.malformed"},
		{"tpm-97 bad base64url", "/v1/challenge", strings.Replace(valid, "AAsA", "AA=A", 1), 400, "request.malformed"},
		{"tpm-97 deep nesting", "/v1/challenge", strings.Repeat("[", 5000), 400, "request.malformed"},
		{"trailing data", "/v1/challenge", valid + valid, 400, "request.malformed"},
		{"unknown format", "/v1/challenge", strings.Replace(valid, `"tpm2"`, `"tpm9"`, 1), 400, "request.unknown_format"},
		{"tpm-06 too large", "/v1/attest", `{"token":"` + strings.Repeat("A", 3<<20) + `"}`, 413, "request.too_large"},
		{"not found", "/v1/nothing", "{}", 404, "request.not_found"},
		{"operators' route", "/v1/admissions", "{}", 401, "auth.required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := client.Post(p.url+tt.path, "application/json", strings.NewReader(tt.body))
			must(t, err)
			defer res.Body.Close()
			raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
			must(t, err)
			var problem api.Problem
			if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&problem); err != nil {
				t.Fatalf("status %d, no problem document: %s", res.StatusCode, raw)
			}
			if res.StatusCode != tt.status || problem.Code != tt.code || problem.RequestID == "" {
				t.Errorf("status %d, code %s, request id %q; want %d %s", res.StatusCode, problem.Code, problem.RequestID, tt.status, tt.code)
			}
		})
	}
}

// TestFsyncIsOn asks the database itself.
func TestFsyncIsOn(t *testing.T) {
	r := getRig(t)
	c := newCluster(t)
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		var v string
		must(t, c.super.QueryRow(context.Background(), "SHOW "+setting).Scan(&v))
		if v != "on" {
			t.Errorf("%s = %s in the tests' Postgres", setting, v)
		}
	}
	_ = r.pg.DSN(embedded.Superuser, "postgres")
}
