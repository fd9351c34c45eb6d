package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestGoodHostEarnsItsZone(t *testing.T) {
	set := load(t, zonePayments, referenceDebian, zoneLab)
	in, _ := good()
	d := set.Decide(in)
	if !d.Allow || d.Zone != "payments" || d.Tier != 2 || len(d.Reasons) != 0 {
		t.Fatalf("decision = %+v", d)
	}
	if !d.Referenced {
		t.Error("the decision does not say that a reference set matched")
	}
	if d.MaxAge != 5*time.Minute || d.X509TTL != time.Hour || d.JWTTTL != 5*time.Minute || d.Grace != 55*time.Minute {
		t.Errorf("lifetimes = %v %v %v %v", d.MaxAge, d.X509TTL, d.JWTTTL, d.Grace)
	}
	var names []string
	for _, w := range d.Workloads {
		names = append(names, w.Name)
	}
	if got := strings.Join(names, " "); got != "checkout any-rack" {
		t.Errorf("workloads = %q; those of other racks must be left out", got)
	}
	*d.Workloads[0].UID = 0
	d.Audiences[0] = "all"
	if again := set.Decide(in); *again.Workloads[0].UID != 1001 || again.Audiences[0] != "payments-api" {
		t.Error("a caller can change the set through its decision")
	}
}

func TestDefaultsOfAZone(t *testing.T) {
	in, ev := good()
	in.Node.Groups, in.Node.AdmittedBy = []string{"bench"}, "any_genuine"
	ev.key, ev.boot = "software", "unknown"
	d := load(t, zoneLab).Decide(in)
	if !d.Allow || d.Referenced || d.MaxAge != 5*time.Minute || d.X509TTL != time.Hour || d.JWTTTL != 5*time.Minute || d.Grace != 55*time.Minute {
		t.Errorf("decision = %+v %s", d, codes(d))
	}
	short := load(t, zoneLab+"evidence: {max_age: 1m}\n").Decide(in)
	if short.JWTTTL != time.Minute {
		t.Errorf("jwt_ttl = %s outlives max_age", short.JWTTTL)
	}
}

