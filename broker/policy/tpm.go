package policy

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/verifier/advisory"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// allowed is the only thing that a zone can say of expired EK certificates.
const allowed = "allow"

// tpmKinds are those that a zone can demand. What is unknown cannot be demanded.
var tpmKinds = []string{ekcert.KindDiscrete, ekcert.KindFirmware, ekcert.KindVirtual, ekcert.KindSoftware}

// tpmRequires is what a zone wants of the TPM itself.
type tpmRequires struct {
	// Kinds that the EK certificate has to prove one of; none asks nothing.
	Kinds []string `json:"kinds,omitempty"`
	// Firmware is the lowest version for TPMs of a maker, by its TCG name. A maker
	// that is not named has no floor; one that nobody proved has none that it meets.
	Firmware map[string]string `json:"firmware,omitempty"`
	// ExpiredCertificate is "allow" where an EK certificate past its validity is
	// good enough.
	ExpiredCertificate string          `json:"expired_certificate,omitempty"`
	Advisories         *advisoryLeaves `json:"advisories,omitempty"`
}

// advisoryLeaves are advisories that the zone accepts to live with.
type advisoryLeaves struct {
	Ignore []string `json:"ignore"`
}

func (p *placedZone) tpm(n *yaml.Node) {
	if n == nil {
		return
	}
	m := p.w.fields(n, "tpm", "kinds", "firmware", "expired_certificate", "advisories")
	t := tpmRequires{}
	t.Kinds = p.w.texts(m.get("kinds"), "kinds", func(item *yaml.Node, what string) (string, bool) {
		s, ok := p.w.text(item, what)
		if ok && !slices.Contains(tpmKinds, s) {
			p.w.invalid(item, "unknown kind of TPM %q; known are %s", clip(s), strings.Join(tpmKinds, ", "))
			return "", false
		}
		return s, ok
	})
	t.Firmware = p.firmwareFloors(m.get("firmware"))
	if expired := m.get("expired_certificate"); expired != nil {
		s, ok := p.w.text(expired, "expired_certificate")
		if ok && s != allowed {
			p.w.invalid(expired, "expired_certificate is \"allow\" or not there: without it an expired EK certificate is refused")
		}
		t.ExpiredCertificate = s
	}
	if adv := m.get("advisories"); adv != nil {
		a := p.w.fields(adv, "advisories", "ignore")
		t.Advisories = &advisoryLeaves{Ignore: p.w.texts(a.need("ignore", "a list of advisories to live with"), "ignore", p.advisory)}
	}
	if len(t.Kinds) > 0 || len(t.Firmware) > 0 || t.ExpiredCertificate != "" || t.Advisories != nil {
		p.Requires.TPM = &t
	}
}

// advisory reads an id of the table: a mistyped one would silently ignore nothing.
func (p *placedZone) advisory(item *yaml.Node, what string) (string, bool) {
	s, ok := p.w.text(item, what)
	if ok && !advisory.Known(s) {
		p.w.invalid(item, "no advisory %q is known; docs/evidence/advisories.md lists them", clip(s))
		return "", false
	}
	return s, ok
}

func (p *placedZone) firmwareFloors(n *yaml.Node) map[string]string {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		p.w.invalid(n, "firmware must be a mapping of TPM makers to versions, for example {STM: \"73.64\"}")
		return nil
	}
	out := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		maker, version := n.Content[i], n.Content[i+1]
		s, ok := p.w.text(version, "firmware of "+clip(maker.Value))
		if _, err := advisory.ParseVersion(s); ok && err != nil {
			p.w.invalid(version, "firmware of %s: one to four numbers joined by dots (\"73.64\"), or 0x and 16 hex digits", clip(maker.Value))
			continue
		}
		if ok {
			out[maker.Value] = s
		}
	}
	return out
}

// checkTPM asks what kind of TPM it is, and what is known against it.
func (z *zone) checkTPM(in Input) []*reason.Error {
	t := z.Requires.TPM
	if t == nil {
		t = &tpmRequires{}
	}
	ev := in.Appraisal
	var out []*reason.Error
	expired := ev.EKExpired() && t.ExpiredCertificate != allowed
	if expired && z.reliesOnCertificate(in) {
		out = append(out, reason.Newf(reason.EKCertValidity, "the EK certificate or its chain is past its validity, and zone %s does not allow that", z.Name))
	}
	if kind := ev.TPMKind(); len(t.Kinds) > 0 && (expired || !slices.Contains(t.Kinds, kind)) {
		out = append(out, reason.Newf(reason.PolicyTPMKind, "zone %s wants a TPM that is %s; this one is %s", z.Name, strings.Join(t.Kinds, " or "), kind))
	}
	if e := t.checkFirmware(z.Name, ev); e != nil {
		out = append(out, e)
	}
	for _, a := range ev.Advisories() {
		if a.Blocks(z.Tier) && (t.Advisories == nil || !slices.Contains(t.Advisories.Ignore, a.ID)) {
			out = append(out, advisoryRefusal(z, a, ev))
		}
	}
	return out
}

// reliesOnCertificate reports whether the node is here by its EK certificate. An
// operator who vouched for the EK by its hash did not ask for one; a selector by
// maker, which only a certificate proves, does.
func (z *zone) reliesOnCertificate(in Input) bool {
	by := in.Node.AdmittedBy
	return by != admitOperator && by != admitInventory || !slices.ContainsFunc(z.Selectors.Any, func(s selector) bool {
		return s.EKManufacturer == "" && s.names(in.Node) && (s.Format == "" || s.Format == in.Appraisal.Format())
	})
}

// checkFirmware compares the quoted version, which the TPM signs.
func (t *tpmRequires) checkFirmware(zone string, ev Evidence) *reason.Error {
	if len(t.Firmware) == 0 {
		return nil
	}
	have := advisory.Version(ev.FirmwareVersion())
	if ev.Manufacturer() == "" {
		return reason.Newf(reason.TPM2FirmwareDenied, "zone %s wants TPM firmware of a lowest version by maker, and no EK certificate proves the maker", zone)
	}
	floor, named := t.Firmware[ev.Manufacturer()]
	if !named {
		return nil
	}
	if least, err := advisory.ParseVersion(floor); err != nil || have < least {
		return reason.Newf(reason.TPM2FirmwareDenied, "TPM firmware of %s is %s, zone %s wants %s or later", ev.Manufacturer(), have, zone, floor)
	}
	return nil
}

func advisoryRefusal(z *zone, a advisory.Advisory, ev Evidence) *reason.Error {
	cost := "no zone is earned"
	if !a.Deny {
		cost = "tier " + strconv.Itoa(a.Tier) + " is the highest that is earned"
	}
	return reason.Newf(reason.TPM2Advisory, "%s: %s (%s TPM, firmware %s); %s, zone %s has tier %d; see %s",
		a.ID, a.Summary, cmp.Or(ev.Manufacturer(), "this"), advisory.Version(ev.FirmwareVersion()), cost, z.Name, z.Tier, a.Source)
}
