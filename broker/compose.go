package broker

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
)

// prepare makes the to-be-signed certificate with the zone claim inside. No key
// is used yet.
func (b *Broker) prepare(a *attempt) (*issuer.Prepared, error) {
	v := &a.verdict
	fresh := a.freshUntil()
	id, err := ledger.NewRecordID(a.now, b.cfg.Rand)
	if err != nil {
		return nil, err
	}
	a.id = id
	a.parts = evidenceParts(a)
	end, err := b.cfg.Issuer.Expiry(a.now, fresh, v.policy.X509TTL, v.policy.Grace)
	if err != nil {
		return nil, err
	}
	ext, err := claim.EncodeCMW(b.zoneClaim(a, fresh, end))
	if err != nil {
		return nil, err
	}
	return b.cfg.Issuer.Prepare(issuer.Request{
		SPIFFEID: b.nodeSPIFFEID(v.policy.Zone, v.node.ID), SPKI: a.req.SPKI, CommonName: string(v.node.ID),
		Key: a.appraisal.KeyResidency(), NotAfter: end, FreshUntil: fresh, Grace: v.policy.Grace,
		ClaimExtension: ext,
	})
}

// compose builds the commit: the record, the node as it will stand, the evidence
// by content, and what drifted.
func (b *Broker) compose(a *attempt, prepared *issuer.Prepared) (ledger.Commit, error) {
	var err error
	if a.id == uuid.Nil {
		if a.id, err = ledger.NewRecordID(a.now, b.cfg.Rand); err != nil {
			return ledger.Commit{}, err
		}
		a.parts = evidenceParts(a)
	}
	if a.verdict.newNode && !a.verdict.allow && a.byDocuments() {
		a.verdict.node.Release(a.id) // a denial gives nobody the machine
	}
	body, err := b.body(a, prepared)
	if err != nil {
		return ledger.Commit{}, err
	}
	salt, err := b.salt()
	if err != nil {
		return ledger.Commit{}, err
	}
	state, err := nextState(a, body)
	if err != nil {
		return ledger.Commit{}, err
	}
	body.Drift = ledger.Changes(a.snap.State, state)
	if body.Zone == "" {
		// The denial is kept, and held, with the zone that it concerns.
		body.NodeZone = state.Zone
	}
	rec, err := body.Record(salt)
	if err != nil {
		return ledger.Commit{}, err
	}
	c := ledger.Commit{
		Record: rec, BasedOn: a.challenge.Version, State: &state,
		Evidence: keepingLog(a), SVIDs: body.SVIDs, Drift: body.Drift, DriftZone: body.DriftZone(),
		LastGood: a.snap.State.AttestedAt, Keep: b.keep(body.DriftZone()),
	}
	if err := b.span(a, &c); err != nil {
		return ledger.Commit{}, err
	}
	if a.verdict.rowDirty {
		c.Node = &a.verdict.node
	}
	if e := a.challenge.Enrol; e != nil && e.JoinToken != uuid.Nil && a.verdict.newNode {
		c.JoinToken = &e.JoinToken
	}
	if a.verdict.newNode {
		root := a.verdict.node.RootHash
		c.EndPending = &root
	}
	return c, nil
}

// body is the record as it will be read in ten years.
func (b *Broker) body(a *attempt, prepared *issuer.Prepared) (ledger.Attestation, error) {
	v, c := &a.verdict, a.challenge
	spki := sha256.Sum256(a.req.SPKI)
	canonical, err := a.appraisal.Canonical()
	if err != nil {
		return ledger.Attestation{}, err
	}
	baseline, err := recordBaseline(a.want.Baseline)
	if err != nil {
		return ledger.Attestation{}, err
	}
	body := ledger.Attestation{
		Type: ledger.TypeAttestation, ID: a.id, Node: v.node.ID,
		RootKind: v.node.RootKind, RootHash: hexText(v.node.RootHash[:]),
		Verdict: ledger.VerdictDeny, Reasons: []ledger.Reason{}, Events: nonNil(v.events),
		Zone: v.policy.Zone, Tier: v.policy.Tier, Purpose: c.Purpose, Format: c.Format, TrustDomain: b.cfg.TrustDomain,
		Nonce: hexText(c.Nonce), Select: c.Select, SPKISHA256: hexText(spki[:]),
		IssuedAt: c.IssuedAt, AttestedAt: a.attestedAt().UnixMilli(), JudgedAt: a.now.UnixMilli(),
		Policy: a.policy.ref(), TrustRoots: digestName(a.trust.Digest), Evidence: evidenceIDs(a.parts),
		Appraisal: digestName(sha256.Sum256(canonical)), Baseline: baseline,
		AKName: hexText(c.AKName), Manufacturer: v.node.Manufacturer, TPM: v.node.TPM,
		Clock: recordClock(a.appraisal), Firmware: strconv.FormatUint(a.appraisal.FirmwareVersion(), 10),
		RequireGenuine: a.want.RequireGenuine, AllowExpired: a.want.AllowExpired, IMAFirst: imaFirst(a.evidence.TPM2),
		AdmittedBy: v.node.AdmittedBy, Admission: idOrEmpty(v.node.Admission),
		Prev: a.req.Prev, Void: idOrEmpty(v.history.void), NodeStatus: string(v.node.Status),
		SVIDs: []ledger.IssuedSVID{}, Replica: b.cfg.Replica,
	}
	for _, r := range v.reasons {
		body.Reasons = append(body.Reasons, ledger.Reason{Code: string(r.Code), Detail: r.Detail})
	}
	if v.allow {
		body.Verdict, body.FreshUntil = ledger.VerdictAllow, a.freshUntil().UnixMilli()
		body.SVIDs = []ledger.IssuedSVID{prepared.Record()}
	}
	return body, nil
}

