// Package clustertest stands in for the API server of a Kubernetes cluster where a
// pod asks it for a token: it insists on what the API reference says of
// TokenRequest, over TLS of its own CA, and signs with a test key. What a real
// server answers beyond its documentation it does not know.
package clustertest

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// Server is an API server with the account payments/agent and its pod agent-x7,
// those of documenttest.PSATClaims.
type Server struct {
	// Address is host:port.
	Address string
	// Account is the folder that the pod has its account in.
	Account string

	key *documenttest.JWTKey
	now func() time.Time

	mu    sync.Mutex
	asked []string
	token string
	deny  bool
}

const path = "/api/v1/namespaces/payments/serviceaccounts/agent/token"

// apiAudience is that of the API server's own tokens.
const apiAudience = "https://kubernetes.default.svc"

// New starts one that signs with key. A nil handler is the API; another one answers
// in its place, for what a server should not do.
func New(t testing.TB, key *documenttest.JWTKey, now func() time.Time, handler http.HandlerFunc) *Server {
	t.Helper()
	s := &Server{key: key, now: now, Account: t.TempDir()}
	if handler == nil {
		handler = s.serve
	}
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	s.Address = server.Listener.Addr().String()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(s.Account, "ca.crt"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Rotate(t)
	return s
}

// Claims are those of the pod's own token, for the API server.
func (s *Server) Claims() documenttest.Claims { return documenttest.PSATClaims(apiAudience, s.now()) }

// Rotate gives the pod another token, as the kubelet does; the one before is good no
// more.
func (s *Server) Rotate(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = string(s.key.Token(s.Claims().With(documenttest.Claims{"jti": time.Now().String()})))
	if err := os.WriteFile(filepath.Join(s.Account, "token"), []byte(s.token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Forbid takes the right to ask for tokens away.
func (s *Server) Forbid() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deny = true
}

// Asked lists the audiences that tokens were asked for.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// request is a TokenRequest (API reference, authentication.k8s.io/v1).
type request struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Audiences []string `json:"audiences"`
		Seconds   *int64   `json:"expirationSeconds"`
		Bound     *struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Name       string `json:"name"`
			UID        string `json:"uid"`
		} `json:"boundObjectRef"`
	} `json:"spec"`
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var in request
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	switch err := decoder.Decode(&in); {
	case r.Header.Get("Authorization") != "Bearer "+s.token:
		status(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
	case r.URL.Path != path:
		status(w, http.StatusForbidden, "Forbidden", "not this account")
	case r.Method != http.MethodPost:
		status(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the server does not allow this method on the requested resource")
	case s.deny:
		status(w, http.StatusForbidden, "Forbidden", `serviceaccounts "agent" is forbidden: User "system:serviceaccount:payments:agent" cannot create resource "serviceaccounts/token" in API group "" in the namespace "payments"`)
	case r.Header.Get("Content-Type") != "application/json":
		status(w, http.StatusUnsupportedMediaType, "UnsupportedMediaType", "the body of the request was in an unknown format")
	case err != nil || in.APIVersion != "authentication.k8s.io/v1" || in.Kind != "TokenRequest":
		status(w, http.StatusBadRequest, "BadRequest", "no TokenRequest")
	case in.Spec.Seconds != nil && *in.Spec.Seconds < 600:
		status(w, http.StatusUnprocessableEntity, "Invalid", "spec.expirationSeconds: Invalid value: may not specify a duration less than 10 minutes")
	case in.Spec.Bound == nil || in.Spec.Bound.APIVersion != "v1" || in.Spec.Bound.Kind != "Pod" || in.Spec.Bound.Name != "agent-x7":
		status(w, http.StatusNotFound, "NotFound", "pods not found")
	case in.Spec.Bound.UID != "f9023702-f4ed-4ed9-ab40-bc69142aa9a6":
		status(w, http.StatusConflict, "Conflict", "the UID in the bound object reference does not match the UID in record")
	default:
		s.issue(w, in)
	}
}

func (s *Server) issue(w http.ResponseWriter, in request) {
	claims := documenttest.PSATClaims("", s.now()).With(documenttest.Claims{"aud": in.Spec.Audiences})
	s.asked = append(s.asked, in.Spec.Audiences...)
	reply(w, http.StatusCreated, map[string]any{
		"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
		"metadata": map[string]any{"name": "agent", "namespace": "payments", "creationTimestamp": s.now().UTC().Format(time.RFC3339)},
		"spec":     in.Spec,
		"status": map[string]any{
			"token": string(s.key.Token(claims)), "expirationTimestamp": s.now().Add(10 * time.Minute).UTC().Format(time.RFC3339),
		},
	})
}

// status is the API's form of an error.
func status(w http.ResponseWriter, code int, why, message string) {
	reply(w, code, map[string]any{
		"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Failure", "message": message, "reason": why, "code": code,
	})
}

func reply(w http.ResponseWriter, code int, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		code, raw = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(raw) // a client that went away hears nothing
}
