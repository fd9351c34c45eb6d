package embedded_test

import (
	"context"
	"os"
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