// nextState is what this decision leaves behind. A refusal moves no baseline:
// the last accepted boot stays the one to compare with.
func nextState(a *attempt, body ledger.Attestation) (ledger.NodeState, error) {
	v, st, err := &a.verdict, a.snap.State, error(nil)
	st.Node, st.LastAttemptAt = v.node.ID, a.now
	st.PolicyVersion = a.policy.version
	if !v.allow {
		reason := string(v.reasons[0].Code)
		if st.Verdict != ledger.VerdictDeny || st.Reason != reason {
			st.Repeats = 0
		}
		st.Repeats++
		st.Verdict, st.Reason = ledger.VerdictDeny, reason
		if v.history.void != uuid.Nil {
			// The answer that the host never saw stays lost, also if this one is a denial.
			st.Last = v.history.confirmed
		}
		return st, observe(a, &st)
	}
	clock := a.appraisal.Clock()
	measured, err := measuredObject(a.appraisal)
	if err != nil {
		return st, err
	}
	st.Last, st.Confirmed, st.Rebaseline = a.id, v.history.confirmed, false
	st.HasClock, st.Clock, st.ResetCount, st.RestartCount = a.evidence.TPM2 != nil, clock.Millis, clock.ResetCount, clock.RestartCount
	st.Firmware, st.PCRs, st.SecureBoot, st.Seen = a.appraisal.FirmwareVersion(), measured, a.appraisal.SecureBoot(), nil
	st.EventLog = a.appraisal.EventLogDigest()
	if st.IMA, err = keepIMA(a); err != nil {
		return st, err
	}
	st.Zone, st.Tier, st.Verdict, st.Reason, st.Repeats = v.policy.Zone, v.policy.Tier, ledger.VerdictAllow, "", 0
	st.AttestedAt, st.FreshUntil, st.LastOKAt = a.attestedAt(), a.freshUntil(), a.now
	if v.rebooted() {
		st.RebootUntil = time.Time{} // one announcement, one reboot
	}
	if end := time.Unix(body.SVIDs[0].NotAfter, 0); end.After(st.ExpiresAt) {
		st.ExpiresAt = end
	}
	return st, nil
}

// observe notes what a refused attempt showed: a denial moves no baseline, and
// still what changed is worth a before and an after. Only quoted values count.
func observe(a *attempt, st *ledger.NodeState) error {
	values := measuredValues(a.appraisal)
	if len(values) == 0 {
		return nil
	}
	m := st.Measured()
	m.PCRs, m.Firmware = values, strconv.FormatUint(a.appraisal.FirmwareVersion(), 10)
	// Without a log that explains the quote, what a log says is not known to have
	// changed.
	if a.appraisal.EventLog() != nil {
		d := a.appraisal.EventLogDigest()
		m.EventLog, m.SecureBoot = hexText(d[:]), a.appraisal.SecureBoot()
	}
	return st.See(m)
}

// evidenceParts lists the evidence by content, in the order in which judging
// again reads it.
func evidenceParts(a *attempt) []ledger.EvidencePart {
	parts := make([]ledger.EvidencePart, 0, 8) // a renewal has seven
	put := func(kind string, b []byte) {
		if len(b) > 0 {
			parts = append(parts, ledger.EvidencePart{Kind: kind, Digest: sha256.Sum256(b), Bytes: b})
		}
	}
	if a.req.TPM2 != nil {
		tpmParts(a, put)
	}
	documentParts(a, put)
	put(ledger.PartSPKI, a.req.SPKI)
	put(ledger.PartCSR, a.req.CSR)
	return parts
}

func tpmParts(a *attempt, put func(kind string, b []byte)) {
	e := a.req.TPM2
	put(ledger.PartQuote, e.Quote)
	put(ledger.PartSignature, e.Signature)
	put(ledger.PartPCRs, pcrObject(a.evidence.TPM2.PCRs))
	put(ledger.PartAKPublic, e.AKPublic)
	put(ledger.PartEKPublic, e.EKPublic)
	put(ledger.PartEKCertificate, e.EKCertificate)
	for _, c := range e.EKChain {
		put(ledger.PartEKChain, c)
	}
	put(ledger.PartEventLog, e.EventLog)
	if seg := a.evidence.TPM2.IMA; seg != nil {
		put(ledger.PartIMALog, seg.Raw)
	}
	put(ledger.PartUserspaceLog, e.UserspaceLog)
	if c := e.Certify; c != nil {
		put(ledger.PartCertify, packCertify(c.Public, c.Attest, c.Signature))
	}
}

