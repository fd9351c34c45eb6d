package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestT58_Panic: a panic answers internal, keeps slot and connection, and tells
// nobody but the log.
func TestT58_Panic(t *testing.T) {
	h := start(t, nil)
	h.pipeline.attest = func(context.Context, api.AttestRequest) (api.AttestResponse, error) { panic("secret state") }
	for _, c := range []*http.Client{h.client(nil), h.client(h.ca.node(t, nodeID))} {
		for range 3 {
			got := h.do(c, "POST", "/v1/attest", attestation)
			if got.problem.Code != "internal" || strings.Contains(got.text, "secret") {
				t.Fatalf("%d %s", got.StatusCode, got.text)
			}
		}
		if got := h.do(c, "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
			t.Errorf("the connection answers %d afterwards", got.StatusCode)
		}
	}
	h.desk.err = nil
	if !h.InWork() {
		t.Error("a panic keeps its slot")
	}
	if !strings.Contains(h.logs.String(), "secret state") {
		t.Error("the log does not say what happened")
	}
}

func TestErrorsOfThePipeline(t *testing.T) {
	fresh := freshChallenge()
	tests := []struct {
		name       string
		err        error
		status     int
		code       string
		retryAfter bool
	}{
		{"T4_spent_carries_a_fresh_challenge", &api.Refusal{Reasons: []*reason.Error{{Code: reason.ChallengeSpent}}, Challenge: &fresh}, 409, "challenge.spent", false},
		{"store_away", reason.New(reason.StoreUnavailable, ""), 503, "store.unavailable", true},
		{"fork", reason.New(reason.LedgerFork, ""), 503, "ledger.fork", true},
		{"overloaded", reason.New(reason.RequestOverloaded, ""), 503, "request.overloaded", true},
		{"pending", &api.Refusal{Reasons: []*reason.Error{{Code: reason.NodeAdmissionPending}}, Stranger: true}, 403, "node.admission_pending", true},
		{"denied", reason.New(reason.PolicyNoZone, "x"), 403, "policy.no_zone", false},
		{"unknown_error", errors.New("dial unix /var/lib/secret.sock"), 500, "internal", false},
		{"bare_deadline_of_something_else", context.DeadlineExceeded, 500, "internal", false},
	}
	h := start(t, nil)
	c := h.client(nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.pipeline.attest = func(context.Context, api.AttestRequest) (api.AttestResponse, error) {
				return api.AttestResponse{}, tt.err
			}
			got := h.do(c, "POST", "/v1/attest", attestation)
			if got.StatusCode != tt.status || got.problem.Code != tt.code || strings.Contains(got.text, "secret") {
				t.Errorf("%d %s", got.StatusCode, got.text)
			}
			if (got.Header.Get("Retry-After") != "") != tt.retryAfter {
				t.Errorf("Retry-After %q", got.Header.Get("Retry-After"))
			}
			if (got.problem.Challenge != nil) != (tt.code == "challenge.spent") {
				t.Errorf("challenge %+v", got.problem.Challenge)
			}
		})
	}
	if !strings.Contains(h.logs.String(), "secret.sock") {
		t.Error("the log does not have the cause")
	}
}

// rawHandler quotes nothing, as handlers of other people may.
type rawHandler struct{ w io.Writer }

func (rawHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h rawHandler) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h rawHandler) WithGroup(string) slog.Handler          { return h }

func (h rawHandler) Handle(_ context.Context, r slog.Record) error {
	line := "time= " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	_, err := fmt.Fprintln(h.w, line)
	return err
}

