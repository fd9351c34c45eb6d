package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// role makes a client whose certificate has a role.
func (h *harness) role(r broker.Role) (*http.Client, *tls.Certificate) {
	h.t.Helper()
	cert := roleCert(h.t, nil)
	h.desk.give(cert, "alice", r, nil)
	return h.client(cert), cert
}

// TestT56_RoleCertificates: what a certificate whose key has a role must be
// besides.
func TestT56_RoleCertificates(t *testing.T) {
	h := start(t, nil)
	two := roleCert(t, nil)
	two.Certificate = append(two.Certificate, two.Certificate[0])
	tests := []struct {
		name string
		cert *tls.Certificate
		role broker.Role
		want reason.Code
	}{
		{"as_made", roleCert(t, nil), broker.RoleAuditor, ""},
		{"not_yet_valid", roleCert(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), broker.RoleAuditor, bad},
		{"ended", roleCert(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), broker.RoleAuditor, bad},
		{"a_server's", roleCert(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), broker.RoleAuditor, bad},
		{"without_use", roleCert(t, func(c *x509.Certificate) { c.ExtKeyUsage = nil }), broker.RoleAuditor, bad},
		{"a_CA", roleCert(t, func(c *x509.Certificate) { c.IsCA = true }), broker.RoleAuditor, bad},
		{"critical_and_unknown", roleCert(t, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), broker.RoleAuditor, bad},
		{"two_certificates", two, broker.RoleAuditor, bad},
		{"role_admin_in_the_table", roleCert(t, nil), broker.RoleAdmin, bad},
		{"no_role_in_the_table", roleCert(t, nil), broker.RoleNone, bad},
		// A SPIFFE ID makes it a host's certificate, whatever key it has.
		{"with_a_SPIFFE_ID", roleCert(t, func(c *x509.Certificate) {
			c.URIs = []*url.URL{mustURL("spiffe://" + trustDomain + "/zone/z/node/" + nodeID)}
		}), broker.RoleAuditor, bad},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.desk.give(tt.cert, "alice", tt.role, nil)
			got := h.do(h.client(tt.cert), "GET", "/v1/nodes", "")
			if got.problem.Code != string(tt.want) || tt.want == "" && got.StatusCode != 200 {
				t.Errorf("%d %q, want %q\n%s", got.StatusCode, got.problem.Code, tt.want, got.text)
			}
		})
	}
}

// TestRoleIsWhoActs: the broker learns the name behind a role certificate, and
// the log line too.
func TestRoleIsWhoActs(t *testing.T) {
	h := start(t, nil)
	c, _ := h.role(broker.RoleOperator)
	if got := h.do(c, "POST", "/v1/nodes/"+nodeID+"/disable", `{"note":"x"}`); got.StatusCode != 200 {
		t.Fatal(got.text)
	}
	if by := h.desk.caller; by.Operator != "operator:alice" || by.Role != broker.RoleOperator || by.NodeID != "" || by.Certificate != nil {
		t.Errorf("disabled by %+v", by)
	}
	if !strings.Contains(h.logs.String(), `"operator":"operator:alice"`) {
		t.Error(h.logs.String())
	}
	h.do(h.operator(), "GET", "/v1/nodes", "")
	if by := h.desk.caller; !strings.HasPrefix(by.Operator, "uid:") || by.Role != broker.RoleAdmin {
		t.Errorf("the socket's caller is %+v", by)
	}
	node := h.ca.node(t, nodeID)
	h.do(h.client(node), "POST", "/v1/challenge", renewal)
	if by := h.pipeline.last(); by.Certificate == nil || string(by.Certificate.Raw) != string(node.Certificate[0]) || by.Operator != "" || by.Role != broker.RoleNone {
		t.Errorf("the node is %+v", by)
	}
}

// TestRoleIsJudgedOnEveryRequest: a connection outlives neither the role nor
// the certificate that it began with.
func TestRoleIsJudgedOnEveryRequest(t *testing.T) {
	t.Run("revoked_on_a_kept_connection", func(t *testing.T) {
		h := start(t, nil)
		c, cert := h.role(broker.RoleOperator)
		if got := h.do(c, "GET", "/v1/nodes", ""); got.StatusCode != 200 {
			t.Fatal(got.text)
		}
		h.desk.give(cert, "alice", "", reason.New(reason.AuthInvalid, "revoked"))
		if got := h.do(c, "GET", "/v1/nodes", ""); got.problem.Code != "auth.invalid" {
			t.Errorf("%d after it was revoked", got.StatusCode)
		}
	})
	t.Run("certificate_ends_on_a_kept_connection", func(t *testing.T) {
		h := start(t, nil)
		c, _ := h.role(broker.RoleOperator)
		h.do(c, "GET", "/v1/nodes", "")
		h.clock.forward(2 * time.Hour)
		if got := h.do(c, "GET", "/v1/nodes", ""); got.problem.Code != "auth.invalid" {
			t.Errorf("%d after its end", got.StatusCode)
		}
	})
}

