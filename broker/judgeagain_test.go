package broker_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// judged is a node with records of every sort: enrolment, renewal without log,
// software key, denials, another AK, a reboot.
func judged(t *testing.T) (*rig, *host) {
	t.Helper()
	r := newRig(t)
	// A clock with a finer grain than the record's.
	r.wait(123_456 * time.Nanosecond)
	h := r.admitted()
	h.enrol()
	h.withoutLog = true
	h.renew()
	h.software, h.withoutLog = true, false
	h.renew()
	log := h.tpm.EventLog
	h.tpm.EventLog = log[:200]
	if _, err := h.tryRenew(); reason.Of(err) != reason.EventLogTruncated {
		t.Fatal(err)
	}
	h.tpm.EventLog = log
	h.tpm.AK = evidencetest.NewAK(t)
	h.minute()
	h.enrol()
	h.tpm.Boot(build.Machine{KernelVersion: "6.9"}.Log())
	h.tpm.Clock.Safe = false
	h.renew()
	evidencetest.NewMaker(t).Endorse(t, h.tpm)
	h.minute()
	h.enrol()
	h.tpm.Clock.ResetCount = 0
	if _, err := h.tryRenew(); reason.Of(err) != reason.TPM2RolledBack {
		t.Fatal(err)
	}
	return r, h
}

// TestInvariant4_RecordsAreJudgedTheSameAgain, by a replica that has nothing but
// the history, the accepted ones and the denied ones.
func TestInvariant4_RecordsAreJudgedTheSameAgain(t *testing.T) {
	r, h := judged(t)
	auditor, _ := r.newReplica("auditor")
	bodies := r.attestations(h.node)
	if len(bodies) != 8 {
		t.Fatalf("%d records", len(bodies))
	}
	for i, body := range bodies {
		j, err := auditor.JudgeAgain(t.Context(), body)
		if err != nil || !j.Same {
			t.Errorf("record %d (%s): same %t, %v", i, body.Verdict, j.Same, err)
		}
		if (j.Refusal != nil) != (body.Verdict == ledger.VerdictDeny) {
			t.Errorf("record %d (%s): refused again with %v", i, body.Verdict, j.Refusal)
		}
		if j.Refusal != nil && string(reason.Of(j.Refusal)) != body.Reasons[0].Code {
			t.Errorf("record %d: refused with %v, recorded as %v", i, j.Refusal, body.Reasons)
		}
	}
}

// TestInvariant4_AnEKCertificateAtTheEdgeOfItsLife: the time of judgement is
// recorded in milliseconds, so it is judged in milliseconds.
func TestInvariant4_AnEKCertificateAtTheEdgeOfItsLife(t *testing.T) {
	r := newRig(t)
	h := r.admitted()
	r.wait(evidencetest.Noon.AddDate(9, 0, 0).Add(300*time.Microsecond).Sub(r.now()) - 13*time.Hour)
	r.must(r.b.RotateCA(t.Context()))
	r.wait(13 * time.Hour)
	h.enrol()
	j, err := r.b.JudgeAgain(t.Context(), r.lastAttestation(h.node))
	if err != nil || !j.Same {
		t.Errorf("same %t, %v", j.Same, err)
	}
}

