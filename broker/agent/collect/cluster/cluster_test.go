package cluster_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/cluster"
	"github.com/zonebroker/zonebroker/broker/agent/collect/clustertest"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/k8s"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

type claims = documenttest.Claims

var (
	noon  = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	key   = documenttest.NewJWTKey("k", "ES256")
	bound = collect.Bound{Value: [32]byte{1}}
)

func now() time.Time { return noon }

func collector(s *clustertest.Server) cluster.PSAT {
	return cluster.PSAT{Server: s.Address, Account: s.Account}
}

// judge is the verifier's word on a token, of a cluster without a fixed audience.
func judge(t *testing.T, token []byte, value [32]byte) (document.Facts, error) {
	t.Helper()
	settings, err := jwt.Parse(k8s.Profile, []jwt.Object{{Name: "a", Raw: documenttest.JWTObject("k8s.psat", documenttest.ClusterIssuer, nil, key.JWK())}})
	if err != nil {
		t.Fatal(err)
	}
	issuers, err := k8s.NewIssuers(settings)
	if err != nil {
		t.Fatal(err)
	}
	got, err := k8s.Verify(token, jwt.Expect{Audience: document.Audience(value), IssuedAt: noon}, issuers, noon)
	return got.Facts(), err
}

// TestTokenForEachChallenge: what the API server gives is, to the verifier, a
// document of class B for this challenge and no other, bound to this pod.
func TestTokenForEachChallenge(t *testing.T) {
	s := clustertest.New(t, key, now, nil)
	c := collector(s)
	if f := c.Detect(t.Context()); !f.Able || f.Class != "B" || len(s.Asked()) != 0 {
		t.Fatalf("%+v, asked %v", f, s.Asked())
	}
	for n := range byte(2) {
		value := [32]byte{n, 7}
		item, err := c.Collect(t.Context(), collect.Bound{Value: value})
		if err != nil {
			t.Fatal(err)
		}
		f, err := judge(t, item.Document, value)
		if err != nil || f.Class != "B" || !f.NonceBound || f.Machine.Name != documenttest.ClusterIssuer+"/f9023702-f4ed-4ed9-ab40-bc69142aa9a6" {
			t.Errorf("%+v, %v", f, err)
		}
		if _, err := judge(t, item.Document, [32]byte{9}); reason.Of(err) != reason.JWTAudience {
			t.Errorf("another challenge: %v", err)
		}
		s.Rotate(t) // the kubelet replaces the pod's own token
	}
	if asked := s.Asked(); len(asked) != 2 || asked[0] == asked[1] {
		t.Errorf("asked for %v", asked)
	}
}

