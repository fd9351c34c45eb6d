package policy_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/policy"
)

// TestZoneTerms: what a zone grants a node that earned it before, by the set in
// force now.
func TestZoneTerms(t *testing.T) {
	set := load(t, zonePayments, referenceDebian, zoneLab)
	node := policy.Node{ID: "n", Groups: []string{"rack-7"}, AdmittedBy: "inventory"}
	got, ok := set.ZoneTerms("payments", node)
	checkout, any0 := 1001, 0
	want := policy.Terms{
		Tier: 2, MaxAge: 5 * time.Minute, X509TTL: time.Hour, JWTTTL: 5 * time.Minute, Grace: 55 * time.Minute,
		Audiences: []string{"payments-api"}, Workloads: []policy.Workload{
			{Name: "checkout", UID: &checkout, Path: "/usr/bin/checkout", Groups: []string{"rack-7"}}, {Name: "any-rack", UID: &any0},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("%t (-want +got):\n%s", ok, diff)
	}
	*got.Workloads[0].UID, got.Audiences[0] = 0, "all"
	if again, _ := set.ZoneTerms("payments", node); !cmp.Equal(want, again) {
		t.Error("a caller can change the set through its terms")
	}
}

func TestZoneTermsOfNobody(t *testing.T) {
	set := load(t, zonePayments, referenceDebian, zoneLab)
	const id = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	one := load(t, `apiVersion: zonebroker/v1
kind: Zone
name: one
tier: 1
selectors: {any: [{node: `+id+`, group: rack-7}]}
admit: [inventory]
`)
	for name, tt := range map[string]struct {
		set  *policy.Set
		zone string
		node policy.Node
		want bool
	}{
		"the zone of the node":       {set, "lab", policy.Node{Groups: []string{"bench"}, AdmittedBy: "operator"}, true},
		"no such zone":               {set, "lub", policy.Node{Groups: []string{"bench"}, AdmittedBy: "operator"}, false},
		"no zone":                    {set, "", policy.Node{Groups: []string{"bench"}, AdmittedBy: "operator"}, false},
		"left the group":             {set, "lab", policy.Node{Groups: []string{"rack-7"}, AdmittedBy: "operator"}, false},
		"admitted otherwise":         {set, "lab", policy.Node{Groups: []string{"bench"}, AdmittedBy: "join_token"}, false},
		"not admitted":               {set, "lab", policy.Node{Groups: []string{"bench"}}, false},
		"selected by evidence alone": {set, "payments", policy.Node{AdmittedBy: "inventory"}, true},
		"the one node":               {one, "one", policy.Node{ID: id, Groups: []string{"rack-7"}, AdmittedBy: "inventory"}, true},
		"another node":               {one, "one", policy.Node{ID: id[1:] + "b", Groups: []string{"rack-7"}, AdmittedBy: "inventory"}, false},
		"the one node, left":         {one, "one", policy.Node{ID: id, AdmittedBy: "inventory"}, false},
		"no set":                     {nil, "lab", policy.Node{Groups: []string{"bench"}, AdmittedBy: "operator"}, false},
	} {
		got, ok := tt.set.ZoneTerms(tt.zone, tt.node)
		if ok != tt.want || !ok && !cmp.Equal(got, policy.Terms{}) {
			t.Errorf("%s: %t, %+v", name, ok, got)
		}
	}
}
