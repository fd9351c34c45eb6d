package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var launchDigest, idKey = strings.Repeat("6b", 48), strings.Repeat("1d", 48)

// zoneConfidential takes one image of a confidential VM with its GPU.
var zoneConfidential = `apiVersion: zonebroker/v1
kind: Zone
name: confidential
tier: 4
selectors: {any: [{owner: "snp.id_key=` + idKey + `"}, {group: rack-7}]}
admit: [owner, inventory]
requires:
  class: A
  format: [snp]
  evidence: {all: [snp, nvidia], any: [gce.identity, ec2.iid]}
  where: {snp.measurement: [` + launchDigest + `], gce.project: [proj-a, proj-b]}
  minimum: {snp.tcb.microcode: 115}
  allow: [snp.vmpl]
evidence: {max_document_age: 24h}
`

// confidential is a machine that earns zoneConfidential.
func confidential() (policy.Input, *evidence) {
	in, ev := good()
	ev.format, ev.key, ev.pcrs, ev.events = verifier.FormatSNP, "software", nil, nil
	snp := document.Facts{
		Format: verifier.FormatSNP, Class: document.ClassA, NonceBound: true, KeyBound: true,
		Owners:    []document.Owner{{Kind: document.OwnerSNPChip, Value: "chip"}, {Kind: document.OwnerSNPIDKey, Value: idKey}},
		Selectors: []document.Selector{{Name: "snp.measurement", Value: launchDigest}, {Name: "snp.tcb.microcode", Value: "115"}},
		Hazards:   []document.Hazard{{Code: reason.SNPVMPL, Detail: "VMPL 1"}},
	}
	gpu := document.Facts{Format: verifier.FormatNVIDIA, Class: document.ClassA, NonceBound: true}
	cloud := document.Facts{
		Format: verifier.FormatGCEIdentity, Class: document.ClassB, NonceBound: true, IssuedAt: in.Now.Add(-time.Second),
		Selectors: []document.Selector{{Name: "gce.project", Value: "proj-b"}},
	}
	ev.documents = []verifier.Document{{Facts: snp, Anchored: true}, {Facts: gpu, Anchored: true}, {Facts: cloud, Anchored: true}}
	in.Node.Groups, in.Node.AdmittedBy = nil, "owner"
	return in, ev
}

// TestDocumentsThatAZoneWants: what earns the zone, and each thing without which it
// is not earned, by its code.
func TestDocumentsThatAZoneWants(t *testing.T) {
	for name, c := range map[string]struct {
		change func(in *policy.Input, ev *evidence)
		want   string
	}{
		"everything":             {func(*policy.Input, *evidence) {}, ""},
		"no GPU":                 {func(_ *policy.Input, ev *evidence) { ev.documents = append(ev.documents[:1], ev.documents[2]) }, "policy.evidence_missing"},
		"no cloud":               {func(_ *policy.Input, ev *evidence) { ev.documents = ev.documents[:2] }, "policy.evidence_missing policy.measurement_mismatch"},
		"a GPU of elsewhere":     {func(_ *policy.Input, ev *evidence) { ev.documents[1].Anchored = false }, "policy.evidence_missing"},
		"a project of elsewhere": {func(_ *policy.Input, ev *evidence) { ev.documents[2].Anchored = false }, "policy.evidence_missing policy.measurement_mismatch"},
		"another image":          {func(_ *policy.Input, ev *evidence) { ev.documents[0].Selectors[0].Value = strings.Repeat("00", 48) }, "policy.measurement_mismatch"},
		"another project":        {func(_ *policy.Input, ev *evidence) { ev.documents[2].Selectors[0].Value = "proj-c" }, "policy.measurement_mismatch"},
		"an old microcode":       {func(_ *policy.Input, ev *evidence) { ev.documents[0].Selectors[1].Value = "114" }, "snp.tcb_low"},
		"no number":              {func(_ *policy.Input, ev *evidence) { ev.documents[0].Selectors[1].Value = "new" }, "snp.tcb_low"},
		"no microcode":           {func(_ *policy.Input, ev *evidence) { ev.documents[0].Selectors = ev.documents[0].Selectors[:1] }, "snp.tcb_low"},
		"a hazard not allowed": {func(_ *policy.Input, ev *evidence) {
			ev.documents[1].Hazards = []document.Hazard{{Code: reason.NvidiaResult}}
		}, "nvidia.result"},
		"a debug guest":            {func(_ *policy.Input, ev *evidence) { ev.documents[0].Hazards[0].Code = reason.SNPDebug }, "snp.debug"},
		"a weaker class":           {func(_ *policy.Input, ev *evidence) { ev.class = "B" }, "policy.binding_class"},
		"a key bound by nothing":   {func(_ *policy.Input, ev *evidence) { ev.documents[0].KeyBound = false }, "policy.evidence_missing"},
		"an old document":          {func(in *policy.Input, ev *evidence) { ev.documents[2].IssuedAt = in.Now.Add(-24 * time.Hour) }, "policy.evidence_age"},
		"admitted otherwise":       {func(in *policy.Input, _ *evidence) { in.Node.AdmittedBy = "join_token" }, "node.not_admitted"},
		"an owner of another kind": {func(_ *policy.Input, ev *evidence) { ev.documents[0].Owners = ev.documents[0].Owners[:1] }, "policy.no_zone"},
		"an owner of the GPU": {func(_ *policy.Input, ev *evidence) {
			ev.documents[1].Owners, ev.documents[0].Owners = ev.documents[0].Owners, nil
		}, "policy.no_zone"},
	} {
		in, ev := confidential()
		c.change(&in, ev)
		d := load(t, zoneConfidential).Decide(in)
		if got := codes(d); got != c.want || d.Allow != (c.want == "") {
			t.Errorf("%s: allow %v, %q, want %q", name, d.Allow, got, c.want)
		}
	}
	in, _ := confidential()
	if d := load(t, zoneConfidential).Decide(in); d.Tier != 4 || d.Grace != 0 || !d.Measured {
		t.Errorf("tier %d, grace %s, measured %v", d.Tier, d.Grace, d.Measured)
	}
}

