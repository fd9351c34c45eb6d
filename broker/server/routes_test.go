package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// example fills in a path and a body that pass the form checks.
func example(r server.RouteInfo) (path, body string) {
	path = strings.NewReplacer("{code}", "request.malformed", "{name}", "alice", "{serial}", serial).Replace(r.Path)
	if strings.HasPrefix(path, "/v1/history/") {
		path = strings.ReplaceAll(path, "{id}", recordID)
	}
	if strings.HasPrefix(path, "/v1/admissions/") {
		path = strings.ReplaceAll(path, "{id}", ekHash)
	}
	if strings.HasPrefix(path, "/v1/holds/") {
		path = strings.ReplaceAll(path, "{id}", recordID)
	}
	path = strings.ReplaceAll(path, "{id}", nodeID)
	switch r.Path {
	case "/v1/retention":
		body = `{"document":"kind: Retention"}`
	case "/v1/holds":
		body = `{"zone":"payments","reason":"case 12"}`
	case "/v1/nodes/{id}/erase":
		body = `{"reason":"request 7"}`
	case "/v1/challenge":
		body = renewal
	case "/v1/attest":
		body = attestation
	case "/v1/admissions":
		body = `{"ek_hashes":["` + ekHash + `"]}`
	case "/v1/operators":
		body = `{"name":"alice","role":"auditor","spki":"AA"}`
	case "/v1/svid":
		body = `{"workload":"web","csr":"AA"}`
	case "/v1/jwt":
		body = `{"audience":"https://db.test"}`
	case "/v1/unseen":
		path += "?since=2026-11-01T00:00:00Z"
	case "/v1/drift/baseline":
		path += "?by=model"
	case "/v1/inventory":
		body = `{"csv":"machine,model,site,ek_sha256\nm,,,\n"}`
	case "/v1/population":
		path += "?fact=pcr.4"
	default:
		body = "{}"
	}
	if r.Method == "GET" {
		body = ""
	}
	return path, body
}

// kinds of callers, and what each of them gets at a route of each role; "" is an
// answer.
var kinds = []struct {
	name                                           string
	anyone, agents, node, auditor, operator, admin reason.Code
}{
	{"anonymous", "", "", reason.AuthRequired, reason.AuthRequired, reason.AuthRequired, reason.RequestNotFound},
	{"garbage_certificate", bad, bad, bad, bad, bad, bad},
	{"agent", "", "", "", reason.AuthForbidden, reason.AuthForbidden, reason.RequestNotFound},
	{"agent_of_a_foreign_CA", bad, bad, bad, bad, bad, bad},
	{"workload", bad, bad, bad, bad, bad, bad},
	{"auditor", "", reason.AuthForbidden, reason.AuthForbidden, "", reason.AuthForbidden, reason.RequestNotFound},
	{"operator", "", reason.AuthForbidden, reason.AuthForbidden, "", "", reason.RequestNotFound},
	{"revoked_operator", bad, bad, bad, bad, bad, bad},
	{"operator_past_its_certificate", bad, bad, bad, bad, bad, bad},
	{"operator_nobody_can_tell_of", reason.StoreUnavailable, reason.StoreUnavailable, reason.StoreUnavailable, reason.StoreUnavailable, reason.StoreUnavailable, reason.StoreUnavailable},
	{"admin_socket", "", reason.RequestNotFound, reason.RequestNotFound, "", "", ""},
	{"another_uid_on_the_socket", no, no, no, no, no, no},
}

const (
	bad = reason.AuthInvalid
	no  = reason.AuthForbidden
)

// clientOf makes a client of one of the kinds.
func clientOf(t *testing.T, h *harness, kind string) *http.Client {
	t.Helper()
	role := func(r broker.Role, change func(*x509.Certificate), err error) *http.Client {
		cert := roleCert(t, change)
		h.desk.give(cert, "alice", r, err)
		return h.client(cert)
	}
	switch kind {
	case "anonymous":
		return h.client(nil)
	case "garbage_certificate":
		return h.client(roleCert(t, nil))
	case "agent":
		return h.client(h.ca.node(t, nodeID))
	case "agent_of_a_foreign_CA":
		return h.client(newAuthority(t, trustDomain).node(t, nodeID))
	case "workload":
		return h.client(h.ca.svid(t, "spiffe://"+trustDomain+"/zone/z/workload/w", nil))
	case "auditor":
		return role(broker.RoleAuditor, nil, nil)
	case "operator":
		return role(broker.RoleOperator, nil, nil)
	case "revoked_operator":
		return role(broker.RoleOperator, nil, reason.New(reason.AuthInvalid, "revoked"))
	case "operator_past_its_certificate":
		return role(broker.RoleOperator, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }, nil)
	case "operator_nobody_can_tell_of":
		return role(broker.RoleOperator, nil, reason.New(reason.StoreUnavailable, "stale"))
	case "another_uid_on_the_socket":
		h.LetOperate(func(int64) bool { return false })
	}
	return h.operator()
}