func TestDenials(t *testing.T) {
	set := load(t, zonePayments, referenceDebian, zoneLab)
	rows := []struct {
		name string
		edit func(*policy.Input, *evidence)
		want string
	}{
		{"T50_no zone selects", func(in *policy.Input, ev *evidence) { in.Node.Groups, ev.made = nil, "IFX" }, "policy.no_zone"},
		{"T50_no evidence", func(in *policy.Input, _ *evidence) { in.Appraisal = nil }, "policy.evidence_missing"},
		{"T50_evidence fails to evaluate", func(_ *policy.Input, ev *evidence) { ev.panics = true }, "policy.error"},
		{"refused evidence", func(in *policy.Input, ev *evidence) {
			ev.refusals = []*reason.Error{reason.New(reason.TPM2PCRDigest, "")}
			in.Node.AdmittedBy = ""
		}, "tpm2.pcr.digest"},
		{"not signed", func(_ *policy.Input, ev *evidence) { ev.forged = true }, "policy.evidence_missing"},
		{"not admitted", func(in *policy.Input, _ *evidence) { in.Node.AdmittedBy = "" }, "node.not_admitted"},
		{"admitted otherwise", func(in *policy.Input, _ *evidence) { in.Node.AdmittedBy = "any_genuine" }, "node.not_admitted"},
		{"any genuine without certificate", func(in *policy.Input, ev *evidence) {
			in.Node.Groups, in.Node.AdmittedBy, ev.genuine, ev.made = []string{"bench"}, "any_genuine", false, ""
		}, "node.not_admitted"},
		{"other format", func(_ *policy.Input, ev *evidence) { ev.format = "tpm2.lab" }, "policy.evidence_missing"},
		{"class B", func(_ *policy.Input, ev *evidence) { ev.class = "B" }, "policy.binding_class"},
		{"unknown class", func(_ *policy.Input, ev *evidence) { ev.class = "" }, "policy.binding_class"},
		{"software key", func(_ *policy.Input, ev *evidence) { ev.key = "software" }, "policy.evidence_missing"},
		{"unknown key", func(_ *policy.Input, ev *evidence) { ev.key = "" }, "policy.evidence_missing"},
		{"secure boot off", func(_ *policy.Input, ev *evidence) { ev.boot = "off" }, "policy.secure_boot"},
		{"secure boot unknown", func(_ *policy.Input, ev *evidence) { ev.boot = "unknown" }, "policy.secure_boot"},
		{"evidence at max_age", func(in *policy.Input, _ *evidence) { in.AttestedAt = in.Now.Add(-5 * time.Minute) }, "policy.evidence_age"},
		{"evidence of the future", func(in *policy.Input, _ *evidence) { in.AttestedAt = in.Now.Add(11 * time.Second) }, "policy.evidence_age"},
		{"no times at all", func(in *policy.Input, _ *evidence) { in.Now, in.AttestedAt = time.Time{}, time.Time{} }, "policy.evidence_age policy.reference_missing"},
		{"no time", func(in *policy.Input, _ *evidence) { in.AttestedAt = time.Time{} }, "policy.evidence_age"},
		{"other kernel", func(_ *policy.Input, ev *evidence) { ev.pcrs[4] = other }, "policy.pcr_mismatch"},
		{"PCR not quoted", func(_ *policy.Input, ev *evidence) { delete(ev.pcrs, 7) }, "policy.pcr_mismatch"},
		{"event missing", func(_ *policy.Input, ev *evidence) { ev.events[9] = []string{kernel} }, "policy.pcr_mismatch"},
		{"no log", func(_ *policy.Input, ev *evidence) { ev.events = nil }, "policy.pcr_mismatch policy.pcr_mismatch"},
		{"event in another PCR", func(_ *policy.Input, ev *evidence) { ev.events = map[int][]string{8: {kernel, initrd}} }, "policy.pcr_mismatch policy.pcr_mismatch"},
		{"T50_reference set not valid yet", func(in *policy.Input, _ *evidence) {
			in.Now = time.Date(2026, 11, 19, 0, 0, 0, 0, time.UTC)
			in.AttestedAt = in.Now
		}, "policy.reference_missing"},
		{"T50_reference set ended", func(in *policy.Input, _ *evidence) {
			in.Now = time.Date(2027, 11, 20, 0, 0, 0, 0, time.UTC)
			in.AttestedAt = in.Now
		}, "policy.reference_missing"},
		{"everything at once", func(in *policy.Input, ev *evidence) {
			*ev = evidence{}
			in.Node.AdmittedBy, in.AttestedAt = "", time.Time{}
		}, "node.not_admitted policy.evidence_age policy.evidence_missing policy.evidence_missing policy.binding_class policy.secure_boot policy.pcr_mismatch policy.pcr_mismatch policy.pcr_mismatch policy.pcr_mismatch policy.pcr_mismatch"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			in, ev := good()
			r.edit(&in, ev)
			d := set.Decide(in)
			if d.Allow || codes(d) != r.want {
				t.Errorf("allow %v, reasons %q, want %q", d.Allow, codes(d), r.want)
			}
			if d.Referenced || d.X509TTL != 0 || d.Grace != 0 || d.Workloads != nil {
				t.Errorf("a denial hands out %+v", d)
			}
		})
	}
}

func TestT50_noSetDenies(t *testing.T) {
	in, _ := good()
	for name, set := range map[string]*policy.Set{"nil": nil, "zero": {}} {
		if d := set.Decide(in); d.Allow || codes(d) != string(reason.PolicyMissing) {
			t.Errorf("%s: %v %s", name, d.Allow, codes(d))
		}
	}
}

