package store_test

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// bodySource makes bodies as brokers write them, of a fleet that is made up. The
// same seed gives the same bodies.
type bodySource struct {
	rand *rand.Rand
	now  int64 // Unix ms
}

func newBodySource(seed uint64) *bodySource {
	return &bodySource{rand: rand.New(rand.NewPCG(seed, 1)), now: 1_800_000_000_000}
}

func (s *bodySource) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.rand.Uint32())
	}
	return b
}

func (s *bodySource) hex(n int) string { return hex.EncodeToString(s.bytes(n)) }

func (s *bodySource) id() uuid.UUID {
	u := uuid.UUID(s.bytes(16))
	for i := range 6 {
		u[i] = byte(s.now >> (8 * (5 - i)))
	}
	u[6], u[8] = 0x70|u[6]&0xf, 0x80|u[8]&0x3f
	return u
}

func (s *bodySource) node() ledger.NodeID {
	const digits = "abcdefghijklmnopqrstuvwxyz234567"
	b := s.bytes(26)
	for i := range b {
		b[i] = digits[b[i]%32]
	}
	return ledger.NodeID(b)
}

func (s *bodySource) pick(of ...string) string { return of[s.rand.IntN(len(of))] }

func (s *bodySource) clock() ledger.Clock {
	return ledger.Clock{Clock: strconv.Itoa(s.rand.IntN(1 << 40)), ResetCount: uint32(s.rand.IntN(90)), RestartCount: uint32(s.rand.IntN(5)), Safe: true}
}

// attestation is a renewal of a node that keeps its event log: what nine of ten
// records are.
func (s *bodySource) attestation() ledger.Attestation {
	s.now += int64(s.rand.IntN(5000))
	node, ak, spki, at := s.node(), s.hex(32), s.hex(32), s.now-int64(s.rand.IntN(300))
	firmware, clock := strconv.FormatUint(s.rand.Uint64(), 10), s.clock()
	then := clock
	then.Clock = strconv.Itoa(s.rand.IntN(1 << 40))
	zone, domain := s.pick("payments", "batch", "lab", "vault"), s.pick("example.org", "prod.example.com")
	parts := []ledger.EvidenceID{
		{Kind: ledger.PartQuote, SHA256: s.hex(32)},
		{Kind: ledger.PartSignature, SHA256: s.hex(32)},
		{Kind: ledger.PartPCRs, SHA256: s.hex(32)},
		{Kind: ledger.PartAKPublic, SHA256: ak},
		{Kind: ledger.PartCertify, SHA256: s.hex(32)},
		{Kind: ledger.PartSPKI, SHA256: spki},
	}
	return ledger.Attestation{
		Type: ledger.TypeAttestation, ID: s.id(), Node: node, RootKind: "ek", RootHash: s.hex(32),
		Verdict: ledger.VerdictAllow, Reasons: []ledger.Reason{}, Events: []string{}, Zone: zone, Tier: 2,
		Purpose: "renew", Format: "tpm2", TrustDomain: domain, Nonce: s.hex(32), Select: "ff0300", SPKISHA256: spki,
		IssuedAt: at, AttestedAt: at, FreshUntil: at + 300_000, JudgedAt: s.now,
		Policy: ledger.PolicyRef{Version: int64(s.rand.IntN(40)), Hash: "sha256:" + s.hex(32)}, TrustRoots: "sha256:" + s.hex(32),
		Evidence: parts, Appraisal: "sha256:" + s.hex(32), AKName: "000b" + ak,
		Baseline: &ledger.Baseline{
			Clock: then, At: at - 200_000, Firmware: firmware, EventLog: s.hex(32),
		},
		Manufacturer: s.pick("id:53544D20", "id:49465800", "id:414D4400", "id:494E5443"),
		TPM:          ledger.TPM{Model: s.pick("ST33HTPHAHD8", "SLB9672", "AMD", "INTEL"), Version: "id:" + s.pick("00010102", "000F0017", "00030001")},
		Clock:        clock, Firmware: firmware, AdmittedBy: s.pick("inventory", "operator", "join_token"),
		Admission: s.id().String(), Prev: s.id().String(), NodeStatus: "active", Replica: s.pick("broker-1", "broker-2"),
		SVIDs: []ledger.IssuedSVID{{
			Profile: ledger.ProfileX509, Serial: s.hex(16), SPIFFEID: fmt.Sprintf("spiffe://%s/zone/%s/node/%s", domain, zone, node),
			NotBefore: at/1000 - 60, NotAfter: at/1000 + 3600, TBSSHA256: s.hex(32), CAKeyID: s.hex(32), Key: "tpm",
		}},
	}
}