// TestInvariant4_WhatWasChangedSinceShows: a broker that judged dishonestly, or
// evidence and expectations that were changed since.
func TestInvariant4_WhatWasChangedSinceShows(t *testing.T) {
	r, h := judged(t)
	bodies := r.attestations(h.node)
	clone := func(t *testing.T, i int) (body ledger.Attestation) {
		raw, err := json.Marshal(bodies[i])
		r.must(err)
		r.must(json.Unmarshal(raw, &body))
		return body
	}
	// swap puts other bytes in the place of one part.
	swap := func(body *ledger.Attestation, kind string, change func([]byte) []byte) {
		for i, e := range body.Evidence {
			if e.Kind != kind {
				continue
			}
			raw, err := hex.DecodeString(e.SHA256)
			r.must(err)
			changed := change(bytes.Clone(r.store.evidence[[32]byte(raw)]))
			sum := sha256.Sum256(changed)
			r.store.evidence[sum] = changed
			body.Evidence[i].SHA256 = hex.EncodeToString(sum[:])
			return
		}
		t.Fatalf("no part %s", kind)
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	for _, part := range []string{
		ledger.PartQuote, ledger.PartSignature, ledger.PartAKPublic, ledger.PartEKPublic, ledger.PartEKCertificate, ledger.PartEKChain,
		ledger.PartEventLog, ledger.PartCertify, ledger.PartSPKI,
	} {
		t.Run(part, func(t *testing.T) {
			body := clone(t, 0)
			swap(&body, part, flip)
			if j, err := r.b.JudgeAgain(t.Context(), body); err == nil && j.Same {
				t.Error("the change does not show")
			}
		})
	}
	t.Run(ledger.PartCSR, func(t *testing.T) {
		body := clone(t, 2)
		swap(&body, ledger.PartCSR, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
		if j, err := r.b.JudgeAgain(t.Context(), body); err != nil || j.Same {
			t.Errorf("same %t, %v", j.Same, err)
		}
	})
	t.Run(ledger.PartPCRs, func(t *testing.T) {
		body := clone(t, 0)
		swap(&body, ledger.PartPCRs, func(b []byte) []byte {
			return bytes.Replace(b, []byte(hexOf(evidencetest.New(t).PCRs[4])), []byte(strings.Repeat("00", 32)), 1)
		})
		if j, err := r.b.JudgeAgain(t.Context(), body); err != nil || j.Same {
			t.Errorf("same %t, %v", j.Same, err)
		}
	})
	for name, tt := range map[string]struct {
		record int
		change func(b *ledger.Attestation)
	}{
		"nonce":           {0, func(b *ledger.Attestation) { b.Nonce = strings.Repeat("00", 32) }},
		"AK":              {0, func(b *ledger.Attestation) { b.AKName = b.AKName[2:] + "00" }},
		"selection":       {0, func(b *ledger.Attestation) { b.Select = "ff0100" }},
		"trust domain":    {0, func(b *ledger.Attestation) { b.TrustDomain = "example.com" }},
		"purpose":         {0, func(b *ledger.Attestation) { b.Purpose = "renew" }},
		"format":          {0, func(b *ledger.Attestation) { b.Format = "tpm2.lab" }},
		"appraisal":       {0, func(b *ledger.Attestation) { b.Appraisal = "sha256:" + strings.Repeat("00", 32) }},
		"time":            {0, func(b *ledger.Attestation) { b.JudgedAt = evidencetest.Noon.AddDate(20, 0, 0).UnixMilli() }},
		"manufacturer":    {1, func(b *ledger.Attestation) { b.Manufacturer = "" }},
		"genuine":         {6, func(b *ledger.Attestation) { b.RequireGenuine = true }},
		"no baseline":     {7, func(b *ledger.Attestation) { b.Baseline = nil }},
		"clock before":    {1, func(b *ledger.Attestation) { b.Baseline.Clock.Clock = "18446744073709551615" }},
		"resets before":   {5, func(b *ledger.Attestation) { b.Baseline.Clock.ResetCount = 99 }},
		"restarts before": {1, func(b *ledger.Attestation) { b.Baseline.Clock.RestartCount = 99 }},
		"time before":     {1, func(b *ledger.Attestation) { b.Baseline.At, b.Baseline.Clock.Clock = b.IssuedAt, "1" }},
		"firmware before": {1, func(b *ledger.Attestation) { b.Baseline.Firmware = "1" }},
		"log before":      {1, func(b *ledger.Attestation) { b.Baseline.EventLog = "" }},
	} {
		t.Run(name, func(t *testing.T) {
			body := clone(t, tt.record)
			tt.change(&body)
			if j, err := r.b.JudgeAgain(t.Context(), body); err != nil || j.Same {
				t.Errorf("same %t, %v", j.Same, err)
			}
		})
	}
}

// TestJudgeAgainIssueTime: the clock is compared at the issue time of the
// challenge.
func TestInvariant4_IssueTimeCounts(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.tpm.Wait(10 * time.Minute)
	h.r.wait(10 * time.Minute)
	h.renew()
	body := r.lastAttestation(h.node)
	body.IssuedAt = evidencetest.Noon.UnixMilli()
	if j, err := r.b.JudgeAgain(t.Context(), body); err != nil || j.Same {
		t.Errorf("same %t, %v", j.Same, err)
	}
}

// TestJudgeAgainCannot: what is missing is named; nothing is said of a record
// that cannot be judged.
func TestJudgeAgainCannot(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	h.withoutLog = true
	h.renew()
	for name, tt := range map[string]struct {
		change func(b *ledger.Attestation)
		want   reason.Code
	}{
		"other trust data":   {func(b *ledger.Attestation) { b.TrustRoots = "sha256:00" }, reason.PolicyReferenceMissing},
		"part gone":          {func(b *ledger.Attestation) { b.Evidence[0].SHA256 = strings.Repeat("00", 32) }, reason.RequestNotFound},
		"part without hash":  {func(b *ledger.Attestation) { b.Evidence[0].SHA256 = "00" }, reason.RequestMalformed},
		"selection":          {func(b *ledger.Attestation) { b.Select = "f" }, reason.RequestMalformed},
		"nonce":              {func(b *ledger.Attestation) { b.Nonce = "x" }, reason.Internal},
		"AK name":            {func(b *ledger.Attestation) { b.AKName = "x" }, reason.Internal},
		"clock before":       {func(b *ledger.Attestation) { b.Baseline.Clock.Clock = "x" }, reason.Internal},
		"firmware before":    {func(b *ledger.Attestation) { b.Baseline.Firmware = "x" }, reason.Internal},
		"log before":         {func(b *ledger.Attestation) { b.Baseline.EventLog = "x" }, reason.RequestMalformed},
		"PCRs are no object": {func(b *ledger.Attestation) { r.put(b, ledger.PartPCRs, "[]") }, reason.Internal},
		"PCR index":          {func(b *ledger.Attestation) { r.put(b, ledger.PartPCRs, `{"x":"00"}`) }, reason.Internal},
		"PCR value":          {func(b *ledger.Attestation) { r.put(b, ledger.PartPCRs, `{"1":"x"}`) }, reason.Internal},
		"certify too short":  {func(b *ledger.Attestation) { r.put(b, ledger.PartCertify, "\x00\x00\x00\x09x") }, reason.Internal},
		"certify too long":   {func(b *ledger.Attestation) { r.put(b, ledger.PartCertify, strings.Repeat("\x00", 16)) }, reason.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			body := r.lastAttestation(h.node)
			tt.change(&body)
			j, err := r.b.JudgeAgain(t.Context(), body)
			if reason.Of(err) != tt.want || j.Same {
				t.Errorf("same %t, %v, want %q", j.Same, err, tt.want)
			}
		})
	}
	r.store.failing("Evidence", reason.New(reason.StoreUnavailable, "away"))
	if _, err := r.b.JudgeAgain(t.Context(), r.lastAttestation(h.node)); reason.Of(err) != reason.StoreUnavailable {
		t.Errorf("%v", err)
	}
}

// put replaces a part of a record by other bytes.
func (r *rig) put(b *ledger.Attestation, kind, raw string) {
	sum := sha256.Sum256([]byte(raw))
	r.store.evidence[sum] = []byte(raw)
	for i := range b.Evidence {
		if b.Evidence[i].Kind == kind {
			b.Evidence[i].SHA256 = hex.EncodeToString(sum[:])
		}
	}
}

// TestReference: what becomes golden comes from evidence that earns its verdict
// once more, under the pinned AK.
func TestReference(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	first := h.prev
	got, err := r.b.Reference(t.Context(), operator, h.node, "")
	r.must(err)
	if got.Node != h.node || got.AttestationID != first || got.PCRs["4"] != hexOf(h.tpm.PCRs[4]) || len(got.PCRs) != 8 || len(got.Events["4"]) == 0 {
		t.Errorf("reference %+v", got)
	}
	log := h.tpm.EventLog
	h.tpm.EventLog = log[:100]
	if _, err := h.tryRenew(); err == nil {
		t.Fatal("accepted")
	}
	denied := r.lastAttestation(h.node).ID.String()
	h.tpm.EventLog = log
	other := r.enrolled()
	grant := ""
	for _, rec := range r.store.records {
		if rec.Type == ledger.TypeAdmission {
			grant = rec.ID.String()
		}
	}
	for name, tt := range map[string]struct {
		node, id string
		want     reason.Code
	}{
		"by id":                     {h.node, first, ""},
		"a denied boot":             {h.node, denied, reason.RequestNotFound},
		"a boot of another node":    {h.node, other.prev, reason.RequestNotFound},
		"a grant":                   {h.node, grant, reason.RequestNotFound},
		"no such record":            {h.node, "0197b3c2-0000-7000-8000-000000000001", reason.RequestNotFound},
		"no id":                     {h.node, "yesterday", reason.RequestMalformed},
		"no such node":              {"nobody", "", reason.RequestNotFound},
		"no such node, with a boot": {"nobody", first, reason.RequestNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := r.b.Reference(t.Context(), operator, tt.node, tt.id); reason.Of(err) != tt.want {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	t.Run("never accepted", func(t *testing.T) {
		r := newRig(t, strings.Replace(zoneLab, "{format: tpm2}", "{group: nobody}", 1))
		h := r.admitted()
		if _, err := h.tryEnrol(); reason.Of(err) != reason.PolicyNoZone {
			t.Fatal(err)
		}
		if _, err := r.b.Reference(t.Context(), operator, h.node, ""); reason.Of(err) != reason.RequestNotFound {
			t.Errorf("%v", err)
		}
	})
	t.Run("stored evidence was changed", func(t *testing.T) {
		body := r.attestations(h.node)[0]
		r.put(&body, ledger.PartEventLog, string(build.Machine{KernelVersion: "evil"}.Log().Bytes()))
		raw, err := ledger.Canonical(body)
		r.must(err)
		for i := range r.store.records {
			if r.store.records[i].ID == body.ID {
				r.store.records[i].Body = raw
			}
		}
		if _, err := r.b.Reference(t.Context(), operator, h.node, first); reason.Of(err) != reason.StoreRowForged {
			t.Errorf("%v", err)
		}
	})
	t.Run("another AK than the pinned one", func(t *testing.T) {
		r.store.change(other.node, func(s *ledger.Snapshot) { s.Node.AKName = bytes.Repeat([]byte{1}, 34) })
		if _, err := r.b.Reference(t.Context(), operator, other.node, other.prev); reason.Of(err) != reason.RequestNotFound {
			t.Errorf("%v", err)
		}
		r.store.failing("NodeByID", reason.New(reason.StoreUnavailable, "away"))
		if _, err := r.b.Reference(t.Context(), operator, other.node, other.prev); reason.Of(err) != reason.StoreUnavailable {
			t.Errorf("%v", err)
		}
	})
}

// TestEvidenceIsSharedByContent: two hosts of one image keep one log.
func TestEvidenceIsSharedByContent(t *testing.T) {
	r := newRig(t)
	a, b := r.enrolled(), r.enrolled()
	digest := func(h *host) (out string) {
		for _, e := range r.lastAttestation(h.node).Evidence {
			if e.Kind == ledger.PartEventLog {
				out = e.SHA256
			}
		}
		return out
	}
	if digest(a) == "" || digest(a) != digest(b) {
		t.Error("the same log is kept twice")
	}
}
