package server

import (
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// role says who may ask. A route exists only on the listeners of its role: what
// is not mounted cannot be reached by a slip in a check.
type role int

const (
	anyone   role = iota // TCP and the admin socket
	agents               // TCP only: hosts, with or without SVID
	node                 // TCP only: hosts with their SVID
	auditor              // admin socket, or a certificate of role auditor or operator
	operator             // admin socket, or a certificate of role operator
	admin                // admin socket only
)

type listener int

const (
	onTCP listener = iota
	onAdmin
)

func (l listener) has(r role) bool {
	switch r {
	case agents, node:
		return l == onTCP
	case admin:
		return l == onAdmin
	}
	return true
}

type rateClass int

const (
	rateBegin    rateClass = iota // strangers' rate, or the fast lane of a node
	rateAttest                    // the same
	rateIssue                     // rate of later SVIDs of a node
	rateDocument                  // rate of reading
	rateOperator                  // rate of a role certificate; the admin socket has none
)

const (
	smallBody = 16 << 10 // of a request without evidence: a challenge with EK and chain fits into 64 KiB
	quick     = 5 * time.Second
	patient   = 15 * time.Second // an attestation waits for the group commit
	allRows   = 5 * time.Minute  // reading every row of some days
	wholeLog  = 30 * time.Minute // reading the whole history
)

// route is one line of the table: who may ask for what, how much they may send
// and how long it may take.
type route struct {
	method  string
	path    string
	roles   role
	body    int64 // limit in bytes; 0 takes no body
	timeout time.Duration
	rate    rateClass
	handle  handler
}

// handler answers one request: a value for the wire, or an error.
type handler func(s *Server, r *request) (answer, error)

var routes = []route{
	{"POST", "/v1/challenge", agents, 4 * smallBody, quick, rateBegin, (*Server).challenge},
	{"POST", "/v1/attest", agents, api.MaxBody, patient, rateAttest, (*Server).attest},
	{"POST", "/v1/svid", node, smallBody, patient, rateIssue, (*Server).svid},
	{"POST", "/v1/jwt", node, smallBody, patient, rateIssue, (*Server).jwt},
	{"GET", "/spiffe/bundle.json", anyone, 0, quick, rateDocument, (*Server).bundle},
	{"GET", "/.well-known/openid-configuration", anyone, 0, quick, rateDocument, (*Server).openIDConfiguration},
	{"GET", "/oidc/jwks.json", anyone, 0, quick, rateDocument, (*Server).jwks},
	{"GET", "/v1/log/checkpoint", anyone, 0, quick, rateDocument, (*Server).checkpoint},
	{"GET", "/v1/log/retention", anyone, 0, quick, rateDocument, (*Server).retention},
	{"GET", "/healthz/live", anyone, 0, quick, rateDocument, (*Server).live},
	{"GET", "/healthz/ready", anyone, 0, quick, rateDocument, (*Server).readyz},
	{"GET", "/problems/{code}", anyone, 0, quick, rateDocument, (*Server).problemPage},
	{"GET", "/openapi.yaml", anyone, 0, quick, rateDocument, (*Server).contractYAML},
	{"GET", "/openapi.json", anyone, 0, quick, rateDocument, (*Server).contract},

	{"POST", "/v1/admissions", operator, smallBody, patient, rateOperator, (*Server).admit},
	{"POST", "/v1/admissions/{id}/revoke", operator, smallBody, patient, rateOperator, (*Server).revokeAdmission},
	{"GET", "/v1/pending", auditor, 0, quick, rateOperator, (*Server).pending},
	{"POST", "/v1/tokens", operator, smallBody, patient, rateOperator, (*Server).createToken},
	{"GET", "/v1/nodes", auditor, 0, patient, rateOperator, (*Server).nodes},
	{"GET", "/v1/nodes/{id}", auditor, 0, quick, rateOperator, (*Server).node},
	{"POST", "/v1/nodes/{id}/approve", operator, smallBody, patient, rateOperator, (*Server).approve},
	{"POST", "/v1/nodes/{id}/announce", operator, smallBody, patient, rateOperator, (*Server).announce},
	{"POST", "/v1/nodes/{id}/disable", operator, smallBody, patient, rateOperator, (*Server).disable},
	{"GET", "/v1/nodes/{id}/reference", auditor, 0, patient, rateOperator, (*Server).reference},
	{"GET", "/v1/nodes/{id}/timeline", auditor, 0, patient, rateOperator, (*Server).timeline},
	{"GET", "/v1/drift", auditor, 0, patient, rateOperator, (*Server).drift},
	{"GET", "/v1/history", auditor, 0, patient, rateOperator, (*Server).history},
	{"POST", "/v1/history/verify", auditor, smallBody, wholeLog, rateOperator, (*Server).verifyHistory},
	{"GET", "/v1/history/{id}", auditor, 0, patient, rateOperator, (*Server).entry},
	{"GET", "/v1/history/{id}/explanation", auditor, 0, patient, rateOperator, (*Server).explanation},
	{"GET", "/v1/history/{id}/evidence", auditor, 0, patient, rateOperator, (*Server).evidence},
	{"GET", "/v1/members", auditor, 0, patient, rateOperator, (*Server).members},
	{"GET", "/v1/nodes/{id}/as-of", auditor, 0, patient, rateOperator, (*Server).nodeAt},
	{"GET", "/v1/nodes/{id}/intervals", auditor, 0, patient, rateOperator, (*Server).intervals},
	{"GET", "/v1/unseen", auditor, 0, patient, rateOperator, (*Server).unseen},
	{"GET", "/v1/population", auditor, 0, patient, rateOperator, (*Server).population},
	{"GET", "/v1/drift/detections", auditor, 0, patient, rateOperator, (*Server).detections},
	{"GET", "/v1/drift/summary", auditor, 0, patient, rateOperator, (*Server).detectionSummary},
	{"GET", "/v1/drift/baseline", auditor, 0, patient, rateOperator, (*Server).baseline},
	{"GET", "/v1/rates", auditor, 0, patient, rateOperator, (*Server).rates},
	{"GET", "/v1/crosscheck", auditor, 0, allRows, rateOperator, (*Server).crossCheck},
	{"POST", "/v1/inventory", operator, 2 * api.MaxInventory, patient, rateOperator, (*Server).importInventory},
	{"GET", "/v1/inventory/coverage", auditor, 0, patient, rateOperator, (*Server).coverage},
	{"GET", "/v1/svids", auditor, 0, patient, rateOperator, (*Server).svids},
	{"GET", "/v1/svids/{serial}", auditor, 0, patient, rateOperator, (*Server).findSVID},
	{"GET", "/v1/holds", auditor, 0, quick, rateOperator, (*Server).holds},
	{"POST", "/v1/holds", operator, smallBody, patient, rateOperator, (*Server).placeHold},
	{"POST", "/v1/holds/{id}/release", operator, smallBody, patient, rateOperator, (*Server).releaseHold},
	{"POST", "/v1/retention/sweep", operator, smallBody, wholeLog, rateOperator, (*Server).sweep},
	{"GET", "/v1/health", auditor, 0, quick, rateOperator, (*Server).health},
	{"GET", "/metrics", auditor, 0, quick, rateOperator, (*Server).metricsText},
	{"GET", "/v1/operators", auditor, 0, quick, rateOperator, (*Server).operators},

	{"POST", "/v1/retention", admin, smallBody, patient, rateOperator, (*Server).applyRetention},
	{"POST", "/v1/nodes/{id}/erase", admin, smallBody, wholeLog, rateOperator, (*Server).erase},
	{"POST", "/v1/operators", admin, smallBody, patient, rateOperator, (*Server).addOperator},
	{"POST", "/v1/operators/{name}/revoke", admin, smallBody, patient, rateOperator, (*Server).revokeOperator},
}

// unknownPath and wrongMethod run through the same adapter as every route, so
// that probing for routes costs a stranger as much as using one.
var (
	unknownPath = route{
		path: "unknown", timeout: quick, rate: rateDocument,
		handle: func(*Server, *request) (answer, error) {
			return answer{}, reason.New(reason.RequestNotFound, "no such path")
		},
	}
	wrongMethod = route{
		path: "unknown", timeout: quick, rate: rateDocument,
		handle: func(*Server, *request) (answer, error) {
			return answer{}, reason.New(reason.RequestMethod, "the path does not take this method")
		},
	}
)

func (s *Server) router(on listener) http.Handler {
	mux := chi.NewRouter()
	for _, rt := range routes {
		if on.has(rt.roles) && (rt.roles < auditor || s.cfg.Operator != nil) {
			mux.Method(rt.method, rt.path, s.adapt(rt, on))
		}
	}
	mux.NotFound(s.adapt(unknownPath, on).ServeHTTP)
	refuse := s.adapt(wrongMethod, on)
	mux.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allowed(mux, r))
		refuse.ServeHTTP(w, r)
	})
	return mux
}

// allowed lists the methods that a path takes (RFC 9110, section 15.5.6).
func allowed(mux *chi.Mux, r *http.Request) string {
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.Path
	}
	var out []string
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		if mux.Match(chi.NewRouteContext(), m, path) {
			out = append(out, m)
		}
	}
	return strings.Join(out, ", ")
}
