//go:build benchhistory

package store

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// Shape of the fleet. Renewals every two hours make a million rows of ten
// thousand nodes cover eight days, so that what lies beyond a question's bound of
// a week or a day is what ten million add.
const (
	benchEvery  = 2 * time.Hour
	benchFresh  = 3 * time.Hour
	benchZones  = 10
	benchModels = 4
	benchSets   = 400 // measurements
	// Of a thousand steps of a node so many are a refusal, another boot, and a
	// later SVID of a workload.
	refusalsOf1000, rebootsOf1000, laterOf1000 = 5, 10, 140
	benchLogBytes                              = 8 << 10 // of an event log, packed
)

// fleet decides what each node does, as a broker would record it. The same seed
// gives the same history.
type fleet struct {
	rand  *rand.Rand
	nodes []*benchNode
	sets  []benchSet
	turn  int       // of the node whose turn is next
	now   time.Time // of the next decision
	step  time.Duration
}

type benchSet struct {
	m   ledger.Measurement
	log [32]byte
	pcr string
}

type benchNode struct {
	id    ledger.NodeID
	root  [32]byte
	ak    [32]byte
	model int
	zone  string
	set   int
	state ledger.NodeState
	open  *ledger.Interval
	good  time.Time
}

// decided is one record with what belongs to it.
type decided struct {
	at     time.Time
	commit ledger.Commit
	body   any // ledger.Attestation or ledger.Issuance
}

func newFleet(nodes int, rows int64, end time.Time) *fleet {
	f := &fleet{rand: rand.New(rand.NewPCG(7, 7))}
	f.step = benchEvery / time.Duration(nodes)
	f.now = end.Add(-time.Duration(rows) * f.step)
	for i := range benchSets {
		s := benchSet{pcr: f.hex(32)}
		s.log = sha256.Sum256(binary.BigEndian.AppendUint64([]byte("log"), uint64(i)))
		facts := map[string]string{
			"event_log": hex.EncodeToString(s.log[:]), "secure_boot": "on", "firmware": strconv.Itoa(i % 5),
			"boot.kernel": fmt.Sprintf("6.%d.%d", i%9, i%40), "boot.loader": "grub 2.12", "pcr.4": s.pcr,
		}
		for _, pcr := range []int{0, 1, 2, 3, 7, 8, 9, 14} {
			facts["pcr."+strconv.Itoa(pcr)] = f.hex(32)
		}
		var err error
		if s.m, err = ledger.NewMeasurement(facts); err != nil {
			panic(err)
		}
		f.sets = append(f.sets, s)
	}
	for i := range nodes {
		n := &benchNode{zone: "zone-" + strconv.Itoa(i%benchZones), model: i % benchModels}
		copy(n.root[:], f.bytes(32))
		copy(n.ak[:], f.bytes(32))
		n.id = ledger.NodeID(strings.ToLower(base32.StdEncoding.EncodeToString(n.root[:]))[:26])
		n.set = f.anySet(n.model)
		n.state = ledger.NodeState{Node: n.id, ResetCount: 3}
		f.nodes = append(f.nodes, n)
	}
	return f
}

// anySet is a measurement of a model; a few are common.
func (f *fleet) anySet(model int) int {
	per := benchSets / benchModels
	return model*per + min(f.rand.IntN(per), f.rand.IntN(per), f.rand.IntN(per))
}

func (f *fleet) bytes(n int) []byte {
	b := make([]byte, (n+7)&^7)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], f.rand.Uint64())
	}
	return b[:n]
}

func (f *fleet) hex(n int) string { return hex.EncodeToString(f.bytes(n)) }

func (f *fleet) id(at time.Time) uuid.UUID {
	u := uuid.UUID(f.bytes(16))
	for i, ms := 0, at.UnixMilli(); i < 6; i++ {
		u[i] = byte(ms >> (8 * (5 - i)))
	}
	u[6], u[8] = 0x70|u[6]&0xf, 0x80|u[8]&0x3f
	return u
}

