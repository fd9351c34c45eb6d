package broker_test

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// zoneShielded takes instances by the quote of their vTPM, zoneToken the same ones by
// a token that any process of theirs can fetch, and never lets one in.
const zoneShielded = `apiVersion: zonebroker/v1
kind: Zone
name: shielded
tier: 1
priority: 10
selectors: {any: [{format: gce.akcert}]}
admit: [owner, inventory]
requires: {class: A, format: [gce.akcert], announced_reboots: true}
`

const zoneToken = `apiVersion: zonebroker/v1
kind: Zone
name: token
tier: 0
selectors: {any: [{format: gce.identity}]}
admit: [owner]
requires: {class: B, format: [gce.identity], where: {gce.zone: [nowhere-a]}}
`

// shielded is an instance with a vTPM whose AK the cloud certified.
type shielded struct {
	*host
	cloud *clouds
	ca    *documenttest.GCEAK
	which documenttest.AKInstance
}

func newShielded(t *testing.T) *shielded {
	t.Helper()
	c := newClouds(t)
	c.activate(zoneShielded, zoneToken, zoneLab)
	ca, err := documenttest.NewGCEAK(c.now())
	c.must(err)
	trust, err := broker.NewTrustData([]verifier.TrustObject{
		{Kind: broker.TrustEKRoot, Name: "lab", Raw: c.maker.PEM()},
		{Kind: verifier.TrustGoogleAK, Name: "test", Raw: ca.Roots()},
		{Kind: verifier.TrustJWKS, Name: "google", Raw: documenttest.JWTObject(verifier.FormatGCEIdentity, documenttest.GoogleIssuer, nil, c.google.JWK())},
	})
	c.must(err)
	c.must(c.b.UseTrust(t.Context(), trust))
	c.admitOwner("gcp.project=proj-a")
	which := ca.Instance()
	which.Project, which.ProjectNumber, which.ID = "proj-a", 847250625900, 3015378661047007286
	s := &shielded{c.newHost(), c, ca, which}
	s.format = verifier.FormatGCEAKCert
	return s
}

func (s *shielded) hand(ch api.Challenge, err error) (api.AttestResponse, error) {
	s.r.t.Helper()
	s.r.must(err)
	req := s.quote(ch, ch.Nonce)
	req.TPM2.EKPublic, req.TPM2.EKCertificate, req.TPM2.EKChain = nil, nil, nil
	der, err := s.ca.Certificate(s.tpm.AK.Signer().Public(), s.which, nil)
	s.r.must(err)
	req.Items = []api.Item{{Format: verifier.FormatGCEAKCert, Document: der, Parts: map[string]api.Bytes{"chain": s.ca.Chain()}}}
	out, err := s.attest(req)
	if err == nil {
		s.prev = out.AttestationID
	}
	return out, err
}

func (s *shielded) first() (api.AttestResponse, error) {
	s.minute()
	return s.hand(s.r.b.Challenge(s.r.t.Context(), broker.Caller{}, api.ChallengeRequest{
		Format: verifier.FormatGCEAKCert, Purpose: api.PurposeEnrol, Agent: &api.AgentEnrol{AKPublic: s.tpm.AK.Public},
	}))
}

func (s *shielded) again() (api.AttestResponse, error) {
	s.minute()
	return s.hand(s.askRenew())
}

// TestWeakerEvidenceTakesNoKey: a process of the instance fetches a token and brings a
// key of its own; neither an acceptance elsewhere nor a refusal moves the node.
func TestWeakerEvidenceTakesNoKey(t *testing.T) {
	s := newShielded(t)
	node := mustAttest(t, s.first)
	before, records := s.r.store.snapshot(node.Node), s.r.records()
	thief := s.cloud.vm("proj-a")
	s.r.wait(time.Second)
	if _, err := thief.tryEnrol(); reason.Of(err) != reason.NodeIdentityConflict {
		t.Errorf("the thief: %v", err)
	}
	after := s.r.store.snapshot(node.Node)
	if string(after.Node.AKName) != string(before.Node.AKName) || after.State.Version != before.State.Version || s.r.records() != records {
		t.Error("a refused key moved the node")
	}
	mustAttest(t, s.again)
}

