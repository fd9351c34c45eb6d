package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
)

func impatient(c *server.Config) {
	c.Timeouts = server.Timeouts{Header: 300 * time.Millisecond, Body: 300 * time.Millisecond, Idle: 300 * time.Millisecond}
}

// closedWithin reads until the other side closes.
func closedWithin(t *testing.T, c net.Conn, d time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, c)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Errorf("still open after %s", d)
	}
}

func dialTLS(t *testing.T, h *harness, proto string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", h.Addr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestT57_SlowClients(t *testing.T) {
	t.Parallel()
	t.Run("silent_before_TLS", func(t *testing.T) {
		h := start(t, impatient)
		c, err := net.Dial("tcp", h.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		closedWithin(t, c, 5*time.Second)
	})
	t.Run("silent_in_the_header", func(t *testing.T) {
		h := start(t, impatient)
		c := dialTLS(t, h, "http/1.1")
		fmt.Fprint(c, "POST /v1/challenge HTTP/1.1\r\nHost: x\r\nX-A: ")
		closedWithin(t, c, 5*time.Second)
	})
	t.Run("header_a_byte_at_a_time", func(t *testing.T) {
		h := start(t, impatient)
		c := dialTLS(t, h, "http/1.1")
		go func() {
			for _, b := range []byte("POST /v1/challenge HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A", 500)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		closedWithin(t, c, 5*time.Second)
	})
	t.Run("silent_after_TLS_with_h2", func(t *testing.T) {
		if testing.Short() {
			t.Skip("net/http gives the HTTP/2 preface 10 s of its own; -short does not wait for it")
		}
		t.Parallel()
		h := start(t, impatient)
		closedWithin(t, dialTLS(t, h, "h2"), 15*time.Second)
	})
	t.Run("h2_header_without_end", func(t *testing.T) {
		h := start(t, impatient)
		c := dialTLS(t, h, "h2")
		fmt.Fprint(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		_, _ = c.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})       // SETTINGS
		_, _ = c.Write([]byte{0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82}) // HEADERS without END_HEADERS
		closedWithin(t, c, 15*time.Second)
	})
	t.Run("idle", func(t *testing.T) {
		h := start(t, impatient)
		c := dialTLS(t, h, "http/1.1")
		fmt.Fprint(c, "GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n")
		closedWithin(t, c, 5*time.Second)
	})
	t.Run("header_above_cap", func(t *testing.T) {
		h := start(t, nil)
		c := dialTLS(t, h, "http/1.1")
		fmt.Fprintf(c, "GET /healthz/live HTTP/1.1\r\nHost: x\r\nX-A: %s\r\n\r\n", strings.Repeat("a", 64<<10))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != 431 {
			t.Errorf("%v %v", res, err)
		}
	})
	for _, proto := range []string{"http/1.1", "h2"} {
		t.Run("slow_body_"+proto, func(t *testing.T) {
			h := start(t, impatient)
			r, w := io.Pipe()
			defer w.Close()
			go func() { _, _ = w.Write([]byte(`{"format":`)) }()
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: proto == "h2"}
			defer tr.CloseIdleConnections()
			req, _ := http.NewRequest("POST", "https://"+h.Addr()+"/v1/challenge", r)
			req.Header.Set("Content-Type", "application/json")
			res, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var p api.Problem
			if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
				t.Fatal(err)
			}
			if p.Code != "request.overloaded" || res.Header.Get("Retry-After") == "" {
				t.Errorf("%d %+v", res.StatusCode, p)
			}
			eventually(t, "the slot is free again", h.InWork)
		})
	}
	t.Run("declared_size_above_cap_is_not_waited_for", func(t *testing.T) {
		h := start(t, nil)
		c := dialTLS(t, h, "http/1.1")
		fmt.Fprintf(c, "POST /v1/attest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", api.MaxBody+1)
		_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != 413 {
			t.Errorf("%v %v", res, err)
		}
	})
	t.Run("the_deadline_is_for_the_body_alone", func(t *testing.T) {
		h := start(t, impatient)
		h.pipeline.attest = func(ctx context.Context, _ api.AttestRequest) (api.AttestResponse, error) {
			select {
			case <-ctx.Done():
				return api.AttestResponse{}, errors.New("cancelled though the client waits")
			case <-time.After(time.Second): // longer than the body may take
			}
			return api.AttestResponse{AttestationID: recordID, Node: nodeID, SPIFFEID: "spiffe://x", Bundle: []byte(`{"keys":[]}`)}, nil
		}
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // HTTP/1.1
		defer tr.CloseIdleConnections()
		if got := h.do(&http.Client{Transport: tr}, "POST", "/v1/attest", attestation); got.StatusCode != 200 {
			t.Errorf("%d %s", got.StatusCode, got.text)
		}
	})
	t.Run("answers_unread_at_the_longest_route", func(t *testing.T) {
		if testing.Short() {
			t.Skip("waits for the write deadline of 5 s; -short does not")
		}
		t.Parallel()
		h := start(t, impatient)
		c := dialTLS(t, h, "http/1.1")
		ended := make(chan error, 1)
		go func() {
			many := strings.Repeat("POST /v1/history/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 100)
			for {
				if _, err := io.WriteString(c, many); err != nil {
					ended <- err
					return
				}
			}
		}()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Error("a stranger who does not read is held for the half hour of an auditor")
		}
	})
	t.Run("a_slow_crowd_keeps_nobody_else_out", func(t *testing.T) {
		h := start(t, func(c *server.Config) { c.Limits.MaxConnsPerIP = 100 })
		for range 80 {
			c := dialTLS(t, h, "http/1.1")
			fmt.Fprint(c, "POST /v1/attest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2097152\r\n\r\n{")
		}
		began := time.Now()
		if got := h.do(h.client(h.ca.node(t, nodeID)), "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
			t.Errorf("a node got %d", got.StatusCode)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it waited %s", took)
		}
	})
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Errorf("not within 5 s: %s", what)
}

