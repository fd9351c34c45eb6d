package policy_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/advisory"
)

func zoneWantingTPM(tier, tpm string) string {
	return strings.Replace(strings.Replace(zoneLab, "tier: 1", "tier: "+tier, 1), "admit: [any_genuine, operator]",
		"admit: [inventory, operator, join_token"+map[bool]string{true: ", any_genuine"}[tier < "2"]+"]", 1) + "requires: {secure_boot: true, tpm: " + tpm + "}\n"
}

func TestTPM(t *testing.T) {
	deny := advisory.Advisory{ID: "CVE-2017-15361", Deny: true, Source: "https://example.org", Summary: "bad"}
	capped := advisory.Advisory{ID: "CVE-2023-1017", Tier: 1, Source: "https://example.org", Summary: "bad"}
	for name, c := range map[string]struct {
		tier, tpm string
		change    func(in *policy.Input, ev *evidence)
		want      string
	}{
		"nothing asked": {"1", "{kinds: [discrete]}", func(_ *policy.Input, ev *evidence) { ev.kind = "discrete" }, ""},
		"one of two":    {"1", "{kinds: [discrete, firmware]}", func(_ *policy.Input, ev *evidence) { ev.kind = "firmware" }, ""},
		"another kind":  {"1", "{kinds: [discrete, firmware]}", func(_ *policy.Input, ev *evidence) { ev.kind = "software" }, "policy.tpm_kind"},
		"no kind":       {"1", "{kinds: [discrete]}", func(_ *policy.Input, ev *evidence) { ev.kind = "unknown" }, "policy.tpm_kind"},
		"a kind that an expired certificate proves": {"1", "{kinds: [discrete]}", func(_ *policy.Input, ev *evidence) {
			ev.kind, ev.expired = "discrete", true
		}, "policy.tpm_kind"},
		"expired, vouched for by its hash": {"1", "{kinds: [discrete], expired_certificate: allow}", func(_ *policy.Input, ev *evidence) {
			ev.kind, ev.expired = "discrete", true
		}, ""},

		"the floor":            {"1", `{firmware: {STM: "73.64"}}`, func(_ *policy.Input, ev *evidence) { ev.firmware = 73<<48 | 64<<32 }, ""},
		"above the floor":      {"1", `{firmware: {STM: "73.64"}}`, func(_ *policy.Input, ev *evidence) { ev.firmware = 74 << 48 }, ""},
		"tpm-34 below":         {"1", `{firmware: {STM: "73.64"}}`, func(_ *policy.Input, ev *evidence) { ev.firmware = 73<<48 | 64<<32 - 1 }, "tpm2.firmware_denied"},
		"floor of another":     {"1", `{firmware: {IFX: "7.85"}}`, func(*policy.Input, *evidence) {}, ""},
		"floor in hex":         {"1", `{firmware: {STM: "0x0049004000000001"}}`, func(_ *policy.Input, ev *evidence) { ev.firmware = 0x0049004000000000 }, "tpm2.firmware_denied"},
		"nobody proved a make": {"1", `{firmware: {IFX: "7.85"}}`, func(_ *policy.Input, ev *evidence) { ev.made = "" }, "tpm2.firmware_denied"},

		"an advisory that denies": {"0", "{expired_certificate: allow}", func(_ *policy.Input, ev *evidence) {
			ev.advisories = []advisory.Advisory{deny}
		}, "tpm2.advisory"},
		"one that caps, at the cap": {"1", "{expired_certificate: allow}", func(_ *policy.Input, ev *evidence) {
			ev.advisories = []advisory.Advisory{capped}
		}, ""},
		"one that caps, above": {"2", "{expired_certificate: allow}", func(_ *policy.Input, ev *evidence) {
			ev.advisories = []advisory.Advisory{capped}
		}, "tpm2.advisory"},
		"both, above": {"2", "{expired_certificate: allow}", func(_ *policy.Input, ev *evidence) {
			ev.advisories = []advisory.Advisory{capped, deny}
		}, "tpm2.advisory tpm2.advisory"},
		"one of both left aside": {"2", "{advisories: {ignore: [CVE-2023-1017]}}", func(_ *policy.Input, ev *evidence) {
			ev.advisories = []advisory.Advisory{capped, deny}
		}, "tpm2.advisory"},
		"both left aside": {"2", "{advisories: {ignore: [CVE-2023-1017, CVE-2017-15361]}}", func(_ *policy.Input, ev *evidence) {
			ev.advisories = []advisory.Advisory{capped, deny}
		}, ""},

		"expired, join token": {"1", "{kinds: [discrete]}", func(in *policy.Input, ev *evidence) {
			ev.kind, ev.expired, in.Node.AdmittedBy = "discrete", true, "join_token"
		}, "ekcert.validity policy.tpm_kind"},
		"expired, any genuine": {"1", `{firmware: {IFX: "7.85"}}`, func(in *policy.Input, ev *evidence) {
			ev.expired, in.Node.AdmittedBy = true, "any_genuine"
		}, "ekcert.validity"},
		"expired, join token, by leave": {"1", "{expired_certificate: allow}", func(in *policy.Input, ev *evidence) {
			ev.expired, in.Node.AdmittedBy = true, "join_token"
		}, ""},
		"expired, inventory": {"1", `{firmware: {IFX: "7.85"}}`, func(_ *policy.Input, ev *evidence) { ev.expired = true }, ""},
		"expired, operator": {"1", `{firmware: {IFX: "7.85"}}`, func(in *policy.Input, ev *evidence) {
			ev.expired, in.Node.AdmittedBy = true, "operator"
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in, ev := good()
			in.Node.Groups = []string{"bench"}
			c.change(&in, ev)
			d := load(t, zoneWantingTPM(c.tier, c.tpm)).Decide(in)
			if codes(d) != c.want || d.Allow != (c.want == "") {
				t.Errorf("%q, allow %t; want %q", codes(d), d.Allow, c.want)
			}
		})
	}
}