// keepingLog adds the kept log that a renewal without one was judged by: each
// week of the history has all that its records are judged again from.
func keepingLog(a *attempt) []ledger.EvidencePart {
	base := a.want.Baseline
	if base == nil || base.Log == nil {
		return a.parts
	}
	return append(slices.Clip(a.parts), ledger.EvidencePart{Kind: ledger.PartEventLog, Digest: base.Log.Digest(), Bytes: base.Log.Bytes()})
}

// keep is the retention group of a zone.
func (b *Broker) keep(zone string) int16 { return b.retention.active.Load().keepOf(zone) }

// keepOf is the retention group of an interval that ends.
func (b *Broker) keepOf(i *ledger.Interval) int16 {
	if i == nil {
		return 0
	}
	return b.keep(i.Zone)
}

// span is what the decision makes of the node's intervals.
func (b *Broker) span(a *attempt, c *ledger.Commit) error {
	open, before := a.snap.Open, &a.snap.State
	if !a.verdict.allow {
		c.Closed = ledger.Deny(open, before, a.now)
		c.KeepClosed = b.keepOf(c.Closed)
		return nil
	}
	m, err := b.measured.measurement(a.appraisal, c.State.PCRs)
	if err != nil {
		return err
	}
	c.Measurement = m
	c.Interval, c.Closed = ledger.Earn(open, before, ledger.Earned{
		Node: c.State.Node, Zone: c.State.Zone, Measured: m.Digest, PolicyVersion: c.State.PolicyVersion,
		At: a.now, FreshUntil: c.State.FreshUntil, Expires: time.Unix(c.SVIDs[0].NotAfter, 0), Record: a.id,
	})
	c.KeepClosed = b.keepOf(c.Closed)
	return nil
}

func packCertify(members ...[]byte) []byte {
	var out []byte
	for _, m := range members {
		out = binary.BigEndian.AppendUint32(out, uint32(len(m)))
		out = append(out, m...)
	}
	return out
}

func evidenceIDs(parts []ledger.EvidencePart) []ledger.EvidenceID {
	ids := make([]ledger.EvidenceID, len(parts))
	for i, p := range parts {
		ids[i] = ledger.EvidenceID{Kind: p.Kind, SHA256: hexText(p.Digest[:])}
	}
	return ids
}

// pcrObject is the RFC 8785 object of PCR values, nil for none.
func pcrObject(pcrs map[int][]byte) []byte {
	if len(pcrs) == 0 {
		return nil
	}
	return verifier.PCRObject(pcrs)
}

// measuredObject is the RFC 8785 object of measuredValues, nil for nothing. Without
// documents that is the object of PCRs, which is written directly: each renewal of a
// TPM has one.
func measuredObject(a verifier.Appraisal) ([]byte, error) {
	if len(a.Documents()) == 0 {
		return pcrObject(a.PCRs()), nil
	}
	values := measuredValues(a)
	if len(values) == 0 {
		return nil, nil
	}
	return ledger.Canonical(values)
}

func hexPCRs(pcrs map[int][]byte) map[string]string {
	m := make(map[string]string, len(pcrs))
	for i, v := range pcrs {
		m[strconv.Itoa(i)] = hexText(v)
	}
	return m
}

func recordClock(a verifier.Appraisal) ledger.Clock {
	c := a.Clock()
	return ledger.Clock{Clock: strconv.FormatUint(c.Millis, 10), ResetCount: c.ResetCount, RestartCount: c.RestartCount, Safe: c.Safe}
}

func recordBaseline(b *verifier.Baseline) (*ledger.Baseline, error) {
	if b == nil {
		return nil, nil
	}
	known, err := b.IMA.MarshalText()
	out := &ledger.Baseline{
		Clock: ledger.Clock{Clock: strconv.FormatUint(b.Clock.Millis, 10), ResetCount: b.Clock.ResetCount, RestartCount: b.Clock.RestartCount, Safe: b.Clock.Safe},
		At:    b.ClockAt.UnixMilli(), Firmware: strconv.FormatUint(b.Firmware, 10), IMA: string(known),
	}
	if b.Log != nil {
		d := b.Log.Digest()
		out.EventLog = hexText(d[:])
	}
	return out, err
}

func digestName(d [32]byte) string {
	var room [len("sha256:") + hexRoom]byte
	return string(hex.AppendEncode(append(room[:0], "sha256:"...), d[:]))
}

const hexRoom = 2 * sha256.Size

// hexText is hex.EncodeToString without a second copy of what is as short as a
// digest: a record has two dozen of them.
func hexText(b []byte) string {
	var room [hexRoom]byte
	return string(hex.AppendEncode(room[:0], b))
}

func idOrEmpty(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}
