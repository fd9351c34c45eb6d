package test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const hangupSignal = syscall.SIGHUP

func agentClient(t testing.TB, p *replica) (*client.Client, error) {
	t.Helper()
	trust, err := client.Pin(p.pin)
	must(t, err)
	return client.New(client.Config{Server: p.url, Trust: trust, TrustDomain: trustDomain})
}

// clear runs TPM2_Clear, as whoever owns the host can.
func (h *host) clear() {
	h.t.Helper()
	conn, err := linuxudstpm.Open(h.tpm.Socket())
	must(h.t, err)
	defer conn.Close()
	_, err = tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(conn)
	must(h.t, err)
}

// setClock moves the TPM's clock forward by TPM2_ClockSet, as its owner can.
func (h *host) setClock(ms uint64) {
	h.t.Helper()
	conn, err := linuxudstpm.Open(h.tpm.Socket())
	must(h.t, err)
	defer conn.Close()
	now, err := tpm2.ReadClock{}.Execute(conn)
	must(h.t, err)
	// go-tpm has no ClockSet: tag, size, code 0x128, owner with an empty password
	// session, then the new time (TPM 2.0 part 3, 29.2).
	be := binary.BigEndian
	cmd := be.AppendUint16(nil, 0x8002)
	cmd = be.AppendUint32(cmd, 0)
	cmd = be.AppendUint32(cmd, 0x128)
	cmd = be.AppendUint32(cmd, uint32(tpm2.TPMRHOwner))
	cmd = be.AppendUint32(cmd, 9)
	cmd = be.AppendUint32(cmd, uint32(tpm2.TPMRSPW))
	cmd = append(cmd, 0, 0, 0, 0, 0)
	cmd = be.AppendUint64(cmd, now.CurrentTime.ClockInfo.Clock+ms)
	be.PutUint32(cmd[2:], uint32(len(cmd)))
	rsp, err := conn.Send(cmd)
	must(h.t, err)
	if rc := be.Uint32(rsp[6:]); rc != 0 {
		h.t.Fatalf("TPM2_ClockSet: %#x", rc)
	}
}

func TestGenuineIsNotAdmitted(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)

	t.Run("waits for an operator, who may approve it", func(t *testing.T) {
		h := newHost(t, c.rig)
		_, err := h.attest(p)
		wantCode(t, err, reason.NodeAdmissionPending)
		var pending []api.PendingNode
		p.ctl(t, &pending, "node", "pending")
		if len(pending) != 1 {
			t.Fatalf("pending: %+v", pending)
		}
		p.ctl(t, nil, "node", "approve", pending[0].EKHash, "--group", "rack-7")
		h.mustAttest(p)
		p.ctl(t, &pending, "node", "pending")
		if len(pending) != 0 {
			t.Errorf("still pending after approval: %+v", pending)
		}
	})
	t.Run("is turned away where no zone takes an operator's word", func(t *testing.T) {
		c := newCluster(t, strings.Replace(labZone, "admit: [inventory, join_token, operator]", "admit: [inventory]", 1))
		p := c.start(t)
		_, err := newHost(t, c.rig).attest(p)
		wantCode(t, err, reason.NodeNotAdmitted)
	})
	t.Run("a join token admits once", func(t *testing.T) {
		var token api.Token
		p.ctl(t, &token, "token", "create", "--group", "rack-7")
		one, two := newHost(t, c.rig), newHost(t, c.rig)
		one.token, two.token = token.Secret, token.Secret
		one.mustAttest(p)
		_, err := two.attest(p)
		wantCode(t, err, reason.NodeNotAdmitted)
	})
	t.Run("a join token vouches for no hardware", func(t *testing.T) {
		var token api.Token
		p.ctl(t, &token, "token", "create", "--group", "rack-7")
		h := newHost(t, c.rig)
		h.token = token.Secret
		r := h.raw(p)
		r.ek.Certificate = nil
		_, err := r.client.Attest(t.Context(), r.evidence(r.challenge(r.enrolRequest())))
		wantCode(t, err, reason.EKCertUntrusted)
	})
}

func TestTPM99_DisabledNode(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	res := h.mustAttest(p)
	p.ctl(t, nil, "node", "disable", res.Node)
	// Without its SVID, in the lane of strangers: the fast lane ends at ten a minute.
	r := h.raw(p)
	for range 8 {
		req := r.evidence(r.challenge(r.renewRequest()))
		req.Prev = res.AttestationID
		_, err := r.client.Attest(t.Context(), req)
		wantCode(t, err, reason.NodeDisabled)
	}
	must(t, r.tpm.Close())
	// The first of a kind and a few repeats in full, the rest as a count.
	var denied []api.Entry
	p.ctl(t, &denied, "history", "list", "--verdict", "deny")
	if n := len(denied); n == 0 || n > 3 {
		t.Errorf("%d full records of one repeated refusal", n)
	}
	p.ctl(t, nil, "node", "approve", res.Node)
	h.mustAttest(p)
}

func TestT14_EKOfOneTPMWithAKOfAnother(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	a, b := newHost(t, c.rig), newHost(t, c.rig)
	a.admit(p)
	b.admit(p)
	ra, rb := a.raw(p), b.raw(p)

	// The credential is for EK A and AK B: neither TPM can open it, so what B
	// quotes cannot carry its secret.
	mixed := *rb
	mixed.ek = ra.ek
	ch := mixed.challenge(mixed.enrolRequest())
	if _, err := rb.tpm.Activate(t.Context(), ch.Credential.Blob, ch.Credential.Secret); err == nil {
		t.Fatal("TPM B opened a credential for EK A")
	}
	_, err := mixed.client.Attest(t.Context(), mixed.quoteOver(ch, bytes.Repeat([]byte{7}, 32)))
	wantCode(t, err, reason.TPM2AKActivationFailed)

	// The certificate of A for the EK of B.
	lie := *rb
	lie.ek.Certificate = ra.ek.Certificate
	_, err = lie.client.Attest(t.Context(), lie.evidence(lie.challenge(lie.enrolRequest())))
	wantCode(t, err, reason.EKCertKeyMismatch)
}

