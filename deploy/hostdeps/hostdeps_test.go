package hostdeps_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/deploy/hostdeps"
)

// script makes an executable that prints one line.
func script(t *testing.T, dir, name, says string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// swtpmIn makes the three programs of swtpm.
func swtpmIn(t *testing.T, dir string) string {
	t.Helper()
	for _, name := range []string{"swtpm", "swtpm_setup", "swtpm_localca"} {
		script(t, dir, name, name)
	}
	return dir
}

func postgresIn(t *testing.T, dir, version string) string {
	t.Helper()
	for _, name := range []string{"postgres", "initdb", "pg_ctl"} {
		script(t, dir, name, name+" (PostgreSQL) "+version)
	}
	return dir
}

// inPrefix makes swtpm look fetched.
func inPrefix(t *testing.T, prefix, release string) string {
	t.Helper()
	dir := filepath.Join(prefix, "swtpm")
	swtpmIn(t, filepath.Join(dir, "bin"))
	if err := os.WriteFile(filepath.Join(dir, "release"), []byte(release), 0o644); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "bin")
}

// bare hides everything of this machine but the folders given.
func bare(t *testing.T, path ...string) (prefix string) {
	t.Helper()
	prefix = filepath.Join(t.TempDir(), "prefix")
	for name, value := range map[string]string{
		hostdeps.PrefixVariable: prefix, hostdeps.BinVariable: "", hostdeps.SWTPMVariable: "", hostdeps.PgBouncerVariable: "",
		"CI": "", "PATH": strings.Join(path, ":"),
	} {
		t.Setenv(name, value)
	}
	return prefix
}

func TestFindLooksInOrder(t *testing.T) {
	named, onPath := swtpmIn(t, t.TempDir()), swtpmIn(t, t.TempDir())
	prefix := bare(t, onPath)
	fetched := inPrefix(t, prefix, hostdeps.Release())
	for _, step := range []struct {
		name, variable, path, want string
	}{
		{"the variable names a folder", named, onPath, named},
		{"the variable names the program", named + "/swtpm", onPath, named},
		{"PATH", "", onPath, onPath},
		{"the prefix", "", "", fetched},
	} {
		t.Run(step.name, func(t *testing.T) {
			t.Setenv(hostdeps.SWTPMVariable, step.variable)
			t.Setenv("PATH", step.path)
			found, missing := hostdeps.Find(context.Background(), hostdeps.SWTPM)
			if len(missing) != 0 {
				t.Fatalf("missing: %v", missing)
			}
			if got := filepath.Dir(found.Path("swtpm_setup")); got != step.want {
				t.Errorf("found in %s, want %s", got, step.want)
			}
		})
	}
}

func TestProgramsOfThePrefixFindEachOther(t *testing.T) {
	elsewhere := t.TempDir()
	fetched := inPrefix(t, bare(t, elsewhere), hostdeps.Release())
	found, _ := hostdeps.Find(context.Background(), hostdeps.SWTPM)
	if diff := cmp.Diff([]string{"PATH=" + fetched + ":" + elsewhere}, found.Env(hostdeps.SWTPM)); diff != "" {
		t.Error(diff)
	}
	want := []string{hostdeps.SWTPMVariable + "=" + fetched, "PATH=" + fetched + ":" + elsewhere}
	if diff := cmp.Diff(want, found.Environ()); diff != "" {
		t.Error(diff)
	}
}

func TestProgramsOfTheSystemNeedNoEnvironment(t *testing.T) {
	bare(t, swtpmIn(t, t.TempDir()))
	found, _ := hostdeps.Find(context.Background(), hostdeps.SWTPM)
	if env := found.Env(hostdeps.SWTPM); env != nil {
		t.Errorf("environment %v", env)
	}
}

func TestWhatWasFetchedForAnotherReleaseIsPassedOver(t *testing.T) {
	inPrefix(t, bare(t), "debian-11")
	if found, missing := hostdeps.Find(context.Background(), hostdeps.SWTPM); len(missing) != 1 {
		t.Errorf("found %s", found.Path("swtpm"))
	}
}

func TestHalfOfAProgramIsNoProgram(t *testing.T) {
	dir := swtpmIn(t, t.TempDir())
	if err := os.Remove(filepath.Join(dir, "swtpm_localca")); err != nil {
		t.Fatal(err)
	}
	bare(t, dir)
	if found, missing := hostdeps.Find(context.Background(), hostdeps.SWTPM); len(missing) != 1 {
		t.Errorf("found %s", found.Path("swtpm"))
	}
}

func TestPrefixThatOthersCanWriteIsRefused(t *testing.T) {
	prefix := bare(t)
	inPrefix(t, prefix, hostdeps.Release())
	if err := os.Chmod(filepath.Join(prefix, "swtpm"), 0o777); err != nil {
		t.Fatal(err)
	}
	_, missing := hostdeps.Find(context.Background(), hostdeps.SWTPM)
	if len(missing) != 1 || !strings.Contains(missing[0].Why, "another user") {
		t.Errorf("missing = %v", missing)
	}
}

func TestOldPostgresIsPassedOver(t *testing.T) {
	bare(t, "/usr/bin", "/bin", postgresIn(t, t.TempDir(), "14.12"))
	found, _ := hostdeps.Find(context.Background(), hostdeps.Postgres)
	if path := found.Path("postgres"); path != "" && !strings.HasPrefix(path, "/usr/lib/postgresql/") {
		t.Errorf("found %s", path)
	}
}

func TestNewPostgresOnPathComesBeforeInstalledOnes(t *testing.T) {
	dir := postgresIn(t, t.TempDir(), "16.2")
	bare(t, "/usr/bin", "/bin", dir)
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	found, missing := hostdeps.Find(context.Background(), hostdeps.Postgres)
	if len(missing) != 0 || found.Path("initdb") != dir+"/initdb" {
		t.Errorf("found %s, missing %v", found.Path("initdb"), missing)
	}
}

