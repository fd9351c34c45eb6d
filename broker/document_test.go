package broker_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// zoneGuests takes hosts that can prove nothing but a join token.
const zoneGuests = `apiVersion: zonebroker/v1
kind: Zone
name: guests
tier: 0
selectors: {any: [{format: jointoken}]}
admit: [join_token]
requires: {class: C, format: [jointoken]}
`

func emptyItem(_, _ [32]byte, _ time.Time) verifier.Item { return verifier.Item{} }

func (r *rig) guest() *docHost {
	r.t.Helper()
	h := r.newDocHost(verifier.FormatJoinToken, map[string]collect{verifier.FormatJoinToken: emptyItem})
	h.join = r.token(time.Hour)
	return h
}

// TestJoinTokenHost: a host with nothing but a token and a key enrols once, renews
// with the key, and is judged again from the history with the same outcome.
func TestJoinTokenHost(t *testing.T) {
	r := newRig(t, zoneGuests)
	h := r.guest()
	first := h.enrol()
	if first.Zone != "guests" || first.Tier != 0 {
		t.Fatalf("earned %+v", first)
	}
	again := h.renew()
	if again.Node != first.Node {
		t.Errorf("renewed as %s, enrolled as %s", again.Node, first.Node)
	}
	body := r.lastAttestation(first.Node)
	if body.RootKind != document.MachineKey || body.Format != verifier.FormatJoinToken || body.AdmittedBy != ledger.AdmitJoinToken {
		t.Errorf("recorded %+v", body)
	}
	j, err := r.b.JudgeAgain(t.Context(), body)
	r.must(err)
	if !j.Same || j.Refusal != nil {
		t.Errorf("judged again: same %v, %v", j.Same, j.Refusal)
	}
	other := r.guest()
	other.join = h.join
	if _, err := other.askEnrol(); reason.Of(err) != reason.NodeNotAdmitted {
		t.Errorf("the token a second time: %v", err)
	}
}

// TestDocumentTokenIsGoodOnce: one nonce, one acceptance, where the node comes out
// only after judging.
func TestDocumentTokenIsGoodOnce(t *testing.T) {
	r := newRig(t, zoneGuests)
	h := r.guest()
	ch, err := h.askEnrol()
	r.must(err)
	req := h.answer(ch)
	if _, err := r.b.Attest(t.Context(), broker.Caller{}, req); err != nil {
		t.Fatal(err)
	}
	_, err = r.b.Attest(t.Context(), broker.Caller{}, req)
	refusal, ok := errors.AsType[*api.Refusal](err)
	if !ok || reason.Of(err) != reason.ChallengeSpent || refusal.Challenge == nil || refusal.Challenge.Purpose != api.PurposeRenew {
		t.Errorf("the token again: %v", err)
	}
	if n := len(r.attestations(string(r.nodeOf(h)))); n != 1 {
		t.Errorf("%d records", n)
	}
}

func (r *rig) nodeOf(h *docHost) ledger.NodeID {
	m := document.Machine{Kind: document.MachineKey, Name: hex.EncodeToString(verifier.AgentKeyName(h.public()))}
	return ledger.DeriveNodeID(testDomain, m.Kind, m.Hash())
}

// TestAgentKeyIsProved: the name of a key is no secret, so that a challenge for it
// must be worth nothing to who does not hold it.
func TestAgentKeyIsProved(t *testing.T) {
	r := newRig(t, zoneGuests)
	h := r.guest()
	h.enrol()
	before := r.records()
	h.forge = true
	if _, err := h.tryRenew(); reason.Of(err) != reason.AgentSignature {
		t.Errorf("another key's signature: %v", err)
	}
	thief := r.newDocHost(h.format, h.collect)
	h.forge = false
	r.wait(time.Minute)
	ch, err := h.askRenew()
	r.must(err)
	if _, err := thief.attest(ch, nil); reason.Of(err) != reason.ChallengeWrongNode {
		t.Errorf("another key: %v", err)
	}
	if r.records() != before {
		t.Error("strangers made records")
	}
}