// next is what the node whose turn it is does.
func (f *fleet) next() decided {
	n := f.nodes[f.turn]
	f.turn = (f.turn + 1) % len(f.nodes)
	f.now = f.now.Add(f.step)
	at := f.now.UTC().Truncate(time.Microsecond)
	dice := f.rand.IntN(1000)
	switch {
	case n.state.Last != uuid.Nil && n.state.Verdict == ledger.VerdictAllow && dice < laterOf1000:
		return f.later(n, at)
	case n.state.Last != uuid.Nil && dice >= 1000-refusalsOf1000:
		return f.attested(n, at, ledger.VerdictDeny)
	}
	if dice >= 1000-refusalsOf1000-rebootsOf1000 {
		n.set = f.anySet(n.model)
	}
	return f.attested(n, at, ledger.VerdictAllow)
}

func (f *fleet) attested(n *benchNode, at time.Time, verdict string) decided {
	set, id := f.sets[n.set], f.id(at)
	version := int64(1 + at.Unix()/(14*24*3600)) // a policy for two weeks
	before := n.state
	st := before
	st.LastAttemptAt, st.Zone, st.Tier, st.Verdict, st.Reason, st.PolicyVersion = at, n.zone, 2, verdict, "", version
	a := ledger.Attestation{
		Type: ledger.TypeAttestation, ID: id, Node: n.id, RootKind: "ek", RootHash: hex.EncodeToString(n.root[:]), Verdict: verdict,
		Reasons: []ledger.Reason{}, Events: []string{}, Zone: n.zone, Tier: 2, Purpose: "renew", Format: "tpm2", TrustDomain: "example.org",
		Nonce: f.hex(32), Select: "ff0300", SPKISHA256: f.hex(32), IssuedAt: at.Add(-time.Second).UnixMilli(), AttestedAt: at.Add(-time.Second).UnixMilli(),
		JudgedAt: at.UnixMilli(), Policy: ledger.PolicyRef{Version: version, Hash: hashOf("policy", version)}, TrustRoots: hashOf("roots", version),
		Appraisal: "sha256:" + f.hex(32), AKName: "000b" + hex.EncodeToString(n.ak[:]), Manufacturer: "id:53544D20",
		TPM: ledger.TPM{Model: modelName(n.model), Version: "id:00010102"}, Firmware: "65793", AdmittedBy: "inventory",
		Clock:     ledger.Clock{Clock: strconv.FormatInt(at.UnixMilli()-1_700_000_000_000, 10), ResetCount: 3, RestartCount: 1, Safe: true},
		Admission: uuid.NewSHA1(uuid.Nil, n.root[:]).String(), NodeStatus: "active", Replica: "broker-1", SVIDs: []ledger.IssuedSVID{},
	}
	if before.Last != uuid.Nil {
		a.Prev = before.Last.String()
		a.Baseline = &ledger.Baseline{Clock: a.Clock, At: before.AttestedAt.UnixMilli(), Firmware: "65793", EventLog: hex.EncodeToString(before.EventLog[:])}
	}
	c := ledger.Commit{LastGood: n.good, State: &st}
	if verdict == ledger.VerdictAllow {
		f.accept(n, &a, &st, &c, set, at)
	} else {
		code := fmt.Sprintf("policy.reason_%d", f.rand.IntN(7))
		a.Reasons, st.Reason = []ledger.Reason{{Code: code, Detail: "PCR 4 is " + f.hex(32) + ", expected " + set.pcr + " (reference set debian-12)"}}, code
		c.Closed = ledger.Deny(n.open, &before, at)
		n.open = nil
	}
	a.Drift = ledger.Changes(before, st)
	c.Drift, c.DriftZone = a.Drift, a.DriftZone()
	c.Evidence = f.evidence(&a, set)
	n.state = st
	return decided{at: at, commit: c, body: a}
}

