// Package metadatatest stands in for the metadata services of clouds: servers that
// insist on what the real ones insist on, and answer what a test puts into them.
// What a real service answers beyond its documentation they do not know.
package metadatatest

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Answer makes the body for a request that was asked as the platform wants it. An
// empty one is 404.
type Answer func(r *http.Request) string

// Text always answers the same.
func Text(text string) Answer { return func(*http.Request) string { return text } }

// Server is a metadata service.
type Server struct {
	// URL is for --metadata.
	URL string

	mu     sync.Mutex
	asked  []string
	tokens int
}

// Asked lists method and path of each request so far.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// Tokens is how many tokens of IMDSv2 were given out.
func (s *Server) Tokens() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens
}

func (s *Server) serve(t testing.TB, h http.Handler) *Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.Method+" "+r.URL.Path)
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

func reply(w http.ResponseWriter, r *http.Request, answers map[string]Answer) {
	answer := answers[r.URL.Path]
	if answer == nil {
		http.NotFound(w, r)
		return
	}
	body := answer(r)
	if body == "" {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write([]byte(body)) // to a client that may have gone
}

// AWS insists on a token that was got with PUT (IMDSv2).
func AWS(t testing.TB, answers map[string]Answer) *Server {
	s := &Server{}
	const token = "AQAEAFakeTokenOfATestServer=="
	return s.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/latest/api/token" {
			if r.Method != http.MethodPut || r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "" {
				http.Error(w, "", http.StatusBadRequest)
				return
			}
			s.mu.Lock()
			s.tokens++
			s.mu.Unlock()
			_, _ = w.Write([]byte(token))
			return
		}
		if r.Header.Get("X-aws-ec2-metadata-token") != token {
			http.Error(w, "", http.StatusUnauthorized)
			return
		}
		reply(w, r, answers)
	}))
}

// Google insists on its header, and sends it back.
func Google(t testing.TB, answers map[string]Answer) *Server {
	all := map[string]Answer{"/computeMetadata/v1/instance/id": Text("1234567890123456789")}
	for path, a := range answers {
		all[path] = a
	}
	return (&Server{}).serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		if r.Header.Get("Metadata-Flavor") != "Google" || r.Host != "metadata.google.internal" {
			http.Error(w, "", http.StatusForbidden)
			return
		}
		reply(w, r, all)
	}))
}

// Azure insists on its header and on a version.
func Azure(t testing.TB, answers map[string]Answer) *Server {
	all := map[string]Answer{"/metadata/instance/compute/vmId": Text("6dd27ba3-3da9-4ebd-a11d-6a0b5ee1d2b1")}
	for path, a := range answers {
		all[path] = a
	}
	return (&Server{}).serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		versionless := r.URL.Path == "/metadata/THIM/amd/certification" || r.URL.Path == "/acc/tdquote"
		if r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "" || !versionless && r.URL.Query().Get("api-version") == "" {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		reply(w, r, all)
	}))
}