// TestT56_EveryRouteAndCaller: who may ask for what, for the whole table.
func TestT56_EveryRouteAndCaller(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			h := start(t, nil)
			client := clientOf(t, h, k.name)
			want := map[string]reason.Code{
				"anyone": k.anyone, "agents": k.agents, "node": k.node, "auditor": k.auditor, "operator": k.operator, "admin": k.admin,
			}
			for _, r := range server.Routes() {
				askAs(t, h, client, r, want[r.Role])
			}
		})
	}
}

func askAs(t *testing.T, h *harness, client *http.Client, r server.RouteInfo, want reason.Code) {
	t.Helper()
	at := r.Method + " " + r.Path
	path, body := example(r)
	got := h.do(client, r.Method, path, body)
	if want == reason.RequestNotFound && r.Path == "/v1/operators" {
		want = reason.RequestMethod // the list has the same path, and is on TCP
	}
	if got.problem.Code != string(want) || want == "" && got.StatusCode >= 300 {
		t.Errorf("%s: status %d, code %q, want %q\n%s", at, got.StatusCode, got.problem.Code, want, got.text)
	}
	if want != "" && got.StatusCode != reason.Lookup(want).HTTP {
		t.Errorf("%s: status %d with %s", at, got.StatusCode, want)
	}
	if got.Header.Get("X-Request-Id") == "" || got.problem.Code != "" && got.problem.RequestID != got.Header.Get("X-Request-Id") {
		t.Errorf("%s: request id %q in the header, %q in the problem", at, got.Header.Get("X-Request-Id"), got.problem.RequestID)
	}
}

// TestRoutesAndContractAgree: a route that only one of them has is either
// undocumented or a lie.
func TestRoutesAndContractAgree(t *testing.T) {
	router, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	text := string(api.OpenAPI())
	n := strings.Count(text, "operationId:")
	if n != len(server.Routes()) {
		t.Errorf("%d operations in the contract, %d routes", n, len(server.Routes()))
	}
	for _, r := range server.Routes() {
		path, _ := example(r)
		req, _ := http.NewRequest(r.Method, "https://broker"+path, nil)
		route, _, err := router.FindRoute(req)
		if err != nil || route.Path != r.Path {
			t.Errorf("%s %s is not in the contract: %v", r.Method, r.Path, err)
			continue
		}
		if role := route.Operation.Extensions["x-role"]; role != r.Role {
			t.Errorf("%s %s is for %v in the contract, for %s in the table", r.Method, r.Path, role, r.Role)
		}
		if (r.Method == "POST") != (r.Body > 0) {
			t.Errorf("%s %s takes a body of %d bytes", r.Method, r.Path, r.Body)
		}
	}
}