// TestTPMUnasked: advisories and expired certificates hold in zones that say
// nothing about TPMs.
func TestTPMUnasked(t *testing.T) {
	in, ev := good()
	in.Node = policy.Node{ID: in.Node.ID, Groups: []string{"bench"}, AdmittedBy: "any_genuine", AKApproved: true}
	ev.expired, ev.advisories = true, []advisory.Advisory{{ID: "CVE-2023-1017", Tier: 0, Source: "https://example.org", Summary: "bad"}}
	d := load(t, zoneLab).Decide(in)
	if got := codes(d); got != "ekcert.validity tpm2.advisory" {
		t.Fatalf("%q", got)
	}
	for _, want := range []string{"CVE-2023-1017", "STM", "https://example.org", "tier 0", "zone lab has tier 1"} {
		if !strings.Contains(d.Reasons[1].Detail, want) {
			t.Errorf("%q does not say %q", d.Reasons[1].Detail, want)
		}
	}
}

// TestTPMSelectedByMaker: who is in a zone by what the certificate says needs one
// that is valid, also where an operator vouched for the EK.
func TestTPMSelectedByMaker(t *testing.T) {
	zone := strings.Replace(zoneLab, "{group: bench}", "SELECTORS", 1)
	for selectors, want := range map[string]string{
		"{ek_manufacturer: STM}":                                          "ekcert.validity",
		"{ek_manufacturer: STM}, {group: bench}":                          "",
		"{ek_manufacturer: STM}, {group: bench, format: tpm2}":            "",
		"{ek_manufacturer: STM, group: bench}, {group: other}":            "ekcert.validity",
		"{ek_manufacturer: STM}, {node: " + strings.Repeat("b", 26) + "}": "ekcert.validity",
	} {
		in, ev := good()
		in.Node.Groups, in.Node.AdmittedBy, ev.expired = []string{"bench"}, "operator", true
		if got := codes(load(t, strings.Replace(zone, "SELECTORS", selectors, 1)).Decide(in)); got != want {
			t.Errorf("%s: %q, want %q", selectors, got, want)
		}
	}
}

func TestTPMRefusedDocuments(t *testing.T) {
	for tpm, want := range map[string]string{
		"{kinds: [quantum]}":                      "unknown kind of TPM",
		"{kinds: [unknown]}":                      "unknown kind of TPM",
		"{kinds: []}":                             "empty list",
		"{colour: red}":                           "colour",
		"{expired_certificate: deny}":             "\"allow\" or not there",
		"{firmware: {}}":                          "mapping of TPM makers",
		"{firmware: [7]}":                         "mapping of TPM makers",
		`{firmware: {STM: "seven"}}`:              "one to four numbers",
		"{firmware: {STM: [7]}}":                  "firmware of STM",
		"{advisories: {}}":                        "ignore",
		"{advisories: {ignore: []}}":              "empty list",
		"{advisories: {ignore: [CVE-1999-0001]}}": "no advisory",
		"{advisories: {ignore: [FAULTPM], x: 1}}": "\"x\"",
	} {
		_, problems := policy.Load(files(zoneWantingTPM("1", tpm)))
		if len(problems) == 0 || !strings.Contains(problems[0].Text, want) {
			t.Errorf("%s: %v, want %q", tpm, problems, want)
		}
	}
}

func TestTPMCanonical(t *testing.T) {
	set := load(t, zoneWantingTPM("1", `{kinds: [discrete], firmware: {STM: "73.64", IFX: "0x0007005500000000"}, expired_certificate: allow, advisories: {ignore: [FAULTPM]}}`))
	again, err := policy.LoadCanonical(set.Canonical())
	if err != nil || again.Hash() != set.Hash() {
		t.Errorf("%v", err)
	}
	if plain := load(t, zoneWantingTPM("1", "{}")); strings.Contains(string(plain.Canonical()), "tpm\":{") {
		t.Error("a zone that asks nothing writes that it does")
	}
}
