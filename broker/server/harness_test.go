package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
)

const (
	trustDomain = "test.zonebroker"
	nodeID      = "abcdefghijklmnopqrstuvwxyz"
	otherNode   = "bbcdefghijklmnopqrstuvwxyz"
	recordID    = "0192f0c1-2345-7abc-8def-0123456789ab"
	ekHash      = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// clock is a clock that tests move.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// harness is a running server with everything around it.
type harness struct {
	*server.Server
	t        testing.TB
	ca       *authority
	pipeline *pipeline
	desk     *desk
	clock    *clock
	logs     *lockedBuffer
	registry *prometheus.Registry
	socket   string
	stop     func() error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t testing.TB, change func(*server.Config)) *harness {
	t.Helper()
	ca := newAuthority(t, trustDomain)
	h := &harness{
		t: t, ca: ca, desk: &desk{}, clock: &clock{}, logs: &lockedBuffer{}, registry: prometheus.NewRegistry(),
		pipeline: &pipeline{health: "ok", note: "origin\n1\nroot\n\n- key sig\n"},
		socket:   filepath.Join(t.TempDir(), "run", "admin.sock"),
	}
	doc := bundleOf(t, ca)
	h.pipeline.bundle = func() ([]byte, error) { return doc, nil }
	tlsCert := ca.svid(t, "spiffe://"+trustDomain+"/broker", nil)
	cfg := server.Config{
		Broker: h.pipeline, Operator: h.desk, Listen: "127.0.0.1:0", AdminSocket: h.socket, TrustDomain: trustDomain,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return tlsCert, nil },
		Registry:       h.registry, Now: h.clock.now, Logger: slog.New(slog.NewJSONHandler(h.logs, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Server = srv
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	h.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return h
}

// client makes a client with a connection of its own; cert nil is a stranger.
func (h *harness) client(cert *tls.Certificate) *http.Client {
	h.t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13} // the server's identity is not what is tested
	if cert != nil {
		// Certificates alone would be filtered by what the server says it accepts.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	h.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: &validator{h.t, tr}, Timeout: 20 * time.Second}
}

// operator makes a client of the admin socket.
func (h *harness) operator() *http.Client {
	h.t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", h.socket)
	}}
	h.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: &validator{h.t, tr}, Timeout: 20 * time.Second}
}

// reply is an answer that was read.
type reply struct {
	*http.Response
	text    string
	problem api.Problem
}

func (h *harness) do(c *http.Client, method, path, body string, change ...func(*http.Request)) reply {
	h.t.Helper()
	req, err := http.NewRequest(method, "https://"+h.Addr()+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if v, ok := c.Transport.(*validator); ok {
		if tr, ok := v.next.(*http.Transport); ok && tr.TLSClientConfig == nil {
			req.URL.Scheme = "http"
		}
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, f := range change {
		f(req)
	}
	res, err := c.Do(req)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	r := reply{Response: res, text: string(text)}
	if res.StatusCode >= 400 && res.Header.Get("Content-Type") == api.ProblemType {
		if err := api.DecodeBytes(text, &r.problem); err != nil {
			h.t.Fatalf("problem document: %v\n%s", err, text)
		}
	}
	return r
}

const renewal = `{"format":"tpm2","purpose":"renew","ak_name":"AAs"}`

const attestation = `{"token":"tok","spki":"AA","csr":"AA","tpm2":{"ak_public":"AA","quote":"AA","signature":"AA","pcrs":{"0":"AA"}}}`

// validator holds all traffic of the tests against the contract. What the
// contract refuses the server must refuse too; every answer must be of it.
type validator struct {
	t    testing.TB
	next http.RoundTripper
}

var contract = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI())
	if err != nil {
		return nil, err
	}
	// Tests have addresses of their own.
	doc.Servers = nil
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			op.Servers = nil
		}
	}
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.PlainBodyDecoder)
	return gorillamux.NewRouter(doc)
})

func (v *validator) RoundTrip(req *http.Request) (*http.Response, error) {
	v.t.Helper()
	router, err := contract()
	if err != nil {
		v.t.Fatal(err)
	}
	var body []byte
	if req.Body != nil && req.ContentLength > 0 {
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	res, err := v.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(answer))
	route, params, err := router.FindRoute(req)
	if err != nil {
		if res.StatusCode != 404 && res.StatusCode != 405 && res.StatusCode != 401 && res.StatusCode != 429 {
			v.t.Errorf("%s %s is not in the contract and answers %d", req.Method, req.URL.Path, res.StatusCode)
		}
		return res, nil
	}
	asked := req.Clone(req.Context())
	asked.Body = io.NopCloser(bytes.NewReader(body))
	in := &openapi3filter.RequestValidationInput{Request: asked, PathParams: params, Route: route}
	invalid := openapi3filter.ValidateRequest(req.Context(), in)
	if invalid != nil && res.StatusCode < 300 {
		v.t.Errorf("%s %s: %d for a request that the contract refuses: %v", req.Method, req.URL.Path, res.StatusCode, invalid)
	}
	// The admin socket's routes do not exist on TCP and hosts' not on the socket,
	// so the contract has no 404, 405 and 401 for them; the form of the problem is
	// checked by whoever reads it.
	if op := route.Operation.Responses; op.Value(strconv.Itoa(res.StatusCode)) == nil && (res.StatusCode == 404 || res.StatusCode == 405 || res.StatusCode == 401) {
		return res, nil
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: res.StatusCode, Header: res.Header, Body: io.NopCloser(bytes.NewReader(answer)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(req.Context(), out); err != nil {
		v.t.Errorf("%s %s: answer %d is not of the contract: %v", req.Method, req.URL.Path, res.StatusCode, err)
	}
	return res, nil
}
