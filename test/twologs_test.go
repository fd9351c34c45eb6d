package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
)

// TestTwoBrokersWithALogEach: a second broker made by init --replica-of writes a
// log of its own; hosts go from one to the other, carry the checkpoints of both,
// and lose nothing by it. Either broker verifies both logs, and either finds what
// was changed in the other's.
func TestTwoBrokersWithALogEach(t *testing.T) {
	c := newCluster(t)
	first := c.replica(t)
	yaml := filepath.Join(first.dir, "zonebroker.yaml")
	raw, err := os.ReadFile(yaml)
	must(t, err)
	text := strings.Replace(string(raw), "database: embedded:pg", "database: \""+c.writer+"\"", 1)
	must(t, os.WriteFile(yaml, []byte(text), 0o600))
	second := &replica{cluster: c, dir: first.dir + "-second", name: first.name + "-second"}
	c.rig.run(t, nil, "zonebroker", "init", second.dir, "--replica-of", first.dir, "--log-id", "second", "--listen", "127.0.0.1:0")
	public, err := os.ReadFile(filepath.Join(second.dir, "log.pub"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(first.dir, "log-second.pub"), public, 0o600))
	first.launch(t)
	second.launch(t)

	hosts := []*host{newHost(t, c.rig), newHost(t, c.rig)}
	hosts[0].admit(first)
	hosts[1].admit(second)
	for range 3 {
		for i, h := range hosts {
			h.mustAttest([]*replica{first, second}[i])
			h.mustAttest([]*replica{second, first}[i])
		}
	}
	for _, p := range []*replica{first, second} {
		var v api.Verification
		p.ctl(t, &v, "history", "verify")
		if !v.OK || len(v.Logs) != 2 || v.Logs[0].Log != "main" || v.Logs[1].Log != "second" || v.Logs[0].Size+v.Logs[1].Size != v.Records {
			t.Errorf("%s: history verify = %+v", p.name, v)
		}
		var page api.HistoryPage
		p.ctl(t, &page.Entries, "history", "list", "--type", "attestation")
		if len(page.Entries) != 12 {
			t.Errorf("%s lists %d attestations of both logs, want 12", p.name, len(page.Entries))
		}
	}
	// A broker follows the withdrawals of the other.
	node := hosts[0].mustAttest(first).Node
	second.ctl(t, nil, "node", "disable", node)
	if _, err := hosts[0].attest(first); err == nil {
		t.Error("a node that the other broker disabled was accepted")
	}
	c.as(t, `UPDATE attestation SET salt = sha256(salt) WHERE log_id = 'second' AND log_idx = 1`)
	c.wantBroken(t, first)
	c.wantBroken(t, second)
}
