package broker_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

const (
	testDomain = "example.org"
	logID      = "main"
)

var operator = broker.Caller{Operator: "uid:0"}

// zoneLab takes every machine that is ours, for a software key.
const zoneLab = `apiVersion: zonebroker/v1
kind: Zone
name: lab
tier: 1
selectors: {any: [{format: tpm2}]}
admit: [inventory, join_token, operator]
evidence: {max_age: 5m}
issue: {x509_ttl: 30m}
`

// zoneOpen is zoneLab that takes any genuine machine, and no operator's word.
var zoneOpen = strings.Replace(zoneLab, "admit: [inventory, join_token, operator]", "admit: [inventory, join_token, any_genuine]", 1)

// rig is a broker over a store in memory: a real issuer, a real policy, a clock
// that the test moves.
type rig struct {
	t     testing.TB
	maker *evidencetest.Maker
	store *memStore
	b     *broker.Broker
	iss   *issuer.Issuer
	log   note.Signer
	cfg   broker.Config

	random *randomness

	mu      sync.Mutex
	at      time.Time
	trace   []string // steps of the pipeline, readings of the issuer's clock
	panicAt string   // step that panics, "" for none
	anchor  error    // what signing a checkpoint answers, nil to sign
}

// newRig starts a broker whose policy is the given zones, zoneLab for none.
func newRig(t testing.TB, docs ...string) *rig {
	t.Helper()
	r := &rig{t: t, maker: evidencetest.NewMaker(t), at: evidencetest.Noon, random: &randomness{skip: -1}}
	r.store = newMemStore(r.now)
	skey, _, err := ledger.NewLogKey(rand.Reader, ledger.Origin(testDomain, logID))
	r.must(err)
	var check ledger.NoteVerifier
	r.log, check, err = ledger.ParseLogKey(skey)
	r.must(err)
	pem := r.maker.PEM()
	r.cfg = broker.Config{
		TrustDomain: testDomain, Replica: "a", LogID: logID, ClusterKey: [32]byte{1}, Store: r.store,
		Trust:      broker.TrustData{Trust: verifier.Trust{EKRoots: r.maker.Roots(t)}, Digest: sha256.Sum256(pem), Bytes: pem, Roots: [][]byte{pem}},
		VerifierID: claim.VerifierID{Developer: "https://example.org", Build: "test"}, LogKey: check,
		SignCheckpoint: r.signCheckpoint, Anchor: func() (string, error) { return r.store.latest, nil },
		Now: r.now, Rand: r.random, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Step: func(s string) {
			r.note(s)
			if s == r.panicAt {
				panic("slip at " + s)
			}
		},
	}
	r.b, r.iss = r.newReplica("a")
	r.must(r.b.Start(t.Context()))
	r.activate(docs...)
	return r
}

// randomness is the broker's source, which can run dry: for good, or for the
// read of one number.
type randomness struct {
	mu    sync.Mutex
	dry   bool
	skip  int // reads before the one that fails, -1 for none
	reads int
}

func (r *randomness) fail(dry bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dry = dry
}

// failOne lets n reads pass and fails one; it counts anew.
func (r *randomness) failOne(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skip, r.reads = n, 0
}

// failed reports whether the one that was to fail was asked for.
func (r *randomness) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reads > r.skip
}

func (r *randomness) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	if r.dry || r.reads == r.skip+1 {
		return 0, errors.New("no random bytes")
	}
	return rand.Read(p)
}

// newReplica makes a broker of the same trust domain that is not started.
func (r *rig) newReplica(name string) (*broker.Broker, *issuer.Issuer) {
	r.t.Helper()
	iss, err := issuer.New(issuer.Config{TrustDomain: testDomain, Replica: name, Rand: r.random, Now: func() time.Time {
		r.note("issuer")
		return r.now()
	}})
	r.must(err)
	cfg := r.cfg
	cfg.Replica, cfg.Issuer = name, iss
	b, err := broker.New(cfg)
	r.must(err)
	return b, iss
}

// activate puts zones into force.
func (r *rig) activate(docs ...string) {
	r.t.Helper()
	if len(docs) == 0 {
		docs = []string{zoneLab}
	}
	_, err := r.b.ActivatePolicy(r.t.Context(), loadSet(r.t, docs...), operator.Operator)
	r.must(err)
}

