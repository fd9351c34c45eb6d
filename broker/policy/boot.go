package policy

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// denied is the only thing that a zone can say of kexec and hibernation; without
// it the zone does not ask.
const denied = "denied"

// bootRequires is what a zone wants the measured command line to rule out: both
// would put a kernel into memory that no PCR knows.
type bootRequires struct {
	Kexec       string `json:"kexec,omitempty"`
	Hibernation string `json:"hibernation,omitempty"`
}

func (p *placedZone) boot(n *yaml.Node) {
	if n == nil {
		return
	}
	m := p.w.fields(n, "boot", "kexec", "hibernation")
	read := func(name string) string {
		s, ok := p.w.text(m.get(name), name)
		if ok && s != denied {
			p.w.invalid(m.get(name), "%s is \"denied\" or not there: a zone cannot allow more than asking nothing does", name)
			return ""
		}
		return s
	}
	b := bootRequires{Kexec: read("kexec"), Hibernation: read("hibernation")}
	if b != (bootRequires{}) {
		p.Requires.Boot = &b
	}
}

// checkBoot looks for a parameter that rules the thing out. Its absence proves
// nothing either way, so it denies, as does a command line that was not proved.
func (z *zone) checkBoot(in Input) []*reason.Error {
	b := z.Requires.Boot
	if b == nil {
		return nil
	}
	var out []*reason.Error
	parameters, proved := in.Appraisal.KernelParameters()
	for _, ask := range []struct {
		set   string
		code  reason.Code
		rules func(parameters []string) bool
		what  string
	}{
		{b.Kexec, reason.PolicyKexec, rulesOutKexec, "lockdown=integrity, ima_policy=secure_boot or sysctl.kernel.kexec_load_disabled=1"},
		{b.Hibernation, reason.PolicyHibernation, rulesOutHibernation, "nohibernate, hibernate=no or lockdown=integrity"},
	} {
		switch {
		case ask.set != denied:
		case !proved:
			out = append(out, reason.Newf(ask.code, "zone %s wants a measured kernel command line that says %s, and the log proves none", z.Name, ask.what))
		case !ask.rules(parameters):
			out = append(out, reason.Newf(ask.code, "zone %s wants the kernel command line to say %s", z.Name, ask.what))
		}
	}
	return out
}

// rulesOutKexec: lockdown refuses unsigned images (kernel, security/lockdown),
// the policy secure_boot appraises them by KEXEC_KERNEL_CHECK (IMA) while
// appraisal is enforced, and the sysctl, once set, cannot be taken back.
func rulesOutKexec(parameters []string) bool {
	appraised, enforced := false, true
	for _, p := range parameters {
		name, value, _ := strings.Cut(p, "=")
		switch parameterName(name) {
		case "ima_policy":
			appraised = appraised || slices.Contains(strings.Split(value, "|"), "secure_boot")
		case "ima_appraise":
			enforced = enforced && value == "enforce" // log, fix and off let everything through
		case "sysctl.kernel.kexec_load_disabled", "sysctl/kernel/kexec_load_disabled":
			if value == "1" {
				return true
			}
		}
	}
	return appraised && enforced || locksDown(parameters)
}

// rulesOutHibernation: kernel/power/hibernate.c. What is not here, as noresume,
// holds until user space writes /sys/power/resume.
func rulesOutHibernation(parameters []string) bool {
	return slices.Contains(parameters, "nohibernate") || slices.Contains(parameters, "hibernate=no") || locksDown(parameters)
}

// locksDown: a lower level given later does not loosen it, but a list of security
// modules without it leaves it out of kernels that do not start it early.
func locksDown(parameters []string) bool {
	left := slices.ContainsFunc(parameters, func(p string) bool {
		list, ok := strings.CutPrefix(p, "lsm=")
		return ok && !slices.Contains(strings.Split(list, ","), "lockdown")
	})
	return !left && (slices.Contains(parameters, "lockdown=integrity") || slices.Contains(parameters, "lockdown=confidentiality"))
}

// parameterName: the kernel takes dash and underscore for the same.
func parameterName(s string) string { return strings.ReplaceAll(s, "-", "_") }
