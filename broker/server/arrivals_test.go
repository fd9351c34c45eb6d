package server_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/server"
)

func TestArrivals(t *testing.T) {
	now := time.Unix(1e9, 0)
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	limits := server.Limits{
		Arrivals: server.Rate{PerSecond: 1, Burst: 3}, Newcomers: server.Rate{PerSecond: 2, Burst: 8}, Table: 1000,
	}
	t.Run("one_address", func(t *testing.T) {
		a := server.NewArrivals(limits)
		var got []string
		for range 4 {
			got = append(got, a.Refuse(address(1), now))
		}
		got = append(got, a.Refuse(address(2), now), a.Refuse(address(1), now.Add(time.Second)))
		if fmt.Sprintf("%q", got) != `["" "" "" "arrivals" "" ""]` {
			t.Errorf("%q", got)
		}
	})
	t.Run("many_addresses_share_one_rate", func(t *testing.T) {
		a := server.NewArrivals(limits)
		passed := 0
		for i := range 5000 {
			if a.Refuse(address(i), now) == "" {
				passed++
			}
		}
		if passed != 8 {
			t.Errorf("%d passed", passed)
		}
	})
	t.Run("a_flood_keeps_no_known_address_out", func(t *testing.T) {
		a := server.NewArrivals(limits)
		host := address(0xffffff)
		a.Know(host, "node")
		for i := range 5000 { // more than the table remembers
			a.Refuse(address(i), now)
		}
		if cause := a.Refuse(host, now); cause != "" {
			t.Errorf("refused: %s", cause)
		}
		if cause := a.Refuse(address(0xfffffe), now); cause != "newcomers" {
			t.Errorf("a newcomer: %q", cause)
		}
	})
	t.Run("one_certificate_makes_few_addresses_known", func(t *testing.T) {
		a := server.NewArrivals(limits)
		a.Know(address(1), "another")
		for i := range 100 {
			a.Know(address(i), "thief")
		}
		var known []int
		for i := range 100 {
			if a.IsKnown(address(i)) {
				known = append(known, i)
			}
		}
		if !slices.Equal(known, []int{1, 96, 97, 98, 99}) {
			t.Errorf("%d are known", known)
		}
	})
	t.Run("who_has_no_token_of_its_own_takes_none_of_all", func(t *testing.T) {
		a := server.NewArrivals(limits)
		for range 100 {
			a.Refuse(address(1), now)
		}
		passed := 0
		for i := range 100 {
			if a.Refuse(address(2+i), now) == "" {
				passed++
			}
		}
		if passed != 5 {
			t.Errorf("%d others passed", passed)
		}
	})
}

// TestArrivalsOverTCP: a good certificate makes an address known, a bad one does
// not, and who comes too fast is closed before TLS.
func TestArrivalsOverTCP(t *testing.T) {
	few := func(c *server.Config) { c.Limits.Newcomers = server.Rate{PerSecond: 0.001, Burst: 3} }
	closed := func(t *testing.T, h *harness) bool {
		t.Helper()
		before := metric(t, h, "zonebroker_http_connections_refused_total", "newcomers")
		c, err := net.Dial("tcp", h.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		_, err = c.Read(make([]byte, 1))
		ne, open := err.(net.Error)
		open = open && ne.Timeout()
		if after := metric(t, h, "zonebroker_http_connections_refused_total", "newcomers"); open != (after == before) {
			t.Errorf("%v, and %v were counted", err, after-before)
		}
		return !open
	}
	t.Run("strangers", func(t *testing.T) {
		h := start(t, few)
		bad := newAuthority(t, trustDomain).node(t, nodeID)
		for range 3 {
			h.do(h.client(bad), "GET", "/healthz/live", "")
		}
		if !closed(t, h) {
			t.Error("a fourth newcomer is let in")
		}
	})
	t.Run("strangers_without_a_certificate", func(t *testing.T) {
		h := start(t, few)
		for range 3 {
			if got := h.do(h.client(nil), "GET", "/healthz/live", ""); got.StatusCode != 200 {
				t.Fatal(got.text)
			}
		}
		if !closed(t, h) {
			t.Error("a fourth newcomer is let in")
		}
	})
	t.Run("nodes", func(t *testing.T) {
		h := start(t, few)
		for range 5 {
			if got := h.do(h.client(h.ca.node(t, nodeID)), "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
				t.Fatalf("a node got %d", got.StatusCode)
			}
		}
		if closed(t, h) {
			t.Error("the address of a node is a newcomer")
		}
	})
}

// TestStrangersLeaveRoom: who keeps connections open keeps no host out whose
// address is known.
func TestStrangersLeaveRoom(t *testing.T) {
	h := start(t, func(c *server.Config) { c.Limits.MaxConns = 6 })
	held := dialTLS(t, h, "h2")
	for range 2 {
		dialTLS(t, h, "h2")
	}
	c, err := net.Dial("tcp", h.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	closedWithin(t, c, 5*time.Second)
	if n := metric(t, h, "zonebroker_http_connections_refused_total", "total"); n != 1 {
		t.Errorf("%v newcomers were refused", n)
	}
	held.Close()
	eventually(t, "another stranger has the place", func() bool {
		c, err := tls.Dial("tcp", h.Addr(), &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err == nil
	})
	h.Arrivals().Know(netip.MustParseAddr("127.0.0.1"), nodeID)
	for range 3 {
		if got := h.do(h.client(h.ca.node(t, nodeID)), "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
			t.Fatalf("a node got %d", got.StatusCode)
		}
	}
}

// TestRateLimitedStrangersStartOver: refusals on a kept connection would be free.
func TestRateLimitedStrangersStartOver(t *testing.T) {
	h := start(t, func(c *server.Config) {
		slow(&c.Limits.PerIP, 1)
		slow(&c.Limits.Node, 1)
	})
	stranger, asNode := h.client(nil), h.client(h.ca.node(t, nodeID))
	conns := func() float64 { return metric(t, h, "zonebroker_http_connections", "") }
	for range 2 {
		h.do(asNode, "POST", "/v1/challenge", renewal)
	}
	if h.do(stranger, "POST", "/v1/challenge", renewal).StatusCode != 200 {
		t.Fatal("the first request is refused")
	}
	if n := conns(); n != 2 {
		t.Fatalf("%v connections", n)
	}
	if got := h.do(stranger, "POST", "/v1/challenge", renewal); got.problem.Code != "request.rate_limited" {
		t.Fatalf("%d %q", got.StatusCode, got.problem.Code)
	}
	eventually(t, "the stranger's connection is closed, the node's is not", func() bool { return conns() == 1 })
	if h.do(asNode, "GET", "/healthz/live", "").StatusCode != 200 || conns() != 1 {
		t.Error("the node's connection is another one")
	}
}
