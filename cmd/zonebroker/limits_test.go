package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zonebroker/zonebroker/broker/server"
)

func TestLimits(t *testing.T) {
	for name, test := range map[string]struct {
		yaml string
		want server.Limits
		ok   bool
	}{
		"nothing keeps the defaults": {"", server.Limits{}, true},
		"what is named": {
			"limits: {connections: 5, strangers: {per_second: 0.5, burst: 2}, node: {per_second: 1, burst: 3}}",
			server.Limits{MaxConns: 5, Strangers: server.Rate{PerSecond: 0.5, Burst: 2}, Node: server.Rate{PerSecond: 1, Burst: 3}},
			true,
		},
		"what the cores may be asked": {
			"limits: {turns: 3, queue: 9, arrivals: {per_second: 1, burst: 2}, newcomers: {per_second: 3, burst: 4}," +
				" documents: {per_second: 5, burst: 6}, operator: {per_second: 7, burst: 8}}",
			server.Limits{
				Turns: 3, Queue: 9,
				Arrivals: server.Rate{PerSecond: 1, Burst: 2}, Newcomers: server.Rate{PerSecond: 3, Burst: 4},
				Documents: server.Rate{PerSecond: 5, Burst: 6}, Operator: server.Rate{PerSecond: 7, Burst: 8},
			},
			true,
		},
		"an idle time below zero": {"limits: {idle: -1s}", server.Limits{}, false},
		"an idle time too short":  {"limits: {idle: 999ms}", server.Limits{}, false},
		"a turn for everybody":    {"limits: {turns: 1}", server.Limits{}, false},
		"a number below zero":     {"limits: {enrolments: -1}", server.Limits{}, false},
		"a rate without a burst":  {"limits: {per_address: {per_second: 5}}", server.Limits{}, false},
		"a burst without a rate":  {"limits: {nodes: {burst: 5}}", server.Limits{}, false},
		"an unknown bound":        {"limits: {per_ip: {per_second: 5, burst: 1}}", server.Limits{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, configFile), []byte("trust_domain: example.org\n"+test.yaml+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := loadConfig(dir)
			if (err == nil) != test.ok {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, cfg.Limits.ofServer()); test.ok && diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLimitOfIdleConnections(t *testing.T) {
	l := limits{Idle: 3 * time.Minute}
	if err := l.check(); err != nil || l.timeouts() != (server.Timeouts{Idle: 3 * time.Minute}) {
		t.Errorf("%+v, %v", l.timeouts(), err)
	}
}

// TestDocumentedLimits: what the page calls the defaults are the defaults.
func TestDocumentedLimits(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "limits.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, configFile), []byte("trust_domain: example.org\n"+block), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, want := cfg.Limits.ofServer(), server.DefaultLimits(2)
	// What the file cannot change.
	want.MaxStreams, want.MaxRequests, want.MaxBytes, want.Issue, want.Table = 0, 0, 0, server.Rate{}, 0
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0.001, 0)); diff != "" {
		t.Error(diff)
	}
	if l := cfg.Limits; l.timeouts() != (server.Timeouts{Idle: 10 * time.Second}) || l.Enrolments != 50 || l.NodeAttestations != 10 {
		t.Errorf("%+v", l)
	}
}
