package agent_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

const trustDomain = "example.org"

// broker is the other end of the protocol: real TLS, the real verifier, nodes in
// memory. It is as strict as the product where the agent could get away with
// something, and can be told to misbehave.
type broker struct {
	t      testing.TB
	url    string
	anchor pair
	now    func() time.Time

	mu         sync.Mutex
	ca         pair
	clientCAs  *x509.CertPool
	admitted   map[[32]byte]bool
	tokens     map[string]*sealed
	nodes      map[string]*node // by AK name
	selection  string
	evidence   []string            // formats that challenges list
	documents  *verifier.Documents // nil leaves out what does not name the node
	proved     []verifier.Document // by the last attestation
	challenges []api.ChallengeRequest
	attests    []api.AttestRequest
	withCert   []bool // of each request, whether a client certificate came
	maxAge     time.Duration
	grace      time.Duration
	workloads  []api.Workload
	jwtKey     pair
	later      []any             // requests for SVIDs of workloads
	lastCaller *x509.Certificate // who asked for the last token
	lastZone   claim.Zone
	bundles    int // how often the bundle was asked for
	conns      int // connections that were accepted
	away       bool
	listening  *httptest.Server

	// misbehaviour
	refuseAttest func(n int) error // n counts from 0; nil goes on
	refuseLater  func(any) error
	spoilLater   func(*api.SVIDResponse, *api.JWTResponse)
	retryAfter   atomic.Int64
	slowAnswer   atomic.Pointer[chan struct{}] // answers of attestations wait for its end
	slowLater    atomic.Pointer[chan struct{}] // and those of everything later
	spoil        func(*api.AttestResponse)
	credential   func(ek tpm2.EK, ak tpm2.AK, nonce []byte) (blob, secret []byte, err error)
	challenge    func(*api.Challenge)
}

type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

type sealed struct {
	purpose string
	format  string
	nonce   []byte
	akName  []byte
	root    [32]byte
	issued  time.Time
}

type node struct {
	id       string
	root     [32]byte
	last     string
	baseline *verifier.Baseline
}

func certificate(t testing.TB, template *x509.Certificate, parent *pair, now time.Time) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := pair{key: key}
	p.cert = signed(t, template, parent, &p, key.Public(), now)
	return p
}

func signed(t testing.TB, template *x509.Certificate, parent, self *pair, public any, now time.Time) *x509.Certificate {
	t.Helper()
	issuer, by := template, self
	if parent != nil {
		issuer, by = parent.cert, parent
	}
	template.SerialNumber = new(big.Int).SetBytes([]byte(uuid.NewString()))
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = now.Add(-time.Minute), now.Add(72*time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, by.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func authority(t testing.TB, name string) pair {
	t.Helper()
	return certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, time.Now())
}

func names(text string) []*url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return []*url.URL{u}
}

func newBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{
		t: t, anchor: authority(t, "anchor"), now: time.Now, selection: "ff4300",
		maxAge: 5 * time.Minute, grace: 55 * time.Minute, workloads: []api.Workload{},
		admitted: map[[32]byte]bool{}, tokens: map[string]*sealed{}, nodes: map[string]*node{},
	}
	b.retryAfter.Store(1)
	b.rotateCA()
	server := certificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "broker"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, URIs: names("spiffe://" + trustDomain + "/broker"),
	}, &b.anchor, time.Now())
	b.url = b.listen(tls.Certificate{Certificate: [][]byte{server.cert.Raw, b.anchor.cert.Raw}, PrivateKey: server.key})
	return b
}

func (b *broker) listen(c tls.Certificate) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	config := func(*tls.ClientHelloInfo) (*tls.Config, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		return &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c}, NextProtos: []string{"h2"},
			ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: b.clientCAs, Time: b.now,
		}, nil
	}
	s := &httptest.Server{
		Listener: &door{Listener: listener, b: b}, EnableHTTP2: true, TLS: &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: config},
		Config: &http.Server{Handler: b, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Second},
	}
	s.StartTLS()
	b.t.Cleanup(s.Close)
	b.listening = s
	return s.URL
}

// rotateCA is what a replica does that was restarted: SVIDs of the old CA are
// no longer taken.
func (b *broker) rotateCA() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ca = authority(b.t, "ca "+uuid.NewString())
	b.clientCAs = x509.NewCertPool()
	b.clientCAs.AddCert(b.ca.cert)
	b.jwtKey = authority(b.t, "jwt")
}

func (b *broker) trust() client.Trust {
	b.t.Helper()
	trust, err := client.Pin(client.PinOf(b.anchor.cert))
	if err != nil {
		b.t.Fatal(err)
	}
	return trust
}

