package server_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// pipeline stands where the broker does, behind the package's own seam.
type pipeline struct {
	mu        sync.Mutex
	callers   []server.Caller
	challenge func(context.Context, api.ChallengeRequest) (api.Challenge, error)
	attest    func(context.Context, api.AttestRequest) (api.AttestResponse, error)
	jwt       func() // before it is answered
	bundle    func() ([]byte, error)
	note      string
	health    string
	seen      int // health checks
}

func (p *pipeline) note1(c server.Caller) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.callers = append(p.callers, c)
}

func (p *pipeline) last() server.Caller {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.callers) == 0 {
		return server.Caller{}
	}
	return p.callers[len(p.callers)-1]
}

func (p *pipeline) Challenge(ctx context.Context, c server.Caller, req api.ChallengeRequest) (api.Challenge, error) {
	p.note1(c)
	if p.challenge != nil {
		return p.challenge(ctx, req)
	}
	return freshChallenge(), nil
}

func freshChallenge() api.Challenge {
	return api.Challenge{Token: "tok", Purpose: api.PurposeRenew, ExpiresAt: time.Now(), Select: "ff4300", Nonce: make(api.Bytes, 32)}
}

func (p *pipeline) Attest(ctx context.Context, c server.Caller, req api.AttestRequest) (api.AttestResponse, error) {
	p.note1(c)
	if p.attest != nil {
		return p.attest(ctx, req)
	}
	return api.AttestResponse{
		AttestationID: recordID, Node: nodeID, SPIFFEID: "spiffe://" + trustDomain + "/zone/z/node/" + nodeID,
		Zone: "z", Tier: 2, Bundle: json.RawMessage(`{"keys":[]}`),
	}, nil
}

func (p *pipeline) SVID(_ context.Context, c server.Caller, req api.SVIDRequest) (api.SVIDResponse, error) {
	p.note1(c)
	return api.SVIDResponse{
		RecordID: recordID, SPIFFEID: "spiffe://" + trustDomain + "/zone/z/workload/" + req.Workload, Workload: req.Workload,
	}, nil
}

func (p *pipeline) JWT(_ context.Context, c server.Caller, req api.JWTRequest) (api.JWTResponse, error) {
	p.note1(c)
	if p.jwt != nil {
		p.jwt()
	}
	return api.JWTResponse{
		RecordID: recordID, SPIFFEID: "spiffe://" + trustDomain + "/zone/z/node/" + nodeID, Workload: req.Workload, Audience: req.Audience,
		Token: "a.b.c",
	}, nil
}

func (p *pipeline) OIDCDiscovery(context.Context) ([]byte, error) {
	return []byte(`{"issuer":"https://broker.test","jwks_uri":"https://broker.test/oidc/jwks.json","id_token_signing_alg_values_supported":["ES256"]}`), nil
}

func (p *pipeline) JWKS(context.Context) ([]byte, error) { return []byte(`{"keys":[]}`), nil }

func (p *pipeline) Bundle(context.Context) ([]byte, error) { return p.bundle() }

func (p *pipeline) Checkpoint(context.Context) (string, error) { return p.note, nil }

func (p *pipeline) Health(context.Context) api.Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen++
	return api.Health{Status: p.health, Checks: []api.HealthCheck{{Name: "store", OK: p.health == "ok", Detail: "answers"}}}
}

// desk stands where the operators' half of the broker does.
type desk struct {
	mu       sync.Mutex
	caller   server.Caller
	query    api.HistoryQuery
	drift    api.DriftQuery
	life     api.TimelineQuery
	question any // last one of the questions
	args     []string
	err      error
	roles    map[[32]byte]holder

	verifying func() // called by VerifyHistory
}

// holder is a row of the desk's table of roles.
type holder struct {
	name string
	role broker.Role
	err  error
}

// give gives a role to the key of a certificate, or takes it back with err.
func (d *desk) give(cert *tls.Certificate, name string, role broker.Role, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.roles == nil {
		d.roles = map[[32]byte]holder{}
	}
	d.roles[keyOf(cert)] = holder{name, role, err}
}

func (d *desk) OperatorByKey(spki [32]byte) (string, broker.Role, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h, ok := d.roles[spki]
	if !ok {
		h.err = reason.New(reason.AuthInvalid, "unknown")
	}
	return h.name, h.role, h.err
}

func anOperator() api.Operator {
	return api.Operator{ID: recordID, Name: "alice", Role: "auditor", SPKISHA256: ekHash, Status: "active"}
}

func (d *desk) AddOperator(_ context.Context, c server.Caller, r api.OperatorRequest) (api.Operator, error) {
	return anOperator(), d.took(c, r.Name, r.Role)
}

func (d *desk) RevokeOperator(_ context.Context, c server.Caller, name string, r api.RevokeRequest) (api.Operator, error) {
	return anOperator(), d.took(c, name, r.Note)
}

