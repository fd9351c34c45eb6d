package test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// formatCase is a format of documents on its way through a running broker.
type formatCase struct {
	name    string // of the zone
	format  string // names the node
	class   string // that the zone wants
	tier    int
	selects string // hosts that the zone is for; those of the format where empty
	needs   string // what the zone wants beside format and class
	age     string // max_age of the zone, 5m where empty
	owner   string // whom an operator admits; a join token admits the host where empty
	label   string // submodule of the claims
	tpm     bool   // a TPM quotes, whose key the document vouches for
	items   map[string]item

	// bad replaces some items by such as the verifier refuses, feared by such as are
	// genuine, and unwanted by default; then a zone that was changed to want strict
	// refuses the honest ones.
	bad     map[string]item
	refused reason.Code
	feared  map[string]item
	fear    reason.Code
	strict  string
	unmet   reason.Code
}

func (k *formatCase) zone() string {
	zone := documentZone(k.name, k.format, k.class, k.tier, k.needs)
	if k.selects != "" {
		zone = strings.Replace(zone, "selectors: {any: [{format: "+k.format+"}]}", "priority: 10\nselectors: {any: [{"+k.selects+"}]}", 1)
	}
	if k.age != "" {
		zone = strings.Replace(zone, "max_age: 5m", "max_age: "+k.age, 1)
	}
	if k.owner == "" {
		zone = strings.Replace(zone, "admit: [owner]", "admit: [join_token]", 1)
	}
	return zone
}

// TestEveryFormatThroughABroker: one broker that takes every format, with documents
// of a test PKI in the shape of each platform. A host of each earns the zone that is
// for it once it is admitted, and keeps it; what it claims has the strength of its
// class. What the verifier refuses, what is feared and what a stricter zone does not
// take is denied by its code, and every one of these decisions stands in the history
// and comes out the same when it is judged again without the broker.
func TestEveryFormatThroughABroker(t *testing.T) {
	m := newMakers(t)
	cases := m.cases()
	zones := make([]string, 0, len(cases))
	for i := range cases {
		zones = append(zones, cases[i].zone())
	}
	c := newCluster(t, zones...)
	m.configure(c)
	p := c.start(t)
	for i := range cases {
		t.Run(cases[i].name, func(t *testing.T) { cases[i].walk(t, p) })
	}
	var v api.Verification
	p.ctl(t, &v, "history", "verify")
	if !v.OK {
		t.Errorf("history verify = %+v", v)
	}
}

// TestEveryFormatHasACase: the cases are as many formats as the verifier judges, so
// that the next one cannot be forgotten.
func TestEveryFormatHasACase(t *testing.T) {
	covered := map[string]bool{verifier.FormatTPM2: true, verifier.FormatTPM2Lab: true}
	for _, k := range newMakers(t).cases() {
		for format := range k.items {
			covered[format] = true
		}
	}
	if have := slices.Sorted(maps.Keys(covered)); !slices.Equal(have, verifier.Formats()) {
		t.Errorf("cases for %v, the verifier judges %v", have, verifier.Formats())
	}
}

func (k *formatCase) walk(t *testing.T, p *replica) {
	h := newCloudHost(t, k.format, k.items)
	if k.tpm {
		machine := newHost(t, p.cluster.rig)
		machine.ak = tpm2collect.RSA // as Azure's is
		h.tpm = machine.raw(p)
	}
	_, err := h.attest(p)
	wantCode(t, err, reason.NodeNotAdmitted)
	k.admit(t, p, h)
	first, err := h.attest(p)
	must(t, err)
	again, err := h.attest(p)
	must(t, err)
	if first.Zone != k.name || first.Tier != k.tier || again.Node != first.Node {
		t.Errorf("zone %s of tier %d as %s, then %s", first.Zone, first.Tier, first.Node, again.Node)
	}
	if now := time.Now(); again.RenewAt.Before(now) || again.FreshUntil.Before(again.RenewAt.Add(again.RenewAt.Sub(now))) {
		t.Errorf("at %s: renew at %s, fresh until %s", now, again.RenewAt, again.FreshUntil)
	}
	k.claims(t, again)
	p.judgedAgain(t, again.AttestationID, "", "")

	h.items = replaced(k.items, k.bad)
	k.denied(t, p, h, first.Node, k.refused, k.refused)
	if k.feared != nil {
		h.items = replaced(k.items, k.feared)
		k.denied(t, p, h, first.Node, k.fear, "")
	}
	h.items = k.items
	_, err = h.attest(p)
	must(t, err)
	p.stricter(t, k.name, k.strict)
	k.denied(t, p, h, first.Node, k.unmet, "")
	if k.format == verifier.FormatJoinToken {
		k.repeated(t, p, h, first.Node)
	}
}

