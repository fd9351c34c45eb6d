package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// host is a machine with a software TPM of its own, booted through a log.
type host struct {
	t     testing.TB
	rig   *rig
	dir   string
	state string
	log   string
	list  string // measurement list of the kernel, "" for none
	// userspace is the file of systemd's log, "" for none.
	userspace string
	tpm       *swtpm.TPM
	ak        tpm2collect.Kind
	ek        tpm2collect.Kind
	token     string
}

func newHost(t testing.TB, r *rig) *host {
	t.Helper()
	dir := filepath.Join(r.dir, fmt.Sprintf("h%d", r.replicas.Add(1)))
	h := &host{t: t, rig: r, dir: dir, state: filepath.Join(dir, "state"), log: filepath.Join(dir, "eventlog")}
	h.powerOn(filepath.Join(dir, "tpm"))
	h.boot(build.Machine{}.Log())
	return h
}

func (h *host) powerOn(tpmDir string) {
	h.t.Helper()
	var err error
	h.tpm, err = swtpm.Start(h.t.Context(), swtpm.Config{
		SWTPM: h.rig.programs.Path("swtpm"), Env: h.rig.programs.Env(hostdeps.SWTPM), Dir: tpmDir, CA: h.rig.ca,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.tpm.Kill)
}

// boot restarts the machine through a firmware log.
func (h *host) boot(log *build.Builder) {
	h.t.Helper()
	if err := h.tpm.Reboot(h.t.Context(), log.Extends()); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.log, log.Bytes(), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// ekHashes returns the hashes of the endorsement keys, RSA first.
func (h *host) ekHashes() []string {
	h.t.Helper()
	eks, err := h.tpm.Endorsements()
	if err != nil {
		h.t.Fatal(err)
	}
	var out []string
	for _, ek := range eks {
		out = append(out, hashHex(ek.SPKI))
	}
	return out
}

// admit puts the host into the inventory of a replica's cluster.
func (h *host) admit(p *replica) {
	h.t.Helper()
	p.ctl(h.t, nil, append([]string{"node", "admit", "--group", "rack-7"}, h.ekHashes()...)...)
}

func (h *host) config(p *replica) agent.Config {
	h.t.Helper()
	trust, err := client.Pin(p.pin)
	if err != nil {
		h.t.Fatal(err)
	}
	return agent.Config{
		Server: p.url, Trust: trust, StateDir: h.state, Device: "swtpm:" + h.tpm.Socket(),
		EventLog: h.log, UserspaceLog: h.userspace, IMALog: h.list, AK: h.ak, EK: h.ek, JoinToken: h.token,
	}
}

// attest runs the agent once.
func (h *host) attest(p *replica) (agent.Result, error) {
	return agent.Attest(h.t.Context(), h.config(p))
}

func (h *host) mustAttest(p *replica) agent.Result {
	h.t.Helper()
	res, err := h.attest(p)
	if err != nil {
		h.t.Fatalf("attest: %v\n%s", err, p.logText())
	}
	return res
}

// wantCode fails unless err is a refusal with that code.
func wantCode(t testing.TB, err error, want reason.Code) {
	t.Helper()
	if got := reason.Of(err); err == nil || got != want {
		t.Errorf("refused with %q (%v), want %q", got, err, want)
	}
}

// raw is a host whose evidence the test makes by hand and may change.
type raw struct {
	h      *host
	tpm    *tpm2collect.TPM
	client *client.Client
	ak     tpm2collect.AK
	ek     tpm2collect.EK
	key    *tpm2collect.SVIDKey
}

func (h *host) raw(p *replica) *raw {
	h.t.Helper()
	ctx := h.t.Context()
	cfg := h.config(p)
	c, err := client.New(client.Config{Server: cfg.Server, Trust: cfg.Trust, TrustDomain: trustDomain})
	must(h.t, err)
	r := &raw{h: h, client: c}
	r.open()
	r.ak, err = r.tpm.AK(ctx)
	must(h.t, err)
	r.ek, err = r.tpm.EK(ctx)
	must(h.t, err)
	r.key, err = r.tpm.SVIDKey(ctx)
	must(h.t, err)
	h.t.Cleanup(func() { _ = r.tpm.Close(); c.Close() })
	return r
}

func (r *raw) open() {
	var err error
	r.tpm, err = tpm2collect.Open(r.h.t.Context(), tpm2collect.Config{Device: "swtpm:" + r.h.tpm.Socket(), AK: r.h.ak, EK: r.h.ek, Rotation: []byte("raw")})
	must(r.h.t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *raw) enrolRequest() api.ChallengeRequest {
	return api.ChallengeRequest{Format: api.FormatTPM2, Purpose: api.PurposeEnrol, Enrol: &api.Enrol{
		EKPublic: r.ek.Public, EKCertificate: r.ek.Certificate, AKPublic: r.ak.Public, JoinToken: r.h.token,
	}}
}

func (r *raw) renewRequest() api.ChallengeRequest {
	return api.ChallengeRequest{Format: api.FormatTPM2, Purpose: api.PurposeRenew, AKName: r.ak.Name}
}

// evidence answers a challenge honestly; tests then change one thing.
func (r *raw) evidence(c api.Challenge) api.AttestRequest {
	r.h.t.Helper()
	nonce := []byte(c.Nonce)
	if c.Credential != nil {
		var err error
		nonce, err = r.tpm.Activate(r.h.t.Context(), c.Credential.Blob, c.Credential.Secret)
		must(r.h.t, err)
	}
	bound := verifier.Binding(nonce, r.key.SPKI(), trustDomain, c.Purpose, api.FormatTPM2, nil)
	return r.quoteOver(c, bound[:])
}

// quoteOver makes a request whose quote and certification carry qualifying.
func (r *raw) quoteOver(c api.Challenge, qualifying []byte) api.AttestRequest {
	r.h.t.Helper()
	ctx := r.h.t.Context()
	sel, err := tpm2.ParseSelection(c.Select)
	must(r.h.t, err)
	q, err := r.tpm.Quote(ctx, sel, qualifying)
	must(r.h.t, err)
	cert, err := r.tpm.Certify(ctx, qualifying)
	must(r.h.t, err)
	log, err := os.ReadFile(r.h.log)
	must(r.h.t, err)
	e := &api.TPM2Evidence{
		AKPublic: r.ak.Public, Quote: q.Attest, Signature: q.Signature, PCRs: map[string]api.Bytes{}, EventLog: log,
		Certify: &api.Certify{Public: cert.Public, Attest: cert.Attest, Signature: cert.Signature},
	}
	if c.Purpose == api.PurposeEnrol {
		e.EKPublic, e.EKCertificate = r.ek.Public, r.ek.Certificate
	}
	for i, v := range q.PCRs {
		e.PCRs[strconv.Itoa(i)] = v
	}
	return api.AttestRequest{Token: c.Token, SPKI: r.key.SPKI(), TPM2: e}
}

func (r *raw) challenge(req api.ChallengeRequest) api.Challenge {
	r.h.t.Helper()
	c, err := r.client.Challenge(r.h.t.Context(), req)
	must(r.h.t, err)
	return c
}

// enrol enrols the host honestly and returns what it earned.
func (r *raw) enrol() api.AttestResponse {
	r.h.t.Helper()
	res, err := r.client.Attest(r.h.t.Context(), r.evidence(r.challenge(r.enrolRequest())))
	must(r.h.t, err)
	return res
}

// refusal returns the broker's refusal, nil for anything else.
func refusal(err error) *client.RefusedError {
	if e, ok := errors.AsType[*client.RefusedError](err); ok {
		return e
	}
	return nil
}

func cloneTPM(dst, src string) error { return swtpm.Clone(dst, src) }