func TestPriorityChoosesBeforeRequirements(t *testing.T) {
	in, ev := good()
	in.Node.Groups = []string{"rack-7", "bench"}
	ev.boot = "off"
	d := load(t, zonePayments, referenceDebian, zoneLab).Decide(in)
	if d.Allow || d.Zone != "payments" || codes(d) != string(reason.PolicySecureBoot) {
		t.Errorf("a host that fails payments slips into %q: %s", d.Zone, codes(d))
	}
}

// TestUnprovedSecureBootSaysWhy: a log that breaks the grammar of PCR 7 claims
// the state only, and its own code comes first.
func TestUnprovedSecureBootSaysWhy(t *testing.T) {
	in, ev := good()
	ev.boot, ev.unproved = "unknown", reason.New(reason.EventLogPCR7Grammar, "two SecureBoot events")
	d := load(t, zonePayments, referenceDebian).Decide(in)
	if want := string(reason.EventLogPCR7Grammar) + " " + string(reason.PolicySecureBoot); d.Allow || codes(d) != want {
		t.Errorf("denied with %q, want %q", codes(d), want)
	}
}

func TestT50_zoneAmbiguous(t *testing.T) {
	in, _ := good()
	in.Node.Groups = []string{"rack-7", "bench"}
	d := load(t, replace(zonePayments, "priority: 10\n", ""), referenceDebian, zoneLab).Decide(in)
	if d.Allow || d.Zone != "" || codes(d) != string(reason.PolicyZoneAmbiguous) {
		t.Errorf("zone %q, reasons %s", d.Zone, codes(d))
	}
	// A third zone with more priority decides again.
	third := replace(replace(zoneLab, "name: lab", "name: rack"), "{group: bench}", "{group: rack-7, node: "+in.Node.ID+"}") + "priority: 3\n"
	in.Node.AdmittedBy = "operator"
	if d := load(t, replace(zonePayments, "priority: 10\n", ""), referenceDebian, zoneLab, third).Decide(in); !d.Allow || d.Zone != "rack" {
		t.Errorf("zone %q, reasons %s", d.Zone, codes(d))
	}
}

func TestSelectorsNeedAllMembers(t *testing.T) {
	set := load(t, zonePayments, referenceDebian)
	in, ev := good()
	in.Node.Groups = nil
	if d := set.Decide(in); d.Zone != "payments" {
		t.Errorf("ek_manufacturer and format select: %s", codes(d))
	}
	ev.format = "nitro"
	if d := set.Decide(in); codes(d) != string(reason.PolicyNoZone) {
		t.Errorf("half a selector selects: %s", codes(d))
	}
}

func TestWeakestClassThatAZoneAccepts(t *testing.T) {
	for _, r := range []struct {
		wants, has string
		allow      bool
	}{{"A", "A", true}, {"A", "B", false}, {"B", "A", true}, {"B", "B", true}, {"B", "C", false}, {"C", "C", true}, {"C", "", false}} {
		in, ev := good()
		ev.class = r.has
		d := load(t, replace(zonePayments, "class: A", "class: "+r.wants), referenceDebian).Decide(in)
		if d.Allow != r.allow {
			t.Errorf("zone wants %s, evidence has %q: allow %v", r.wants, r.has, d.Allow)
		}
	}
}