func (d *desk) Operators(_ context.Context, c server.Caller) ([]api.Operator, error) {
	return []api.Operator{anOperator()}, d.took(c)
}

func (d *desk) took(c server.Caller, args ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.caller, d.args = c, args
	return d.err
}

func aNode() api.Node {
	return api.Node{ID: nodeID, Status: "active", Standing: "fresh", Zone: "z", Tier: 2, TPMKind: "unknown"}
}

func (d *desk) AdmitNode(_ context.Context, c server.Caller, r api.AdmitRequest) (api.Admission, error) {
	return api.Admission{ID: recordID, Kind: "inventory", Machine: r.Machine, EKHashes: r.EKHashes, By: c.Operator}, d.took(c, r.EKHashes...)
}

func (d *desk) RevokeAdmission(_ context.Context, c server.Caller, ek string, r api.RevokeRequest) (api.Admission, error) {
	return api.Admission{ID: recordID, Kind: "inventory", EKHashes: []string{ek}, By: c.Operator, Revoked: true}, d.took(c, ek, r.Note)
}

func (d *desk) Approve(_ context.Context, c server.Caller, subject string, r api.ApproveRequest) (api.Approval, error) {
	n := aNode()
	return api.Approval{Node: &n}, d.took(c, subject, r.Note)
}

func (d *desk) Announce(_ context.Context, c server.Caller, node string, r api.AnnounceRequest) (api.Node, error) {
	return aNode(), d.took(c, node, r.Note)
}

func (d *desk) Disable(_ context.Context, c server.Caller, node string, r api.DisableRequest) (api.Node, error) {
	return aNode(), d.took(c, node, r.Note)
}

func (d *desk) CreateToken(_ context.Context, c server.Caller, r api.TokenRequest) (api.Token, error) {
	return api.Token{ID: recordID, Secret: "s3cret-s3cret"}, d.took(c, r.Machine)
}

func (d *desk) Pending(_ context.Context, c server.Caller) ([]api.PendingNode, error) {
	return nil, d.took(c)
}

func (d *desk) Nodes(_ context.Context, c server.Caller, cursor string, limit int) ([]api.Node, string, error) {
	return []api.Node{aNode()}, "", d.took(c, cursor)
}

func (d *desk) Node(_ context.Context, c server.Caller, id string) (api.Node, error) {
	return aNode(), d.took(c, id)
}

func (d *desk) History(_ context.Context, c server.Caller, q api.HistoryQuery) (api.HistoryPage, error) {
	err := d.took(c)
	d.query = q
	return api.HistoryPage{}, err
}

func (d *desk) Entry(_ context.Context, c server.Caller, id string) (api.Entry, error) {
	return api.Entry{ID: recordID, Type: "attestation", Body: json.RawMessage(`{"id":"x"}`)}, d.took(c, id)
}

func (d *desk) Explain(_ context.Context, c server.Caller, id string) (api.Explanation, error) {
	return api.Explanation{
		ID: recordID, Code: "policy.pcr_mismatch", Reasons: []api.Reason{},
		Mismatches: []api.Mismatch{{Kind: api.MismatchValue, Expected: []string{ekHash}, Event: &api.EventDifference{Number: 1}}},
	}, d.took(c, id)
}

func (d *desk) ExportEvidence(_ context.Context, c server.Caller, id string) (api.EvidenceFile, error) {
	return api.EvidenceFile{
		Version: api.EvidenceFileVersion, Format: "tpm2", Evidence: api.EvidenceMembers{TPM2: &api.TPM2Evidence{PCRs: map[string]api.Bytes{}}},
		Context: api.EvidenceContext{Select: "ff0000", Nonce: api.Bytes("nonce")},
	}, d.took(c, id)
}

func (d *desk) Drift(_ context.Context, c server.Caller, q api.DriftQuery) (api.DriftPage, error) {
	err := d.took(c)
	d.drift = q
	return api.DriftPage{Changes: []api.Drift{{ID: recordID, Kind: "pcr.4"}}}, err
}

func (d *desk) Timeline(_ context.Context, c server.Caller, q api.TimelineQuery) (api.TimelinePage, error) {
	err := d.took(c)
	d.life = q
	return api.TimelinePage{Node: q.Node, Entries: []api.TimelineEntry{{
		ID: recordID, Reasons: []api.Reason{}, Events: []string{}, Drift: []api.DriftChange{},
		SVIDs: []api.TimelineSVID{{Profile: "jwt", Key: "software"}},
	}}}, err
}

func (d *desk) VerifyHistory(_ context.Context, c server.Caller) (api.Verification, error) {
	if d.verifying != nil {
		d.verifying()
	}
	return api.Verification{OK: true}, d.took(c)
}

func (d *desk) Reference(_ context.Context, c server.Caller, node, attestation string) (api.ReferenceMaterial, error) {
	return api.ReferenceMaterial{Node: node, AttestationID: recordID}, d.took(c, node, attestation)
}
