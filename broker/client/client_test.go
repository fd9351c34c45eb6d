package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func answer(w http.ResponseWriter, status int, kind, body string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Request-Id", "req-1")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// talk returns a client of a trusted broker that answers with handler.
func talk(t testing.TB, handler http.HandlerFunc, change func(*client.Config)) *client.Client {
	t.Helper()
	a := newAuthority(t, nil)
	cfg := client.Config{
		Server: serve(t, &tls.Config{Certificates: []tls.Certificate{a.server(t, nil)}}, handler),
		Trust:  pin(t, a),
	}
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestCalls(t *testing.T) {
	want := api.ChallengeRequest{Format: api.FormatTPM2, Purpose: api.PurposeRenew, AKName: api.Bytes{0, 11, 1}}
	c := talk(t, func(w http.ResponseWriter, r *http.Request) {
		var got api.ChallengeRequest
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if r.Proto != "HTTP/2.0" || r.Method != http.MethodPost || r.URL.Path != "/v1/challenge" || r.UserAgent() != "test/1" {
			t.Errorf("%s %s %s %s", r.Proto, r.Method, r.URL, r.UserAgent())
		}
		answer(w, http.StatusOK, "application/json; charset=utf-8", `{"token":"abc","nonce":"AQI","select":"ff4300","later_member":1}`)
	}, func(cfg *client.Config) { cfg.UserAgent = "test/1" })
	got, err := c.Challenge(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(api.Challenge{Token: "abc", Nonce: api.Bytes{1, 2}, Select: "ff4300"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestConnectionIsKept(t *testing.T) {
	a := newAuthority(t, nil)
	var connections atomic.Int32
	cert := a.server(t, nil)
	server := serve(t, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		connections.Add(1)
		return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}, nil
	}}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "application/json", `{}`) }))
	c, err := client.New(client.Config{Server: server, Trust: pin(t, a)})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := c.Challenge(t.Context(), api.ChallengeRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Attest(t.Context(), api.AttestRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for ten calls", n)
	}
}

func TestRefusals(t *testing.T) {
	problem := `{"type":"about:blank","title":"t","status":409,"detail":"used","code":"challenge.spent",` +
		`"reasons":[{"code":"challenge.spent","detail":"used"}],"remedy":"again","request_id":"r-7",` +
		`"challenge":{"token":"fresh","purpose":"renew","expires_at":"2026-11-20T00:00:00Z","select":"ff4300","nonce":"AQI"},"later":true}`
	c := talk(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		answer(w, http.StatusConflict, "application/problem+json", problem)
	}, nil)
	_, err := c.Attest(t.Context(), api.AttestRequest{})
	refused, ok := errors.AsType[*client.RefusedError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	if reason.Of(err) != reason.ChallengeSpent || !errors.Is(err, reason.New(reason.ChallengeSpent, "")) {
		t.Errorf("code %s", reason.Of(err))
	}
	want := &client.RefusedError{
		Status: 409, Code: reason.ChallengeSpent, Detail: "used", Remedy: "again", RequestID: "r-7", RetryAfter: 7 * time.Second,
		Reasons: []api.Reason{{Code: "challenge.spent", Detail: "used"}},
		Challenge: &api.Challenge{
			Token: "fresh", Purpose: "renew", ExpiresAt: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), Select: "ff4300", Nonce: api.Bytes{1, 2},
		},
	}
	if diff := cmp.Diff(want, refused); diff != "" {
		t.Error(diff)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		header string
		want   time.Duration
	}{
		"seconds":  {"30", 30 * time.Second},
		"date":     {now.Add(time.Minute).Format(http.TimeFormat), time.Minute},
		"past":     {now.Add(-time.Minute).Format(http.TimeFormat), 0},
		"negative": {"-5", 0},
		"a_day":    {"86400", 10 * time.Minute},
		"overflow": {"99999999999999999999", 0},
		"nonsense": {"soon", 0},
		"absent":   {"", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := client.RetryAfter(http.Header{"Retry-After": {test.header}}, now); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestAnswersOutsideTheContract: a trusted broker may still be broken, or be
// behind something that is.
func TestAnswersOutsideTheContract(t *testing.T) {
	big := `{"token":"` + strings.Repeat("a", 16<<10) + `"}`
	for name, test := range map[string]struct {
		status     int
		kind, body string
	}{
		"too_large":             {200, "application/json", big},
		"problem_too_large":     {403, "application/problem+json", `{"code":"node.disabled","detail":"` + strings.Repeat("a", 64<<10) + `"}`},
		"not_json":              {200, "application/json", `{"token":`},
		"html":                  {200, "text/html", `<html>`},
		"no_content_type":       {200, "", `{}`},
		"problem_without_code":  {403, "application/problem+json", `{"title":"no"}`},
		"problem_as_plain_json": {403, "application/json", `{"code":"node.disabled"}`},
		"redirect":              {307, "text/plain", ``},
		"created":               {201, "application/json", `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := talk(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/v1/attest")
				answer(w, test.status, test.kind, test.body)
			}, nil)
			_, err := c.Challenge(t.Context(), api.ChallengeRequest{})
			wrong, ok := errors.AsType[*client.AnswerError](err)
			if ok && strings.Contains(name, "too_large") && !strings.Contains(wrong.Why, "larger") {
				t.Errorf("got %v", err)
			}
			if !ok || wrong.Status != test.status || wrong.RequestID != "req-1" {
				t.Errorf("got %#v (%v)", err, err)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	unreachable := func(t *testing.T, err error) {
		t.Helper()
		if _, ok := errors.AsType[*client.UnreachableError](err); !ok {
			t.Errorf("got %T: %v", err, err)
		}
	}
	a := newAuthority(t, nil)
	t.Run("refused_connection", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := "https://" + listener.Addr().String()
		listener.Close()
		c, err := client.New(client.Config{Server: address, Trust: pin(t, a)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Challenge(t.Context(), api.ChallengeRequest{})
		unreachable(t, err)
		_, err = client.Inspect(t.Context(), client.Config{Server: address, Trust: pin(t, a)})
		unreachable(t, err)
	})
	t.Run("silent", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		cfg := client.Config{Server: "https://" + listener.Addr().String(), Trust: pin(t, a), Timeout: 100 * time.Millisecond}
		c, err := client.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Challenge(t.Context(), api.ChallengeRequest{})
		unreachable(t, err)
		_, err = client.Inspect(t.Context(), cfg)
		unreachable(t, err)
	})
	t.Run("answer_never_ends", func(t *testing.T) {
		c := talk(t, func(w http.ResponseWriter, r *http.Request) {
			answer(w, 200, "application/json", `{"token":"`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, func(cfg *client.Config) { cfg.Timeout = 200 * time.Millisecond })
		_, err := c.Challenge(t.Context(), api.ChallengeRequest{})
		unreachable(t, err)
	})
}

func TestClientCertificate(t *testing.T) {
	a := newAuthority(t, nil)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	var seen atomic.Value
	server := serve(t, &tls.Config{
		Certificates: []tls.Certificate{a.server(t, nil)}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
	}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(fmt.Sprint(len(r.TLS.PeerCertificates)))
		answer(w, 200, "application/json", `{}`)
	}))
	own := withoutAnchor(a.server(t, func(c *x509.Certificate) {
		c.URIs, c.ExtKeyUsage = uri("spiffe://example.org/zone/a/node/b"), []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}))
	for name, test := range map[string]struct {
		give func() (*tls.Certificate, error)
		want string
	}{
		"given":       {func() (*tls.Certificate, error) { return &own, nil }, "1"},
		"none_now":    {func() (*tls.Certificate, error) { return nil, nil }, "0"},
		"none_at_all": {nil, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := client.New(client.Config{Server: server, Trust: pin(t, a), ClientCertificate: test.give})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Challenge(t.Context(), api.ChallengeRequest{}); err != nil {
				t.Fatal(err)
			}
			if got := seen.Load(); got != test.want {
				t.Errorf("the server saw %v certificates, want %s", got, test.want)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	a := newAuthority(t, nil)
	good := client.Config{Server: "https://127.0.0.1:1", Trust: pin(t, a)}
	for name, change := range map[string]func(*client.Config){
		"no_trust":         func(c *client.Config) { c.Trust = client.Trust{} },
		"plain_http":       func(c *client.Config) { c.Server = "http://127.0.0.1:1" },
		"no_host":          func(c *client.Config) { c.Server = "https://" },
		"path":             func(c *client.Config) { c.Server = "https://a/b" },
		"query":            func(c *client.Config) { c.Server = "https://a?b" },
		"user":             func(c *client.Config) { c.Server = "https://u:p@a" },
		"empty":            func(c *client.Config) { c.Server = "" },
		"bad_trust_domain": func(c *client.Config) { c.TrustDomain = "Not A Domain" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			change(&cfg)
			if _, err := client.New(cfg); err == nil {
				t.Error("made a client")
			}
		})
	}
	if _, err := client.New(good); err != nil {
		t.Error(err)
	}
}

func TestRequestAboveTheLimitIsNotSent(t *testing.T) {
	reached := false
	c := talk(t, func(w http.ResponseWriter, _ *http.Request) { reached = true }, nil)
	if _, err := c.Attest(t.Context(), api.AttestRequest{SPKI: make([]byte, api.MaxBody)}); err == nil || reached {
		t.Errorf("sent: %v", err)
	}
}

// TestLaterCalls: what a node asks for after its attestation, each at its route.
func TestLaterCalls(t *testing.T) {
	c := talk(t, func(w http.ResponseWriter, r *http.Request) {
		switch body, _ := io.ReadAll(r.Body); r.Method + " " + r.URL.Path + " " + string(body) {
		case `POST /v1/svid {"workload":"checkout","csr":"AQI"}`:
			answer(w, http.StatusOK, "application/json", `{"workload":"checkout","chain":["AQI"]}`)
		case `POST /v1/jwt {"audience":"api","workload":"checkout"}`:
			answer(w, http.StatusOK, "application/json", `{"audience":"api","token":"a.b.c"}`)
		case `GET /spiffe/bundle.json `:
			if r.Header.Get("Content-Type") != "" {
				t.Error("a request without a body has a type")
			}
			answer(w, http.StatusOK, "application/json", `{"keys":[],"spiffe_sequence":7}`)
		default:
			t.Errorf("%s %s %s", r.Method, r.URL, body)
		}
	}, nil)
	svid, err := c.SVID(t.Context(), api.SVIDRequest{Workload: "checkout", CSR: api.Bytes{1, 2}})
	if err != nil || len(svid.Chain) != 1 || svid.Workload != "checkout" {
		t.Errorf("%+v, %v", svid, err)
	}
	jwt, err := c.JWT(t.Context(), api.JWTRequest{Workload: "checkout", Audience: "api"})
	if err != nil || jwt.Token != "a.b.c" {
		t.Errorf("%+v, %v", jwt, err)
	}
	if bundle, err := c.Bundle(t.Context()); err != nil || string(bundle) != `{"keys":[],"spiffe_sequence":7}` {
		t.Errorf("%s, %v", bundle, err)
	}
}

// TestLaterAnswersAreBounded: one SVID has no need of a megabyte.
func TestLaterAnswersAreBounded(t *testing.T) {
	c := talk(t, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "application/json", `{"token":"`+strings.Repeat("a", 64<<10)+`"}`)
	}, nil)
	if _, err := c.JWT(t.Context(), api.JWTRequest{Audience: "api"}); !isAnswer(err) {
		t.Errorf("got %v", err)
	}
	if _, err := c.SVID(t.Context(), api.SVIDRequest{Workload: "checkout"}); !isAnswer(err) {
		t.Errorf("got %v", err)
	}
}

func isAnswer(err error) bool {
	_, ok := errors.AsType[*client.AnswerError](err)
	return ok
}