// enrolment is a first attestation.
func (s *bodySource) enrolment() ledger.Attestation {
	a := s.attestation()
	a.Purpose, a.Baseline, a.Prev = "enrol", nil, ""
	a.Evidence = append(a.Evidence[:4:4],
		ledger.EvidenceID{Kind: ledger.PartEKPublic, SHA256: s.hex(32)}, ledger.EvidenceID{Kind: ledger.PartEKCertificate, SHA256: s.hex(32)},
		ledger.EvidenceID{Kind: ledger.PartEKChain, SHA256: s.hex(32)}, ledger.EvidenceID{Kind: ledger.PartEventLog, SHA256: s.hex(32)},
		a.Evidence[4], a.Evidence[5])
	return a
}

// denial is of a machine that booted something else.
func (s *bodySource) denial() ledger.Attestation {
	a := s.attestation()
	a.Verdict, a.FreshUntil, a.SVIDs = ledger.VerdictDeny, 0, []ledger.IssuedSVID{}
	a.Events = []string{"tpm2.rebooted"}
	for _, pcr := range []int{4, 8, 9}[s.rand.IntN(3):] {
		was, is := s.hex(32), s.hex(32)
		a.Reasons = append(a.Reasons, ledger.Reason{
			Code:   "policy.pcr_mismatch",
			Detail: fmt.Sprintf("PCR %d is %s, expected %s (reference set debian-12)", pcr, is, was),
		})
		a.Drift = append(a.Drift, ledger.Drift{Kind: "pcr." + strconv.Itoa(pcr), Before: was, After: is})
	}
	a.Drift = append(a.Drift, ledger.Drift{Kind: "event_log", Before: s.hex(32), After: s.hex(32)},
		ledger.Drift{Kind: "verdict", Before: "allow", After: "deny"}, ledger.Drift{Kind: "reason", After: "policy.pcr_mismatch"})
	return a
}

// issuance is of a workload's SVID or of a token.
func (s *bodySource) issuance() ledger.Issuance {
	a := s.attestation()
	i := ledger.Issuance{
		Type: ledger.TypeIssuance, ID: s.id(), Node: a.Node, Workload: "/payments/api", Zone: a.Zone, Tier: a.Tier,
		Attestation: a.ID.String(), AttestedAt: a.AttestedAt, FreshUntil: a.FreshUntil, Presented: s.hex(32), Policy: a.Policy,
		TrustDomain: a.TrustDomain, SVIDs: a.SVIDs, At: s.now, Replica: a.Replica,
	}
	i.SVIDs[0].SPIFFEID = "spiffe://" + a.TrustDomain + "/zone/" + a.Zone + "/workload/payments/api"
	if s.rand.IntN(2) == 0 {
		v := &i.SVIDs[0]
		v.Profile, v.Serial, v.Audience, v.Key = ledger.ProfileJWT, i.ID.String(), "https://vault.example.org", "software"
	}
	return i
}

func (s *bodySource) grant() ledger.Grant {
	s.now += 10
	return ledger.Grant{
		Type: s.pick(ledger.TypeKeyPublished, ledger.TypeAdmission, ledger.TypePolicyActivated, ledger.TypeNodeApproved),
		ID:   s.id(), By: s.pick("replica:broker-1", "uid:0", "operator:alice"), Subject: s.hex(32), RowHash: s.hex(32), At: s.now,
	}
}

// mix is a record of each kind, the seldom ones first.
func (s *bodySource) mix(t testing.TB) []ledger.Record {
	t.Helper()
	return []ledger.Record{
		packable(t, s.grant()), packable(t, s.issuance()), packable(t, s.denial()), packable(t, s.enrolment()), packable(t, s.attestation()),
	}
}

// packable makes the record of a body.
func packable(t testing.TB, body interface {
	Record(salt [32]byte) (ledger.Record, error)
},
) ledger.Record {
	t.Helper()
	r, err := body.Record([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
