package test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// loadZone takes software keys: a load generator has no thousand TPMs. Every
// check of a quote is the same; only the name of the format differs.
const loadZone = `apiVersion: zonebroker/v1
kind: Zone
name: load
tier: 0
lab: true
selectors: {any: [{format: tpm2.lab}]}
admit: [lab]
issue: {x509_ttl: 1h, grace: 55m}
`

// loadLimits lift what a fleet behind one address, without pauses, would meet.
const loadLimits = `limits:
  connections: 100000
  connections_per_address: 100000
  idle: 10m
  arrivals: {per_second: 1000000, burst: 1000000}
  newcomers: {per_second: 1000000, burst: 1000000}
  strangers: {per_second: 1000000, burst: 1000000}
  per_address: {per_second: 1000000, burst: 1000000}
  nodes: {per_second: 1000000, burst: 1000000}
  node: {per_second: 1000000, burst: 1000000}
  enrolments: 1000000
  node_attestations: 1000000000
`

// loadQueue has all callers wait for their turn: what is measured is how much is
// done, not whom the broker turns away.
const loadQueue = "  queue: 100000\n"

// startLoad starts a replica with a zone for software keys and these limits.
func startLoad(t testing.TB, limits string) *replica {
	t.Helper()
	c := newCluster(t, loadZone)
	c.append(t, "zonebroker.yaml", limits)
	return c.start(t)
}

// labHost is a host whose TPM is software in this process, with an agent's
// memory. It is asked by one goroutine at a time.
type labHost struct {
	t     testing.TB
	tpm   *evidencetest.TPM
	key   *evidencetest.Key
	prev  string
	chain []api.Bytes
	log   bool // the event log is sent

	challenged bool // the challenge of the last attestation was answered
}

func newLabHost(t testing.TB) *labHost {
	t.Helper()
	h := &labHost{t: t, tpm: evidencetest.New(t), key: evidencetest.NewSVIDKey(t)}
	h.tpm.Format = verifier.FormatTPM2Lab
	return h
}

// admitLab admits hosts over the admin socket, several at a time: what is
// measured begins after it.
func (p *replica) admitLab(t testing.TB, hosts []*labHost) {
	t.Helper()
	c := p.adminClient()
	defer c.CloseIdleConnections()
	inParallel(t, 32, len(hosts), func(i int) error {
		ek := hosts[i].tpm.EK.RootHash(t)
		body := fmt.Sprintf(`{"ek_hashes":["%x"],"lab":true}`, ek)
		rsp, err := c.Post("http://admin/v1/admissions", "application/json", strings.NewReader(body))
		if err != nil {
			return err
		}
		defer rsp.Body.Close()
		if rsp.StatusCode != http.StatusCreated {
			return fmt.Errorf("admission: %s", rsp.Status)
		}
		return nil
	})
}

// adminClient talks to the admin socket; any host name does.
func (p *replica) adminClient() *http.Client {
	socket := filepath.Join(p.dir, "run", "admin.sock")
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 64,
	}}
}

