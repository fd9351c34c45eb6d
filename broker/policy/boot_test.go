package policy_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
)

// TestBootRulesOut: only what the kernel cannot take back counts, and only where
// the log proves the command line.
func TestBootRulesOut(t *testing.T) {
	zone := func(boot string) string {
		return replace(zonePayments, "requires: {", "requires: {boot: {"+boot+"}, ")
	}
	both, kexec, hibernation := zone("kexec: denied, hibernation: denied"), zone("kexec: denied"), zone("hibernation: denied")
	for name, c := range map[string]struct {
		zone, line, want string
	}{
		"lockdown":                       {both, "root=/dev/vda1 ro lockdown=integrity", ""},
		"lockdown_confidentiality":       {both, "lockdown=confidentiality", ""},
		"ima_policy":                     {kexec, "ima_policy=tcb|secure_boot", ""},
		"ima_policy_underscore_or_dash":  {kexec, "ima-policy=secure_boot", ""},
		"sysctl":                         {kexec, "sysctl.kernel.kexec_load_disabled=1", ""},
		"sysctl_with_slashes":            {kexec, "sysctl/kernel/kexec_load_disabled=1", ""},
		"nohibernate":                    {hibernation, "quiet nohibernate", ""},
		"hibernate_no":                   {hibernation, "hibernate=no", ""},
		"nothing":                        {both, "root=/dev/vda1 ro", "policy.kexec policy.hibernation"},
		"not_proved":                     {both, "", "policy.kexec policy.hibernation"},
		"one_of_two":                     {both, "nohibernate sysctl.kernel.kexec_load_disabled=0", "policy.kexec"},
		"the_other":                      {both, "sysctl.kernel.kexec_load_disabled=1", "policy.hibernation"},
		"other_ima_policy":               {kexec, "ima_policy=tcb", "policy.kexec"},
		"noresume_lasts_until_boot_only": {hibernation, "noresume hibernate=noresume", "policy.hibernation"},
		"lockdown_none":                  {both, "lockdown=none", "policy.kexec policy.hibernation"},
		"part_of_a_name":                 {both, "xlockdown=integrity nohibernate2", "policy.kexec policy.hibernation"},
		"inside_a_value":                 {both, "foo=a\x00lockdown=integrity", "policy.kexec policy.hibernation"},
		"appraisal_that_only_logs":       {kexec, "ima_policy=secure_boot ima_appraise=log", "policy.kexec"},
		"appraisal_turned_off_before":    {kexec, "ima_appraise=off ima_policy=secure_boot", "policy.kexec"},
		"appraisal_enforced":             {kexec, "ima_policy=secure_boot ima-appraise=enforce", ""},
		"modules_without_lockdown":       {both, "lockdown=integrity lsm=landlock,yama", "policy.kexec policy.hibernation"},
		"modules_with_lockdown":          {both, "lsm=lockdown,yama lockdown=integrity", ""},
		"not_asked":                      {zonePayments, "", ""},
		"hibernation_alone":              {hibernation, "", "policy.hibernation"},
	} {
		t.Run(name, func(t *testing.T) {
			in, ev := good()
			if c.line != "" {
				ev.kernel = strings.Fields(c.line)
			}
			if d := load(t, c.zone, referenceDebian).Decide(in); codes(d) != c.want || d.Allow != (c.want == "") {
				t.Errorf("allow %v, %q, want %q", d.Allow, codes(d), c.want)
			}
		})
	}
}

func TestBootOfAZone(t *testing.T) {
	set := load(t, replace(zonePayments, "requires: {", "requires: {boot: {kexec: denied}, "), referenceDebian)
	if got := set.Selection(); got[1]&0x1b != 0x1b {
		t.Errorf("selection %x lacks 8, 9, 11 or 12", got)
	}
	if got := load(t, zonePayments, referenceDebian).Selection(); got[1]&0x10 != 0 {
		t.Errorf("selection %x has 12 although nobody asks for it", got)
	}
	for _, bad := range []string{"kexec: allowed", "kexec: true", "hibernation: \"\"", "sleep: denied"} {
		doc := replace(zonePayments, "requires: {", "requires: {boot: {"+bad+"}, ")
		if _, problems := policy.Load(files(doc, referenceDebian)); len(problems) == 0 {
			t.Errorf("%s is taken", bad)
		}
	}
}
