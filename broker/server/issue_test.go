package server_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/server"
)

// TestLaterSVIDsShareOneBucket: both kinds cost one node the same 120 a minute,
// beside the rate of its attestations.
func TestLaterSVIDsShareOneBucket(t *testing.T) {
	h := start(t, nil)
	c := h.client(h.ca.node(t, nodeID))
	ask := []string{"/v1/svid", `{"workload":"web","csr":"AA"}`, "/v1/jwt", `{"audience":"db"}`}
	began, passed := time.Now(), 0
	for {
		got := h.do(c, "POST", ask[passed%2*2], ask[passed%2*2+1])
		if got.StatusCode != 200 {
			if got.problem.Code != "request.rate_limited" || got.Header.Get("Retry-After") != "1" {
				t.Errorf("%q, Retry-After %q", got.problem.Code, got.Header.Get("Retry-After"))
			}
			break
		}
		passed++
	}
	if most := 60 + int(2*time.Since(began).Seconds()); passed < 60 || passed > most+1 {
		t.Errorf("%d passed, at most %d should", passed, most)
	}
	if got := h.do(c, "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
		t.Errorf("a challenge: %d", got.StatusCode)
	}
	if got := h.do(h.client(h.ca.node(t, otherNode)), "POST", ask[2], ask[3]); got.StatusCode != 200 {
		t.Errorf("another node: %d", got.StatusCode)
	}
	t.Run("all_nodes", func(t *testing.T) {
		h := start(t, func(c *server.Config) { c.Limits.Nodes = server.Rate{PerSecond: 0.1, Burst: 1} })
		for i, node := range []string{nodeID, otherNode} {
			if got := h.do(h.client(h.ca.node(t, node)), "POST", ask[2], ask[3]); (got.StatusCode == 200) != (i == 0) {
				t.Errorf("node %d: %d", i, got.StatusCode)
			}
		}
	})
}

// TestT56_LaterSVIDsGetTheNode: the certificate that the handshake proved, and
// no word of the request.
func TestT56_LaterSVIDsGetTheNode(t *testing.T) {
	h := start(t, nil)
	cert := h.ca.node(t, nodeID)
	for path, body := range map[string]string{"/v1/svid": `{"workload":"web","csr":"AA"}`, "/v1/jwt": `{"audience":"db","workload":"web"}`} {
		if got := h.do(h.client(cert), "POST", path, body); got.StatusCode != 200 {
			t.Errorf("%s: %s", path, got.text)
		}
		by := h.pipeline.last()
		if by.NodeID != nodeID || by.Certificate == nil || string(by.Certificate.Raw) != string(cert.Certificate[0]) {
			t.Errorf("%s: the caller is %+v", path, by)
		}
		// Who names a node in the body asks for nothing that exists.
		if got := h.do(h.client(cert), "POST", path, body[:len(body)-1]+`,"node":"`+otherNode+`"}`); got.problem.Code != "request.malformed" {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
}

// TestKeyDocumentsAreForEveryPage: a verifier in a browser reads them too.
func TestKeyDocumentsAreForEveryPage(t *testing.T) {
	h := start(t, nil)
	c := h.client(nil)
	for _, path := range []string{"/.well-known/openid-configuration", "/oidc/jwks.json"} {
		got := h.do(c, "GET", path, "", func(r *http.Request) { r.Header.Set("Origin", "https://app.test") })
		if got.StatusCode != 200 || got.Header.Get("Access-Control-Allow-Origin") != "*" ||
			got.Header.Get("Cache-Control") != "public, max-age=60" || got.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v", path, got.StatusCode, got.Header)
		}
		tag := got.Header.Get("ETag")
		again := h.do(c, "GET", path, "", func(r *http.Request) { r.Header.Set("If-None-Match", tag) })
		if tag == "" || again.StatusCode != 304 || again.text != "" || again.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s with its tag %q: %d %q", path, tag, again.StatusCode, again.text)
		}
	}
	if got := h.do(c, "GET", "/spiffe/bundle.json", ""); got.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("the SPIFFE bundle is readable by every page")
	}
}