func (b *broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := b.serve(r)
	slow := &b.slowLater
	if r.URL.Path == "/v1/attest" {
		slow = &b.slowAnswer
	}
	if until := slow.Load(); until != nil && r.URL.Path != "/v1/challenge" {
		<-*until
	}
	kind, status := "application/json", http.StatusOK
	if err != nil {
		problem := api.NewProblem(err, "req-1")
		kind, status, out = "application/problem+json", problem.Status, problem
		w.Header().Set("Retry-After", strconv.FormatInt(b.retryAfter.Load(), 10))
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(out)
}

func (b *broker) serve(r *http.Request) (out any, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.withCert = append(b.withCert, len(r.TLS.PeerCertificates) > 0)
	if len(r.TLS.PeerCertificates) > 0 && b.now().After(r.TLS.PeerCertificates[0].NotAfter) {
		return nil, reason.New(reason.AuthInvalid, "the SVID of this connection has ended")
	}
	switch r.URL.Path {
	case "/v1/challenge":
		var req api.ChallengeRequest
		if err = decodeBody(r, &req); err == nil {
			if err = req.Validate(); err == nil {
				out, err = b.giveChallenge(req)
			}
		}
	case "/v1/attest":
		var req api.AttestRequest
		if err = decodeBody(r, &req); err == nil {
			if err = req.Validate(); err == nil {
				out, err = b.attest(req)
			}
		}
	case "/spiffe/bundle.json":
		b.bundles++
		out = b.bundle()
	default:
		out, err = b.answerLater(r)
	}
	return out, err
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func (b *broker) giveChallenge(req api.ChallengeRequest) (out api.Challenge, err error) {
	b.challenges = append(b.challenges, req)
	s := &sealed{purpose: req.Purpose, format: req.Format, nonce: random(32), issued: b.now()}
	out = api.Challenge{Token: uuid.NewString(), Purpose: req.Purpose, ExpiresAt: b.now().Add(time.Minute), Select: b.selection, Evidence: b.evidence}
	b.tokens[out.Token] = s
	if b.challenge != nil {
		defer b.challenge(&out)
	}
	if req.Agent != nil {
		return out, b.introduce(req, s, &out)
	}
	if req.Enrol == nil {
		if b.nodes[string(req.AKName)] == nil {
			return out, reason.New(reason.NodeNotAdmitted, "no node has this AK")
		}
		s.akName, out.Nonce = req.AKName, s.nonce
		return out, nil
	}
	ek, err := tpm2.ParseEK(req.Enrol.EKPublic)
	if err != nil {
		return out, err
	}
	ak, err := tpm2.ParseAK(req.Enrol.AKPublic)
	if err != nil {
		return out, err
	}
	if !b.admitted[ek.RootHash()] && req.Enrol.JoinToken != "join-me" {
		return out, reason.New(reason.NodeNotAdmitted, "nothing admits this machine")
	}
	s.root, s.akName = ek.RootHash(), ak.Name()
	make := b.credential
	if make == nil {
		make = func(ek tpm2.EK, ak tpm2.AK, nonce []byte) ([]byte, []byte, error) {
			return ek.MakeCredential(rand.Reader, ak.Name(), nonce)
		}
	}
	blob, secret, err := make(ek, ak, s.nonce)
	out.Credential = &api.Credential{Blob: blob, Secret: secret}
	return out, err
}

// attest judges with the product's verifier. A broker that was told to refuse
// does so without judging.
func (b *broker) attest(req api.AttestRequest) (api.AttestResponse, error) {
	b.attests = append(b.attests, req)
	s := b.tokens[req.Token]
	if s == nil {
		return api.AttestResponse{}, reason.New(reason.ChallengeInvalid, "no such token")
	}
	delete(b.tokens, req.Token)
	if b.refuseAttest != nil {
		if err := b.refuseAttest(len(b.attests) - 1); err != nil {
			return api.AttestResponse{}, err
		}
	}
	selection, err := tpm2.ParseSelection(b.selection)
	if err != nil {
		return api.AttestResponse{}, err
	}
	n := b.nodes[string(s.akName)]
	if n == nil && s.format != verifier.FormatTPM2 {
		s.root = sha256.Sum256(s.akName)
	}
	if n == nil {
		n = &node{id: strings.ToLower(base32.StdEncoding.EncodeToString(s.root[:]))[:26], root: s.root}
	}
	want := verifier.Expectation{
		TrustDomain: trustDomain, Purpose: s.purpose, Nonce: s.nonce, AKName: s.akName,
		Selection: selection, IssuedAt: s.issued, Baseline: n.baseline,
	}
	var trust verifier.Trust
	ev := evidenceOf(req, s.format)
	if b.documents != nil {
		trust.Documents, ev.Items = *b.documents, itemsOf(req)
	}
	appraisal, err := verifier.Appraise(ev, want, trust, b.now())
	if err != nil {
		return api.AttestResponse{}, err
	}
	if refusals := appraisal.Refusals(); b.documents != nil && len(refusals) > 0 {
		return api.AttestResponse{}, refusals[0]
	}
	b.proved = appraisal.Documents()
	if s.format == verifier.FormatTPM2 && appraisal.KeyResidency() != verifier.KeyTPM {
		return api.AttestResponse{}, reason.New(reason.PolicyBindingClass, "software key")
	}
	b.nodes[string(s.akName)] = n
	n.last = uuid.NewString()
	if s.format != verifier.FormatTPM2 {
		return b.issue(req, n, s), nil
	}
	n.baseline = &verifier.Baseline{Clock: appraisal.Clock(), ClockAt: s.issued, Firmware: appraisal.FirmwareVersion(), Log: eventlog.Keep(appraisal.EventLog())}
	return b.issue(req, n, s), nil
}

// introduce takes the key of a host that documents name.
func (b *broker) introduce(req api.ChallengeRequest, s *sealed, out *api.Challenge) error {
	switch {
	case req.Format == verifier.FormatJoinToken && req.Agent.JoinToken != "join-me":
		return reason.New(reason.NodeNotAdmitted, "that format needs a join token")
	case len(req.Agent.Public) > 0:
		s.akName = verifier.AgentKeyName(req.Agent.Public)
	default:
		ak, err := tpm2.ParseAK(req.Agent.AKPublic)
		if err != nil {
			return err
		}
		s.akName = ak.Name()
	}
	out.Nonce = s.nonce
	return nil
}

func itemsOf(req api.AttestRequest) []verifier.Item {
	var out []verifier.Item
	for _, item := range req.Items {
		i := verifier.Item{Format: item.Format, Document: item.Document, Parts: map[string][]byte{}}
		for name, part := range item.Parts {
			i.Parts[name] = part
		}
		out = append(out, i)
	}
	return out
}

// evidenceOf leaves out the documents beside the one that names the node: tests
// look at them where they arrive.
func evidenceOf(req api.AttestRequest, format string) verifier.Evidence {
	if req.Agent != nil {
		return verifier.Evidence{
			Format: format, SPKI: req.SPKI, CSR: req.CSR,
			Agent: &verifier.AgentProof{Public: req.Agent.Public, Signature: req.Agent.Signature},
			Items: []verifier.Item{{Format: format, Document: req.Items[0].Document}},
		}
	}
	e := req.TPM2
	t := &verifier.TPM2Evidence{
		AKPublic: e.AKPublic, EKPublic: e.EKPublic, EKCertificate: nil, Quote: e.Quote, Signature: e.Signature,
		EventLog: e.EventLog, UserspaceLog: e.UserspaceLog, PCRs: map[int][]byte{},
		Certify: &tpm2.CertifyEvidence{Public: e.Certify.Public, Attest: e.Certify.Attest, Signature: e.Certify.Signature},
	}
	for k, v := range e.PCRs {
		i, _ := strconv.Atoi(k)
		t.PCRs[i] = v
	}
	return verifier.Evidence{Format: format, SPKI: req.SPKI, TPM2: t}
}

func (b *broker) issue(req api.AttestRequest, n *node, s *sealed) api.AttestResponse {
	now := b.now()
	out := api.AttestResponse{
		AttestationID: n.last, Node: n.id, Zone: "lab", Tier: 2, Events: []string{}, Workloads: b.workloads,
		SPIFFEID:   "spiffe://" + trustDomain + "/zone/lab/node/" + n.id,
		AttestedAt: s.issued.UTC(), FreshUntil: s.issued.Add(b.maxAge).UTC(), RenewAt: s.issued.Add(b.maxAge / 2).UTC(),
		Log: api.LogPosition{Origin: "log", Index: int64(len(b.attests)), Size: int64(len(b.attests)), Checkpoint: fmt.Sprintf("log\n%d\nroot\n\n— key sig\n", len(b.attests))},
	}
	public, err := x509.ParsePKIXPublicKey(req.SPKI)
	if err != nil {
		b.t.Error(err)
	}
	c := b.claims(claim.Zone{
		Name: "lab", Tier: 2, Epoch: 1, Node: n.id, AttestationID: n.last, AttestedAt: s.issued.Unix(),
		FreshUntil: out.FreshUntil.Unix(), Evidence: digest("evidence"), Key: "tpm",
		Policy: claim.Policy{Version: 1, Hash: digest("policy"), Mode: "enforce"},
	})
	leaf := b.svid(out.SPIFFEID, n.id, c, public, earlier(now.Add(time.Hour), out.FreshUntil.Add(b.grace)))
	out.Chain, out.Bundle = []api.Bytes{leaf.Raw}, b.bundle()
	if b.spoil != nil {
		b.spoil(&out)
	}
	return out
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func decodeBody(r *http.Request, into any) error {
	body, err := api.ReadBody(r.Body, api.MaxBody)
	if err != nil {
		return err
	}
	return api.DecodeBytes(body, into)
}