// looseZone takes documents that nothing ties to the machine, which no zone of
// measured machines can.
func looseZone() string {
	return replace(replace(zoneConfidential, "  allow:", "  same_machine: false\n  allow:"), "tier: 4", "tier: 1")
}

// TestAnyMachine: a zone can say that documents need not be about this machine, and
// has to say so.
func TestAnyMachine(t *testing.T) {
	in, ev := confidential()
	ev.documents[2].Anchored = false
	doc := looseZone()
	if d := load(t, doc).Decide(in); !d.Allow {
		t.Errorf("denied: %s", codes(d))
	}
}

// TestFirstRegistrationOfABearerDocument: the document of a machine that was started
// long ago may be anybody's; later ones come with the key of the first.
func TestFirstRegistrationOfABearerDocument(t *testing.T) {
	doc := `apiVersion: zonebroker/v1
kind: Zone
name: instances
tier: 1
selectors: {any: [{format: ec2.iid}]}
admit: [owner]
requires: {class: C, format: [ec2.iid]}
evidence: {max_document_age: 1h}
`
	silent := load(t, strings.Replace(doc, "evidence: {max_document_age: 1h}\n", "", 1))
	{
		in, ev := confidential()
		ev.format, ev.class, in.FirstContact = verifier.FormatEC2IID, "C", true
		ev.documents = []verifier.Document{{Anchored: true, Facts: document.Facts{Format: verifier.FormatEC2IID, Class: "C", Launched: in.Now.Add(-6 * time.Minute)}}}
		if got := codes(silent.Decide(in)); got != string(reason.EC2PendingTime) {
			t.Errorf("where the zone does not say: %q", got)
		}
	}
	for name, c := range map[string]struct {
		ago   time.Duration
		first bool
		want  string
	}{
		"just started":         {time.Minute, true, ""},
		"started long ago":     {2 * time.Hour, true, "ec2.pending_time"},
		"known since it began": {2 * time.Hour, false, ""},
	} {
		in, ev := confidential()
		ev.format, ev.class = verifier.FormatEC2IID, "C"
		ev.documents = []verifier.Document{{Anchored: true, Facts: document.Facts{Format: verifier.FormatEC2IID, Class: "C", Launched: in.Now.Add(-c.ago)}}}
		in.FirstContact = c.first
		if got := codes(load(t, doc).Decide(in)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestDocumentLint: a zone that promises more than its documents can prove, or that
// asks for what cannot be, does not load.
func TestDocumentLint(t *testing.T) {
	for name, c := range map[string]struct{ old, new, says string }{
		"tier 4 of a cloud's word":   {"format: [snp]", "format: [gce.identity]", "confidential VM"},
		"tier 4 of class B":          {"class: A", "class: B", "confidential VM"},
		"nothing measured":           {"snp.measurement: [" + launchDigest + "], ", "", "must compare a measurement"},
		"a GPU names no node":        {"format: [snp]", "format: [nvidia]", "names no node"},
		"an unknown format":          {"all: [snp, nvidia]", "all: [snp, horoscope]", "no document of format \"horoscope\" is verified by this broker"},
		"a quote as a document":      {"all: [snp, nvidia]", "all: [snp, tpm2]", "no document of format \"tpm2\" is verified by this broker"},
		"an empty list of documents": {"all: [snp, nvidia], any: [gce.identity, ec2.iid]", "", "names no format"},
		"an unknown owner":           {"snp.id_key=", "snp.owner=", "an owner is KIND=VALUE"},
		"an owner without a value":   {idKey + `"`, `"`, "96 lower-case hex digits"},
		"nothing to allow":           {"allow: [snp.vmpl]", "allow: [snp.signature]", "nothing that a zone may allow"},
		"no selector":                {"gce.project: [proj-a, proj-b]", "Project: [proj-a]", "no selector of a document"},
		"no number":                  {"microcode: 115", "microcode: new", "whole decimal number"},
		"an age without end":         {"max_document_age: 24h", "max_document_age: 900000h", "max_document_age"},
		"any genuine at tier 4":      {"admit: [owner, inventory]", "admit: [any_genuine]", "any_genuine is for tier 0 and 1"},
	} {
		_, problems := policy.Load(files(replace(zoneConfidential, c.old, c.new)))
		if len(problems) == 0 || !strings.Contains(problems[0].Text, c.says) {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

// TestDocumentsSurviveTheCanonicalForm: records name a policy by it.
func TestDocumentsSurviveTheCanonicalForm(t *testing.T) {
	set := load(t, looseZone())
	again, err := policy.LoadCanonical(set.Canonical())
	if err != nil || again.Hash() != set.Hash() {
		t.Fatalf("%v", err)
	}
	if got := set.DocumentFormats(); strings.Join(got, " ") != "ec2.iid gce.identity nvidia snp" {
		t.Errorf("wanted formats %v", got)
	}
	if !set.Takes(verifier.FormatSNP) || set.Takes(verifier.FormatTPM2) {
		t.Error("which formats name nodes")
	}
}
