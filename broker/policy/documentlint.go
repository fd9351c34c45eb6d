package policy

import (
	"slices"
	"strings"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// confidentialFormats name a machine whose memory its host cannot read: what a
// tier of confidential VMs is about.
func confidentialFormats() []string {
	return slices.DeleteFunc(verifier.Formats(), func(f string) bool { return !verifier.Protected(f) || !verifier.Verifies(f) })
}

// measurements are, by format, the selectors that say what a machine runs: one of
// the lists, whole, makes a measured machine. A register that anybody fills by what
// he starts proves nothing alone: an enclave's PCR 4 is a hash of the instance id,
// TDX's RTMRs are what the firmware in MRTD wrote, and the application of an enclave
// (PCR 2) is as good as the kernel (PCR 1) that loads it. Formats without a row say
// nothing about what runs; where a TPM quotes, references and Secure Boot do.
var measurements = map[string][][]string{
	verifier.FormatAzureMAA:        {{"azure.maa.launch_measurement"}},
	verifier.FormatCCA:             {{"cca.rim"}},
	verifier.FormatGCPConfidential: {{"gcp.image_digest"}},
	verifier.FormatNitro:           {{"nitro.pcr.0"}, {"nitro.pcr.1", "nitro.pcr.2"}},
	verifier.FormatNitroTPM:        {{"nitrotpm.pcr.4"}, {"nitrotpm.pcr.7"}},
	verifier.FormatSNP:             {{"snp.measurement"}},
	verifier.FormatTDX:             {{"tdx.mrtd"}},
}

// sworn are formats with measurements for which a service vouches, where those above
// have hardware do so. No report is bound to the SVID's key, and Decide takes no
// software key from tier 2 on: such a zone would turn everybody away.
var sworn = []string{verifier.FormatAzureMAA, verifier.FormatGCPConfidential}

// exposing are hazards with which somebody outside of the machine may look into it
// or steer it: what tier 4 says cannot be. The two codes that stand for several
// hazards (Microsoft's claims, Confidential Space) have debugging among them. A
// privilege level (snp.vmpl) and a level of firmware are not here: memory stays
// encrypted, the launch measurement covers what stands at level 0, and how old a
// platform may be is for the zone to say, see pinned.
var exposing = []reason.Code{
	reason.AzureAttestationClaims, reason.CCALifecycle, reason.NitroDebug, reason.PolicyMeasurementMismatch, reason.SNPDebug, reason.TDXDebug,
}

// pinned are hazards that a zone takes only with a word about which: without it
// everybody's paravisor, or a platform with every published hole, would be good.
var pinned = []struct {
	code reason.Code
	tier int    // from which on
	in   string // where or minimum
	name string // selector; one that ends in a dot stands for all below it
}{
	{reason.AzureRuntimeData, 2, "where", "azure.cvm.paravisor"},
	{reason.SNPTCBLow, 4, "minimum", "snp.tcb."},
	{reason.TDXTCBStatus, 4, "where", "tdx.tcb_status"},
}

// lintDocuments looks for zones that promise more than their evidence proves.
func (p *placedZone) lintDocuments(m fields) {
	if !p.tiered || p.Tier < 2 {
		return
	}
	if p.Tier == 4 {
		p.lintConfidential(m)
	}
	p.lintMeasured(m)
	p.lintAllow(m)
}

func (p *placedZone) lintConfidential(m fields) {
	if p.Requires.SameMachine != nil {
		p.w.invalid(m.get("same_machine"), "tier 4 means a confidential VM: every document has to be about that machine")
	}
	for _, f := range p.Requires.Format {
		if !verifier.Protected(f) || p.Requires.Class != document.ClassA {
			p.w.invalid(m.node, "tier 4 means a confidential VM: format has to be one of %s, of class A", strings.Join(confidentialFormats(), ", "))
			return
		}
	}
}

// lintMeasured wants every format that may name a node measured: the weakest of
// them is what the zone is worth.
func (p *placedZone) lintMeasured(m fields) {
	for _, f := range p.Requires.Format {
		known := measurements[f]
		switch {
		case verifier.Quotes(f):
			if m.get("references") == nil && !p.Requires.SecureBoot {
				p.w.invalid(m.node, "tier %d means measured boot: the zone must require references or secure_boot", p.Tier)
				return
			}
		case known == nil:
			p.w.invalid(m.node, "tier %d means measured: a zone that takes %s must compare a measurement, and it has none; it earns tier 1 at most", p.Tier, f)
			return
		case slices.Contains(sworn, f):
			p.w.invalid(m.node, "tier %d means an SVID key in the TPM, or one that a hardware report is bound to: a zone that takes %s has neither; it earns tier 1 at most", p.Tier, f)
			return
		case !slices.ContainsFunc(known, p.Requires.compares):
			p.w.invalid(m.node, "tier %d means measured: a zone that takes %s must compare a measurement of it in requires.where: %s", p.Tier, f, sayMeasurements(known))
			return
		case p.Requires.SameMachine != nil:
			p.w.invalid(m.get("same_machine"), "tier %d means measured: with same_machine: false the measurement could be that of another machine", p.Tier)
			return
		}
	}
}

// compares reports whether the zone compares all of selectors.
func (r *requires) compares(selectors []string) bool {
	return !slices.ContainsFunc(selectors, func(name string) bool { return len(r.Where[name]) == 0 })
}

// measured reports whether the zone, which was earned, compared a measurement of one
// of docs with which it was earned.
func (z *zone) measured(docs []verifier.Document) bool {
	return slices.ContainsFunc(docs, func(d verifier.Document) bool {
		return d.Anchored && slices.ContainsFunc(measurements[d.Format], z.Requires.compares)
	})
}

func sayMeasurements(known [][]string) string {
	var out []string
	for _, all := range known {
		out = append(out, strings.Join(all, " and "))
	}
	return strings.Join(out, ", or ")
}

func (p *placedZone) lintAllow(m fields) {
	for _, code := range p.Requires.Allow {
		if p.Tier == 4 && slices.Contains(exposing, reason.Code(code)) {
			p.w.invalid(m.get("allow"), "tier 4 means a confidential VM: with %s others may look into it", code)
		}
	}
	for _, h := range pinned {
		if p.Tier >= h.tier && slices.Contains(p.Requires.Allow, string(h.code)) && !p.Requires.pins(h.in, h.name) {
			p.w.invalid(m.get("allow"), "a zone of tier %d that allows %s has to say in requires.%s what it takes: %s", p.Tier, h.code, h.in, h.name)
		}
	}
}

// pins reports whether the zone compares the selector, or one below it.
func (r *requires) pins(in, name string) bool {
	fits := func(s string) bool { return s == name || strings.HasSuffix(name, ".") && strings.HasPrefix(s, name) }
	if in == "minimum" {
		for s, floor := range r.Minimum {
			if fits(s) && floor > 0 {
				return true
			}
		}
		return false
	}
	for s := range r.Where {
		if fits(s) {
			return true
		}
	}
	return false
}