func loadSet(t testing.TB, docs ...string) *policy.Set {
	t.Helper()
	var files []policy.File
	for i, d := range docs {
		files = append(files, policy.File{Name: fmt.Sprintf("%d.yaml", i), Bytes: []byte(d)})
	}
	set, problems := policy.Load(files)
	for _, p := range problems {
		t.Fatal(p)
	}
	return set
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

func (r *rig) wait(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = r.at.Add(d)
}

func (r *rig) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trace = append(r.trace, s)
}

// traced runs fn and returns what was noted meanwhile.
func (r *rig) traced(fn func()) []string {
	r.mu.Lock()
	r.trace = nil
	r.mu.Unlock()
	fn()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.trace)
}

func (r *rig) signCheckpoint(context.Context) (string, error) {
	r.mu.Lock()
	err := r.anchor
	r.mu.Unlock()
	if err != nil {
		return "", err
	}
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	cp := ledger.Checkpoint{Origin: ledger.Origin(testDomain, logID), Size: r.store.frontier.Size(), Root: r.store.frontier.Root()}
	text, err := cp.Sign(r.log)
	r.store.roots[cp.Size], r.store.latest = cp.Root, text
	return text, err
}

// host is a machine with its agent's memory.
type host struct {
	r    *rig
	tpm  *evidencetest.TPM
	key  *evidencetest.Key
	node string
	prev string
	join string // join token for the enrolment

	format string // of its evidence; "" is tpm2

	withoutLog bool
	software   bool // CSR instead of TPM2_Certify
}

// newHost makes a machine that is not admitted, with an EK certificate.
func (r *rig) newHost() *host {
	h := &host{r: r, tpm: evidencetest.New(r.t), key: evidencetest.NewSVIDKey(r.t)}
	r.maker.Endorse(r.t, h.tpm)
	h.node = string(ledger.DeriveNodeID(testDomain, "ek", h.tpm.EK.RootHash(r.t)))
	return h
}

// admitted makes a machine of the inventory.
func (r *rig) admitted(groups ...string) *host {
	r.t.Helper()
	h := r.newHost()
	r.admit(h, "", groups...)
	return h
}

func (r *rig) admit(h *host, machine string, groups ...string) api.Admission {
	r.t.Helper()
	ek := h.tpm.EK.RootHash(r.t)
	adm, err := r.b.AdmitNode(r.t.Context(), operator, api.AdmitRequest{EKHashes: []string{hex.EncodeToString(ek[:])}, Machine: machine, Groups: groups})
	r.must(err)
	return adm
}

// enrolled makes a machine of the inventory with a first SVID.
func (r *rig) enrolled(groups ...string) *host {
	r.t.Helper()
	h := r.admitted(groups...)
	h.enrol()
	return h
}

func (h *host) formatName() string {
	if h.format == "" {
		return "tpm2"
	}
	return h.format
}

// askEnrol asks for a credential.
func (h *host) askEnrol() (api.Challenge, error) {
	e := &api.Enrol{EKPublic: h.tpm.EK.Public, EKCertificate: h.tpm.EKCertificate, AKPublic: h.tpm.AK.Public, JoinToken: h.join}
	for _, c := range h.tpm.EKChain {
		e.EKChain = append(e.EKChain, c)
	}
	return h.r.b.Challenge(h.r.t.Context(), broker.Caller{}, api.ChallengeRequest{Format: h.formatName(), Purpose: api.PurposeEnrol, Enrol: e})
}

// askRenew asks for a nonce.
func (h *host) askRenew() (api.Challenge, error) {
	return h.r.b.Challenge(h.r.t.Context(), broker.Caller{}, api.ChallengeRequest{Format: h.formatName(), Purpose: api.PurposeRenew, AKName: h.tpm.AK.Name()})
}

// answer makes honest evidence for a challenge.
func (h *host) answer(ch api.Challenge) api.AttestRequest {
	t := h.r.t
	t.Helper()
	nonce := []byte(ch.Nonce)
	if c := ch.Credential; c != nil {
		var err error
		nonce, err = h.tpm.EK.Activate(h.tpm.AK.Name(), c.Blob, c.Secret)
		h.r.must(err)
	}
	return h.quote(ch, nonce)
}

