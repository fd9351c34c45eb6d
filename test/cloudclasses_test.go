package test

import (
	"crypto/x509"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// stricter changes what a zone asks for: the member that begins like change.
func (p *replica) stricter(t *testing.T, zone, change string) {
	t.Helper()
	member, _, _ := strings.Cut(change, ": ")
	p.editZone(t, zone, func(text string) string {
		at := strings.Index(text, member+": ")
		end := at + strings.IndexAny(text[at:], ",]}")
		return text[:at] + change + text[end:]
	})
}

// TestHybridZone: one zone for machines of one's own and for those of a cloud. The
// claims say the same but for who it is and what evidence it was.
func TestHybridZone(t *testing.T) {
	pl := newPlatforms(t)
	c := newCluster(t, `apiVersion: zonebroker/v1
kind: Zone
name: web
tier: 1
selectors: {any: [{group: web}]}
admit: [inventory, owner]
requires: {class: B, format: [tpm2, gce.identity]}
evidence: {max_age: 5m}
issue: {x509_ttl: 1h, grace: 55m, audiences: [payments-api]}
workloads: [{name: checkout, uid: 1001}]
`)
	pl.trust(t, c)
	p := c.start(t)
	metal := newHost(t, c.rig)
	p.ctl(t, nil, append([]string{"node", "admit", "--group", "web"}, metal.ekHashes()...)...)
	p.ctl(t, nil, "node", "admit", "--owner", "gcp.project=proj-a", "--group", "web")
	owned := metal.raw(p).enrol()
	rented, err := newCloudHost(t, verifier.FormatGCEIdentity, map[string]item{verifier.FormatGCEIdentity: pl.gceItem}).attest(p)
	must(t, err)
	a, b := claimsOf(t, owned), claimsOf(t, rented)
	if a.Zone.Evidence == b.Zone.Evidence || a.Zone.Node == b.Zone.Node || a.Zone.Key != claim.KeyTPM || b.Zone.Key != claim.KeySoftware {
		t.Errorf("what should differ does not: %+v, %+v", a.Zone, b.Zone)
	}
	if !slices.Equal(slices.Collect(maps.Keys(a.Submods)), []string{claim.SubmodTPM}) || !slices.Equal(slices.Collect(maps.Keys(b.Submods)), []string{claim.SubmodCloud}) {
		t.Errorf("submodules %v and %v", a.Submods, b.Submods)
	}
	same := func(z claim.Zone) claim.Zone {
		z.Node, z.Evidence, z.AttestationID, z.Key, z.AttestedAt, z.FreshUntil = "", "", "", "", 0, z.FreshUntil-z.AttestedAt
		return z
	}
	if x, y := same(a.Zone), same(b.Zone); x.Name != y.Name || x.Tier != y.Tier || x.Policy != y.Policy || x.FreshUntil != y.FreshUntil || x.Epoch != y.Epoch {
		t.Errorf("the claims differ in more than the evidence:\n%+v\n%+v", x, y)
	}
	if len(owned.Workloads) != 1 || len(rented.Workloads) != 1 || owned.Workloads[0].Name != rented.Workloads[0].Name {
		t.Errorf("workloads %+v and %+v", owned.Workloads, rented.Workloads)
	}
}

func claimsOf(t testing.TB, res api.AttestResponse) claim.Claims {
	t.Helper()
	cert, err := x509.ParseCertificate(res.Chain[0])
	must(t, err)
	c, err := claim.FromCertificateInsecure(cert)
	must(t, err)
	return c
}

// TestFirstDenialOfACloudHost: an instance of ours that proves itself and earns no
// zone stands in the history from then on, and its next key may earn one.
func TestFirstDenialOfACloudHost(t *testing.T) {
	pl := newPlatforms(t)
	c := newCluster(t, documentZone("google", verifier.FormatGCEIdentity, "B", 1, ", where: {gce.zone: [nowhere-a]}"))
	pl.trust(t, c)
	p := c.start(t)
	p.ctl(t, nil, "node", "admit", "--owner", "gcp.project=proj-a")
	items := map[string]item{verifier.FormatGCEIdentity: pl.gceItem}
	_, err := newCloudHost(t, verifier.FormatGCEIdentity, items).attest(p)
	wantCode(t, err, reason.PolicyMeasurementMismatch)
	var denied []api.Entry
	p.ctl(t, &denied, "history", "list", "--verdict", "deny")
	if len(denied) != 1 || denied[0].Reason != string(reason.PolicyMeasurementMismatch) {
		t.Fatalf("the history of denials: %+v", denied)
	}
	p.judgedAgain(t, denied[0].ID, "", reason.PolicyMeasurementMismatch)
	p.wholeHistory(t)
	var n api.Node
	p.ctl(t, &n, "node", "show", denied[0].Node)
	if n.Standing != "denied" || n.AKName != "" {
		t.Errorf("a denied machine is %s, with key %q", n.Standing, n.AKName)
	}
	p.editZone(t, "google", func(text string) string { return strings.Replace(text, "nowhere-a", "us-central1-c", 1) })
	earned, err := newCloudHost(t, verifier.FormatGCEIdentity, items).attest(p)
	must(t, err)
	if earned.Node != denied[0].Node {
		t.Errorf("earned as %s, denied as %s", earned.Node, denied[0].Node)
	}
	p.wholeHistory(t)
}

func (p *replica) wholeHistory(t testing.TB) {
	t.Helper()
	var v api.Verification
	p.ctl(t, &v, "history", "verify")
	if !v.OK {
		t.Errorf("history verify = %+v", v)
	}
}

// TestAnotherReplicaCarriesOn: the broker that a cloud host enrolled with is killed
// between challenge and answer; another one takes the token, and later renewals.
func TestAnotherReplicaCarriesOnForACloudHost(t *testing.T) {
	pl := newPlatforms(t)
	c := newCluster(t, documentZone("google", verifier.FormatGCEIdentity, "B", 1, ""))
	pl.trust(t, c)
	first, second := c.start(t), c.start(t)
	first.ctl(t, nil, "node", "admit", "--owner", "gcp.project=proj-a")
	h := newCloudHost(t, verifier.FormatGCEIdentity, map[string]item{verifier.FormatGCEIdentity: pl.gceItem})
	enrolled, err := h.attest(first)
	must(t, err)
	asked, err := agentClient(t, first)
	must(t, err)
	defer asked.Close()
	ch, err := asked.Challenge(t.Context(), api.ChallengeRequest{Format: h.format, Purpose: api.PurposeRenew, AKName: verifier.AgentKeyName(h.public())})
	must(t, err)
	first.kill()
	answered, err := agentClient(t, second)
	must(t, err)
	defer answered.Close()
	req := h.answer(ch)
	res, err := answered.Attest(t.Context(), req)
	must(t, err)
	if res.Node != enrolled.Node {
		t.Errorf("node %s, enrolled as %s", res.Node, enrolled.Node)
	}
	_, err = answered.Attest(t.Context(), req)
	wantCode(t, err, reason.ChallengeSpent)
	h.prev = res.AttestationID
	if _, err = h.attest(second); err != nil {
		t.Error(err)
	}
}

// TestBearerDocumentStaysWithItsFirstKey: who reads the identity document of an
// instance is not the instance, until an operator says so or it was started anew.
func TestBearerDocumentStaysWithItsFirstKey(t *testing.T) {
	pl := newPlatforms(t)
	c := newCluster(t, documentZone("amazon", verifier.FormatEC2IID, "C", 0, ""))
	pl.trust(t, c)
	p := c.start(t)
	p.ctl(t, nil, "node", "admit", "--owner", "aws.account=123456789012")
	i := documenttest.NewEC2Instance(testRegion, time.Now())
	at := func(pending time.Time) map[string]item {
		return map[string]item{verifier.FormatEC2IID: func(testing.TB, collect.Bound) api.Item {
			j := i
			j.Pending = pending
			return api.Item{Document: pl.ec2.Document(j)}
		}}
	}
	h := newCloudHost(t, verifier.FormatEC2IID, at(i.Pending))
	first, err := h.attest(p)
	must(t, err)
	thief := newCloudHost(t, verifier.FormatEC2IID, at(i.Pending))
	_, err = thief.attest(p)
	wantCode(t, err, reason.NodeIdentityConflict)
	if _, err = h.attest(p); err != nil {
		t.Errorf("the first key is refused: %v", err)
	}

	// Started anew: the new key is the machine's, and the old document is over.
	restarted := newCloudHost(t, verifier.FormatEC2IID, at(i.Pending.Add(time.Minute)))
	res, err := restarted.attest(p)
	must(t, err)
	if res.Node != first.Node || !slices.Contains(res.Events, string(reason.NodeAKChanged)) {
		t.Errorf("node %s with %v, was %s", res.Node, res.Events, first.Node)
	}
	h.known = false
	_, err = h.attest(p)
	wantCode(t, err, reason.NodeIdentityConflict)

	// An operator releases it.
	p.ctl(t, nil, "node", "approve", first.Node, "--release-key")
	released := newCloudHost(t, verifier.FormatEC2IID, at(i.Pending.Add(time.Minute)))
	if _, err = released.attest(p); err != nil {
		t.Errorf("released: %v", err)
	}
}

// TestCompositeOfOneMachine: a TPM whose AK Google certified, with the token of the
// same instance; and with that of another one.
func TestCompositeOfOneMachine(t *testing.T) {
	pl := newPlatforms(t)
	c := newCluster(t, `apiVersion: zonebroker/v1
kind: Zone
name: shielded
tier: 1
selectors: {any: [{group: rack-7}]}
admit: [inventory]
requires:
  class: A
  format: [tpm2]
  evidence: {all: [gce.akcert, gce.identity]}
  where: {gce.project: [proj-a]}
`)
	pl.trust(t, c)
	ca, err := documenttest.NewGCEAK(time.Now())
	must(t, err)
	c.writeTrust(t, verifier.TrustGoogleAK, "test.pem", ca.Roots())
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	r := h.raw(p)
	ak, err := tpm2.ParseAK(r.ak.Public)
	must(t, err)
	akKey, err := x509.ParsePKIXPublicKey(ak.SPKI())
	must(t, err)
	if asked := r.challenge(r.enrolRequest()).Evidence; !slices.Equal(asked, []string{verifier.FormatGCEAKCert, verifier.FormatGCEIdentity}) {
		t.Fatalf("the challenge asks for %v", asked)
	}
	for name, k := range map[string]struct {
		instance  int64
		certified bool
		want      reason.Code
	}{
		"the same instance":    {3015378661047007286, true, ""},
		"another instance":     {1111111111111111111, true, reason.GCEAKCertInstance},
		"nothing between them": {3015378661047007286, false, reason.PolicyBindingClass},
	} {
		instance := ca.Instance()
		instance.ID, instance.ProjectNumber, instance.Project = k.instance, 847250625900, "proj-a"
		der, err := ca.Certificate(akKey, instance, nil)
		must(t, err)
		items := map[string]item{verifier.FormatGCEIdentity: pl.gceItem, verifier.FormatGCEAKCert: func(testing.TB, collect.Bound) api.Item {
			return api.Item{Document: der, Parts: map[string]api.Bytes{"chain": ca.Chain()}}
		}}
		if !k.certified {
			delete(items, verifier.FormatGCEAKCert)
		}
		res, err := r.attestBeside(r.enrolRequest(), "", items)
		if k.want != "" {
			wantCode(t, err, k.want)
			continue
		}
		if err != nil || res.Zone != "shielded" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReportBesideAQuote: the report of a confidential machine that carries the key of
// its TPM stands beside that TPM's quote, whatever the inventory calls the machine; one
// that carries none, or another's, does not.
func TestReportBesideAQuote(t *testing.T) {
	pl := newPlatforms(t)
	c := newCluster(t, `apiVersion: zonebroker/v1
kind: Zone
name: sealed
tier: 2
selectors: {any: [{group: rack-7}]}
admit: [inventory]
requires:
  class: A
  format: [tpm2]
  secure_boot: true
  evidence: {all: [snp]}
  where: {snp.measurement: [`+hex.EncodeToString(pl.report.Measurement[:])+`]}
`)
	pl.trust(t, c)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	r := h.raw(p)
	report := pl.snpDoc(t, 1, nil)
	with := func(key []byte) map[string]item {
		return only(verifier.FormatSNP, func(t testing.TB, b collect.Bound) api.Item {
			b.AK = key
			return report(t, b)
		})
	}
	earned, err := r.attestBeside(r.enrolRequest(), "", only(verifier.FormatSNP, report))
	must(t, err)
	claims := claimsOf(t, earned)
	if earned.Zone != "sealed" || claims.Zone.Key != claim.KeyTPM || claims.Submods[claim.SubmodTEE].Vector.Hardware != claim.HardwareGenuine {
		t.Errorf("earned %s: %+v", earned.Zone, claims)
	}
	p.judgedAgain(t, earned.AttestationID, "", "")
	for _, k := range []struct {
		items             map[string]item
		code, byVerifiers reason.Code
	}{
		{with(nil), reason.SNPReportData, reason.SNPReportData},
		{with(pl.ec2.Signer.Certificate.RawSubjectPublicKeyInfo), reason.SNPReportData, reason.SNPReportData},
		{nil, reason.PolicyEvidenceMissing, ""},
	} {
		_, err = r.attestBeside(r.renewRequest(), earned.AttestationID, k.items)
		wantCode(t, err, k.code)
		var denied []api.Entry
		p.ctl(t, &denied, "history", "list", "--node", earned.Node, "--reason", string(k.code), "--verdict", "deny")
		if len(denied) == 0 {
			t.Fatalf("%s: no record", k.code)
		}
		p.judgedAgain(t, denied[0].ID, k.byVerifiers, k.code)
	}
}

// TestRecordedPartsAreTheBrokers: an agent must not answer for the platform.
func TestRecordedPartsAreTheBrokers(t *testing.T) {
	pl := newPlatforms(t)
	c := newCluster(t, documentZone("amazon", verifier.FormatEC2IID, "C", 0, ""))
	pl.trust(t, c)
	p := c.start(t)
	h := newCloudHost(t, verifier.FormatEC2IID, map[string]item{verifier.FormatEC2IID: func(t testing.TB, b collect.Bound) api.Item {
		i := pl.ec2Item(t, b)
		i.Parts = map[string]api.Bytes{"ec2_instance": []byte(`{"state":"running"}`)}
		return i
	}})
	_, err := h.attest(p)
	wantCode(t, err, reason.RequestMalformed)
}