// inParallel calls do(0) to do(n-1) by so many workers and ends the test at the
// first error.
func inParallel(t testing.TB, workers, n int, do func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	failed := make(chan error, workers)
	for w := range min(workers, n) {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				if err := do(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
}

// connect makes a client with a connection of its own; with an SVID it comes by
// the lane of nodes.
func (h *labHost) connect(p *replica) *client.Client {
	h.t.Helper()
	trust, err := client.Pin(p.pin)
	must(h.t, err)
	c, err := client.New(client.Config{Server: p.url, Trust: trust, TrustDomain: trustDomain, ClientCertificate: h.certificate})
	must(h.t, err)
	return c
}

func (h *labHost) certificate() (*tls.Certificate, error) {
	if len(h.chain) == 0 {
		return nil, nil
	}
	c := &tls.Certificate{PrivateKey: h.key.Signer()}
	for _, der := range h.chain {
		c.Certificate = append(c.Certificate, der)
	}
	return c, nil
}

// enrol goes through both requests of a first contact.
func (h *labHost) enrol(ctx context.Context, c *client.Client) error {
	ch, err := c.Challenge(ctx, api.ChallengeRequest{Format: verifier.FormatTPM2Lab, Purpose: api.PurposeEnrol, Enrol: &api.Enrol{
		EKPublic: h.tpm.EK.Public, AKPublic: h.tpm.AK.Public,
	}})
	if err != nil {
		return err
	}
	nonce, err := h.tpm.EK.Activate(h.tpm.AK.Name(), ch.Credential.Blob, ch.Credential.Secret)
	if err != nil {
		return err
	}
	h.log = true
	defer func() { h.log = false }()
	return h.attest(ctx, c, ch, nonce)
}

// renew goes through both requests of a renewal; the event log stays at home, as
// an agent's does while the boot is the same.
func (h *labHost) renew(ctx context.Context, c *client.Client) error {
	ch, err := c.Challenge(ctx, api.ChallengeRequest{Format: verifier.FormatTPM2Lab, Purpose: api.PurposeRenew, AKName: h.tpm.AK.Name()})
	if err != nil {
		return err
	}
	return h.attest(ctx, c, ch, ch.Nonce)
}

func (h *labHost) attest(ctx context.Context, c *client.Client, ch api.Challenge, nonce []byte) error {
	h.challenged = true
	sel, err := tpm2.ParseSelection(ch.Select)
	if err != nil {
		return err
	}
	h.tpm.Wait(time.Millisecond)
	ev := h.tpm.Evidence(h.t, verifier.Expectation{TrustDomain: trustDomain, Purpose: ch.Purpose, Nonce: nonce, Selection: sel}, h.key)
	e := ev.TPM2
	out := &api.TPM2Evidence{
		AKPublic: e.AKPublic, EKPublic: e.EKPublic, Quote: e.Quote, Signature: e.Signature, PCRs: map[string]api.Bytes{},
		Certify: &api.Certify{Public: e.Certify.Public, Attest: e.Certify.Attest, Signature: e.Certify.Signature},
	}
	if h.log {
		out.EventLog = e.EventLog
	}
	for i, v := range e.PCRs {
		out.PCRs[strconv.Itoa(i)] = v
	}
	answer, err := c.Attest(ctx, api.AttestRequest{Token: ch.Token, Prev: h.prev, SPKI: ev.SPKI, TPM2: out})
	if err != nil {
		return err
	}
	h.prev, h.chain = answer.AttestationID, answer.Chain
	return nil
}

// labFleet is enrolled hosts, each with a connection of its own.
type labFleet struct {
	hosts   []*labHost
	clients []*client.Client
}

// newLabFleet enrols so many hosts over a few connections. Each opens its own with
// its first renewal.
func newLabFleet(t testing.TB, p *replica, size int) *labFleet {
	t.Helper()
	f := &labFleet{hosts: make([]*labHost, size), clients: make([]*client.Client, size)}
	inParallel(t, 4, size, func(i int) error { f.hosts[i] = newLabHost(t); return nil })
	p.admitLab(t, f.hosts)
	const shared = 16
	first := make([]*client.Client, shared)
	for i := range first {
		first[i] = f.hosts[0].connect(p) // without an SVID yet
		defer first[i].Close()
	}
	inParallel(t, shared, size, func(i int) error {
		err := patiently(t.Context(), func(ctx context.Context) error { return f.hosts[i].enrol(ctx, first[i%shared]) })
		f.clients[i] = f.hosts[i].connect(p)
		return err
	})
	return f
}

func (f *labFleet) close() {
	for _, c := range f.clients {
		c.Close()
	}
}

// patiently tries again when the broker says when.
func patiently(ctx context.Context, do func(ctx context.Context) error) error {
	for {
		err := do(ctx)
		r, ok := errors.AsType[*client.RefusedError](err)
		if !ok || r.RetryAfter == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(r.RetryAfter):
		}
	}
}