func TestUnknownPathMethodAndForm(t *testing.T) {
	h := start(t, nil)
	stranger, operator := h.client(nil), h.operator()
	small := "{" + strings.Repeat(" ", 64<<10) + "}"
	plain := func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }
	latin := func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=latin1") }
	zipped := func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }
	none := func(r *http.Request) { r.Header.Del("Content-Type") }
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	tests := []struct {
		name, method, path, body string
		client                   *http.Client
		change                   func(*http.Request)
		want                     reason.Code
	}{
		{"unknown_path", "GET", "/admin", "", stranger, nil, reason.RequestNotFound},
		{"unknown_path_on_the_socket", "GET", "/admin", "", operator, nil, reason.RequestNotFound},
		{"trailing_slash", "POST", "/v1/challenge/", renewal, stranger, nil, reason.RequestNotFound},
		{"double_slash", "POST", "//v1/challenge", renewal, stranger, nil, reason.RequestNotFound},
		{"path_in_upper_case", "POST", "/V1/challenge", renewal, stranger, nil, reason.RequestNotFound},
		{"T49_dots_do_not_climb", "GET", "/problems/../v1/nodes", "", stranger, nil, reason.RequestNotFound},
		{"get_instead_of_post", "GET", "/v1/challenge", "", stranger, nil, reason.RequestMethod},
		{"post_instead_of_get", "POST", "/spiffe/bundle.json", "{}", stranger, nil, reason.RequestMethod},
		{"delete_a_node", "DELETE", "/v1/nodes/" + nodeID, "", operator, nil, reason.RequestMethod},
		{"wrong_content_type", "POST", "/v1/challenge", renewal, stranger, plain, reason.RequestMalformed},
		{"wrong_charset", "POST", "/v1/challenge", renewal, stranger, latin, reason.RequestMalformed},
		{"no_content_type", "POST", "/v1/challenge", renewal, stranger, none, reason.RequestMalformed},
		{"compressed", "POST", "/v1/challenge", renewal, stranger, zipped, reason.RequestMalformed},
		{"body_on_get", "GET", "/spiffe/bundle.json", "{}", stranger, nil, reason.RequestMalformed},
		{"tpm-6_body_above_cap", "POST", "/v1/challenge", small, stranger, nil, reason.RequestTooLarge},
		{"tpm-6_body_above_cap_without_length", "POST", "/v1/challenge", small, stranger, chunked, reason.RequestTooLarge},
		{"tpm-6_attest_body_above_cap", "POST", "/v1/attest", "{" + strings.Repeat(" ", api.MaxBody) + "}", stranger, nil, reason.RequestTooLarge},
		{"tpm-97_not_JSON", "POST", "/v1/challenge", "<xml>", stranger, nil, reason.RequestMalformed},
		{"tpm-97_unknown_member", "POST", "/v1/challenge", `{"format":"tpm2","node":"x"}`, stranger, nil, reason.RequestMalformed},
		{"tpm-97_invalid_by_rule", "POST", "/v1/challenge", `{"format":"tpm2","purpose":"renew"}`, stranger, nil, reason.RequestMalformed},
		{"unknown_query_parameter", "GET", "/v1/history?verdct=deny", "", operator, nil, reason.RequestMalformed},
		{"query_parameter_twice", "GET", "/v1/history?zone=a&zone=b", "", operator, nil, reason.RequestMalformed},
		{"query_limit_above_500", "GET", "/v1/nodes?limit=501", "", operator, nil, reason.RequestMalformed},
		{"query_limit_zero", "GET", "/v1/nodes?limit=0", "", operator, nil, reason.RequestMalformed},
		{"query_cursor_of_another_form", "GET", "/v1/nodes?cursor=1", "", operator, nil, reason.RequestMalformed},
		{"query_time_without_zone", "GET", "/v1/history?since=2026-01-01", "", operator, nil, reason.RequestMalformed},
		{"query_escape", "GET", "/v1/history?zone=%zz", "", operator, nil, reason.RequestMalformed},
		{"query_attestation_of_another_form", "GET", "/v1/nodes/" + nodeID + "/reference?attestation=last", "", operator, nil, reason.RequestMalformed},
		{"id_of_another_form", "GET", "/v1/nodes/1", "", operator, nil, reason.RequestNotFound},
		{"id_of_a_record_in_upper_case", "GET", "/v1/history/" + strings.ToUpper(recordID), "", operator, nil, reason.RequestNotFound},
		{"ek_hash_where_a_node_is_needed", "POST", "/v1/nodes/" + ekHash + "/disable", "{}", operator, nil, reason.RequestNotFound},
		{"unknown_code", "GET", "/problems/no.such_code", "", stranger, nil, reason.RequestNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			change := tt.change
			if change == nil {
				change = func(*http.Request) {}
			}
			got := h.do(tt.client, tt.method, tt.path, tt.body, change)
			if got.problem.Code != string(tt.want) || got.StatusCode != reason.Lookup(tt.want).HTTP {
				t.Errorf("%d %q, want %q\n%s", got.StatusCode, got.problem.Code, tt.want, got.text)
			}
			if tt.want == reason.RequestMethod && got.Header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
		})
	}
	if free := h.InWork(); !free {
		t.Error("a refused request keeps its slot or its bytes")
	}
}

func TestOperatorRoutesPassTheirArguments(t *testing.T) {
	h := start(t, nil)
	c := h.operator()
	h.do(c, "POST", "/v1/nodes/"+ekHash+"/approve", `{"note":"ok"}`)
	if got := strings.Join(h.desk.args, " "); got != ekHash+" ok" {
		t.Errorf("approve got %q", got)
	}
	if op := h.desk.caller.Operator; !strings.HasPrefix(op, "uid:") {
		t.Errorf("operator is %q", op)
	}
	h.do(c, "GET", "/v1/history?node="+nodeID+"&zone=z&verdict=deny&type=node.approved&since=2026-11-01T00:00:00Z&until=2026-12-01T00:00:00%2B01:00&cursor=7&limit=500", "")
	q := h.desk.query
	if q.Node != nodeID || q.Zone != "z" || q.Verdict != "deny" || q.Type != "node.approved" || q.Cursor != "7" || q.Limit != 500 ||
		q.Since.Unix() != 1793491200 || q.Until.IsZero() {
		t.Errorf("history got %+v", q)
	}
	h.do(c, "GET", "/v1/nodes/"+nodeID+"/reference?attestation="+recordID, "")
	if got := strings.Join(h.desk.args, " "); got != nodeID+" "+recordID {
		t.Errorf("reference got %q", got)
	}
	got := h.do(c, "POST", "/v1/admissions", `{"ek_hashes":["`+ekHash+`"]}`)
	if got.StatusCode != 201 {
		t.Errorf("admission answers %d", got.StatusCode)
	}
	h.desk.err = reason.New(reason.RequestNotFound, "no such node")
	if got := h.do(c, "GET", "/v1/nodes/"+nodeID, ""); got.problem.Code != "request.not_found" || got.problem.Detail != "no such node" {
		t.Errorf("%+v", got.problem)
	}
}

