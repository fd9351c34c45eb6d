package test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
)

// zoneWithWorkloads hands SVIDs to a workload of the host.
const zoneWithWorkloads = labZone + `workloads: [{name: web, uid: 1001}]
`

// contractRoute is a route as the broker's own contract tells it.
type contractRoute struct{ method, path, role string }

// contractOf reads the routes and their roles from /openapi.json.
func contractOf(t *testing.T, ask func(method, path, body string) (int, []byte)) []contractRoute {
	t.Helper()
	_, text := ask("GET", "/openapi.json", "")
	var doc struct {
		Paths map[string]map[string]struct {
			Role string `json:"x-role"`
		}
	}
	must(t, json.Unmarshal(text, &doc))
	var out []contractRoute
	for path, methods := range doc.Paths {
		for method, op := range methods {
			out = append(out, contractRoute{strings.ToUpper(method), path, op.Role})
		}
	}
	slices.SortFunc(out, func(a, b contractRoute) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	if len(out) < 30 {
		t.Fatalf("only %d routes in the contract", len(out))
	}
	return out
}

// caller is one kind of who asks.
type caller struct {
	name   string
	client *http.Client
	base   string
	want   map[string]string // role of a route -> code of the refusal, "" for let through
}

func (c caller) ask(t *testing.T, method, path, body string) (int, []byte) {
	t.Helper()
	for {
		req, err := http.NewRequestWithContext(t.Context(), method, c.base+path, strings.NewReader(body))
		must(t, err)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		res, err := c.client.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		text, err := io.ReadAll(res.Body)
		must(t, err)
		must(t, res.Body.Close())
		if res.StatusCode != http.StatusTooManyRequests {
			return res.StatusCode, text
		}
		time.Sleep(50 * time.Millisecond) // documents are 20 a second of one address
	}
}

// showing makes a client that shows a certificate, nil for none. Which broker
// answers is not what these tests are about.
func showing(t *testing.T, cert *tls.Certificate) *http.Client {
	t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	if cert != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func throughSocket(t *testing.T, path string) *http.Client {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// addRole makes a credential by the command and reads its certificate.
func (p *replica) addRole(t *testing.T, name, role, ttl string) (file string, cert *tls.Certificate) {
	t.Helper()
	file = filepath.Join(t.TempDir(), name+".pem")
	p.cluster.rig.run(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "operator", "add", name, "--role", role, "--ttl", ttl, "-o", file)
	pair, err := tls.LoadX509KeyPair(file, file)
	must(t, err)
	return file, &pair
}

// enrolled enrols a host and returns its node SVID as a client certificate.
func enrolledNode(t *testing.T, p *replica) (node string, cert *tls.Certificate) {
	t.Helper()
	h := newHost(t, p.cluster.rig)
	h.admit(p)
	r := h.raw(p)
	res := r.enrol()
	cert = &tls.Certificate{PrivateKey: r.key}
	for _, der := range res.Chain {
		cert.Certificate = append(cert.Certificate, der)
	}
	return res.Node, cert
}

// workloadOf gets the SVID of workload web over a node's.
func workloadOf(t *testing.T, p *replica, node *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(t, err)
	body, err := api.Encode(api.SVIDRequest{Workload: "web", CSR: csr})
	must(t, err)
	status, text := caller{client: showing(t, node), base: p.url}.ask(t, "POST", "/v1/svid", string(body))
	var res api.SVIDResponse
	if err := json.Unmarshal(text, &res); err != nil || status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	cert := &tls.Certificate{PrivateKey: key}
	for _, der := range res.Chain {
		cert.Certificate = append(cert.Certificate, der)
	}
	return cert
}

func selfSigned(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "alice"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func wants(anyone, agents, node, auditor, operator, admin string) map[string]string {
	return map[string]string{"anyone": anyone, "agents": agents, "node": node, "auditor": auditor, "operator": operator, "admin": admin}
}

// TestT56_EveryRouteAndEveryCaller asks every route of the contract that a
// broker serves, as every kind of caller, with certificates that its own
// commands and routes handed out.
func TestT56_EveryRouteAndEveryCaller(t *testing.T) {
	c := newCluster(t, zoneWithWorkloads)
	// All callers of this test have one address.
	c.append(t, "zonebroker.yaml", "limits: {per_address: {per_second: 1000, burst: 1000}}\n")
	p, other := c.start(t), c.start(t)
	node, cert := enrolledNode(t, p)
	_, cert2 := enrolledNode(t, p)
	_, auditor := p.addRole(t, "audit", "auditor", "1h")
	_, operator := p.addRole(t, "alice", "operator", "1h")
	_, revoked := p.addRole(t, "mallory", "operator", "1h")
	_, expired := p.addRole(t, "brief", "operator", "1s")
	p.ctl(t, nil, "operator", "revoke", "mallory")
	const required, forbidden, invalid, missing = "auth.required", "auth.forbidden", "auth.invalid", "request.not_found"
	nobody := wants(invalid, invalid, invalid, invalid, invalid, invalid)
	asNode := wants("", "", "", forbidden, forbidden, missing)
	callers := []caller{
		{"anonymous", showing(t, nil), p.url, wants("", "", required, required, required, missing)},
		{"garbage_certificate", showing(t, selfSigned(t)), p.url, nobody},
		{"agent", showing(t, cert), p.url, asNode},
		{"other_agent", showing(t, cert2), p.url, asNode},
		{"workload", showing(t, workloadOf(t, p, cert)), p.url, nobody},
		{"auditor", showing(t, auditor), p.url, wants("", forbidden, forbidden, "", forbidden, missing)},
		{"operator", showing(t, operator), p.url, wants("", forbidden, forbidden, "", "", missing)},
		{"revoked_operator", showing(t, revoked), p.url, nobody},
		{"expired_operator", showing(t, expired), p.url, nobody},
		{"auditor_at_another_replica", showing(t, auditor), other.url, wants("", forbidden, forbidden, "", forbidden, missing)},
		{"revoked_at_another_replica", showing(t, revoked), other.url, nobody},
		{"admin_socket", throughSocket(t, filepath.Join(p.dir, "run", "admin.sock")), "http://admin", wants("", missing, missing, "", "", "")},
	}
	time.Sleep(2 * time.Second) // the shortest role ends, and the other replica reads
	routes := contractOf(t, func(m, path, body string) (int, []byte) { return callers[0].ask(t, m, path, body) })
	for _, who := range callers {
		t.Run(who.name, func(t *testing.T) {
			for _, rt := range routes {
				askRoute(t, who, rt, node)
			}
		})
	}
	var list []api.Operator
	p.ctl(t, &list, "operator", "list")
	got := map[string]string{}
	for _, o := range list {
		got[o.Name] = o.Role + " " + o.Status
	}
	for name, want := range map[string]string{"audit": "auditor active", "alice": "operator active", "mallory": "operator revoked", "brief": "operator expired"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	var v api.Verification
	p.ctl(t, &v, "history", "verify")
	if !v.OK {
		t.Errorf("history: %v", v.Problems)
	}
}

// askRoute asks with a body of the right form that does nothing: what is judged
// is whether the caller gets past the door.
func askRoute(t *testing.T, who caller, rt contractRoute, node string) {
	t.Helper()
	path := strings.NewReplacer("{code}", "auth.invalid", "{name}", "nobody").Replace(rt.path)
	if strings.HasPrefix(path, "/v1/history/") {
		path = strings.ReplaceAll(path, "{id}", "00000000-0000-7000-8000-000000000000")
	}
	path = strings.ReplaceAll(path, "{id}", strings.Repeat("a", len(node))) // a node that nobody knows
	body := ""
	if rt.method == "POST" {
		body = `{"note":7}` // refused by form, past the door
		if rt.path == "/v1/history/verify" {
			body = "{}"
		}
	}
	status, text := who.ask(t, rt.method, path, body)
	var p api.Problem
	if status >= 400 {
		_ = json.Unmarshal(text, &p)
	}
	door := p.Code == "request.not_found" && p.Detail == "no such path" || p.Code == "request.method" || strings.HasPrefix(p.Code, "auth.")
	want := who.want[rt.role]
	if want == "request.not_found" && rt.path == "/v1/operators" {
		want = "request.method" // the list of operators has the same path
	}
	switch {
	case want == "" && (door || status >= 500 && p.Code != "store.unavailable"):
		t.Errorf("%s %s: %d %s %s, want an answer", rt.method, rt.path, status, p.Code, p.Detail)
	case want != "" && p.Code != want:
		t.Errorf("%s %s: %d %q %s, want %s", rt.method, rt.path, status, p.Code, p.Detail, want)
	}
}

// TestRoleOfSomebodyElsewhere walks the README's way of an auditor: a file, and
// nothing else of the broker's machine.
func TestRoleOfSomebodyElsewhere(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	node, _ := enrolledNode(t, p)
	audit, _ := p.addRole(t, "audit", "auditor", "1h")
	alice, _ := p.addRole(t, "alice", "operator", "1h")
	as := func(file string, args ...string) (string, string, int) {
		return c.rig.try(t, []string{"ZONEBROKER_DIR=", "ZONEBROKER_CREDENTIAL=" + file}, "zonebroker", args...)
	}
	if out, errOut, code := as(audit, "node", "list", "-o", "json"); code != 0 || !strings.Contains(out, node) {
		t.Errorf("node list: %d\n%s%s", code, out, errOut)
	}
	if _, errOut, code := as(audit, "history", "verify"); code != 0 {
		t.Errorf("history verify: %d\n%s", code, errOut)
	}
	if _, errOut, code := as(audit, "node", "disable", node); code != 3 || !strings.Contains(errOut, "auth.forbidden") {
		t.Errorf("an auditor disables: %d\n%s", code, errOut)
	}
	if _, errOut, code := as(alice, "node", "disable", node, "--note", "from elsewhere"); code != 0 {
		t.Errorf("an operator disables: %d\n%s", code, errOut)
	}
	var page []api.Entry
	p.ctl(t, &page, "history", "list", "--type", "node.disabled")
	if len(page) != 1 {
		t.Fatalf("%d records of it", len(page))
	}
	var entry struct {
		Body struct{ By, Note string }
	}
	p.ctl(t, &entry, "history", "show", page[0].ID)
	if entry.Body.By != "operator:alice" || entry.Body.Note != "from elsewhere" {
		t.Errorf("recorded %+v", entry.Body)
	}
	if info, err := os.Stat(alice); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the credential has mode %v, %v", info.Mode(), err)
	}
	p.ctl(t, nil, "operator", "revoke", "alice", "--note", "left")
	if _, errOut, code := as(alice, "node", "list"); code != 3 || !strings.Contains(errOut, "auth.invalid") {
		t.Errorf("after it was revoked: %d\n%s", code, errOut)
	}
}