// A machine must be in one approved state as a whole, and the closest one
// explains a denial.
func TestReferenceSetsDoNotMix(t *testing.T) {
	second := replace(replace(referenceDebian, "name: debian-12-6.1", "name: debian-13"), digest0, other)
	second = replace(second, digest4, kernel)
	set := load(t, replace(zonePayments, "[debian-12-6.1]", "[debian-13, debian-12-6.1]"), referenceDebian, second)
	in, ev := good()
	if d := set.Decide(in); !d.Allow {
		t.Errorf("second set does not count: %s", codes(d))
	}
	ev.pcrs[0] = other // PCR 0 of one set, PCR 4 of the other
	if d := set.Decide(in); d.Allow {
		t.Error("values of two sets were mixed")
	}
	ev.pcrs[7] = other
	ev.pcrs[4] = kernel
	set = load(t, replace(zonePayments, "[debian-12-6.1]", "[debian-12-6.1, debian-13]"), referenceDebian, second)
	d := set.Decide(in)
	if len(d.Mismatches) != 1 || d.Mismatches[0].Set != "debian-13" || d.Mismatches[0].PCR != 7 ||
		d.Mismatches[0].Seen != other || !slices.Equal(d.Mismatches[0].Expected, []string{digest7}) {
		t.Errorf("mismatches = %+v", d.Mismatches)
	}
	if text := d.Reasons[0].Detail; !strings.Contains(text, "PCR 7") || !strings.Contains(text, digest7) || !strings.Contains(text, other) {
		t.Errorf("detail = %q", text)
	}
}

func TestExpiredSetDoesNotHelp(t *testing.T) {
	old := replace(replace(referenceDebian, "name: debian-12-6.1", "name: old"), "not_before: 2026-11-20T00:00:00Z, not_after: 2027-11-20T00:00:00Z", "not_after: 2026-11-20T00:00:00Z")
	current := replace(referenceDebian, digest0, other)
	in, _ := good() // matches old only
	d := load(t, replace(zonePayments, "[debian-12-6.1]", "[old, debian-12-6.1]"), current, old).Decide(in)
	if d.Allow || codes(d) != string(reason.PolicyPCRMismatch) {
		t.Errorf("allow %v, %s", d.Allow, codes(d))
	}
}

func TestTierThreeWantsAnApprovedAK(t *testing.T) {
	doc := replace(zoneMeasured, "grace: 5m", "grace: 10m")
	set, problems := policy.Load(files(doc, referenceDebian, filesDebian))
	if set == nil {
		t.Fatal(problems)
	}
	in, _ := measured(t)
	if d := set.Decide(in); !d.Allow || d.Grace != 10*time.Minute {
		t.Errorf("allow %v, %s", d.Allow, codes(d))
	}
	in.Node.AKApproved = false
	if d := set.Decide(in); d.Allow || codes(d) != string(reason.NodeAKUnapproved) {
		t.Errorf("allow %v, %s", d.Allow, codes(d))
	}
	if d := load(t, zonePayments, referenceDebian).Decide(in); !d.Allow {
		t.Errorf("tier 2 takes a changed AK as an event: %s", codes(d))
	}
	for doc, limit := range map[string]string{doc: "11m", replace(doc, "tier: 3", "tier: 4"): "1s"} {
		_, problems := policy.Load(files(replace(doc, "grace: 10m", "grace: "+limit), referenceDebian, filesDebian))
		if !slices.ContainsFunc(problems, func(p policy.Problem) bool { return strings.Contains(p.Text, "grace of tier") }) {
			t.Errorf("grace %s: %v", limit, problems)
		}
	}
}

// TestAnnouncedReboots: only a zone that says so cares, and only about reboots
// that nobody announced.
func TestAnnouncedReboots(t *testing.T) {
	strict := load(t, replace(zonePayments, "requires: {", "requires: {announced_reboots: true, "), referenceDebian)
	for name, c := range map[string]struct {
		set                 *policy.Set
		rebooted, announced bool
		want                string
	}{
		"no_reboot":    {strict, false, false, ""},
		"announced":    {strict, true, true, ""},
		"unannounced":  {strict, true, false, "node.reboot_unannounced"},
		"not_required": {load(t, zonePayments, referenceDebian), true, false, ""},
		"never_came":   {strict, false, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in, _ := good()
			in.Rebooted, in.Announced = c.rebooted, c.announced
			if d := c.set.Decide(in); codes(d) != c.want || d.Allow != (c.want == "") {
				t.Errorf("allow %v, %q, want %q", d.Allow, codes(d), c.want)
			}
		})
	}
}
