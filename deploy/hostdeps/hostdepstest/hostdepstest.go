// Package hostdepstest hands programs of the host to tests. A test that needs
// one and does not find it fails with what to do: a silent skip would hide that
// nothing was tested.
package hostdepstest

import (
	"testing"

	"github.com/zonebroker/zonebroker/deploy/hostdeps"
)

// Program returns the path of a binary such as "swtpm", which belongs to the
// program of the given name such as hostdeps.SWTPM.
func Program(t testing.TB, program, binary string) string {
	t.Helper()
	found, missing := hostdeps.Find(t.Context(), program)
	for _, m := range missing {
		t.Fatalf("%s is missing (%s): run make deps, or: apt-get install %s", m.Name, m.Why, m.Name)
	}
	path := found.Path(binary)
	if path == "" {
		t.Fatalf("%s has no binary %s: run make deps", program, binary)
	}
	return path
}
