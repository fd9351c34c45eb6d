package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/policy"
)

// TestDifferencesAreThoseOfTheDecision, for a zone that the caller names: who
// explains a denial has the measurements, and not the node any more.
func TestDifferencesAreThoseOfTheDecision(t *testing.T) {
	set, problems := policy.Load(files(zonePayments, referenceDebian, zoneLab))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	_, matching := good()
	changed := &evidence{
		pcrs:   map[int]string{0: digest0, 4: other, 7: digest7},
		events: map[int][]string{9: {kernel}},
	}
	want := []policy.Mismatch{
		{Set: "debian-12-6.1", PCR: 4, Expected: []string{digest4}, Seen: other},
		{Set: "debian-12-6.1", PCR: 9, Event: true, Expected: []string{initrd}},
	}
	for name, tc := range map[string]struct {
		set  *policy.Set
		zone string
		m    policy.Measured
		at   time.Time
		want []policy.Mismatch
	}{
		"differs":              {set, "payments", changed, now, want},
		"matches":              {set, "payments", matching, now, nil},
		"no_set_is_valid":      {set, "payments", changed, now.AddDate(5, 0, 0), nil},
		"zone_without_sets":    {set, "lab", changed, now, nil},
		"no_such_zone":         {set, "vault", changed, now, nil},
		"nothing_was_measured": {set, "payments", nil, now, nil},
		"no_policy":            {nil, "payments", changed, now, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.set.Differences(tc.zone, tc.m, tc.at)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReferenceSaysWhereItIsFrom(t *testing.T) {
	load := func(doc string) *policy.Set {
		t.Helper()
		set, problems := policy.Load(files(zonePayments, doc))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return set
	}
	set := load(referenceDebian)
	want := policy.Reference{
		Name: "debian-12-6.1", LearntFrom: "node-a", Boot: "0197b3c2-0000-7000-8000-000000000001", Events: map[int][]string{9: {kernel, initrd}},
		PCRs: map[int][]string{0: {strings.Repeat("a0", 32)}, 4: {strings.Repeat("44", 32)}, 7: {strings.Repeat("00", 30) + "1e55"}},
	}
	got, ok := set.Reference("debian-12-6.1")
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Error(ok, diff)
	}
	got.Events[9][0], got.PCRs[4][0] = "changed", "changed"
	if again, _ := set.Reference("debian-12-6.1"); cmp.Diff(want, again) != "" {
		t.Error("a caller changes the policy through what it was told")
	}
	before, _, _ := strings.Cut(referenceDebian, "provenance:")
	if got, ok := load(before).Reference("debian-12-6.1"); !ok || got.Boot != "" || got.LearntFrom != "" {
		t.Errorf("without provenance: %+v, %t", got, ok)
	}
	var none *policy.Set
	if _, ok := none.Reference("debian-12-6.1"); ok {
		t.Error("no policy has a reference set")
	}
	if _, ok := set.Reference("windows"); ok {
		t.Error("a set that does not exist is described")
	}
}