func TestAccountThatMayNot(t *testing.T) {
	s := clustertest.New(t, key, now, nil)
	s.Forbid()
	_, err := collector(s).Collect(t.Context(), bound)
	e, ok := errors.AsType[*collect.Error](err)
	if !ok || !strings.Contains(e.Why, "403") || !strings.Contains(e.Why, "cannot create resource") || !strings.Contains(e.Fix, "namespaces/payments/serviceaccounts/agent/token") {
		t.Errorf("%v", err)
	}
	old, err := os.ReadFile(filepath.Join(s.Account, "token"))
	if err != nil {
		t.Fatal(err)
	}
	s.Rotate(t)
	if err := os.WriteFile(filepath.Join(s.Account, "token"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = collector(s).Collect(t.Context(), bound)
	if e, ok := errors.AsType[*collect.Error](err); !ok || !strings.Contains(e.Why, "401") || !strings.Contains(e.Fix, "--service-account") {
		t.Errorf("a token that has ended: %v", err)
	}
}

// answers gives one token, or one body.
func answers(code int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func tokenOf(c claims) http.HandlerFunc {
	return answers(http.StatusCreated, "application/json", fmt.Sprintf(`{"kind":"TokenRequest","status":{"token":%q}}`, key.Token(c)))
}

// TestServerThatMisbehaves: nothing it says is followed, kept or waited for beyond a
// bound, the pod's token goes to nobody else and into no error, and a token for
// another audience, which could be a credential, goes to no broker.
func TestServerThatMisbehaves(t *testing.T) {
	var followed atomic.Int32
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer evil.Close()
	right := document.Audience(bound.Value)
	for name, handler := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, evil.URL, http.StatusTemporaryRedirect)
		},
		"huge":         answers(http.StatusCreated, "application/json", strings.Repeat(" ", 65<<10)),
		"a huge error": answers(http.StatusForbidden, "application/json", `{"message":"`+strings.Repeat("x", 60<<10)+`"}`),
		"huge headers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", strings.Repeat("x", 2<<20))
		},
		"slow": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Second):
			}
		},
		"cut off":               func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a page":                answers(http.StatusCreated, "text/html", "<html>"),
		"200":                   answers(http.StatusOK, "application/json", `{"kind":"TokenRequest","status":{"token":"a.b.c"}}`),
		"nothing":               answers(http.StatusCreated, "application/json", ""),
		"another kind":          answers(http.StatusCreated, "application/json", `{"kind":"Pod","status":{"token":"a.b.c"}}`),
		"no token":              answers(http.StatusCreated, "application/json", `{"kind":"TokenRequest","status":{}}`),
		"no claims":             answers(http.StatusCreated, "application/json", `{"kind":"TokenRequest","status":{"token":"a.b.c"}}`),
		"a huge token":          answers(http.StatusCreated, "application/json", `{"kind":"TokenRequest","status":{"token":"`+strings.Repeat("a", 17<<10)+`"}}`),
		"a token for itself":    tokenOf(claims{"aud": "https://kubernetes.default.svc"}),
		"a token for both":      tokenOf(claims{"aud": []string{right, "https://kubernetes.default.svc"}}),
		"a token for nobody":    tokenOf(claims{}),
		"a token for a number":  tokenOf(claims{"aud": 5}),
		"a token beyond Base64": answers(http.StatusCreated, "application/json", `{"kind":"TokenRequest","status":{"token":"e30.eyJ9\n.x"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := clustertest.New(t, key, now, handler)
			own, err := os.ReadFile(filepath.Join(s.Account, "token"))
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			item, err := collector(s).Collect(t.Context(), bound)
			if err == nil || len(item.Document) > 0 {
				t.Fatalf("took %q", item.Document)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("took %s", took)
			}
			if text := err.Error(); len(text) > 2000 || strings.Contains(text, strings.TrimSpace(string(own))) {
				t.Errorf("%d bytes: %.200s", len(text), text)
			}
			if followed.Load() != 0 {
				t.Error("the redirect was followed")
			}
		})
	}
	s := clustertest.New(t, key, now, tokenOf(claims{"aud": right}))
	if _, err := collector(s).Collect(t.Context(), bound); err != nil {
		t.Errorf("an audience that is no list: %v", err)
	}
}

// TestServerOfAnotherCA gets no token of the pod to see.
func TestServerOfAnotherCA(t *testing.T) {
	var asked atomic.Int32
	count := func(http.ResponseWriter, *http.Request) { asked.Add(1) }
	here, elsewhere := clustertest.New(t, key, now, count), clustertest.New(t, documenttest.NewJWTKey("k", "ES256"), now, count)
	// Servers of httptest share one certificate, so that the pod knows another CA here.
	if err := os.WriteFile(filepath.Join(here.Account, "ca.crt"), documenttest.NewX509CA(noon).RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := collector(here)
	c.Server = elsewhere.Address
	if _, err := c.Collect(t.Context(), bound); err == nil || !strings.Contains(err.Error(), "certificate") || asked.Load() != 0 {
		t.Errorf("%d requests, %v", asked.Load(), err)
	}
}

// TestAccountThatIsNone: what the folder lacks is said before anybody is asked.
func TestAccountThatIsNone(t *testing.T) {
	for name, spoil := range map[string]func(s *clustertest.Server) error{
		"no folder":     func(s *clustertest.Server) error { return os.RemoveAll(s.Account) },
		"no CA":         func(s *clustertest.Server) error { return os.Remove(filepath.Join(s.Account, "ca.crt")) },
		"an empty CA":   func(s *clustertest.Server) error { return os.Truncate(filepath.Join(s.Account, "ca.crt"), 0) },
		"no token":      func(s *clustertest.Server) error { return os.Remove(filepath.Join(s.Account, "token")) },
		"an empty one":  func(s *clustertest.Server) error { return os.Truncate(filepath.Join(s.Account, "token"), 0) },
		"a huge one":    func(s *clustertest.Server) error { return os.Truncate(filepath.Join(s.Account, "token"), 17<<10) },
		"a line break":  own(claims{}, "\r\nX-Evil: 1"),
		"of a Secret":   own(claims{"kubernetes.io": claims{"namespace": "payments", "serviceaccount": claims{"name": "agent"}}}, ""),
		"of a path":     own(claims{"kubernetes.io": claims{"namespace": "../..", "serviceaccount": claims{"name": "agent"}, "pod": claims{"name": "a", "uid": "u"}}}, ""),
		"of a query":    own(claims{"kubernetes.io": claims{"namespace": "payments", "serviceaccount": claims{"name": "agent?x="}, "pod": claims{"name": "a", "uid": "u"}}}, ""),
		"without a UID": own(claims{"kubernetes.io": claims{"namespace": "payments", "serviceaccount": claims{"name": "agent"}, "pod": claims{"name": "a"}}}, ""),
	} {
		s := clustertest.New(t, key, now, nil)
		if err := spoil(s); err != nil {
			t.Fatal(err)
		}
		if f := collector(s).Detect(t.Context()); f.Able || f.Class != "B" || f.Fix == "" {
			t.Errorf("%s: %+v", name, f)
		}
		if _, err := collector(s).Collect(t.Context(), bound); err == nil || len(s.Asked()) != 0 {
			t.Errorf("%s: asked %v, %v", name, s.Asked(), err)
		}
	}
}

// own writes another token for the pod, with more behind it.
func own(c claims, behind string) func(s *clustertest.Server) error {
	return func(s *clustertest.Server) error {
		return os.WriteFile(filepath.Join(s.Account, "token"), append(key.Token(s.Claims().With(c)), behind...), 0o600)
	}
}

func TestServerThatIsNone(t *testing.T) {
	for _, server := range []string{"", "host", ":443", "https://host:443", "host:443/path", "user@host:443", "host:443?q", "host:", "a b:443"} {
		if err := (cluster.PSAT{Server: server}).Check(); err == nil {
			t.Errorf("%q was taken", server)
		}
	}
	for _, server := range []string{"kubernetes.default.svc:443", "10.0.0.1:6443", "[2001:db8::1]:6443"} {
		if err := (cluster.PSAT{Server: server}).Check(); err != nil {
			t.Errorf("%q: %v", server, err)
		}
	}
}
