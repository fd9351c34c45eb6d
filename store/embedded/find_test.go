package embedded_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/store/embedded"
)

// fakeBin makes a folder with a postgres that only says a version.
func fakeBin(t *testing.T, version string) string {
	t.Helper()
	dir := scratch(t)
	for _, name := range []string{"postgres", "initdb"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindBinPrefersTheVariableThenThePath(t *testing.T) {
	named, onPath := fakeBin(t, "16.1"), fakeBin(t, "17.1")
	t.Setenv("PATH", onPath)
	t.Setenv(embedded.BinVariable, named)
	for want, variable := range map[string]string{named: named, onPath: ""} {
		t.Setenv(embedded.BinVariable, variable)
		got, err := embedded.FindBin()
		if err != nil || got != want {
			t.Errorf("FindBin = %q, %v, want %q", got, err, want)
		}
	}
}

func TestFindBinRefusesAVariableThatPointsNowhere(t *testing.T) {
	t.Setenv(embedded.BinVariable, t.TempDir())
	if got, err := embedded.FindBin(); err == nil {
		t.Errorf("FindBin = %q, although the variable names an empty folder", got)
	}
}

func TestFindBinTakesTheInstalledVersions(t *testing.T) {
	t.Setenv(embedded.BinVariable, "")
	t.Setenv("PATH", "")
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	got, err := embedded.FindBin()
	if len(installed) == 0 {
		if !errors.Is(err, embedded.ErrNoPostgres) {
			t.Errorf("FindBin = %q, %v without any Postgres", got, err)
		}
		return
	}
	if !strings.HasPrefix(got, "/usr/lib/postgresql/") {
		t.Errorf("FindBin = %q, %v", got, err)
	}
}

func TestUnfitProgramsAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ bin, want string }{
		"version 14":      {fakeBin(t, "14.12"), "15 or later"},
		"no version":      {fakeBin(t, "unknown"), "version"},
		"an empty folder": {scratch(t), "no postgres"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := embedded.Start(deadline(t), embedded.Config{Dir: scratch(t) + "/pg", Bin: c.bin})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not say %q", err, c.want)
			}
		})
	}
}

func TestClusterOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	dir := scratch(t) + "/pg"
	s, err := embedded.Start(deadline(t), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Start(deadline(t), embedded.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "PostgreSQL 9") {
		t.Errorf("%v does not name the version of the cluster", err)
	}
}

func TestProgramsThatTheUnprivilegedUserCannotReachAreRefused(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a case of root only")
	}
	bin := fakeBin(t, "16.1")
	if err := os.Chmod(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.Start(deadline(t), embedded.Config{Dir: scratch(t) + "/pg", Bin: bin})
	if err == nil || !strings.Contains(err.Error(), "cannot be entered") {
		t.Errorf("%v does not say who is shut out", err)
	}
}