func TestT57_ConnectionLimits(t *testing.T) {
	tests := []struct {
		name   string
		limits server.Limits
		metric string
	}{
		{"per_address", server.Limits{MaxConnsPerIP: 3}, "per_ip"},
		{"total", server.Limits{MaxConns: 3}, "total"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := start(t, func(c *server.Config) { c.Limits = tt.limits })
			h.Arrivals().Know(netip.MustParseAddr("127.0.0.1"), nodeID) // newcomers have less
			held := make([]net.Conn, 3)
			for i := range held {
				held[i] = dialTLS(t, h, "http/1.1")
			}
			c, err := net.Dial("tcp", h.Addr())
			if err != nil {
				t.Fatal(err)
			}
			closedWithin(t, c, 5*time.Second)
			c.Close()
			if n := metric(t, h, "zonebroker_http_connections_refused_total", tt.metric); n != 1 {
				t.Errorf("refused %v connections", n)
			}
			held[0].Close()
			eventually(t, "a closed connection makes room", func() bool {
				c, err := tls.Dial("tcp", h.Addr(), &tls.Config{InsecureSkipVerify: true})
				if err != nil {
					return false
				}
				c.Close()
				return true
			})
		})
	}
}

// metric sums the counter or gauge of one label value, of all for "".
func metric(t *testing.T, h *harness, name, label string) (sum float64) {
	t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			wanted := label == ""
			for _, l := range m.GetLabel() {
				wanted = wanted || l.GetValue() == label
			}
			if wanted {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func TestOverload(t *testing.T) {
	t.Run("strangers_fill_their_lane_not_that_of_nodes", func(t *testing.T) {
		h := start(t, func(c *server.Config) { c.Limits.MaxRequests = 2 })
		hold, entered := make(chan struct{}), make(chan struct{}, 2)
		var strangers atomic.Bool
		strangers.Store(true)
		h.pipeline.challenge = func(context.Context, api.ChallengeRequest) (api.Challenge, error) {
			if strangers.Load() {
				entered <- struct{}{}
				<-hold
			}
			return freshChallenge(), nil
		}
		var wg sync.WaitGroup
		for range 2 {
			c := h.client(nil)
			wg.Go(func() { h.do(c, "POST", "/v1/challenge", renewal) })
			<-entered
		}
		strangers.Store(false)
		got := h.do(h.client(nil), "POST", "/v1/challenge", renewal)
		if got.problem.Code != "request.overloaded" || got.Header.Get("Retry-After") == "" {
			t.Errorf("a third stranger got %d %q", got.StatusCode, got.problem.Code)
		}
		if got := h.do(h.client(h.ca.node(t, nodeID)), "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
			t.Errorf("a node got %d", got.StatusCode)
		}
		close(hold)
		wg.Wait()
		if !h.InWork() {
			t.Error("the lane stays taken")
		}
	})
	t.Run("bytes", func(t *testing.T) {
		h := start(t, func(c *server.Config) { c.Limits.MaxBytes = 64 << 10 })
		big := `{"token":"` + strings.Repeat("a", 100<<10) + `"}`
		if got := h.do(h.client(nil), "POST", "/v1/attest", big); got.problem.Code != "request.overloaded" {
			t.Errorf("%d %q", got.StatusCode, got.problem.Code)
		}
		if got := h.do(h.client(nil), "POST", "/v1/attest", attestation); got.StatusCode != 200 {
			t.Errorf("%d afterwards", got.StatusCode)
		}
	})
}