// quote makes evidence over any nonce.
func (h *host) quote(ch api.Challenge, nonce []byte) api.AttestRequest {
	t := h.r.t
	t.Helper()
	sel, err := tpm2.ParseSelection(ch.Select)
	h.r.must(err)
	h.tpm.Format = h.format
	ev := h.tpm.Evidence(t, verifier.Expectation{TrustDomain: testDomain, Purpose: ch.Purpose, Nonce: nonce, Selection: sel}, h.key)
	e := ev.TPM2
	out := &api.TPM2Evidence{
		AKPublic: e.AKPublic, EKPublic: e.EKPublic, EKCertificate: e.EKCertificate, Quote: e.Quote, Signature: e.Signature,
		PCRs: map[string]api.Bytes{}, EventLog: e.EventLog,
		Certify: &api.Certify{Public: e.Certify.Public, Attest: e.Certify.Attest, Signature: e.Certify.Signature},
	}
	for _, c := range e.EKChain {
		out.EKChain = append(out.EKChain, c)
	}
	for i, v := range e.PCRs {
		out.PCRs[strconv.Itoa(i)] = v
	}
	req := api.AttestRequest{Token: ch.Token, Prev: h.prev, SPKI: ev.SPKI, TPM2: out}
	if h.withoutLog {
		out.EventLog = nil
	}
	if h.software {
		out.Certify, req.CSR = nil, h.key.CSR(t)
	}
	h.r.must(req.Validate())
	return req
}

func (h *host) attest(req api.AttestRequest) (api.AttestResponse, error) {
	return h.r.b.Attest(h.r.t.Context(), broker.Caller{}, req)
}

// enrol goes through both requests and remembers the answer.
func (h *host) enrol() api.AttestResponse {
	h.r.t.Helper()
	out, err := h.tryEnrol()
	h.r.must(err)
	h.prev = out.AttestationID
	return out
}

func (h *host) tryEnrol() (api.AttestResponse, error) {
	h.r.t.Helper()
	ch, err := h.askEnrol()
	h.r.must(err)
	return h.attest(h.answer(ch))
}

// renew is a renewal a minute later.
func (h *host) renew() api.AttestResponse {
	h.r.t.Helper()
	out, err := h.tryRenew()
	h.r.must(err)
	h.prev = out.AttestationID
	return out
}

func (h *host) tryRenew() (api.AttestResponse, error) {
	h.r.t.Helper()
	h.minute()
	ch, err := h.askRenew()
	h.r.must(err)
	return h.attest(h.answer(ch))
}

// minute lets a minute pass for everybody.
func (h *host) minute() {
	h.r.wait(time.Minute)
	h.tpm.Wait(time.Minute)
}

func (h *host) state() ledger.NodeState { return h.r.store.snapshot(h.node).State }
func (h *host) row() ledger.Node        { return h.r.store.snapshot(h.node).Node }

// attestations are the bodies of the records of a node, oldest first.
func (r *rig) attestations(node string) []ledger.Attestation {
	r.t.Helper()
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	var out []ledger.Attestation
	for _, rec := range r.store.records {
		if rec.Type == ledger.TypeAttestation && rec.Node == ledger.NodeID(node) {
			var a ledger.Attestation
			r.must(json.Unmarshal(rec.Body, &a))
			out = append(out, a)
		}
	}
	return out
}

func (r *rig) lastAttestation(node string) ledger.Attestation {
	r.t.Helper()
	all := r.attestations(node)
	if len(all) == 0 {
		r.t.Fatal("the node has no record")
	}
	return all[len(all)-1]
}

// records counts what stands in the history.
func (r *rig) records() int {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	return len(r.store.records)
}

// wantCode fails unless err carries the code; a chain never comes with an error.
func wantCode(t testing.TB, out api.AttestResponse, err error, want reason.Code) {
	t.Helper()
	if reason.Of(err) != want {
		t.Fatalf("code %q, want %q (%v)", reason.Of(err), want, err)
	}
	if err != nil && (len(out.Chain) > 0 || out.AttestationID != "") {
		t.Error("a refusal carries an SVID")
	}
}

// flush has the counters written.
func (r *rig) flush() {
	r.t.Helper()
	r.must(r.b.FlushRefusals(r.t.Context()))
}

// quoteNothing is a request that says nothing.
func (h *host) quoteNothing() api.AttestRequest { return api.AttestRequest{Token: "x"} }
