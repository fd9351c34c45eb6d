package workloadapi_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
)

func TestSocketRefusals(t *testing.T) {
	private := func(t *testing.T) string {
		t.Helper()
		dir, err := os.MkdirTemp("", "zbs")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	open := func(t *testing.T, path string) error {
		t.Helper()
		server, err := workloadapi.New(workloadapi.Config{Socket: path, Source: newSource(t, "lab")})
		if err == nil {
			ctx, cancel := withTimeout(t, time.Minute)
			done := make(chan error, 1)
			go func() { done <- server.Run(ctx) }()
			t.Cleanup(func() { cancel(); <-done })
		}
		return err
	}
	wants := func(t *testing.T, err error, text string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %q", err, text)
		}
	}
	t.Run("everybody_may_connect", func(t *testing.T) {
		path := filepath.Join(private(t), "run", "w.sock")
		if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := open(t, path); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]os.FileMode{path: 0o666 | os.ModeSocket, filepath.Dir(path): 0o755 | os.ModeDir} {
			if info, err := os.Lstat(path); err != nil || info.Mode() != want {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
		}
	})
	t.Run("folder_that_others_can_write", func(t *testing.T) {
		for _, mode := range []os.FileMode{0o777, 0o775, 0o777 | os.ModeSticky} {
			dir := private(t)
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			wants(t, open(t, filepath.Join(dir, "w.sock")), "chmod go-w")
		}
	})
	t.Run("folder_above_that_others_can_write", func(t *testing.T) {
		dir := private(t)
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		wants(t, open(t, filepath.Join(dir, "run", "w.sock")), "chmod go-w "+dir)
	})
	t.Run("folder_of_another_user", func(t *testing.T) {
		needRoot(t)
		dir := private(t)
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		wants(t, open(t, filepath.Join(dir, "w.sock")), "belongs to another user")
		wants(t, open(t, filepath.Join(dir, "run", "w.sock")), "belongs to another user")
	})
	t.Run("folder_that_is_a_link", func(t *testing.T) {
		dir := private(t)
		if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		wants(t, open(t, filepath.Join(dir, "link", "w.sock")), "through a link")
	})
	t.Run("folder_that_is_a_file", func(t *testing.T) {
		path := filepath.Join(private(t), "file")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		wants(t, open(t, filepath.Join(path, "w.sock")), "not a folder")
	})
	t.Run("file_in_its_place", func(t *testing.T) {
		path := filepath.Join(private(t), "w.sock")
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		wants(t, open(t, path), "not a socket")
		if text, _ := os.ReadFile(path); string(text) != "precious" {
			t.Error("the file is gone")
		}
	})
	t.Run("somebody_listens", func(t *testing.T) {
		path := filepath.Join(private(t), "w.sock")
		if err := open(t, path); err != nil {
			t.Fatal(err)
		}
		wants(t, open(t, path), "another process listens")
		if err := methods(stub(t, path))["FetchX509SVID"](withHeader(deadline(t))); status.Code(err) != codes.PermissionDenied {
			t.Errorf("the first is gone: %v", err)
		}
	})
	t.Run("somebody_listens_and_is_busy", func(t *testing.T) {
		path := filepath.Join(private(t), "w.sock")
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
		dial(t, path) // fills the queue
		if err := open(t, path); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("%v", err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("its socket is gone: %v", err)
		}
	})
	t.Run("left_behind_by_a_crash", func(t *testing.T) {
		path := filepath.Join(private(t), "w.sock")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		if err := open(t, path); err != nil {
			t.Error(err)
		}
	})
	t.Run("no_path", func(t *testing.T) { wants(t, open(t, ""), "no path") })
	t.Run("relative", func(t *testing.T) {
		dir := private(t)
		t.Chdir(dir)
		if err := open(t, "./w.sock"); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(filepath.Join(dir, "w.sock")); err != nil || info.Mode().Type() != os.ModeSocket {
			t.Errorf("%v, %v", info, err)
		}
	})
	t.Run("too_long", func(t *testing.T) {
		wants(t, open(t, filepath.Join(private(t), strings.Repeat("x", 100))), "shorter")
	})
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	src := newSource(t, "lab")
	for name, cfg := range map[string]workloadapi.Config{
		"no_source": {Socket: "/tmp/zb-none/w.sock"},
		"bound":     {Socket: "/tmp/zb-none/w.sock", Source: src, MaxConns: -1},
		"uid_bound": {Socket: "/tmp/zb-none/w.sock", Source: src, MaxConnsPerUID: -1},
	} {
		if _, err := workloadapi.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