func TestVariableThatPointsNowhereIsNotReplacedInSilence(t *testing.T) {
	bare(t, swtpmIn(t, t.TempDir()))
	t.Setenv(hostdeps.SWTPMVariable, t.TempDir())
	t.Setenv("CI", "1")
	_, err := hostdeps.Ensure(context.Background(), hostdeps.Options{}, hostdeps.SWTPM)
	if err == nil || !strings.Contains(err.Error(), hostdeps.SWTPMVariable) {
		t.Errorf("%v does not name the variable", err)
	}
}

func TestUnknownProgramIsAnError(t *testing.T) {
	if _, err := hostdeps.Ensure(context.Background(), hostdeps.Options{}, "mysql"); err == nil {
		t.Error("accepted")
	}
	if _, missing := hostdeps.Find(context.Background(), "mysql"); len(missing) != 1 {
		t.Errorf("missing = %v", missing)
	}
}

// manager makes PATH hold a package manager and nothing else.
func manager(t *testing.T, name string) {
	t.Helper()
	dir := t.TempDir()
	script(t, dir, name, "")
	bare(t, dir)
}

func TestElsewhereTheCommandIsNamed(t *testing.T) {
	for name, want := range map[string]string{
		"dnf":    "sudo dnf install swtpm swtpm-tools tpm2-tools",
		"zypper": "sudo zypper install swtpm tpm2.0-tools",
		"pacman": "sudo pacman -S swtpm tpm2-tools",
		"apk":    "sudo apk add swtpm tpm2-tools",
		"none":   hostdeps.SWTPMVariable,
	} {
		t.Run(name, func(t *testing.T) {
			manager(t, name)
			_, err := hostdeps.Ensure(context.Background(), hostdeps.Options{Yes: true}, hostdeps.SWTPM, hostdeps.TPM2Tools)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		})
	}
}

// apt makes PATH hold an apt that leaves a mark when it is called.
func apt(t *testing.T) (called func() bool) {
	t.Helper()
	dir := t.TempDir()
	mark := filepath.Join(dir, "called")
	for _, name := range []string{"apt-get", "apt-cache", "apt-config", "dpkg"} {
		text := fmt.Sprintf("#!/bin/sh\n: > %s\nexit 1\n", mark)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bare(t, dir)
	return func() bool {
		_, err := os.Stat(mark)
		return err == nil
	}
}

func TestNothingIsFetchedWithoutLeave(t *testing.T) {
	called := apt(t)
	var said strings.Builder
	in := strings.NewReader("y\n") // a pipe is nobody's word
	_, err := hostdeps.Ensure(context.Background(), hostdeps.Options{In: in, Err: &said}, hostdeps.SWTPM)
	if !errors.Is(err, hostdeps.ErrNotAllowed) {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(fmt.Sprint(err), "CI=1") {
		t.Errorf("%v does not say how to allow it", err)
	}
	if lines := strings.Count(said.String(), "\n"); lines != 1 {
		t.Errorf("said %d lines: %s", lines, said.String())
	}
	if called() {
		t.Error("apt was called")
	}
	if _, err := os.Stat(os.Getenv(hostdeps.PrefixVariable)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the prefix was made: %v", err)
	}
}

func TestLeaveIsGivenByFlagAndByCI(t *testing.T) {
	for name, c := range map[string]struct {
		ci  string
		yes bool
	}{"flag": {"", true}, "CI=1": {"1", false}, "CI=true": {"true", false}} {
		t.Run(name, func(t *testing.T) {
			called := apt(t)
			t.Setenv("CI", c.ci)
			var said strings.Builder
			_, err := hostdeps.Ensure(context.Background(), hostdeps.Options{Yes: c.yes, Err: &said, In: strings.NewReader("")}, hostdeps.SWTPM)
			if err == nil || !called() {
				t.Errorf("apt was not called: %v", err)
			}
			if prefix := os.Getenv(hostdeps.PrefixVariable); !strings.Contains(said.String(), prefix) {
				t.Errorf("%q does not say where", said.String())
			}
		})
	}
}

func TestBrokenFetchLeavesNothingHalf(t *testing.T) {
	apt(t)
	prefix := os.Getenv(hostdeps.PrefixVariable)
	_, err := hostdeps.Ensure(context.Background(), hostdeps.Options{Yes: true, Err: &strings.Builder{}}, hostdeps.SWTPM)
	if err == nil {
		t.Fatal("no error")
	}
	entries, err := os.ReadDir(prefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".lock" {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

// pythonIn makes a Python that knows its version, and its modules or not.
func pythonIn(t *testing.T, modules bool) string {
	t.Helper()
	dir := t.TempDir()
	answer := "exit 1"
	if modules {
		answer = "exit 0"
	}
	text := "#!/bin/sh\n[ \"$1\" = --version ] && { echo Python 3.12.1; exit 0; }\n" + answer + "\n"
	if err := os.WriteFile(filepath.Join(dir, "python3"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPythonWithoutTheModulesIsPassedOver(t *testing.T) {
	without := pythonIn(t, false)
	bare(t, without)
	found, _ := hostdeps.Find(context.Background(), hostdeps.Python)
	if filepath.Dir(found.Path("python3")) == without {
		t.Error("a Python without grpc was taken")
	}
	with := pythonIn(t, true)
	t.Setenv("PATH", with)
	found, missing := hostdeps.Find(context.Background(), hostdeps.Python)
	if len(missing) != 0 || filepath.Dir(found.Path("python3")) != with {
		t.Errorf("found %q, missing %v", found.Path("python3"), missing)
	}
}