// TestOtherSitesActForNobody: a browser shows a role certificate for every page
// that asks it to.
func TestOtherSitesActForNobody(t *testing.T) {
	h := start(t, nil)
	c, _ := h.role(broker.RoleOperator)
	header := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		want   reason.Code
	}{
		{"command_line", func(*http.Request) {}, ""},
		{"typed_address", header("Sec-Fetch-Site", "none"), ""},
		{"own_page", header("Sec-Fetch-Site", "same-origin"), ""},
		{"own_origin", header("Origin", "https://"+h.Addr()), ""},
		{"other_site", header("Sec-Fetch-Site", "cross-site"), reason.AuthForbidden},
		{"sister_site", header("Sec-Fetch-Site", "same-site"), reason.AuthForbidden},
		{"other_origin", header("Origin", "https://evil.test"), reason.AuthForbidden},
		{"no_origin_of_its_own", header("Origin", "null"), reason.AuthForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, ask := range [][3]string{{"GET", "/v1/nodes", ""}, {"POST", "/v1/nodes/" + nodeID + "/disable", "{}"}} {
				if got := h.do(c, ask[0], ask[1], ask[2], tt.change); got.problem.Code != string(tt.want) {
					t.Errorf("%s: %d %q, want %q", ask[1], got.StatusCode, got.problem.Code, tt.want)
				}
			}
		})
	}
	t.Run("no_answer_is_for_other_sites", func(t *testing.T) {
		if got := h.do(c, "GET", "/v1/nodes", ""); got.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Error("readable by any page")
		}
	})
}

// TestRolesHaveRatesOfTheirOwn: one certificate, one bucket, for everything; the
// admin socket has none, and strangers at operators' routes pay as strangers.
func TestRolesHaveRatesOfTheirOwn(t *testing.T) {
	h := start(t, func(c *server.Config) {
		c.Limits.Operator = server.Rate{PerSecond: 0.1, Burst: 2}
		c.Limits.Documents = server.Rate{PerSecond: 0.1, Burst: 2}
	})
	alice, _ := h.role(broker.RoleAuditor)
	bobs := roleCert(t, nil)
	h.desk.give(bobs, "bob", broker.RoleAuditor, nil)
	codes := func(c *http.Client, paths ...string) string {
		var out []string
		for _, p := range paths {
			out = append(out, h.do(c, "GET", p, "").problem.Code)
		}
		return fmt.Sprintf("%q", out)
	}
	if got := codes(alice, "/v1/nodes", "/healthz/live", "/v1/nodes"); got != `["" "" "request.rate_limited"]` {
		t.Errorf("one auditor: %s", got)
	}
	if got := codes(h.client(bobs), "/v1/nodes"); got != `[""]` {
		t.Errorf("another auditor: %s", got)
	}
	if got := codes(h.client(nil), "/v1/nodes", "/v1/nodes", "/v1/nodes"); got != `["auth.required" "auth.required" "request.rate_limited"]` {
		t.Errorf("a stranger: %s", got)
	}
	if got := codes(h.operator(), "/v1/nodes", "/v1/nodes", "/v1/nodes", "/v1/nodes"); got != `["" "" "" ""]` {
		t.Errorf("the socket: %s", got)
	}
}

// TestOneVerificationAtATime: it reads the whole log, and a certificate may be
// stolen.
func TestOneVerificationAtATime(t *testing.T) {
	h := start(t, nil)
	began, end := make(chan struct{}), make(chan struct{})
	h.desk.verifying = func() {
		began <- struct{}{}
		<-end
	}
	c, _ := h.role(broker.RoleAuditor)
	done := make(chan int)
	go func() { done <- h.do(c, "POST", "/v1/history/verify", "{}").StatusCode }()
	<-began
	second, _ := h.role(broker.RoleAuditor)
	got := h.do(second, "POST", "/v1/history/verify", "{}")
	if got.problem.Code != "request.overloaded" || got.Header.Get("Retry-After") == "" {
		t.Errorf("a second one: %d %q", got.StatusCode, got.problem.Code)
	}
	go func() { done <- h.do(h.operator(), "POST", "/v1/history/verify", "{}").StatusCode }()
	<-began // the socket may
	close(end)
	for range 2 {
		if status := <-done; status != 200 {
			t.Errorf("status %d", status)
		}
	}
	h.desk.verifying = nil
	if got := h.do(c, "POST", "/v1/history/verify", "{}"); got.StatusCode != 200 {
		t.Errorf("afterwards %d", got.StatusCode)
	}
}