func TestDocumentChallengesAreStrict(t *testing.T) {
	r := newRig(t, zoneGuests)
	h := r.guest()
	tpm := r.newHost()
	for name, c := range map[string]struct {
		req  api.ChallengeRequest
		want reason.Code
	}{
		"agent for an EK format": {api.ChallengeRequest{Format: "tpm2", Purpose: "enrol", Agent: &api.AgentEnrol{Public: h.public()}}, reason.RequestMalformed},
		"EK for a document":      {api.ChallengeRequest{Format: "jointoken", Purpose: "enrol", Enrol: &api.Enrol{EKPublic: tpm.tpm.EK.Public, AKPublic: tpm.tpm.AK.Public}}, reason.RequestMalformed},
		"AK where none quotes":   {api.ChallengeRequest{Format: "jointoken", Purpose: "enrol", Agent: &api.AgentEnrol{AKPublic: tpm.tpm.AK.Public, JoinToken: h.join}}, reason.RequestMalformed},
		"no token":               {api.ChallengeRequest{Format: "jointoken", Purpose: "enrol", Agent: &api.AgentEnrol{Public: h.public()}}, reason.NodeNotAdmitted},
		"no key":                 {api.ChallengeRequest{Format: "jointoken", Purpose: "enrol", Agent: &api.AgentEnrol{Public: []byte("key"), JoinToken: h.join}}, reason.RequestMalformed},
		"unknown format":         {api.ChallengeRequest{Format: "horoscope", Purpose: "enrol", Agent: &api.AgentEnrol{Public: h.public()}}, reason.RequestUnknownFormat},
		"a GPU names no node":    {api.ChallengeRequest{Format: "nvidia", Purpose: "enrol", Agent: &api.AgentEnrol{Public: h.public()}}, reason.RequestUnknownFormat},
	} {
		if _, err := r.b.Challenge(t.Context(), broker.Caller{}, c.req); reason.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	r.activate(zoneLab)
	if _, err := h.askEnrol(); reason.Of(err) != reason.PolicyNoZone {
		t.Errorf("a format that no zone takes: %v", err)
	}
}

// zoneClouds takes instances of Amazon by their bearer document and of Google by
// token.
const zoneClouds = `apiVersion: zonebroker/v1
kind: Zone
name: clouds
tier: 0
selectors: {any: [{format: ec2.iid}, {format: gce.identity}]}
admit: [owner]
requires: {class: C, format: [ec2.iid, gce.identity]}
`

// clouds is a rig with two clouds whose signing keys are those of a test PKI.
type clouds struct {
	*rig
	region *documenttest.EC2PKI
	google *documenttest.JWTKey
}

func newClouds(t *testing.T) *clouds {
	t.Helper()
	r := newRig(t, zoneClouds)
	c := &clouds{r, documenttest.NewEC2("eu-west-1", r.now()), documenttest.NewJWTKey("google-1", "RS256")}
	trust, err := broker.NewTrustData([]verifier.TrustObject{
		{Kind: broker.TrustEKRoot, Name: "lab", Raw: r.maker.PEM()},
		{Kind: verifier.TrustEC2, Name: "eu-west-1", Raw: c.region.CertificatePEM()},
		{Kind: verifier.TrustJWKS, Name: "google", Raw: documenttest.JWTObject(verifier.FormatGCEIdentity, documenttest.GoogleIssuer, nil, c.google.JWK())},
	})
	r.must(err)
	r.must(r.b.UseTrust(t.Context(), trust))
	return c
}

// instance is a host with the identity document of an instance that was launched at
// a time.
func (c *clouds) instance(account string, pending time.Time) *docHost {
	i := documenttest.NewEC2Instance("eu-west-1", c.now())
	i.Account, i.Pending = account, pending
	c.wait(time.Second) // a challenge is of after what the last one decided
	return c.newDocHost(verifier.FormatEC2IID, map[string]collect{
		verifier.FormatEC2IID: func(_, _ [32]byte, _ time.Time) verifier.Item {
			return verifier.Item{Document: c.region.Document(i)}
		},
	})
}

func (c *clouds) vm(project string) *docHost {
	c.wait(time.Second)
	engine := documenttest.GCEInstance().With(documenttest.Claims{"project_id": project})
	return c.newDocHost(verifier.FormatGCEIdentity, map[string]collect{
		verifier.FormatGCEIdentity: func(bound, _ [32]byte, now time.Time) verifier.Item {
			claims := documenttest.GCEClaims(document.Audience(bound), now).With(documenttest.Claims{"google": documenttest.Claims{"compute_engine": engine}})
			return verifier.Item{Document: c.google.Token(claims)}
		},
	})
}

func (c *clouds) admitOwner(owner string) {
	c.t.Helper()
	_, err := c.b.AdmitNode(c.t.Context(), operator, api.AdmitRequest{Owner: owner, Groups: []string{"cloud"}})
	c.must(err)
}

// TestCloudRowsOfTheBroker: the rows of the catalogue of cloud evidence that are
// about what the broker remembers.
func TestCloudRowsOfTheBroker(t *testing.T) {
	const account, project = "aws.account=123456789012", "gcp.project=proj-a"
	for name, row := range map[string]func(c *clouds) error{
		"row 46 pendingTime old": func(c *clouds) error {
			_, err := c.instance("123456789012", c.now().Add(-6*time.Minute)).tryEnrol()
			return wants(err, reason.EC2PendingTime)
		},
		"row 48 other account": func(c *clouds) error {
			_, err := c.instance("999999999999", c.now()).tryEnrol()
			return wants(err, reason.NodeNotAdmitted)
		},
		"row 54 same IID second agent key": func(c *clouds) error {
			began := c.now()
			first := c.instance("123456789012", began)
			first.enrol()
			_, err := c.instance("123456789012", began).tryEnrol()
			if err := wants(err, reason.NodeIdentityConflict); err != nil {
				return err
			}
			_, err = first.tryRenew()
			return err
		},
		"row 54 released by a later start": func(c *clouds) error {
			began := c.now()
			old := c.instance("123456789012", began)
			old.enrol()
			c.wait(time.Minute)
			c.instance("123456789012", c.now()).enrol()
			c.wait(time.Second)
			_, err := old.tryEnrol()
			return wants(err, reason.NodeIdentityConflict)
		},
		"row 54 released by an operator": func(c *clouds) error {
			began := c.now()
			node := c.instance("123456789012", began).enrol().Node
			_, err := c.b.Approve(c.t.Context(), operator, node, api.ApproveRequest{ReleaseKey: true})
			c.must(err)
			_, err = c.instance("123456789012", began).tryEnrol()
			return err
		},
		"row 67 other project": func(c *clouds) error {
			_, err := c.vm("proj-b").tryEnrol()
			return wants(err, reason.NodeNotAdmitted)
		},
		"row 67 the project is no longer ours": func(c *clouds) error {
			h := c.vm("proj-a")
			h.enrol()
			hash := document.Owner{Kind: document.OwnerGCPProject, Value: "proj-a"}.Hash()
			_, err := c.b.RevokeAdmission(c.t.Context(), operator, hex.EncodeToString(hash[:]), api.RevokeRequest{})
			c.must(err)
			_, err = h.tryRenew()
			return wants(err, reason.NodeNotAdmitted)
		},
		"row 90 same nonce used twice": func(c *clouds) error {
			h := c.vm("proj-a")
			ch, err := h.askEnrol()
			c.must(err)
			req := h.answer(ch)
			_, err = c.b.Attest(c.t.Context(), broker.Caller{}, req)
			c.must(err)
			_, err = c.b.Attest(c.t.Context(), broker.Caller{}, req)
			return wants(err, reason.ChallengeSpent)
		},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			c := newClouds(t)
			c.admitOwner(account)
			c.admitOwner(project)
			if err := row(c); err != nil {
				t.Error(err)
			}
		})
	}
}

// wants returns nil for a refusal with that code.
func wants(err error, code reason.Code) error {
	if err != nil && reason.Of(err) == code {
		return nil
	}
	return fmt.Errorf("refused with %q (%w), want %s", reason.Of(err), err, code)
}
