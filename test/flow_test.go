package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestFirstLight walks the issue's promise as its user would: the binaries, a
// real TPM, a real database, and OpenSSL as the relying party.
func TestFirstLight(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)

	svid := filepath.Join(h.dir, "svid.pem")
	out := c.rig.run(t, nil, "zoneagent", "attest", "--once", "--server", p.url, "--pin", p.pin,
		"--tpm", "swtpm:"+h.tpm.Socket(), "--state", h.state, "--event-log", h.log, "--save", svid, "-o", "json")
	var got struct {
		Node string `json:"node"`
		Zone string `json:"zone"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got.Zone != "lab" || len(got.Node) != 26 {
		t.Fatalf("earned %+v, want a node in zone lab", got)
	}
	if msg, err := exec.Command(c.rig.programs.Path("openssl"), "verify", "-x509_strict", "-CAfile", svid+".bundle.pem", svid).CombinedOutput(); err != nil {
		t.Errorf("OpenSSL refuses the chain: %v\n%s", err, msg)
	}
	c.rig.run(t, nil, "zonebroker", "claim", "verify", svid, "--bundle", svid+".bundle.json")
	c.rig.run(t, nil, "zonebroker", "claim", "inspect", svid)

	var nodes []api.Node
	p.ctl(t, &nodes, "node", "list")
	if len(nodes) != 1 || nodes[0].ID != got.Node || nodes[0].Standing != "fresh" || nodes[0].Manufacturer == "" {
		t.Errorf("node list = %+v", nodes)
	}
	var v api.Verification
	p.ctl(t, &v, "history", "verify")
	if !v.OK || v.Records == 0 || v.Grants == 0 {
		t.Errorf("history verify = %+v", v)
	}

	// A renewal on the same boot: the fast lane, no log sent, a fresh nonce.
	res := h.mustAttest(p)
	if res.Purpose != "renew" || res.Node != got.Node {
		t.Errorf("second run: %s of %s, want renew of %s", res.Purpose, res.Node, got.Node)
	}
	if code := p.stop(t); code != 0 {
		t.Errorf("the broker ended with %d on SIGTERM\n%s", code, p.logText())
	}
}

// TestInvariant4_JudgedAgain: reference learn reads what was measured out of the
// judged-again evidence, so it fails where judging again differs.
func TestInvariant4_ReferencesAreLearntFromJudgingAgain(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	res := h.mustAttest(p)
	file := filepath.Join(h.dir, "ref.yaml")
	c.rig.run(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "reference", "learn", "--node", res.Node, "--boot", res.AttestationID, "-o", file)
	text, err := os.ReadFile(file)
	must(t, err)
	if !strings.Contains(string(text), "kind: ReferenceSet") {
		t.Fatalf("learnt:\n%s", text)
	}
	name := strings.Fields(text2line(t, string(text), "name:"))[1]

	// The learnt set takes this boot and refuses another kernel.
	must(t, os.WriteFile(filepath.Join(p.dir, "zones", "ref.yaml"), text, 0o600))
	zone := strings.NewReplacer("tier: 1", "tier: 2", "format: [tpm2]}", "format: [tpm2], references: ["+name+"]}").Replace(labZone)
	must(t, os.WriteFile(filepath.Join(p.dir, "zones", "z0.yaml"), []byte(zone), 0o600))
	p.hangup(t)
	if res = h.mustAttest(p); res.Tier != 2 {
		t.Errorf("tier %d under the learnt references, want 2", res.Tier)
	}
	h.boot(build.Machine{KernelVersion: "6.1.0-99-other"}.Log())
	_, err = h.attest(p)
	wantCode(t, err, reason.PolicyPCRMismatch)
}

func text2line(t *testing.T, text, prefix string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	t.Fatalf("no line %q in\n%s", prefix, text)
	return ""
}

// hangup reloads the policy and waits until the log says how it went.
func (p *replica) hangup(t *testing.T) {
	t.Helper()
	before := strings.Count(p.logText(), "policy ")
	must(t, p.cmd.Process.Signal(hangupSignal))
	eventually(t, 10*time.Second, "the policy is reloaded or refused", func() bool {
		return strings.Count(p.logText(), "policy ") > before
	})
}

func eventually(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(d)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", d, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestT4_OneNonceFiftyTriesTwoBrokers is invariant 5: one acceptance, however
// many replicas and parallel tries.
func TestT4_OneNonceFiftyTriesTwoBrokers(t *testing.T) {
	c := newCluster(t)
	one, two := c.start(t), c.start(t)
	h := newHost(t, c.rig)
	h.admit(one)
	r := h.raw(one)
	other, err := agentClient(t, two)
	must(t, err)
	r.enrol()

	req := r.evidence(r.challenge(r.renewRequest()))
	var wg sync.WaitGroup
	errs := make(chan error, 50)
	for i := range 50 {
		wg.Go(func() {
			cl := r.client
			if i%2 == 1 {
				cl = other
			}
			_, err := cl.Attest(t.Context(), req)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	accepted := 0
	for err := range errs {
		switch {
		case err == nil:
			accepted++
		case reason.Of(err) != reason.ChallengeSpent && reason.Of(err) != reason.RequestRateLimited && reason.Of(err) != reason.RequestOverloaded:
			t.Errorf("a try ended with %v", err)
		}
	}
	if accepted != 1 {
		t.Errorf("%d acceptances of one nonce", accepted)
	}
	var page api.HistoryPage
	one.ctl(t, &page.Entries, "history", "list", "--type", "attestation")
	if n := len(page.Entries); n != 2 {
		t.Errorf("%d attestations recorded, want the enrolment and one renewal", n)
	}
}

// TestTPM22_TPM98_SpentTokenGetsAFreshChallenge: 409 carries a challenge that works.
func TestTPM22_TPM98_SpentTokenGetsAFreshChallenge(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	r := h.raw(p)
	first := r.enrol()
	req := r.evidence(r.challenge(r.renewRequest()))
	req.Prev = first.AttestationID
	res, err := r.client.Attest(t.Context(), req)
	must(t, err)
	_, err = r.client.Attest(t.Context(), req)
	wantCode(t, err, reason.ChallengeSpent)
	e := refusal(err)
	if e == nil || e.Status != 409 || e.Challenge == nil {
		t.Fatalf("409 without a fresh challenge: %+v", e)
	}
	req = r.evidence(*e.Challenge)
	req.Prev = res.AttestationID
	if _, err := r.client.Attest(t.Context(), req); err != nil {
		t.Errorf("the fresh challenge of the 409 does not work: %v", err)
	}
}

// TestAttestedAtIsIssueTime: evidence handed in late is as old as its nonce.
func TestAttestedAtIsIssueTime(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	r := h.raw(p)
	before := time.Now()
	ch := r.challenge(r.enrolRequest())
	after := time.Now()
	req := r.evidence(ch)
	time.Sleep(2 * time.Second)
	res, err := r.client.Attest(t.Context(), req)
	must(t, err)
	if res.AttestedAt.Before(before.Add(-time.Second)) || res.AttestedAt.After(after.Add(time.Millisecond)) {
		t.Errorf("attested_at %s, the challenge was issued between %s and %s", res.AttestedAt, before, after)
	}
	if got := res.FreshUntil.Sub(res.AttestedAt); got != 5*time.Minute {
		t.Errorf("fresh for %s, want max_age", got)
	}
}

// TestWaysBack: what wire.md promises to hosts that lost something.
func TestWaysBack(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)

	t.Run("agent state lost", func(t *testing.T) {
		h := newHost(t, c.rig)
		h.admit(p)
		first := h.mustAttest(p)
		must(t, os.RemoveAll(h.state))
		second := h.mustAttest(p)
		if second.Node != first.Node {
			t.Errorf("another node %s after the loss of the state, was %s", second.Node, first.Node)
		}
		wantEvent(t, second, reason.NodeStateLost)
	})
	t.Run("TPM cleared", func(t *testing.T) {
		h := newHost(t, c.rig)
		h.admit(p)
		first := h.mustAttest(p)
		h.clear()
		h.boot(build.Machine{}.Log())
		_, err := h.attest(p)
		wantCode(t, err, reason.TPM2RolledBack)
		_, err = h.attest(p)
		wantCode(t, err, reason.TPM2RolledBack)
		p.ctl(t, nil, "node", "approve", first.Node)
		again := h.mustAttest(p)
		if again.Node != first.Node {
			t.Errorf("another node %s after approval, was %s", again.Node, first.Node)
		}
	})
	t.Run("AK of the other kind", func(t *testing.T) {
		h := newHost(t, c.rig)
		h.admit(p)
		first := h.mustAttest(p)
		h.ak = "rsa"
		second := h.mustAttest(p)
		if second.Node != first.Node {
			t.Errorf("another node %s with another AK, was %s", second.Node, first.Node)
		}
		wantEvent(t, second, reason.NodeAKChanged)
	})
	t.Run("other TPM of the same machine waits for an operator", func(t *testing.T) {
		old, repaired := newHost(t, c.rig), newHost(t, c.rig)
		args := append([]string{"node", "admit", "--group", "rack-7", "--machine", "host-17"}, old.ekHashes()...)
		p.ctl(t, nil, append(args, repaired.ekHashes()...)...)
		first := old.mustAttest(p)
		_, err := repaired.attest(p)
		wantCode(t, err, reason.NodeAdmissionPending)
		var nodes []api.Node
		p.ctl(t, &nodes, "node", "list")
		var second string
		for _, n := range nodes {
			if n.Machine == "host-17" && n.ID != first.Node {
				second = n.ID
			}
		}
		// One machine, one active node: the old one goes first.
		if _, stderr, code := c.rig.try(t, []string{"ZONEBROKER_DIR=" + p.dir}, "zonebroker", "node", "approve", second); code == 0 {
			t.Errorf("two active nodes of one admission: %s", stderr)
		}
		p.ctl(t, nil, "node", "disable", first.Node)
		p.ctl(t, nil, "node", "approve", second)
		if second := repaired.mustAttest(p); second.Node == first.Node {
			t.Error("two roots of trust share a node")
		}
	})
	t.Run("other EK of the same TPM is no second node", func(t *testing.T) {
		h := newHost(t, c.rig)
		h.admit(p)
		h.ek = "rsa"
		h.mustAttest(p)
		must(t, os.RemoveAll(h.state))
		h.ek = "p256"
		_, err := h.attest(p)
		wantCode(t, err, reason.NodeIdentityConflict)
	})
}

func wantEvent(t *testing.T, res agent.Result, code reason.Code) {
	t.Helper()
	for _, e := range res.Events {
		if e == string(code) {
			return
		}
	}
	t.Errorf("events %v, want %s", res.Events, code)
}

// TestOffForLongerThanTheSVIDAndTheCA: the trust anchor outlives the replicas'
// CAs, so a host finds its way back without anybody's help.
func TestOffForLongerThanTheSVIDAndTheCA(t *testing.T) {
	zone := strings.NewReplacer("max_age: 5m", "max_age: 3s", "x509_ttl: 1h", "x509_ttl: 4s", "grace: 55m", "grace: 1s").Replace(labZone)
	c := newCluster(t, zone)
	c.append(t, "zonebroker.yaml", "ca_lifetime: 8s\n")
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	first := h.mustAttest(p)
	p.stop(t)
	time.Sleep(time.Until(first.ExpiresAt.Add(time.Second)))
	p.launch(t)
	second := h.mustAttest(p)
	if second.Node != first.Node || second.Purpose != "renew" {
		t.Errorf("after the SVID's end: %s of %s", second.Purpose, second.Node)
	}
	p.stop(t)
	time.Sleep(9 * time.Second)
	p.launch(t)
	third := h.mustAttest(p)
	if third.Node != first.Node {
		t.Errorf("after the CA's end: node %s, was %s", third.Node, first.Node)
	}
}
