package enrich_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/enrich"
)

// This file is a platform: TLS servers that speak the wire format of the
// documentation, and remember what they were asked.

var now = time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

// call is one request as the platform saw it.
type call struct {
	method, host, target, body string
	header                     http.Header
}

type platform struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

func record(p *platform, handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.calls = append(p.calls, call{r.Method, r.Host, r.URL.RequestURI(), string(body), r.Header.Clone()})
		p.mu.Unlock()
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		handler(w, r)
	}
}

func newPlatform(t testing.TB, handler http.HandlerFunc) *platform {
	t.Helper()
	p := &platform{}
	p.Server = httptest.NewTLSServer(record(p, handler))
	t.Cleanup(p.Close)
	return p
}

// newMetadata is a metadata service, which has no TLS.
func newMetadata(t testing.TB, handler http.HandlerFunc) *platform {
	t.Helper()
	p := &platform{}
	p.Server = httptest.NewServer(record(p, handler))
	t.Cleanup(p.Close)
	return p
}

func (p *platform) address() string { return p.Listener.Addr().String() }

func (p *platform) endpoint() enrich.Endpoint {
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())
	return enrich.Endpoint{Address: p.address(), RootCAs: roots}
}

func (p *platform) seen() []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]call(nil), p.calls...)
}

// says answers with one text always.
func says(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func file(t testing.TB, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// hostile are answers of row 120 that no enricher may follow, keep or wait for.
// evil counts who follows.
func hostile(evil *platform) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, evil.URL, http.StatusTemporaryRedirect)
		},
		"huge": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for range 1024 {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1024)); err != nil {
					return
				}
			}
		},
		"huge headers": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 64 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 1024))
			}
		},
		"slow": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		},
		"slow in the middle": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		},
		"another type": says(http.StatusOK, "text/html", "<html>"),
		"an error":     says(http.StatusInternalServerError, "application/json", "{}"),
		"nothing":      says(http.StatusOK, "application/json", ""),
		"cut off":      func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	t.Cleanup(cancel)
	return ctx
}
