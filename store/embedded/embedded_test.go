package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/store/embedded"
)

// scratch returns a folder that the unprivileged user can reach, which
// t.TempDir is not when root runs the tests.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := embedded.TempDir("zb-embedded-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, cfg embedded.Config) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(deadline(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *embedded.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// ask runs one query that returns one text.
func ask(t *testing.T, s *embedded.Server, sql string) string {
	t.Helper()
	text, err := tryAsk(s.DSN(embedded.Superuser, "postgres"), sql)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func tryAsk(dsn, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var text string
	err = conn.QueryRow(ctx, sql).Scan(&text)
	return text, err
}

func TestStartMakesADurablePrivateCluster(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Config{Dir: scratch(t) + "/pg"})
	for setting, want := range map[string]string{
		"listen_addresses": "", "fsync": "on", "full_page_writes": "on", "jit": "off",
		"data_checksums": "on", "server_encoding": "UTF8", "unix_socket_permissions": "0700",
	} {
		if got := ask(t, s, "SELECT current_setting('"+setting+"')"); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	if got := ask(t, s, "SELECT datcollate::text FROM pg_database WHERE datname = 'postgres'"); got != "C" {
		t.Errorf("collation %q, want C", got)
	}
}

// remember commits a note that must be there after every accident.
func remember(t *testing.T, s *embedded.Server, note string) {
	t.Helper()
	rememberAt(t, s.DSN(embedded.Superuser, "postgres"), note)
}

func rememberAt(t *testing.T, dsn, note string) {
	t.Helper()
	ctx := deadline(t)
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE TABLE kept (note text)"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "INSERT INTO kept VALUES ($1)", note); err != nil {
		t.Fatal(err)
	}
}

// configure adds a line to the cluster's own configuration.
func configure(t *testing.T, dir, line string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "data", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("\n" + line + "\n"); err != nil {
		t.Fatal(err)
	}
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

func TestFoldersAreClosedToOthers(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	start(t, embedded.Config{Dir: dir})
	for _, name := range []string{"data", "run"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, want 0700", name, info.Mode().Perm())
		}
		if ownerOf(t, filepath.Join(dir, name)) == 0 {
			t.Errorf("%s belongs to root", name)
		}
	}
}

func TestStoppedServerKeepsItsDataAndComesBack(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	s, err := embedded.Start(deadline(t), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	remember(t, s, "committed")
	postmaster := s.PID()
	stop(t, s)
	if err := s.Wait(); err != nil {
		t.Errorf("Wait after Stop: %v", err)
	}
	stop(t, s) // a second Stop is harmless
	gone(t, postmaster)
	began := time.Now()
	s = start(t, embedded.Config{Dir: dir})
	t.Logf("started again in %v", time.Since(began).Round(time.Millisecond))
	if got := ask(t, s, "SELECT note FROM kept"); got != "committed" {
		t.Errorf("read %q", got)
	}
}

func TestStopOutOfPatienceQuitsAndRecovers(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	s, err := embedded.Start(deadline(t), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	remember(t, s, "committed")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Stop(ended); !errors.Is(err, context.Canceled) && err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if got := ask(t, start(t, embedded.Config{Dir: dir}), "SELECT note FROM kept"); got != "committed" {
		t.Errorf("read %q", got)
	}
}

func TestSecondOwnerIsRefused(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	s := start(t, embedded.Config{Dir: dir})
	_, err := embedded.Start(deadline(t), embedded.Config{Dir: dir})
	if err == nil {
		t.Fatal("two owners of one folder")
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Errorf("the sentence does not name the owner: %v", err)
	}
	ask(t, s, "SELECT 'x'")
}

func TestClusterThatGivesUpDurabilityIsRefused(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	s, err := embedded.Start(deadline(t), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	conf := filepath.Join(dir, "data", "postgresql.conf")
	clean, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"fsync", "full_page_writes"} {
		configure(t, dir, setting+" = off")
		s, err := embedded.Start(deadline(t), embedded.Config{Dir: dir})
		if err == nil {
			stop(t, s)
			t.Errorf("%s = off was accepted", setting)
		} else if !strings.Contains(err.Error(), setting+" = off") {
			t.Errorf("the sentence does not name %s: %v", setting, err)
		}
		if err := os.WriteFile(conf, clean, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Turned off while it runs: the command line wins.
	s = start(t, embedded.Config{Dir: dir})
	configure(t, dir, "fsync = off")
	ask(t, s, "SELECT pg_reload_conf()::text")
	eventually(t, "the reload", func() bool {
		return ask(t, s, "SELECT count(*)::text FROM pg_file_settings WHERE name = 'fsync'") == "1"
	})
	if got := ask(t, s, "SELECT current_setting('fsync')"); got != "on" {
		t.Errorf("fsync = %s after a reload", got)
	}
}

func TestBrokenOffMakingOfTheClusterIsRepeated(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o755); err != nil {
		t.Fatal(err)
	}
	ask(t, start(t, embedded.Config{Dir: dir}), "SELECT 'x'")
	if _, err := os.Stat(filepath.Join(dir, "data.new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half-made cluster is still there: %v", err)
	}
}

func TestLongPathGetsAShortSocket(t *testing.T) {
	t.Parallel()
	parent := scratch(t)
	dir := filepath.Join(parent, strings.Repeat("long", 30), "with space, comma")
	s, err := embedded.Start(deadline(t), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, s, "SELECT 'x'")
	short, err := os.Readlink(filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(short)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", short, info.Mode(), err)
	}
	stop(t, s)
	if _, err := os.Stat(short); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the short folder outlived the server: %v", err)
	}
	ask(t, start(t, embedded.Config{Dir: dir}), "SELECT 'x'")
}

func TestPathWithSpaceAndComma(t *testing.T) {
	t.Parallel()
	ask(t, start(t, embedded.Config{Dir: scratch(t) + `/a "b", c`}), "SELECT 'x'")
}

func TestUnsafeFoldersAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(dir string) error
		want    string
		root    bool
	}{
		"writable by others":         {func(d string) error { return os.Chmod(mkdir(t, d), 0o777) }, "chmod go-w", false},
		"a file":                     {func(d string) error { return os.WriteFile(d, nil, 0o600) }, "not a folder", false},
		"data without a cluster":     {func(d string) error { return makeData(t, d, 0o700) }, "no cluster", false},
		"data open to others":        {func(d string) error { return makeData(t, d, 0o755) }, "chmod 700", false},
		"data of root":               {func(d string) error { mkdir(t, d); return os.Mkdir(d+"/data", 0o700) }, "belongs to root", true},
		"closed to the unprivileged": {func(d string) error { return os.Chmod(mkdir(t, d), 0o700) }, "cannot be entered", true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("a case of root only")
			}
			dir := scratch(t) + "/pg"
			if err := c.prepare(dir); err != nil {
				t.Fatal(err)
			}
			s, err := embedded.Start(deadline(t), embedded.Config{Dir: dir})
			if err == nil {
				stop(t, s)
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not say %q", err, c.want)
			}
		})
	}
}

func mkdir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func makeData(t *testing.T, dir string, mode os.FileMode) error {
	data := mkdir(t, dir) + "/data"
	if err := os.Mkdir(data, mode); err != nil || os.Geteuid() != 0 {
		return err
	}
	return os.Chown(data, 65534, 65534)
}