func TestDocuments(t *testing.T) {
	h := start(t, nil)
	c := h.client(nil)
	t.Run("bundle_with_etag", func(t *testing.T) {
		first := h.do(c, "GET", "/spiffe/bundle.json", "")
		tag := first.Header.Get("ETag")
		if tag == "" || !strings.Contains(first.text, "x509-svid") {
			t.Fatalf("%q %s", tag, first.text)
		}
		again := h.do(c, "GET", "/spiffe/bundle.json", "", func(r *http.Request) { r.Header.Set("If-None-Match", tag) })
		if again.StatusCode != 304 || again.text != "" {
			t.Errorf("%d %q", again.StatusCode, again.text)
		}
	})
	t.Run("checkpoint", func(t *testing.T) {
		if got := h.do(c, "GET", "/v1/log/checkpoint", ""); got.text != h.pipeline.note {
			t.Errorf("%q", got.text)
		}
		h.pipeline.note = ""
		if got := h.do(c, "GET", "/v1/log/checkpoint", ""); got.problem.Code != "request.not_found" {
			t.Errorf("%d before the first checkpoint", got.StatusCode)
		}
	})
	t.Run("every_code_has_a_page", func(t *testing.T) {
		h := start(t, func(c *server.Config) { c.Limits.Documents = server.Rate{PerSecond: 1e6, Burst: 1e6} })
		c := h.client(nil)
		for _, info := range reason.All() {
			got := h.do(c, "GET", api.ProblemPath+string(info.Code), "")
			if got.StatusCode != 200 || !strings.Contains(got.text, "<code>"+string(info.Code)+"</code>") {
				t.Errorf("%s: %d", info.Code, got.StatusCode)
			}
		}
	})
	t.Run("contract", func(t *testing.T) {
		if got := h.do(c, "GET", "/openapi.json", ""); !strings.Contains(got.text, `"openapi": "3.1.0"`) {
			t.Error(got.text[:100])
		}
		if got := h.do(c, "GET", "/openapi.yaml", ""); got.text != string(api.OpenAPI()) {
			t.Error("not the contract")
		}
	})
	t.Run("metrics_only_for_operators", func(t *testing.T) {
		got := h.do(h.operator(), "GET", "/metrics", "")
		if !strings.Contains(got.text, `zonebroker_http_requests_total{code="ok",route="/spiffe/bundle.json"}`) {
			t.Error(got.text)
		}
		if strings.Contains(got.text, "127.0.0.1") || strings.Contains(got.text, nodeID) {
			t.Error("metrics name an address or a node")
		}
	})
}

func TestHealth(t *testing.T) {
	h := start(t, nil)
	c := h.client(nil)
	for range 20 {
		if got := h.do(c, "GET", "/healthz/ready", ""); got.StatusCode != 200 {
			t.Fatalf("%d %s", got.StatusCode, got.text)
		}
	}
	h.pipeline.mu.Lock()
	if h.pipeline.seen > 3 {
		t.Errorf("20 probes of a stranger cost %d checks", h.pipeline.seen)
	}
	h.pipeline.mu.Unlock()

	sick := start(t, nil)
	sick.pipeline.health = "failing"
	got := sick.do(sick.client(nil), "GET", "/healthz/ready", "")
	if got.StatusCode != 503 || strings.Contains(got.text, "store") {
		t.Errorf("%d %s", got.StatusCode, got.text)
	}
	if got := sick.do(sick.client(nil), "GET", "/healthz/live", ""); got.StatusCode != 200 {
		t.Errorf("live is %d", got.StatusCode)
	}
	if got := sick.do(sick.operator(), "GET", "/v1/health", ""); !strings.Contains(got.text, `"store"`) {
		t.Errorf("operators see %s", got.text)
	}
}

func TestOnlyTLS13(t *testing.T) {
	h := start(t, nil)
	_, err := tls.Dial("tcp", h.Addr(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		t.Error("TLS 1.2 was accepted")
	}
	if got := h.do(h.client(nil), "GET", "/healthz/live", ""); got.ProtoMajor != 2 {
		t.Errorf("protocol %s", got.Proto)
	}
}