// TestTwelveAKsRacingForOneEK: credential activation proves each of them, and
// still one EK is one node.
func TestTwelveAKsRacingForOneEK(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	r := h.raw(p)
	// One TPM makes two kinds of AK; six challenges each, all based on "no node".
	var reqs []api.AttestRequest
	for _, kind := range []tpm2collect.Kind{"p256", "rsa"} {
		must(t, r.tpm.Close())
		h.ak = kind
		r.open()
		var err error
		r.ak, err = r.tpm.AK(t.Context())
		must(t, err)
		r.key, err = r.tpm.SVIDKey(t.Context())
		must(t, err)
		for range 6 {
			reqs = append(reqs, r.evidence(r.challenge(r.enrolRequest())))
		}
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(reqs))
	for _, req := range reqs {
		wg.Go(func() {
			_, err := r.client.Attest(t.Context(), req)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	won := 0
	for err := range errs {
		if err == nil {
			won++
		} else if code := reason.Of(err); code != reason.ChallengeSpent && code != reason.NodeIdentityConflict && code != reason.RequestRateLimited {
			t.Errorf("a racer ended with %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of 12 enrolments of one EK were accepted", won)
	}
}

// TestTwoTPMsOfOneAdmissionRacing: whoever comes second waits for an operator,
// also without a label and at the same moment.
func TestTwoTPMsOfOneAdmissionRacing(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	a, b := newHost(t, c.rig), newHost(t, c.rig)
	p.ctl(t, nil, append(append([]string{"node", "admit", "--group", "rack-7"}, a.ekHashes()...), b.ekHashes()...)...)
	ra, rb := a.raw(p), b.raw(p)
	reqs := []api.AttestRequest{ra.evidence(ra.challenge(ra.enrolRequest())), rb.evidence(rb.challenge(rb.enrolRequest()))}
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for _, req := range reqs {
		wg.Go(func() {
			_, err := ra.client.Attest(t.Context(), req)
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	won := 0
	for err := range errs {
		if err == nil {
			won++
		} else if code := reason.Of(err); code != reason.ChallengeSpent && code != reason.NodeAdmissionPending {
			t.Errorf("a racer ended with %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d active nodes of one admission", won)
	}
}

// TestRefusalsAreBounded: a host that alternates its faults fills no history.
func TestRefusalsAreBounded(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	h := newHost(t, c.rig)
	h.admit(p)
	r := h.raw(p)
	prev := r.enrol().AttestationID
	limited := false
	for i := range 14 {
		req := r.evidence(r.challenge(r.renewRequest()))
		req.Prev = prev
		if i%2 == 0 {
			req.TPM2.EventLog = logWithout(4)
		} else {
			req.TPM2.PCRs["16"] = make([]byte, 32)
		}
		_, err := r.client.Attest(t.Context(), req)
		if reason.Of(err) == reason.RequestRateLimited {
			limited = true
			break
		}
		if code := reason.Of(err); code != reason.TPM2PCRUnexplained && code != reason.TPM2PCRUnquoted {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	if !limited {
		t.Error("an authenticated node without its certificate is not bounded")
	}
	var denied []api.Entry
	p.ctl(t, &denied, "history", "list", "--verdict", "deny")
	if n := len(denied); n == 0 || n > 6 {
		t.Errorf("%d full records of two alternating faults, want at most three each", n)
	}
}

// TestClones: a copied software TPM shares every key, but not what the broker
// told the other.
func TestClones(t *testing.T) {
	c := newCluster(t)
	p := c.start(t)
	original := newHost(t, c.rig)
	original.admit(p)
	node := original.mustAttest(p).Node
	must(t, original.tpm.Stop(t.Context()))

	clone := &host{t: t, rig: c.rig, dir: original.dir + "-clone", log: original.log}
	clone.state = filepath.Join(clone.dir, "state")
	must(t, os.MkdirAll(clone.dir, 0o700))
	must(t, os.CopyFS(clone.state, os.DirFS(original.state)))
	must(t, os.Chmod(clone.state, 0o700))
	must(t, os.Chmod(filepath.Join(clone.state, "state.json"), 0o600))
	must(t, swtpm.Clone(filepath.Join(clone.dir, "tpm"), filepath.Join(original.dir, "tpm")))
	original.powerOn(filepath.Join(original.dir, "tpm"))
	clone.powerOn(filepath.Join(clone.dir, "tpm"))

	// They take turns, each after a reboot, so no counter ever goes back.
	turns := []*host{original, clone, original, clone}
	caught := false
	for _, h := range turns {
		h.boot(build.Machine{}.Log())
		_, err := h.attest(p)
		if code := reason.Of(err); code == reason.NodeForkSuspected || code == reason.TPM2RolledBack {
			caught = true
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !caught {
		t.Error("two clones took turns unnoticed")
	}
	for _, h := range turns[:2] {
		if _, err := h.attest(p); err == nil {
			t.Error("a suspected fork still earns a zone")
		}
	}
	p.ctl(t, nil, "node", "approve", node)
}
