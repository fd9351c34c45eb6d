package evidencefile

import (
	"strconv"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// Evidence returns the evidence of a request or file, whose members were
// checked (Validate), in the words of the verifier. Nothing is copied. The
// measurement list is left out: see IMA.
func Evidence(format string, m api.EvidenceMembers) verifier.Evidence {
	ev := verifier.Evidence{Format: format, SPKI: m.SPKI, CSR: m.CSR, Items: items(m.Items)}
	if m.Agent != nil {
		ev.Agent = &verifier.AgentProof{Public: m.Agent.Public, Signature: m.Agent.Signature}
	}
	e := m.TPM2
	if e == nil {
		return ev
	}
	t := &verifier.TPM2Evidence{
		AKPublic: e.AKPublic, EKPublic: e.EKPublic, EKCertificate: e.EKCertificate,
		Quote: e.Quote, Signature: e.Signature, EventLog: e.EventLog, UserspaceLog: e.UserspaceLog, PCRs: pcrValues(e.PCRs),
	}
	for _, c := range e.EKChain {
		t.EKChain = append(t.EKChain, c)
	}
	if c := e.Certify; c != nil {
		t.Certify = &tpm2.CertifyEvidence{Public: c.Public, Attest: c.Attest, Signature: c.Signature}
	}
	ev.TPM2 = t
	return ev
}

func items(list []api.Item) []verifier.Item {
	out := make([]verifier.Item, 0, len(list))
	for _, i := range list {
		item := verifier.Item{Format: i.Format, Document: i.Document}
		if len(i.Parts) > 0 {
			item.Parts = make(map[string][]byte, len(i.Parts))
		}
		for name, part := range i.Parts {
			item.Parts[name] = part
		}
		out = append(out, item)
	}
	return out
}

// IMA returns the measurement list that was sent, nil for none. A broker takes it
// only where it asked for one.
func IMA(e *api.TPM2Evidence) *ima.Segment {
	if e == nil || len(e.IMALog) == 0 && e.IMAOffset == 0 {
		return nil
	}
	return &ima.Segment{First: uint64(e.IMAOffset), Raw: e.IMALog}
}

// pcrValues: the contract's keys are checked decimals.
func pcrValues(m map[string]api.Bytes) map[int][]byte {
	out := make(map[int][]byte, len(m))
	for k, v := range m {
		if i, err := strconv.Atoi(k); err == nil {
			out[i] = v
		}
	}
	return out
}

// Members is the other direction.
func Members(ev verifier.Evidence) api.EvidenceMembers {
	out := api.EvidenceMembers{SPKI: ev.SPKI, CSR: ev.CSR}
	if ev.Agent != nil {
		out.Agent = &api.AgentProof{Public: ev.Agent.Public, Signature: ev.Agent.Signature}
	}
	for _, i := range ev.Items {
		item := api.Item{Format: i.Format, Document: i.Document}
		if len(i.Parts) > 0 {
			item.Parts = make(map[string]api.Bytes, len(i.Parts))
		}
		for name, part := range i.Parts {
			item.Parts[name] = part
		}
		out.Items = append(out.Items, item)
	}
	t := ev.TPM2
	if t == nil {
		return out
	}
	out.TPM2 = &api.TPM2Evidence{
		AKPublic: t.AKPublic, EKPublic: t.EKPublic, EKCertificate: t.EKCertificate,
		Quote: t.Quote, Signature: t.Signature, EventLog: t.EventLog, UserspaceLog: t.UserspaceLog, PCRs: make(map[string]api.Bytes, len(t.PCRs)),
	}
	for _, c := range t.EKChain {
		out.TPM2.EKChain = append(out.TPM2.EKChain, c)
	}
	for i, v := range t.PCRs {
		out.TPM2.PCRs[strconv.Itoa(i)] = v
	}
	if t.IMA != nil {
		out.TPM2.IMALog, out.TPM2.IMAOffset = t.IMA.Raw, int64(t.IMA.First)
	}
	if c := t.Certify; c != nil {
		out.TPM2.Certify = &api.Certify{Public: c.Public, Attest: c.Attest, Signature: c.Signature}
	}
	return out
}
