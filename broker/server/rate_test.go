package server_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/server"
)

func slow(r *server.Rate, burst int) { *r = server.Rate{PerSecond: 0.1, Burst: burst} }

func TestT63_RateLimits(t *testing.T) {
	t.Run("one_address_of_strangers", func(t *testing.T) {
		h := start(t, func(c *server.Config) { slow(&c.Limits.PerIP, 3) })
		c := h.client(nil)
		for i := range 5 {
			got := h.do(c, "POST", "/v1/challenge", renewal)
			if want := i < 3; (got.StatusCode == 200) != want {
				t.Fatalf("request %d: %d", i, got.StatusCode)
			}
			if i < 3 {
				continue
			}
			if s, err := strconv.Atoi(got.Header.Get("Retry-After")); err != nil || s < 1 || s > 10 || got.problem.Code != "request.rate_limited" {
				t.Errorf("%q, Retry-After %q", got.problem.Code, got.Header.Get("Retry-After"))
			}
		}
		h.clock.forward(11 * time.Second)
		if got := h.do(c, "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
			t.Errorf("%d after Retry-After", got.StatusCode)
		}
		for range 3 { // fast lane, while the strangers of the same address wait
			if got := h.do(h.client(h.ca.node(t, nodeID)), "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
				t.Errorf("a node got %d", got.StatusCode)
			}
		}
	})
	t.Run("all_strangers", func(t *testing.T) {
		h := start(t, func(c *server.Config) { slow(&c.Limits.Strangers, 2) })
		var codes []string
		for range 3 {
			codes = append(codes, h.do(h.client(nil), "POST", "/v1/challenge", renewal).problem.Code)
		}
		if fmt.Sprint(codes) != "[  request.rate_limited]" {
			t.Errorf("%q", codes)
		}
		if got := h.do(h.client(h.ca.node(t, nodeID)), "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
			t.Errorf("a node got %d", got.StatusCode)
		}
	})
	t.Run("one_node", func(t *testing.T) {
		h := start(t, nil)
		c := h.client(h.ca.node(t, nodeID))
		for i := range 11 {
			path, body := "/v1/challenge", renewal
			if i%2 == 1 {
				path, body = "/v1/attest", attestation
			}
			got := h.do(c, "POST", path, body)
			if want := i < 10; (got.StatusCode == 200) != want {
				t.Fatalf("request %d of a minute: %d", i, got.StatusCode)
			}
		}
		if got := h.do(h.client(h.ca.node(t, otherNode)), "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
			t.Errorf("another node got %d", got.StatusCode)
		}
		if got := h.do(c, "GET", "/spiffe/bundle.json", ""); got.StatusCode != 200 {
			t.Errorf("the bundle is %d", got.StatusCode)
		}
	})
	t.Run("all_nodes", func(t *testing.T) {
		h := start(t, func(c *server.Config) { slow(&c.Limits.Nodes, 1) })
		var codes []string
		for _, node := range []string{nodeID, otherNode} {
			codes = append(codes, h.do(h.client(h.ca.node(t, node)), "POST", "/v1/challenge", renewal).problem.Code)
		}
		if fmt.Sprint(codes) != "[ request.rate_limited]" {
			t.Errorf("%q", codes)
		}
	})
	t.Run("bad_certificates_cost_what_strangers_cost", func(t *testing.T) {
		h := start(t, func(c *server.Config) { slow(&c.Limits.PerIP, 2) })
		bad := newAuthority(t, trustDomain).node(t, nodeID)
		var codes []string
		for range 3 {
			codes = append(codes, h.do(h.client(bad), "GET", "/healthz/live", "").problem.Code)
		}
		if fmt.Sprint(codes) != "[auth.invalid auth.invalid request.rate_limited]" {
			t.Errorf("%q", codes)
		}
	})
	t.Run("node_names_in_bodies_open_no_lane", func(t *testing.T) {
		h := start(t, func(c *server.Config) { slow(&c.Limits.PerIP, 5) })
		c := h.client(nil)
		ok := 0
		for i := range 20 {
			body := fmt.Sprintf(`{"format":"tpm2","purpose":"renew","ak_name":"%04d"}`, i*10)
			body = strings.NewReplacer("0\"}", "A\"}").Replace(body)
			if h.do(c, "POST", "/v1/challenge", body).StatusCode == 200 {
				ok++
			}
		}
		if _, nodes := h.Remembered(); ok > 5 || nodes != 0 {
			t.Errorf("%d passed, %d nodes remembered", ok, nodes)
		}
	})
	t.Run("documents", func(t *testing.T) {
		h := start(t, func(c *server.Config) { slow(&c.Limits.Documents, 2) })
		c := h.client(nil)
		var codes []string
		for _, path := range []string{"/spiffe/bundle.json", "/nowhere", "/healthz/ready"} {
			codes = append(codes, h.do(c, "GET", path, "").problem.Code)
		}
		if fmt.Sprint(codes) != "[ request.not_found request.rate_limited]" {
			t.Errorf("%q", codes)
		}
	})
}

// TestT63_LimiterMemory: an attacker with many addresses costs memory only up to
// the table, and gains no more than the burst of each.
func TestT63_LimiterMemory(t *testing.T) {
	now := time.Unix(1e9, 0)
	b := server.NewBuckets(server.Rate{PerSecond: 1, Burst: 2}, 1000)
	for i := range 100_000 {
		b.Take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
		if b.Size() > 1000 && i%1000 == 0 {
			t.Fatalf("%d addresses remembered", b.Size())
		}
	}
	if b.Size() != 1000 {
		t.Errorf("%d addresses remembered", b.Size())
	}
	// Who keeps asking is kept: the flood of others does not refill the bucket.
	self := netip.MustParseAddr("192.0.2.1")
	passed := 0
	for i := range 100_000 {
		if _, ok := b.Take(self, now); ok {
			passed++
		}
		b.Take(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if passed != 2 {
		t.Errorf("%d passed at one time with a burst of 2", passed)
	}
	t.Run("waits_as_long_as_it_says", func(t *testing.T) {
		wait, ok := b.Take(self, now)
		if ok || wait <= 0 || wait > time.Second {
			t.Fatalf("%s %v", wait, ok)
		}
		if _, ok := b.Take(self, now.Add(wait)); !ok {
			t.Error("not after the wait")
		}
	})
	t.Run("a_clock_that_steps_back_takes_nothing", func(t *testing.T) {
		b := server.NewBuckets(server.Rate{PerSecond: 1, Burst: 2}, 10)
		b.Take(self, now)
		if _, ok := b.Take(self, now.Add(-time.Hour)); !ok {
			t.Error("lost a token")
		}
		if _, ok := b.Take(self, now); ok {
			t.Error("won a token")
		}
	})
}

func TestT63_OneHostIsOneAddress(t *testing.T) {
	tests := []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1:1", "192.0.2.1:2", true},
		{"192.0.2.1:1", "192.0.2.2:1", false},
		{"192.0.2.1:1", "[::ffff:192.0.2.1]:1", true},
		{"[2001:db8::1]:1", "[2001:db8::ffff:1]:1", true},
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"[fe80::1%eth0]:1", "[fe80::2%eth1]:1", true},
		{"garbage", "", true},
	}
	for _, tt := range tests {
		if (server.AddressOf(tt.a) == server.AddressOf(tt.b)) != tt.same {
			t.Errorf("%s and %s: %v, %v", tt.a, tt.b, server.AddressOf(tt.a), server.AddressOf(tt.b))
		}
	}
}