func mustAttest(t *testing.T, attest func() (api.AttestResponse, error)) api.AttestResponse {
	t.Helper()
	out, err := attest()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAnotherAKKeepsTheBaseline: the certified RSA and ECC keys of one vTPM are two
// AKs, and a reboot or a clock set back is neither's to hide.
func TestAnotherAKKeepsTheBaseline(t *testing.T) {
	for name, k := range map[string]struct {
		change func(*evidencetest.TPM)
		want   reason.Code
	}{
		"as it was":   {func(*evidencetest.TPM) {}, ""},
		"rebooted":    {func(tpm *evidencetest.TPM) { tpm.Clock.ResetCount++ }, reason.NodeRebootUnannounced},
		"rolled back": {func(tpm *evidencetest.TPM) { tpm.Clock.Millis, tpm.Clock.ResetCount = 5, 1 }, reason.TPM2RolledBack},
	} {
		s := newShielded(t)
		node := mustAttest(t, s.first)
		s.tpm.AK = evidencetest.NewAK(t)
		k.change(s.tpm)
		_, err := s.first()
		if reason.Of(err) != k.want {
			t.Errorf("%s: %v, want %q", name, err, k.want)
		}
		for _, body := range s.r.attestations(node.Node) {
			if j, err := s.r.b.JudgeAgain(t.Context(), body); err != nil || !j.Same {
				t.Errorf("%s: a record judged again: %v", name, err)
			}
		}
	}
}

// TestEKNodesDoNotEnterByDocuments: a machine whose node is disabled must not earn
// its zone by the AK of its other node.
func TestEKNodesDoNotEnterByDocuments(t *testing.T) {
	s := newShielded(t)
	s.format = ""
	s.r.admit(s.host, "", "rack-7")
	s.enrol()
	s.format = verifier.FormatGCEAKCert
	_, err := s.r.b.Challenge(t.Context(), broker.Caller{}, api.ChallengeRequest{
		Format: verifier.FormatGCEAKCert, Purpose: api.PurposeEnrol, Agent: &api.AgentEnrol{AKPublic: s.tpm.AK.Public},
	})
	if reason.Of(err) != reason.NodeNotAdmitted {
		t.Errorf("the AK of an EK's node: %v", err)
	}
}

// TestRefusedFirstContactClaimsNothing: who shows a bearer document first and earns
// nothing leaves neither a node nor a key behind, so that no renewal goes around what
// the first contact was refused for.
func TestRefusedFirstContactClaimsNothing(t *testing.T) {
	c := newClouds(t)
	c.admitOwner("aws.account=123456789012")
	began := c.now().Add(-2 * time.Hour)
	thief := c.instance("123456789012", began)
	before := c.records()
	if _, err := thief.tryEnrol(); reason.Of(err) != reason.EC2PendingTime {
		t.Fatalf("an old document: %v", err)
	}
	if _, err := thief.askRenew(); reason.Of(err) != reason.NodeNotAdmitted {
		t.Errorf("its key is known: %v", err)
	}
	if c.records() != before {
		t.Error("it left a record")
	}
	c.instance("123456789012", c.now()).enrol()
}

// TestForeignKeysMoveNothing: forty tries with another key neither deny the node nor
// use up its rate, and the challenge that it holds stays good.
func TestForeignKeysMoveNothing(t *testing.T) {
	c := newClouds(t)
	c.admitOwner("aws.account=123456789012")
	began := c.now()
	victim := c.instance("123456789012", began)
	node := victim.enrol().Node
	c.wait(time.Minute)
	ch, err := victim.askRenew()
	c.must(err)
	for range 40 {
		if _, err := c.instance("123456789012", began).tryEnrol(); err == nil {
			t.Fatal("a thief enrolled")
		}
		c.mu.Lock()
		c.at = c.at.Add(-time.Second)
		c.mu.Unlock()
	}
	if st := c.store.snapshot(node).State; st.Verdict != ledger.VerdictAllow {
		t.Errorf("the node is %s for %s", st.Verdict, st.Reason)
	}
	if _, err := victim.attest(ch, nil); err != nil {
		t.Errorf("the victim's challenge: %v", err)
	}
}

// TestRevokedOwnersRefuse: whatever else admits the machine, and at the next renewal.
func TestRevokedOwnersRefuse(t *testing.T) {
	revoke := func(c *clouds, kind, value string) {
		hash := document.Owner{Kind: kind, Value: value}.Hash()
		_, err := c.b.RevokeAdmission(t.Context(), operator, hex.EncodeToString(hash[:]), api.RevokeRequest{})
		c.must(err)
	}
	anyGenuine := `apiVersion: zonebroker/v1
kind: Zone
name: open
tier: 0
selectors: {any: [{format: gce.identity}]}
admit: [any_genuine, owner]
requires: {class: B, format: [gce.identity]}
`
	c := newClouds(t)
	c.activate(anyGenuine)
	h := c.vm("proj-a")
	h.enrol()
	c.admitOwner("gcp.project=proj-a")
	h.renew()
	if n := c.store.snapshot(string(c.attestationNode(t))).Node; n.AdmittedBy != ledger.AdmitOwner {
		t.Errorf("admitted by %s after its project was", n.AdmittedBy)
	}
	revoke(c, document.OwnerGCPProject, "proj-a")
	if _, err := h.tryRenew(); reason.Of(err) != reason.NodeNotAdmitted {
		t.Errorf("a revoked project: %v", err)
	}
	if _, err := c.vm("proj-a").tryEnrol(); reason.Of(err) != reason.NodeNotAdmitted {
		t.Errorf("a revoked project at first contact: %v", err)
	}
}

// attestationNode is the node of the newest attestation.
func (c *clouds) attestationNode(t *testing.T) ledger.NodeID {
	t.Helper()
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	for i := len(c.store.records) - 1; i >= 0; i-- {
		if c.store.records[i].Type == ledger.TypeAttestation {
			return c.store.records[i].Node
		}
	}
	t.Fatal("no attestation")
	return ""
}

// TestReleaseIsForDocuments: an EK says itself which keys are of its TPM.
func TestReleaseIsForDocuments(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	if _, err := r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{ReleaseKey: true}); reason.Of(err) != reason.RequestMalformed {
		t.Errorf("a key of an EK's node: %v", err)
	}
}
