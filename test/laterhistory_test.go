package test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
)

// TestLaterSVIDsInTheHistory: what was issued is found by the commands, and who
// changes it as the owner of the database is found by verify.
func TestLaterSVIDsInTheHistory(t *testing.T) {
	c := newCluster(t, laterZone)
	p := c.start(t)
	a, b := newAsker(t, p, "rack-7"), newAsker(t, p, "rack-8")
	wantBoth(t, a.client, "web", "")
	_, err := askJWT(t, a.client, "")
	must(t, err)
	wantBoth(t, b.client, "db", "")

	var entries []api.Entry
	p.ctl(t, &entries, "history", "list", "--type", "svid.issued", "--node", a.res.Node, "--zone", "lab")
	if len(entries) != 3 {
		t.Errorf("%d records: %+v", len(entries), entries)
	}
	timeline := c.rig.run(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "node", "timeline", a.res.Node)
	const web = "spiffe://test.example/zone/lab/workload/web"
	for _, want := range []string{"x509 SVID " + web + " until", "jwt SVID " + web + " for payments-api until", "jwt SVID " + a.res.SPIFFEID + " for payments-api until"} {
		if strings.Count(timeline, want) != 1 {
			t.Errorf("not once in the timeline: %q\n%s", want, timeline)
		}
	}
	if strings.Contains(timeline, "workload/db") {
		t.Errorf("another node's:\n%s", timeline)
	}
	c.wantWhole(t, p)
	issuedTampered(t, c, p)
}

func issuedTampered(t *testing.T, c *cluster, p *replica) {
	const last = ` WHERE log_idx = (SELECT max(log_idx) FROM attestation WHERE type = 'svid.issued')`
	c.as(t, `CREATE TEMP TABLE kept_svid AS SELECT * FROM svid`)
	c.as(t, `CREATE TEMP TABLE kept_issued AS SELECT * FROM attestation WHERE type = 'svid.issued'`)
	for _, tt := range []struct{ name, sql string }{
		{"audience_in_the_row", `UPDATE svid SET audience = 'billing'` + last},
		{"end_in_the_row", `UPDATE svid SET not_after = not_after + interval '1 hour'` + last},
		{"identity_in_the_row", `UPDATE svid SET spiffe_id = 'spiffe://other'` + last},
		{"node_in_the_row", `UPDATE svid SET node_id = (SELECT min(node_id) FROM svid WHERE node_id <> (SELECT node_id FROM svid` + last + `))` + last},
		{"row_deleted", `DELETE FROM svid` + last},
		{"row_added", `INSERT INTO svid SELECT recorded_at, log_id, log_idx, (ord + 1)::smallint, node_id, profile, 'ff', spiffe_id, not_before, not_after, tbs_sha256, ca_key_id, key, audience FROM svid` + last},
		{"byte_of_the_body", `UPDATE attestation SET packed = set_byte(packed, length(packed) / 2, get_byte(packed, length(packed) / 2) # 1)` + last},
		{"another_body", `UPDATE attestation a SET packed = (SELECT packed FROM attestation WHERE type = 'attestation' LIMIT 1)` + last},
		{"node_of_the_record", `UPDATE attestation SET node_id = (SELECT min(node_id) FROM svid WHERE node_id <> (SELECT node_id FROM svid` + last + `))` + last},
		{"record_deleted", `DELETE FROM attestation` + last},
		{"time_in_the_row", `UPDATE svid SET recorded_at = recorded_at - interval '1 second'` + last},
		{"time_of_the_record", `UPDATE attestation SET recorded_at = recorded_at - interval '1 second'` + last},
	} {
		t.Run("T60_"+tt.name, func(t *testing.T) {
			c.as(t, tt.sql)
			c.wantBroken(t, p)
			c.as(t, `DELETE FROM svid`)
			c.as(t, `INSERT INTO svid SELECT * FROM kept_svid`)
			c.as(t, `DELETE FROM attestation WHERE type = 'svid.issued'`)
			c.as(t, `INSERT INTO attestation SELECT * FROM kept_issued`)
			c.wantWhole(t, p)
		})
	}
}