// repeated: what is refused again and again is three records an hour, and a count of
// the rest.
func (k *formatCase) repeated(t *testing.T, p *replica, h *cloudHost, node string) {
	t.Helper()
	began, more := time.Now().UTC(), 4
	for range more {
		_, err := h.attest(p)
		wantCode(t, err, k.unmet)
	}
	var entries []api.Entry
	p.ctl(t, &entries, "history", "list", "--node", node, "--reason", string(k.unmet), "--since", "1h")
	if began.Hour() == time.Now().UTC().Hour() && len(entries) != 3 {
		t.Errorf("%d records", len(entries))
	}
	eventually(t, 10*time.Second, "the others are counted", func() bool {
		var n int
		must(t, p.cluster.super.QueryRow(t.Context(), "SELECT coalesce(sum(n), 0) FROM refusal_hourly WHERE node_id = $1 AND code = $2", node, string(k.unmet)).Scan(&n))
		return len(entries)+n == 1+more
	})
}

// replaced returns items, some of them replaced.
func replaced(items, others map[string]item) map[string]item {
	out := maps.Clone(items)
	maps.Copy(out, others)
	return out
}

// admit has an operator say that the host is ours.
func (k *formatCase) admit(t *testing.T, p *replica, h *cloudHost) {
	t.Helper()
	if k.owner != "" {
		p.ctl(t, nil, "node", "admit", "--owner", k.owner, "--group", "cloud")
		return
	}
	var token api.Token
	p.ctl(t, &token, "token", "create", "--group", "cloud")
	h.token = token.Secret
}

// claims: hardware is claimed by evidence of class A alone, and the key of the SVID
// lives in the TPM where there is one.
func (k *formatCase) claims(t *testing.T, res api.AttestResponse) {
	t.Helper()
	c := claimsOf(t, res)
	labels, key := []string{k.label}, claim.KeySoftware
	if k.tpm {
		labels, key = []string{claim.SubmodTPM, k.label}, claim.KeyTPM
	}
	slices.Sort(labels)
	if have := slices.Sorted(maps.Keys(c.Submods)); !slices.Equal(have, labels) {
		t.Errorf("submodules %v, want %v", have, labels)
	}
	hardware := c.Submods[k.label].Vector.Hardware
	if (hardware == claim.HardwareGenuine) != (k.class == verifier.ClassA) || hardware != 0 && hardware != claim.HardwareGenuine {
		t.Errorf("hardware %d for class %s", hardware, k.class)
	}
	if c.Zone.Name != k.name || c.Zone.Tier != k.tier || c.Zone.Key != key {
		t.Errorf("claimed %+v", c.Zone)
	}
}

// denied: the broker refuses what the host sends, the history says why, and so does
// whoever judges the record again: the verifier by its code, or nobody where a zone
// decided.
func (k *formatCase) denied(t *testing.T, p *replica, h *cloudHost, node string, code, verifiers reason.Code) {
	t.Helper()
	_, err := h.attest(p)
	wantCode(t, err, code)
	var entries []api.Entry
	p.ctl(t, &entries, "history", "list", "--node", node, "--reason", string(code), "--verdict", "deny", "--since", "1h")
	if len(entries) != 1 {
		t.Fatalf("%s: %d records: %+v", code, len(entries), entries)
	}
	p.judgedAgain(t, entries[0].ID, verifiers, code)
}

// judgedAgain has a recorded attestation judged once more, from what is kept and
// without the broker. It is recorded as a denial by code where that is not empty, and
// the verifier refuses it by another that is not.
func (p *replica) judgedAgain(t *testing.T, id string, refused, code reason.Code) {
	t.Helper()
	r := p.cluster.rig
	file := filepath.Join(p.dir, id+".json")
	r.run(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "history", "evidence", id, "--output", file)
	out, errOut, exit := r.try(t, nil, "zonebroker", "verify", file, "-o", "json")
	var v struct {
		Accepted bool   `json:"accepted"`
		Code     string `json:"code"`
		Same     bool   `json:"same"`
		Recorded struct {
			Verdict string   `json:"verdict"`
			Reasons []string `json:"reasons"`
		} `json:"recorded"`
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("exit %d: %v\n%s%s", exit, err, out, errOut)
	}
	validate(t, "zonebroker verify", []byte(out))
	if !v.Same || v.Accepted != (refused == "") || v.Code != string(refused) || exit == 0 != v.Accepted {
		t.Errorf("judged again, exit %d: %+v", exit, v)
	}
	verdict, first := "allow", ""
	if code != "" {
		verdict, first = "deny", string(code)
	}
	if v.Recorded.Verdict != verdict || cmp.Or(append(v.Recorded.Reasons, "")...) != first {
		t.Errorf("recorded as %s: %v, want %s by %q", v.Recorded.Verdict, v.Recorded.Reasons, verdict, fmt.Sprint(code))
	}
}
