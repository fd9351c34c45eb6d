package gce_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/gce"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadata"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadatatest"
	"github.com/zonebroker/zonebroker/verifier/document"
)

const (
	account  = "/computeMetadata/v1/instance/service-accounts/default/email"
	identity = "/computeMetadata/v1/instance/service-accounts/default/identity"
)

func service(t *testing.T, url string) *metadata.Service {
	t.Helper()
	s, err := metadata.New(metadata.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestIdentityTokenIsForTheChallenge(t *testing.T) {
	bound := collect.Bound{Value: [32]byte{1, 2, 3}}
	server := metadatatest.Google(t, map[string]metadatatest.Answer{
		account: metadatatest.Text("1-compute@developer.gserviceaccount.com"),
		identity: func(r *http.Request) string {
			q := r.URL.Query()
			if q.Get("format") != "full" {
				return ""
			}
			return "head." + q.Get("audience") + ".signature\n"
		},
	})
	c := gce.Identity{Metadata: service(t, server.URL)}
	if f := c.Detect(t.Context()); !f.Able || f.Class != "B" {
		t.Fatalf("%+v", f)
	}
	item, err := c.Collect(t.Context(), bound)
	if want := "head." + document.Audience(bound.Value) + ".signature"; err != nil || string(item.Document) != want {
		t.Errorf("%q, %v", item.Document, err)
	}
}

func TestInstanceWithoutServiceAccount(t *testing.T) {
	c := gce.Identity{Metadata: service(t, metadatatest.Google(t, nil).URL)}
	if f := c.Detect(t.Context()); f.Able || f.Fix == "" || !strings.Contains(f.Why, "service account") {
		t.Errorf("%+v", f)
	}
	if item, err := c.Collect(t.Context(), collect.Bound{}); err == nil {
		t.Errorf("%q", item.Document)
	}
}

func TestIdentityIsNotForOtherClouds(t *testing.T) {
	c := gce.Identity{Metadata: service(t, metadatatest.AWS(t, nil).URL)}
	if f := c.Detect(t.Context()); f.Able || !strings.Contains(f.Why, "Amazon") {
		t.Errorf("%+v", f)
	}
}

// launcher is the socket of Confidential Space; the folder is short, because the
// path of a socket is.
func launcher(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	root, err := os.MkdirTemp("", "zbcs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	path := filepath.Join(root, gce.LauncherSocket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: answer}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return root
}

func TestLauncherIsToldAudienceAndNonce(t *testing.T) {
	bound := collect.Bound{Value: [32]byte{9}}
	root := launcher(t, func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Audience  string   `json:"audience"`
			Nonces    []string `json:"nonces"`
			TokenType string   `json:"token_type"`
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/token" || len(q.Nonces) != 1 || q.TokenType != "OIDC" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Write([]byte("h." + q.Audience + "." + q.Nonces[0] + "\n"))
	})
	c := gce.Confidential{Root: root}
	if f := c.Detect(t.Context()); !f.Able {
		t.Fatalf("%+v", f)
	}
	item, err := c.Collect(t.Context(), bound)
	nonce := strings.TrimPrefix(document.Audience(bound.Value), "zonebroker:")
	if want := "h." + document.Audience(bound.Value) + "." + nonce; err != nil || string(item.Document) != want {
		t.Errorf("%q, want %q: %v", item.Document, want, err)
	}
}

func TestLauncherThatMisbehaves(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"refuses": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusSeeOther)
		},
		"floods": func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20)) },
	} {
		if item, err := (gce.Confidential{Root: launcher(t, answer)}).Collect(t.Context(), collect.Bound{}); err == nil {
			t.Errorf("%s: %q", name, item.Document)
		}
	}
	if f := (gce.Confidential{Root: t.TempDir()}).Detect(t.Context()); f.Able || f.Fix != "" {
		t.Errorf("%+v", f)
	}
}

type tpm struct {
	certificate []byte
	err         error
}

func (t tpm) AKCertificate(context.Context) ([]byte, error) { return t.certificate, t.err }

func TestAKCertificate(t *testing.T) {
	c := gce.AKCert{TPM: tpm{certificate: []byte{0x30, 0}}}
	if f := c.Detect(t.Context()); !f.Able || f.Class != "A" {
		t.Errorf("%+v", f)
	}
	if item, err := c.Collect(t.Context(), collect.Bound{}); err != nil || len(item.Document) != 2 {
		t.Errorf("%+v, %v", item, err)
	}
	for _, without := range []tpm{{}, {err: errors.New("gone")}} {
		if f := (gce.AKCert{TPM: without}).Detect(t.Context()); f.Able {
			t.Errorf("%+v", f)
		}
		if _, err := (gce.AKCert{TPM: without}).Collect(t.Context(), collect.Bound{}); err == nil {
			t.Error("an item without a certificate")
		}
	}
}
