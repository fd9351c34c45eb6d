package test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestQuestionsOfAnAuditor walks the way of a compliance team over one host that
// earns a zone, is refused, and is listed in an inventory: each answer has to say
// what happened, who asked has to stand in the log, and the log has to be whole.
func TestQuestionsOfAnAuditor(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	before := time.Now().UTC().Add(-time.Second).Format(time.RFC3339Nano)
	first := h.mustAttest(p)
	must(t, first.Save(filepath.Join(h.dir, "svid.pem")))
	serial := hex.EncodeToString(leafOf(t, filepath.Join(h.dir, "svid.pem")).SerialNumber.Bytes())
	earned := time.Now().UTC().Format(time.RFC3339Nano)
	learnReferences(t, p, first.Node, first.AttestationID)
	h.boot(build.Machine{KernelVersion: "6.1.0-99-other"}.Log())
	_, err := h.attest(p)
	wantCode(t, err, reason.PolicyPCRMismatch)

	var members api.MemberPage
	p.ctl(t, &members, "history", "members", "--zone", "lab", "--at", earned)
	if len(members.Members) != 1 || members.Members[0].Node != first.Node || members.Members[0].First != first.AttestationID || members.AsOf.Size == 0 {
		t.Errorf("members when it had earned the zone: %+v", members)
	}
	for _, at := range []string{before, "0s"} {
		if p.ctl(t, &members, "history", "members", "--zone", "lab", "--at", at); len(members.Members) != 0 {
			t.Errorf("members at %s: %+v", at, members)
		}
	}
	if p.ctl(t, &members, "history", "members", "--grace"); len(members.Members) != 1 {
		t.Errorf("it still holds an SVID: %+v", members)
	}
	var at api.NodeAt
	p.ctl(t, &at, "node", "as-of", first.Node)
	if at.Zone != "" || !at.Denied || !at.ValidSVID || at.Record.Reason != string(reason.PolicyPCRMismatch) {
		t.Errorf("as of now %+v", at)
	}
	var spans api.IntervalPage
	if p.ctl(t, &spans, "node", "intervals", first.Node); len(spans.Intervals) != 1 || spans.Intervals[0].Ended != "denied" {
		t.Errorf("spans %+v", spans)
	}
	var trail api.SVIDTrail
	p.ctl(t, &trail, "svid", "show", serial)
	if trail.SVID.SPIFFEID != first.SPIFFEID || trail.Decision.ID != first.AttestationID || len(trail.Evidence) == 0 {
		t.Errorf("from %s: %+v", serial, trail)
	}
	var svids api.SVIDPage
	if p.ctl(t, &svids, "svid", "list", "--denied-now"); len(svids.SVIDs) != 1 || svids.SVIDs[0].Serial != serial {
		t.Errorf("SVIDs of refused nodes: %+v", svids)
	}
	if p.ctl(t, &svids, "svid", "list", "--evidence", trail.Evidence[0].SHA256); len(svids.SVIDs) != 1 || svids.SVIDs[0].Serial != serial {
		t.Errorf("SVIDs on %+v: %+v", trail.Evidence[0], svids)
	}
	wholeFleet(t, p, h, first.Node)
	readingsStand(t, p)
	c.wantWhole(t, p)
}

// wholeFleet asks what concerns more than one node.
func wholeFleet(t *testing.T, p *replica, h *host, node string) {
	t.Helper()
	var rates api.RateList
	p.ctl(t, &rates, "history", "rates", "--zone", "lab")
	if len(rates.Rates) == 0 || rates.Rates[len(rates.Rates)-1].Accepted+rates.Rates[0].Accepted == 0 {
		t.Errorf("rates %+v", rates)
	}
	var check api.CrossCheck
	if p.ctl(t, &check, "history", "crosscheck"); !check.OK {
		t.Errorf("counts %+v", check)
	}
	var found api.DetectionPage
	if p.ctl(t, &found, "drift", "detection", "--kind", "pcr.4"); len(found.Detections) != 1 || found.Detections[0].Node != node {
		t.Errorf("detections %+v", found)
	}
	list := filepath.Join(h.dir, "machines.csv")
	must(t, os.WriteFile(list, []byte(api.InventoryHeader+"\nour,,,"+h.ekHashes()[0]+"\ngone,R650,berlin,\n"), 0o600))
	p.ctl(t, nil, "inventory", "import", list)
	var cover api.Coverage
	p.ctl(t, &cover, "inventory", "coverage")
	if cover.Machines != 2 || cover.Fresh != 1 || len(cover.Missing) != 1 || cover.Missing[0].Machine != "gone" || len(cover.Unknown) != 0 {
		t.Errorf("coverage %+v", cover)
	}
}

// readingsStand looks for the readings of the test in the log, and that they are
// in no other list.
func readingsStand(t *testing.T, p *replica) {
	t.Helper()
	var readings, all []api.Entry
	p.ctl(t, &readings, "history", "list", "--type", "history.read", "--all")
	p.ctl(t, &all, "history", "list", "--all")
	for _, e := range all {
		if e.Type == "history.read" {
			t.Errorf("a reading among what happened: %+v", e)
		}
	}
	if len(readings) < 12 {
		t.Fatalf("%d readings: %+v", len(readings), readings)
	}
	var entry struct {
		Body struct {
			By, Role, What string
			Filter         map[string]string
		}
	}
	p.ctl(t, &entry, "history", "show", readings[len(readings)-1].ID)
	if b := entry.Body; !strings.HasPrefix(b.By, "uid:") || b.Role != "admin" || b.What == "" || len(b.Filter) == 0 {
		t.Errorf("the first reading: %+v", b)
	}
}