// TestRolesFillTheirLaneNotTheSockets: whoever stole a certificate cannot keep
// the socket from revoking it.
func TestRolesFillTheirLaneNotTheSockets(t *testing.T) {
	h := start(t, func(c *server.Config) { c.Limits.MaxRequests = 1 })
	began, end := make(chan struct{}), make(chan struct{})
	h.desk.verifying = func() {
		close(began)
		<-end
	}
	c, _ := h.role(broker.RoleOperator)
	done := make(chan int)
	go func() { done <- h.do(c, "POST", "/v1/history/verify", "{}").StatusCode }()
	<-began
	if got := h.do(c, "GET", "/v1/nodes", ""); got.problem.Code != "request.overloaded" {
		t.Errorf("a second request of the lane: %d %q", got.StatusCode, got.problem.Code)
	}
	if got := h.do(h.operator(), "POST", "/v1/operators/alice/revoke", "{}"); got.StatusCode != 200 {
		t.Errorf("the socket revokes: %d %q", got.StatusCode, got.problem.Code)
	}
	if got := h.do(h.client(h.ca.node(t, nodeID)), "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
		t.Errorf("a node: %d %q", got.StatusCode, got.problem.Code)
	}
	if got := h.do(h.client(nil), "GET", "/healthz/live", ""); got.StatusCode != 200 {
		t.Errorf("a stranger: %d %q", got.StatusCode, got.problem.Code)
	}
	close(end)
	if status := <-done; status != 200 {
		t.Errorf("status %d", status)
	}
}

// TestRefusalsOfRolesAreSampled: a stolen certificate does not fill the log.
func TestRefusalsOfRolesAreSampled(t *testing.T) {
	h := start(t, func(c *server.Config) { c.Limits.Operator = server.Rate{PerSecond: 0.1, Burst: 1} })
	c, _ := h.role(broker.RoleOperator)
	for range 150 {
		h.do(c, "GET", "/v1/nodes", "")
	}
	if n := strings.Count(h.logs.String(), `"code":"request.rate_limited"`); n == 0 || n > 100 {
		t.Errorf("%d lines of 149 refusals", n)
	}
}

// TestWithoutOperatorTheirRoutesAreNotThere: nothing to lead to, nothing mounted.
func TestWithoutOperatorTheirRoutesAreNotThere(t *testing.T) {
	h := start(t, func(c *server.Config) { c.Operator, c.AdminSocket = nil, "" })
	for _, r := range server.Routes() {
		if r.Role != "auditor" && r.Role != "operator" && r.Role != "admin" {
			continue
		}
		path, body := example(r)
		if got := h.do(h.client(nil), r.Method, path, body); got.problem.Code != "request.not_found" {
			t.Errorf("%s %s: %d %q", r.Method, r.Path, got.StatusCode, got.problem.Code)
		}
	}
	if got := h.do(h.client(roleCert(t, nil)), "GET", "/healthz/live", ""); got.problem.Code != "auth.invalid" {
		t.Errorf("a role certificate: %q", got.problem.Code)
	}
}

func TestOperatorsRoutesPassTheirArguments(t *testing.T) {
	h := start(t, nil)
	c := h.operator()
	if got := h.do(c, "POST", "/v1/operators", `{"name":"alice","role":"operator","spki":"AA","ttl_seconds":60}`); got.StatusCode != 201 {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
	if got := strings.Join(h.desk.args, " "); got != "alice operator" {
		t.Errorf("add got %q", got)
	}
	h.do(c, "POST", "/v1/operators/alice/revoke", `{"note":"left"}`)
	if got := strings.Join(h.desk.args, " "); got != "alice left" {
		t.Errorf("revoke got %q", got)
	}
	for path, want := range map[string]string{
		"/v1/operators/Alice/revoke":                           "request.not_found",
		"/v1/operators/a%2fb/revoke":                           "request.not_found",
		"/v1/operators/" + strings.Repeat("a", 64) + "/revoke": "request.not_found",
	} {
		if got := h.do(c, "POST", path, "{}"); got.problem.Code != want {
			t.Errorf("%s: %d %q", path, got.StatusCode, got.problem.Code)
		}
	}
}
