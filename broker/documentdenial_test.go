package broker_test

import (
	"encoding/base64"
	"errors"
	"strings"
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

// zoneElsewhere takes no instance of the test cloud.
const zoneElsewhere = `apiVersion: zonebroker/v1
kind: Zone
name: elsewhere
tier: 0
selectors: {any: [{format: gce.identity}]}
admit: [owner]
requires: {class: B, format: [gce.identity], where: {gce.zone: [nowhere-a]}}
`

// TestFirstDenialIsARecord: who proved itself by evidence made for the challenge, is
// ours and earns no zone, is in the history from its first contact on; and its
// machine stays anybody's who earns one.
func TestFirstDenialIsARecord(t *testing.T) {
	c := newClouds(t)
	c.activate(zoneElsewhere)
	c.admitOwner("gcp.project=proj-a")
	h := c.vm("proj-a")
	refusal := again(t, c.rig, h)
	if refusal.Challenge != nil {
		t.Errorf("a key that no node has is handed a challenge of %s", refusal.Challenge.Purpose)
	}
	c.wait(time.Second)
	for range 4 {
		if _, err := h.tryEnrol(); reason.Of(err) != reason.PolicyMeasurementMismatch {
			t.Fatalf("a zone elsewhere: %v", err)
		}
		c.wait(time.Second)
	}
	node := c.attestationNode(t)
	bodies := c.attestations(string(node))
	if len(bodies) != 3 {
		t.Fatalf("%d records of five denials, want three in full", len(bodies))
	}
	for _, body := range bodies {
		if body.Verdict != ledger.VerdictDeny || body.Reasons[0].Code != string(reason.PolicyMeasurementMismatch) {
			t.Errorf("recorded %s for %v", body.Verdict, body.Reasons)
		}
		if j, err := c.b.JudgeAgain(t.Context(), body); err != nil || !j.Same {
			t.Errorf("judged again: %v, %v", j.Same, err)
		}
	}
	if n := c.store.snapshot(string(node)).Node; !ledger.Released(n) || n.AdmittedBy != ledger.AdmitOwner {
		t.Errorf("the node has key %q and is admitted by %s", n.AKName, n.AdmittedBy)
	}
	if _, err := h.askRenew(); reason.Of(err) != reason.NodeNotAdmitted {
		t.Errorf("a denied key is known: %v", err)
	}
	c.activate(zoneClouds)
	other := c.vm("proj-a")
	if got := other.enrol().Node; got != string(node) {
		t.Errorf("another key of the machine earned node %s, want %s", got, node)
	}
	c.activate(zoneElsewhere)
	records := c.records()
	c.wait(time.Second)
	if _, err := h.tryEnrol(); reason.Of(err) != reason.PolicyMeasurementMismatch {
		t.Errorf("the first key: %v", err)
	}
	if c.records() != records {
		t.Error("a key that is not the node's made a record")
	}
}

// again hands one answer over twice, and returns what the second try hears.
func again(t *testing.T, r *rig, h *docHost) *api.Refusal {
	t.Helper()
	r.wait(time.Second)
	ch, err := h.askEnrol()
	r.must(err)
	req := h.answer(ch)
	_, _ = r.b.Attest(t.Context(), broker.Caller{}, req)
	_, err = r.b.Attest(t.Context(), broker.Caller{}, req)
	refusal, ok := errors.AsType[*api.Refusal](err)
	if !ok || reason.Of(err) != reason.ChallengeSpent {
		t.Fatalf("the same answer again: %v", err)
	}
	return refusal
}

// TestFirstDenialByAQuote: the certificate of an AK was made for no challenge, but its
// quote was.
func TestFirstDenialByAQuote(t *testing.T) {
	s := newShielded(t)
	s.cloud.activate(strings.Replace(zoneShielded, "announced_reboots: true", "where: {gce.zone: [nowhere-a]}", 1))
	if _, err := s.first(); reason.Of(err) != reason.PolicyMeasurementMismatch {
		t.Fatalf("a zone elsewhere: %v", err)
	}
	if bodies := s.cloud.attestations(string(s.cloud.attestationNode(t))); len(bodies) != 1 {
		t.Errorf("%d records, want the denial", len(bodies))
	}
	s.cloud.activate(zoneShielded)
	mustAttest(t, s.first)
}

// TestFirstDenialsThatAreNone: what anybody could bring who once read a document, or
// what is about no machine of ours, leaves a count and no record.
func TestFirstDenialsThatAreNone(t *testing.T) {
	c := newClouds(t)
	c.activate(zoneElsewhere, zoneOldInstances, zoneNoResults)
	c.admitOwner("gcp.project=proj-a")
	c.admitOwner("aws.account=123456789012")
	beside := c.vm("proj-a")
	instance := documenttest.NewEC2Instance("eu-west-1", c.now())
	beside.collect[verifier.FormatEC2IID] = func(_, _ [32]byte, _ time.Time) verifier.Item {
		return verifier.Item{Document: c.region.Document(instance)}
	}
	forged := c.vm("proj-c")
	forged.collect[verifier.FormatX509PoP] = func(_, _ [32]byte, _ time.Time) verifier.Item {
		return verifier.Item{Document: []byte("no certificate")}
	}
	result := c.result()
	stale := c.vm("proj-a")
	stale.collect[verifier.FormatGCEIdentity] = func(_, _ [32]byte, now time.Time) verifier.Item {
		return verifier.Item{Document: c.google.Token(documenttest.GCEClaims(document.Audience([32]byte{1}), now))}
	}
	before := c.records()
	for name, stranger := range map[string]struct {
		host *docHost
		want reason.Code
	}{
		"a bearer document":                               {c.instance("123456789012", c.now()), reason.PolicyMeasurementMismatch},
		"a bearer document beside":                        {beside, reason.PolicyBindingClass},
		"another project":                                 {c.vm("proj-b"), reason.NodeNotAdmitted},
		"a forged document beside one of another project": {forged, reason.X509PoPEncoding},
		"a result that is about no machine":               {result, reason.PolicyMeasurementMismatch},
		"a token of another challenge":                    {stale, reason.JWTAudience},
	} {
		if _, err := stranger.host.tryEnrol(); reason.Of(err) != stranger.want {
			t.Errorf("%s: %v, want %s", name, err, stranger.want)
		}
		if n := c.records(); n != before {
			t.Errorf("%s: %d records", name, n-before)
			before = n
		}
	}
}

// zoneOldInstances takes no instance of the test cloud either.
const zoneOldInstances = `apiVersion: zonebroker/v1
kind: Zone
name: instances
tier: 0
selectors: {any: [{format: ec2.iid}]}
admit: [owner]
requires: {class: C, format: [ec2.iid], where: {ec2.region: [nowhere-1]}}
`

// result is a host with the result of another verifier, which names no machine: each
// of its keys would be a node of its own.
func (c *clouds) result() *docHost {
	key := documenttest.NewJWTKey("ear-1", "ES256")
	trust, err := broker.NewTrustData([]verifier.TrustObject{
		{Kind: broker.TrustEKRoot, Name: "lab", Raw: c.maker.PEM()},
		{Kind: verifier.TrustEC2, Name: "eu-west-1", Raw: c.region.CertificatePEM()},
		{Kind: verifier.TrustJWKS, Name: "google", Raw: documenttest.JWTObject(verifier.FormatGCEIdentity, documenttest.GoogleIssuer, nil, c.google.JWK())},
		{Kind: verifier.TrustJWKS, Name: "veraison", Raw: documenttest.JWTObject(verifier.FormatEAR, "", nil, key.JWK())},
	})
	c.must(err)
	c.must(c.b.UseTrust(c.t.Context(), trust))
	c.admitOwner("ear.verifier=veraison")
	return c.newDocHost(verifier.FormatEAR, map[string]collect{
		verifier.FormatEAR: func(bound, _ [32]byte, now time.Time) verifier.Item {
			return verifier.Item{Document: key.Token(documenttest.EARClaims(base64.RawURLEncoding.EncodeToString(bound[:]), now))}
		},
	})
}

// zoneNoResults takes no host by the result of another verifier.
const zoneNoResults = `apiVersion: zonebroker/v1
kind: Zone
name: results
tier: 0
selectors: {any: [{format: ear}]}
admit: [owner]
requires: {class: B, format: [ear], where: {ear.verifier: [another]}}
`

// TestReleasedNodesAreNotDenied: of a node that had a zone and was released from its
// key, a stranger's denial is no record: it would end what the node still has.
func TestReleasedNodesAreNotDenied(t *testing.T) {
	c := newClouds(t)
	c.admitOwner("gcp.project=proj-a")
	node := c.vm("proj-a").enrol().Node
	_, err := c.b.Approve(t.Context(), operator, node, api.ApproveRequest{ReleaseKey: true})
	c.must(err)
	c.activate(zoneElsewhere)
	before := c.records()
	if _, err := c.vm("proj-a").tryEnrol(); reason.Of(err) != reason.PolicyMeasurementMismatch {
		t.Fatalf("a zone elsewhere: %v", err)
	}
	if c.records() != before || c.store.snapshot(node).State.Verdict != ledger.VerdictAllow {
		t.Error("a stranger's denial moved a released node")
	}
}