// TestT61_LogInjection: nothing that a stranger sends begins a line of the log
// or reaches a terminal.
func TestT61_LogInjection(t *testing.T) {
	for _, format := range []string{"json", "text", "raw"} {
		t.Run(format, func(t *testing.T) {
			var logs lockedBuffer
			h := start(t, func(c *server.Config) {
				opts := &slog.HandlerOptions{Level: slog.LevelDebug}
				c.Logger = slog.New(slog.NewJSONHandler(&logs, opts))
				if format == "text" {
					c.Logger = slog.New(slog.NewTextHandler(&logs, opts))
				}
				if format == "raw" {
					c.Logger = slog.New(rawHandler{&logs})
				}
			})
			c, op := h.client(nil), h.operator()
			inject := "%0d%0alevel=ERROR%20msg=forged%1b%5b31m%e2%80%a8"
			for _, path := range []string{"/v1/nodes/" + inject, "/v1/history/" + inject, "/" + inject, "/problems/" + inject, "/v1/history?node=" + inject} {
				h.do(c, "GET", path, "")
				h.do(op, "GET", path, "")
			}
			h.do(c, "POST", "/v1/challenge", `{"a\r\nlevel=ERROR msg=forged":1}`)
			h.do(c, "POST", "/v1/attest", strings.Replace(attestation, `"tok"`, `"a\r\nforged"`, 1))
			h.do(c, "GET", "/healthz/live", "", func(r *http.Request) {
				r.Header.Set("X-Request-Id", "forged")
				r.Header.Set("X-Forwarded-For", "forged")
				r.Header.Set("User-Agent", "forged")
			})
			h.pipeline.attest = func(context.Context, api.AttestRequest) (api.AttestResponse, error) {
				return api.AttestResponse{}, fmt.Errorf("store: %w", errors.New("bad row \r\nlevel=ERROR msg=forged\x1b[31m\u2028"))
			}
			h.do(c, "POST", "/v1/attest", attestation)
			for _, line := range strings.Split(strings.TrimSpace(logs.String()), "\n") {
				if format == "json" && !json.Valid([]byte(line)) || format != "json" && !strings.HasPrefix(line, "time=") {
					t.Errorf("line %q", line)
				}
				if strings.ContainsAny(line, "\r\x1b\u2028") {
					t.Errorf("control character in %q", line)
				}
			}
			if strings.Contains(logs.String(), `"request_id":"forged"`) || strings.Contains(logs.String(), "request_id=forged") {
				t.Error("a client chose the request id")
			}
		})
	}
}

// TestT61_SecretsStayOutOfTheLog: neither tokens nor what the pipeline answers.
func TestT61_SecretsStayOutOfTheLog(t *testing.T) {
	var logs lockedBuffer
	h := start(t, func(c *server.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	h.do(h.operator(), "POST", "/v1/tokens", `{"machine":"m1"}`)
	h.do(h.client(nil), "POST", "/v1/challenge", `{"format":"tpm2","purpose":"enrol","enrol":{"ek_public":"AA","ak_public":"AA","join_token":"j0in-t0ken"}}`)
	h.do(h.client(nil), "POST", "/v1/challenge", `{"format":"tpm2","purpose":"enrol","enrol":{"ek_public":"AA","ak_public":"AA","join_token":"j0in t0ken"}}`)
	h.do(h.client(nil), "POST", "/v1/attest", strings.Replace(attestation, `"tok"`, `"sealed-t0ken"`, 1))
	for _, secret := range []string{"s3cret", "j0in", "sealed"} {
		if strings.Contains(logs.String(), secret) {
			t.Errorf("%q stands in the log:\n%s", secret, logs.String())
		}
	}
}

func TestStrangersDoNotFillTheLog(t *testing.T) {
	h := start(t, func(c *server.Config) { c.Limits.Documents = server.Rate{PerSecond: 1e6, Burst: 1e6} })
	c := h.client(nil)
	for range 300 {
		h.do(c, "GET", "/nowhere", "")
	}
	if n := strings.Count(h.logs.String(), `"code":"request.not_found"`); n == 0 || n > 100 {
		t.Errorf("%d lines for 300 refusals", n)
	}
	if n := metric(t, h, "zonebroker_http_requests_total", "request.not_found"); n != 300 {
		t.Errorf("%v counted", n)
	}
}