func (f *fleet) accept(n *benchNode, a *ledger.Attestation, st *ledger.NodeState, c *ledger.Commit, set benchSet, at time.Time) {
	a.FreshUntil = at.Add(benchFresh).UnixMilli()
	a.SVIDs = []ledger.IssuedSVID{{
		Profile: ledger.ProfileX509, Serial: f.hex(16), SPIFFEID: "spiffe://example.org/zone/" + n.zone + "/node/" + string(n.id),
		NotBefore: at.Unix() - 60, NotAfter: at.Add(4 * time.Hour).Unix(), TBSSHA256: f.hex(32), CAKeyID: hashOf("ca", at.Unix()/86400)[7:], Key: "tpm",
	}}
	st.Last, st.AttestedAt, st.FreshUntil, st.LastOKAt, st.ExpiresAt = a.ID, at.Add(-time.Second).Truncate(time.Millisecond), at.Add(benchFresh), at, at.Add(4*time.Hour)
	st.PCRs, st.EventLog, st.SecureBoot, st.Firmware = []byte(`{"4":"`+set.pcr+`"}`), set.log, "on", 65793
	open := n.open
	n.open, c.Closed = ledger.Earn(open, &n.state, ledger.Earned{
		Node: n.id, Zone: n.zone, Measured: set.m.Digest, PolicyVersion: a.Policy.Version, At: at, FreshUntil: at.Add(benchFresh),
		Expires: at.Add(4 * time.Hour), Record: a.ID,
	})
	c.Interval, n.good = n.open, at
}

// evidence is what a renewal brings: over an ECC key, with the SVID's key certified.
func (f *fleet) evidence(a *ledger.Attestation, set benchSet) []ledger.EvidencePart {
	// A TPMS_ATTEST of a quote: magic, names, clock and digests; half of it varies.
	quote := slices.Concat([]byte("\xffTCG\x80\x18\x00\x22\x00\x0b"), set.log[:], []byte("\x00\x20"), f.bytes(32), f.bytes(25), []byte("\x00\x00\x00\x01\x00\x0b\x03\xff\x03\x00\x00\x20"), set.log[:])
	certify := slices.Concat(f.bytes(90), []byte("\xffTCG\x80\x17\x00\x22\x00\x0b"), set.log[:], f.bytes(34+25+34+34), f.bytes(72))
	var out []ledger.EvidencePart
	put := func(kind string, b []byte) {
		d := sha256.Sum256(b)
		out = append(out, ledger.EvidencePart{Kind: kind, Digest: d, Bytes: b})
		a.Evidence = append(a.Evidence, ledger.EvidenceID{Kind: kind, SHA256: hex.EncodeToString(d[:])})
	}
	put(ledger.PartQuote, quote)
	put(ledger.PartSignature, f.bytes(72))
	a.Evidence = append(a.Evidence, ledger.EvidenceID{Kind: ledger.PartPCRs, SHA256: set.pcr}, ledger.EvidenceID{Kind: ledger.PartAKPublic, SHA256: a.AKName[4:]},
		ledger.EvidenceID{Kind: ledger.PartEventLog, SHA256: hex.EncodeToString(set.log[:])})
	put(ledger.PartCertify, certify)
	put(ledger.PartSPKI, f.bytes(91))
	return out
}

func (f *fleet) later(n *benchNode, at time.Time) decided {
	i := ledger.Issuance{
		Type: ledger.TypeIssuance, ID: f.id(at), Node: n.id, Workload: "/app/api", Zone: n.zone, Tier: 2, Attestation: n.state.Last.String(),
		AttestedAt: n.state.AttestedAt.UnixMilli(), FreshUntil: n.state.FreshUntil.UnixMilli(), Presented: f.hex(32),
		Policy: ledger.PolicyRef{Version: n.state.PolicyVersion, Hash: hashOf("policy", n.state.PolicyVersion)}, TrustDomain: "example.org", At: at.UnixMilli(), Replica: "broker-1",
	}
	i.SVIDs = []ledger.IssuedSVID{{
		Profile: ledger.ProfileJWT, Serial: i.ID.String(), SPIFFEID: "spiffe://example.org/zone/" + n.zone + "/workload/app/api", Audience: "https://vault.example.org",
		NotBefore: at.Unix(), NotAfter: at.Unix() + 300, TBSSHA256: f.hex(32), CAKeyID: hashOf("jwt", at.Unix()/86400)[7:], Key: "software",
	}}
	return decided{at: at, body: i}
}

func modelName(model int) string { return fmt.Sprintf("MODEL%d", model) }

func hashOf(what string, n int64) string {
	d := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(what), uint64(n)))
	return "sha256:" + hex.EncodeToString(d[:])
}
