package hostdeps_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/deploy/hostdeps"
)

func TestRelationsNameEveryPackageOnce(t *testing.T) {
	for field, want := range map[string][]string{
		"":                                     nil,
		"libc6":                                {"libc6"},
		"libc6 (>= 2.36), mawk | awk":          {"libc6", "mawk", "awk"},
		"python3:any (>= 3.9~), foo [!armhf]":  {"python3", "foo"},
		"a(>=1),b|c(<<2), debconf-2.0, g++-12": {"a", "b", "c", "debconf-2.0", "g++-12"},
	} {
		if diff := cmp.Diff(want, hostdeps.Relations(field), cmp.Transformer("nil", func(s []string) []string {
			if len(s) == 0 {
				return []string{}
			}
			return s
		})); diff != "" {
			t.Errorf("%q: %s", field, diff)
		}
	}
}

func TestBaseIsWhatNoSystemCanBeWithout(t *testing.T) {
	status := `Package: base-files
Essential: yes
Status: install ok installed
Architecture: amd64
Pre-Depends: awk
Description: many
 lines: Depends: trap

Package: mawk
Status: install ok installed
Architecture: amd64
Provides: awk (= 1)
Depends: libc6 (>= 2.3)

Package: libc6
Status: install ok installed
Architecture: amd64

Package: libc6
Status: install ok installed
Architecture: i386
Depends: only-foreign

Package: only-foreign
Status: install ok installed
Architecture: amd64

Package: login
Priority: required
Status: install ok installed
Architecture: all
Depends: libpam | gone

Package: libpam
Status: install ok installed
Architecture: amd64

Package: removed
Priority: required
Status: deinstall ok config-files
Architecture: amd64

Package: postgresql-15
Priority: optional
Status: install ok installed
Architecture: amd64
`
	want := []string{"base-files", "mawk", "libc6", "login", "libpam"}
	if diff := cmp.Diff(want, hostdeps.BaseNames(status, "amd64")); diff != "" {
		t.Error(diff)
	}
}

func TestBaseOfThisSystemHoldsNoDatabase(t *testing.T) {
	names := thisBase(t)
	if !slices.Contains(names, "libc6") || !slices.Contains(names, "dpkg") {
		t.Errorf("libc6 or dpkg is missing in %v", names)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "postgresql") || strings.HasPrefix(name, "swtpm") {
			t.Errorf("%s is in the base", name)
		}
	}
}

func TestScriptsPassArgumentsAndLibraryPath(t *testing.T) {
	final := filepath.Join(t.TempDir(), "it's a place")
	script(t, filepath.Join(final, "root/usr/bin"), "swtpm", "")
	if err := os.MkdirAll(filepath.Join(final, "root/usr/lib/x86_64-linux-gnu/swtpm"), 0o755); err != nil {
		t.Fatal(err)
	}
	inner := "#!/bin/sh\necho \"$LD_LIBRARY_PATH\"\nfor a; do echo \"<$a>\"; done\n"
	if err := os.WriteFile(filepath.Join(final, "root/usr/bin/swtpm"), []byte(inner), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := hostdeps.WriteScripts(final, final); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(final, "bin/swtpm"), "a b", "$HOME", "")
	cmd.Env = []string{"LD_LIBRARY_PATH=/mine"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lib := filepath.Join(final, "root/usr/lib/x86_64-linux-gnu")
	want := lib + ":" + lib + "/swtpm:/mine\n<a b>\n<$HOME>\n<>\n"
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
}

// thisBase returns the packages of this machine that every Debian has.
func thisBase(t *testing.T) []string {
	t.Helper()
	status, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		t.Skip("this system is no Debian: ", err)
	}
	architecture, err := exec.Command("dpkg", "--print-architecture").Output()
	if err != nil {
		t.Fatal(err)
	}
	return hostdeps.BaseNames(string(status), strings.TrimSpace(string(architecture)))
}
