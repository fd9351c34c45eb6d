package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// Judgement is the outcome of judging a recorded attestation again.
type Judgement struct {
	Appraisal verifier.Appraisal
	Refusal   error // the first refusal of the verifier, nil where it accepts
	Same      bool  // the appraisal is that of the record, byte for byte
}

// JudgeAgain judges the stored evidence of a record with the recorded time,
// expectation and trust data. A broker that had judged dishonestly, or evidence
// that was changed since, shows as Same == false. Trust data that is not kept is
// policy.reference_missing.
func (b *Broker) JudgeAgain(ctx context.Context, body ledger.Attestation) (Judgement, error) {
	trust, err := b.trustOf(ctx, body.TrustRoots)
	if err != nil {
		return Judgement{}, err
	}
	ev, err := b.storedEvidence(ctx, body)
	if err != nil {
		return Judgement{}, err
	}
	want, err := b.recordedExpectation(ctx, body)
	if err != nil {
		return Judgement{}, err
	}
	appraisal, refusal := verifier.Appraise(ev, want, trust.Trust, time.UnixMilli(body.JudgedAt))
	canonical, err := appraisal.Canonical()
	if err != nil {
		return Judgement{}, err
	}
	return Judgement{
		Appraisal: appraisal, Refusal: refusal,
		Same: body.Appraisal == digestName(sha256.Sum256(canonical)),
	}, nil
}

func (b *Broker) recordedExpectation(ctx context.Context, body ledger.Attestation) (verifier.Expectation, error) {
	sel, err := tpm2.ParseSelection(body.Select)
	if err != nil {
		return verifier.Expectation{}, err
	}
	nonce, err := hex.DecodeString(body.Nonce)
	if err != nil {
		return verifier.Expectation{}, err
	}
	name, err := hex.DecodeString(body.AKName)
	if err != nil {
		return verifier.Expectation{}, err
	}
	want := verifier.Expectation{
		TrustDomain: body.TrustDomain, Purpose: body.Purpose, Nonce: nonce, AKName: name, Selection: sel,
		IssuedAt: time.UnixMilli(body.IssuedAt), Manufacturer: body.Manufacturer,
		TPM:            verifier.TPMFacts(body.TPM),
		RequireGenuine: body.RequireGenuine, AllowExpired: body.AllowExpired,
	}
	if body.Baseline != nil {
		want.Baseline, err = b.recordedBaseline(ctx, body.Baseline, time.UnixMilli(body.JudgedAt))
	}
	return want, err
}

func (b *Broker) recordedBaseline(ctx context.Context, rec *ledger.Baseline, at time.Time) (*verifier.Baseline, error) {
	clock, err := strconv.ParseUint(rec.Clock.Clock, 10, 64)
	if err != nil {
		return nil, err
	}
	firmware, err := strconv.ParseUint(rec.Firmware, 10, 64)
	if err != nil {
		return nil, err
	}
	out := &verifier.Baseline{
		Clock:   tpm2.Clock{Millis: clock, ResetCount: rec.Clock.ResetCount, RestartCount: rec.Clock.RestartCount, Safe: rec.Clock.Safe},
		ClockAt: time.UnixMilli(rec.At), Firmware: firmware,
	}
	if err := out.IMA.UnmarshalText([]byte(rec.IMA)); err != nil {
		return nil, err
	}
	if rec.EventLog == "" {
		return out, nil
	}
	digest, err := parseDigest(rec.EventLog)
	if err != nil {
		return nil, err
	}
	out.Log, err = b.keptLog(ctx, digest, at)
	return out, err
}

