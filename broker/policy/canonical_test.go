package policy_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestCanonical(t *testing.T) {
	set := load(t, zonePayments, referenceDebian, zoneLab)
	if turned := load(t, "# a comment\n"+zoneLab, referenceDebian, zonePayments); turned.Hash() != set.Hash() {
		t.Error("order of files and comments change the hash")
	}
	if spelt := load(t, replace(zonePayments, "max_age: 5m", "max_age: 300s"), referenceDebian, zoneLab); spelt.Hash() != set.Hash() {
		t.Error("spelling of a duration changes the hash")
	}
	for name, docs := range map[string][]string{
		"digest":   {zonePayments, replace(referenceDebian, digest0, other), zoneLab},
		"max_age":  {replace(zonePayments, "max_age: 5m", "max_age: 301s"), referenceDebian, zoneLab},
		"selector": {replace(zonePayments, "rack-7}", "rack-8}"), referenceDebian, zoneLab},
		"one less": {zonePayments, referenceDebian},
	} {
		if load(t, docs...).Hash() == set.Hash() {
			t.Errorf("%s: the hash does not change", name)
		}
	}
	again, err := policy.LoadCanonical(set.Canonical())
	if err != nil || again.Hash() != set.Hash() {
		t.Errorf("canonical form does not load: %v", err)
	}
	if _, err := policy.LoadCanonical(append(set.Canonical(), ' ')); reason.Of(err) != reason.PolicyInvalid {
		t.Errorf("another form of the same set: %v", err)
	}
	if _, err := policy.LoadCanonical([]byte(`[]`)); reason.Of(err) != reason.PolicyInvalid {
		t.Errorf("empty canonical set: %v", err)
	}
}

// FuzzLoad: no panic, and whatever loads denies strangers and survives its own
// canonical form.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(zonePayments), []byte(referenceDebian))
	f.Add([]byte(zoneLab), []byte(zoneLab))
	f.Add([]byte("a: &a [*a, *a]"), []byte("--- !x\n? [a]\n: <<\n"))
	f.Add([]byte("{\"a\": ! b}"), []byte("%YAML 1.1\n---\nkind: Zone\n..."))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		set, problems := policy.Load([]policy.File{{Name: "a", Bytes: a}, {Name: "b", Bytes: b}})
		if (set == nil) == (len(problems) == 0) {
			t.Fatalf("set %v with problems %v", set != nil, problems)
		}
		if set == nil {
			return
		}
		again, err := policy.LoadCanonical(set.Canonical())
		if err != nil || again.Hash() != set.Hash() {
			t.Fatalf("canonical form does not load: %v\n%s", err, set.Canonical())
		}
		if set.Decide(policy.Input{Appraisal: &evidence{}, Now: now, AttestedAt: now}).Allow {
			t.Fatal("a stranger without evidence is allowed")
		}
	})
}
