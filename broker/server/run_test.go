package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
)

func TestAdminSocketIsPrivate(t *testing.T) {
	h := start(t, nil)
	for path, want := range map[string]os.FileMode{h.socket: 0o600 | os.ModeSocket, filepath.Dir(h.socket): 0o700 | os.ModeDir} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %s, want %s", path, info.Mode(), want)
		}
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(h.socket); !os.IsNotExist(err) {
		t.Errorf("the socket stays behind: %v", err)
	}
}

func TestAdminSocketRefusals(t *testing.T) {
	open := func(t *testing.T, path string) (*server.Server, error) {
		t.Helper()
		ca := newAuthority(t, trustDomain)
		cert := ca.svid(t, "spiffe://"+trustDomain+"/broker", nil)
		srv, err := server.New(server.Config{
			Broker: &pipeline{}, Operator: &desk{}, Listen: "127.0.0.1:0", AdminSocket: path, TrustDomain: trustDomain,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		})
		if err == nil {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- srv.Run(ctx) }()
			t.Cleanup(func() { cancel(); <-done })
		}
		return srv, err
	}
	t.Run("folder_that_others_can_enter", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := open(t, filepath.Join(dir, "admin.sock"))
		if err == nil || !strings.Contains(err.Error(), "chmod 700") {
			t.Errorf("%v", err)
		}
	})
	t.Run("folder_that_is_a_link", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, filepath.Join(dir, "link", "admin.sock")); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("file_in_its_place", func(t *testing.T) {
		path := filepath.Join(private(t), "admin.sock")
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, path); err == nil {
			t.Error("accepted")
		}
		if text, _ := os.ReadFile(path); string(text) != "precious" {
			t.Error("the file is gone")
		}
	})
	t.Run("somebody_listens", func(t *testing.T) {
		path := filepath.Join(private(t), "admin.sock")
		if _, err := open(t, path); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, path); err == nil || !strings.Contains(err.Error(), "another process") {
			t.Errorf("%v", err)
		}
	})
	t.Run("somebody_listens_and_is_busy", func(t *testing.T) {
		path := filepath.Join(private(t), "admin.sock")
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("unix", path) // fills the queue
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := open(t, path); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("%v", err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("its socket is gone: %v", err)
		}
	})
	t.Run("left_behind_by_a_crash", func(t *testing.T) {
		path := filepath.Join(private(t), "admin.sock")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		if _, err := open(t, path); err != nil {
			t.Error(err)
		}
	})
	t.Run("path_too_long", func(t *testing.T) {
		_, err := open(t, filepath.Join(private(t), strings.Repeat("x", 100), "admin.sock"))
		if err == nil || !strings.Contains(err.Error(), "shorter") {
			t.Errorf("%v", err)
		}
	})
}

// private makes a folder that fits under the limit of socket paths.
func private(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "zb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestConfigIsChecked(t *testing.T) {
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
	good := server.Config{Broker: &pipeline{}, Listen: "127.0.0.1:0", TrustDomain: trustDomain, GetCertificate: get}
	tests := map[string]func(*server.Config){
		"no_broker":              func(c *server.Config) { c.Broker = nil },
		"no_address":             func(c *server.Config) { c.Listen = "" },
		"bad_address":            func(c *server.Config) { c.Listen = "nowhere:-1" },
		"no_certificate":         func(c *server.Config) { c.GetCertificate = nil },
		"no_trust_domain":        func(c *server.Config) { c.TrustDomain = "" },
		"bad_trust_domain":       func(c *server.Config) { c.TrustDomain = "Not A Domain" },
		"socket_without_service": func(c *server.Config) { c.AdminSocket = "/tmp/x/y.sock" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			if _, err := server.New(c); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// TestDrain: what is in work when the process is asked to end is answered.
func TestDrain(t *testing.T) {
	h := start(t, nil)
	entered, hold := make(chan struct{}), make(chan struct{})
	h.pipeline.attest = func(ctx context.Context, _ api.AttestRequest) (api.AttestResponse, error) {
		close(entered)
		<-hold
		return api.AttestResponse{AttestationID: recordID, Node: nodeID, SPIFFEID: "spiffe://x", Bundle: []byte(`{"keys":[]}`)}, ctx.Err()
	}
	answered := make(chan int, 1)
	c := h.client(nil)
	go func() { answered <- h.do(c, "POST", "/v1/attest", attestation).StatusCode }()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- h.stop() }()
	eventually(t, "new connections are refused", func() bool {
		c, err := net.DialTimeout("tcp", h.Addr(), time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case err := <-stopped:
		t.Fatalf("Run ended with a request in work: %v", err)
	default:
	}
	close(hold)
	if status := <-answered; status != 200 {
		t.Errorf("the request in work got %d", status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestDrainEnds: a handler that hangs does not keep the process alive.
func TestDrainEnds(t *testing.T) {
	h := start(t, func(c *server.Config) { c.Timeouts.Drain = 100 * time.Millisecond })
	entered := make(chan struct{})
	h.pipeline.attest = func(ctx context.Context, _ api.AttestRequest) (api.AttestResponse, error) {
		close(entered)
		<-ctx.Done()
		return api.AttestResponse{}, ctx.Err()
	}
	c := h.client(nil)
	go func() {
		req := strings.NewReader(attestation)
		if res, err := c.Post("https://"+h.Addr()+"/v1/attest", "application/json", req); err == nil {
			res.Body.Close()
		}
	}()
	<-entered
	began := time.Now()
	if err := h.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}