// storedEvidence puts the parts together again; a part that is gone is named.
func (b *Broker) storedEvidence(ctx context.Context, body ledger.Attestation) (verifier.Evidence, error) {
	ev := verifier.Evidence{Format: body.Format}
	if verifier.Quotes(body.Format) {
		ev.TPM2 = &verifier.TPM2Evidence{PCRs: map[int][]byte{}}
	}
	for _, id := range body.Evidence {
		if _, err := parseDigest(id.SHA256); err != nil {
			return ev, err
		}
	}
	parts, err := b.cfg.Store.RecordEvidence(ctx, body.ID, body.Evidence)
	if err != nil {
		return ev, err
	}
	for _, id := range body.Evidence {
		raw := parts[id.SHA256]
		if raw == nil {
			return ev, b.evidenceGone(body, id.Kind)
		}
		if err := placePart(&ev, id.Kind, raw); err != nil {
			return ev, err
		}
	}
	return ev, placeIMAFirst(ev.TPM2, body.IMAFirst)
}

func placePart(ev *verifier.Evidence, kind string, raw []byte) error {
	switch kind {
	case ledger.PartSPKI:
		ev.SPKI = raw
	case ledger.PartCSR:
		ev.CSR = raw
	case ledger.PartDocument, ledger.PartCompanion:
		return placeDocument(ev, raw)
	case ledger.PartAgent:
		members := unpackCertify(raw)
		if len(members) != 2 {
			return reason.New(reason.Internal, "")
		}
		ev.Agent = &verifier.AgentProof{Public: members[0], Signature: members[1]}
	default:
		if ev.TPM2 == nil {
			return reason.New(reason.Internal, "")
		}
		return placeTPMPart(ev.TPM2, kind, raw)
	}
	return nil
}

// placeDocument puts a document or a companion of one back: the document stands
// before its companions.
func placeDocument(ev *verifier.Evidence, packed []byte) error {
	format, name, raw, err := ledger.UnpackDocument(packed)
	if err != nil {
		return err
	}
	if name == "" {
		ev.Items = append(ev.Items, verifier.Item{Format: format, Document: raw})
		return nil
	}
	for i := range ev.Items {
		if item := &ev.Items[i]; item.Format == format {
			if item.Parts == nil {
				item.Parts = map[string][]byte{}
			}
			item.Parts[name] = raw
			return nil
		}
	}
	return reason.New(reason.Internal, "")
}

func placeTPMPart(t *verifier.TPM2Evidence, kind string, raw []byte) error {
	switch kind {
	case ledger.PartQuote:
		t.Quote = raw
	case ledger.PartSignature:
		t.Signature = raw
	case ledger.PartPCRs:
		return placePCRs(t, raw)
	case ledger.PartAKPublic:
		t.AKPublic = raw
	case ledger.PartEKPublic:
		t.EKPublic = raw
	case ledger.PartEKCertificate:
		t.EKCertificate = raw
	case ledger.PartEKChain:
		t.EKChain = append(t.EKChain, raw)
	case ledger.PartEventLog:
		t.EventLog = raw
	case ledger.PartIMALog:
		t.IMA = &ima.Segment{Raw: raw}
	case ledger.PartUserspaceLog:
		t.UserspaceLog = raw
	case ledger.PartCertify:
		members := unpackCertify(raw)
		if len(members) != 3 {
			return reason.New(reason.Internal, "")
		}
		t.Certify = &tpm2.CertifyEvidence{Public: members[0], Attest: members[1], Signature: members[2]}
	}
	return nil
}

func placePCRs(t *verifier.TPM2Evidence, raw []byte) error {
	var m map[string]string
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&m); err != nil {
		return err
	}
	for k, v := range m {
		i, err := strconv.Atoi(k)
		if err != nil {
			return err
		}
		if t.PCRs[i], err = hex.DecodeString(v); err != nil {
			return err
		}
	}
	return nil
}

func unpackCertify(raw []byte) [][]byte {
	var out [][]byte
	for len(raw) >= 4 {
		n := int(binary.BigEndian.Uint32(raw))
		raw = raw[4:]
		if n < 0 || n > len(raw) {
			return nil
		}
		out = append(out, raw[:n])
		raw = raw[n:]
	}
	return out
}
