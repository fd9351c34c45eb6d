package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTrustDataChangesWhileABrokerRuns: what an operator puts into the folder is
// in force without a restart and named by the next record; what cannot be used
// leaves the version before in force, and is told by log and metric.
func TestTrustDataChangesWhileABrokerRuns(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	h.mustAttest(p)
	reload := func(says string) {
		t.Helper()
		before := strings.Count(p.logText(), says)
		must(t, p.cmd.Process.Signal(hangupSignal))
		eventually(t, 10*time.Second, says, func() bool { return strings.Count(p.logText(), says) > before })
		h.mustAttest(p)
	}
	object := filepath.Join(p.dir, "trust", "x509pop.ca", "lab.pem")
	must(t, os.MkdirAll(filepath.Dir(object), 0o700))
	must(t, os.WriteFile(object, c.rig.ca.RootPEM(), 0o600))
	reload("trust data in force")
	left := p.metric(t, `zonebroker_trust_expires_seconds{kind="x509pop.ca"}`)
	if left <= 0 || p.metric(t, "zonebroker_trust_reload_failed") != 0 {
		t.Errorf("%v seconds left", left)
	}
	broken := filepath.Join(filepath.Dir(object), "broken.pem")
	must(t, os.WriteFile(broken, []byte("-----BEGIN CERTIFICATE-----\n"), 0o600))
	reload("trust data not reloaded, the old one stays")
	if p.metric(t, "zonebroker_trust_reload_failed") != 1 {
		t.Error("no metric says that the folder cannot be used")
	}
	must(t, os.Remove(broken))
	must(t, os.Remove(object))
	reload("trust data in force")

	all := c.attestations(t)
	if len(all) != 4 {
		t.Fatalf("%d records", len(all))
	}
	first, second := all[0].TrustRoots, all[1].TrustRoots
	if first == second || all[2].TrustRoots != second || all[3].TrustRoots != first {
		t.Errorf("versions %s, %s, %s, %s", first, second, all[2].TrustRoots, all[3].TrustRoots)
	}
	c.wantWhole(t, p)
}

// TestBrokerRefusesAHalfFolderOfTrust: at the start there is no version before.
func TestBrokerRefusesAHalfFolderOfTrust(t *testing.T) {
	c := newCluster(t)
	must(t, os.MkdirAll(filepath.Join(c.dir, "trust", "aws.nitor"), 0o700))
	_, stderr, code := c.rig.try(t, nil, "zonebroker", "serve", "--dir", c.dir, "--database", c.writer, "--database-owner", c.owner)
	if code != 1 || !strings.Contains(stderr, "no kind of trust object has that name") {
		t.Errorf("exit %d\n%s", code, stderr)
	}
}
