package workloadapi_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/broker/api"
)

var domain = spiffeid.RequireTrustDomainFromString("example.org")

// authority is a CA and a token key, as a broker has them.
type authority struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate
	jwt  *ecdsa.PrivateKey
	kid  string
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newKey(t), jwt: newKey(t), kid: rand.Text()}
	a.root = certify(t, &x509.Certificate{
		URIs: []*url.URL{domain.ID().URL()}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotAfter: time.Now().Add(24 * time.Hour),
	}, nil, a.key, a.key)
	return a
}

func certify(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{Organization: []string{"Zonebroker"}, CommonName: rand.Text()}
	template.NotBefore = time.Now().Add(-time.Minute)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func idOf(zone, name string) string {
	return "spiffe://example.org/zone/" + zone + "/workload/" + name
}

func (a *authority) identity(t testing.TB, id string, ttl time.Duration) workloadapi.Identity {
	t.Helper()
	key, end := newKey(t), time.Now().Add(ttl)
	leaf := certify(t, &x509.Certificate{
		URIs: []*url.URL{spiffeid.RequireFromString(id).URL()}, NotAfter: end, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.root, key, a.key)
	return workloadapi.Identity{SPIFFEID: id, Chain: []*x509.Certificate{leaf}, Key: key, ExpiresAt: leaf.NotAfter, FreshUntil: end}
}

func (a *authority) token(t testing.TB, id, audience string, ttl time.Duration) workloadapi.Token {
	t.Helper()
	end := time.Now().Add(ttl)
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", a.kid)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: a.jwt}, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{
		Subject: id, Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(end), IssuedAt: jwt.NewNumericDate(time.Now()),
	}).Claims(map[string]any{"zone": map[string]any{"name": "payments", "tier": 2}}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return workloadapi.Token{SPIFFEID: id, Audience: audience, Token: text, ExpiresAt: end}
}

func bundleOf(t testing.TB, authorities ...*authority) *spiffebundle.Bundle {
	t.Helper()
	b := spiffebundle.New(domain)
	for _, a := range authorities {
		b.AddX509Authority(a.root)
		if err := b.AddJWTAuthority(a.kid, a.jwt.Public()); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// source is an agent whose state a test sets.
type source struct {
	t    testing.TB
	ca   *authority
	zone string

	mu         sync.Mutex
	changed    chan struct{}
	workloads  []api.Workload
	identities map[string]workloadapi.Identity
	bundle     *spiffebundle.Bundle
	err        error
	hold       chan struct{} // requests wait for its end
	asked      map[string]int
	patience   []time.Duration // that requests came with
	tokenTTL   time.Duration
	tokenID    string // "" is the workload's own
	tokenFor   string // "" is the audience that was asked for
}

func newSource(t testing.TB, zone string, workloads ...api.Workload) *source {
	t.Helper()
	ca := newAuthority(t)
	return &source{
		t: t, ca: ca, zone: zone, changed: make(chan struct{}), workloads: append([]api.Workload{}, workloads...),
		identities: map[string]workloadapi.Identity{}, bundle: bundleOf(t, ca), asked: map[string]int{}, tokenTTL: 5 * time.Minute,
	}
}

// set changes the state and says so.
func (s *source) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *source) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *source) Workloads() []api.Workload {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.workloads
}

func (s *source) TrustDomain() spiffeid.TrustDomain { return domain }

func (s *source) TrustBundle() *spiffebundle.Bundle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bundle
}

// begin counts a request and returns what it has to wait for.
func (s *source) begin(ctx context.Context, what string) (<-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[what]++
	if end, ok := ctx.Deadline(); ok {
		s.patience = append(s.patience, time.Until(end))
	}
	if s.hold == nil {
		open := make(chan struct{})
		close(open)
		return open, s.err
	}
	return s.hold, s.err
}

func (s *source) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[what]
}

func (s *source) X509SVID(ctx context.Context, name string) (workloadapi.Identity, error) {
	wait, err := s.begin(ctx, "x509 "+name)
	select {
	case <-wait:
	case <-ctx.Done():
		return workloadapi.Identity{}, context.Cause(ctx)
	}
	if err != nil {
		return workloadapi.Identity{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.identities[name]
	if !ok {
		i = s.ca.identity(s.t, idOf(s.zone, name), time.Hour)
		s.identities[name] = i
	}
	return i, nil
}

func (s *source) JWTSVID(ctx context.Context, name, audience string) (workloadapi.Token, error) {
	wait, err := s.begin(ctx, "jwt "+name+" "+audience)
	select {
	case <-wait:
	case <-ctx.Done():
		return workloadapi.Token{}, context.Cause(ctx)
	}
	if err != nil {
		return workloadapi.Token{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.tokenID
	if id == "" {
		id = idOf(s.zone, name)
	}
	if s.tokenFor != "" {
		audience = s.tokenFor
	}
	return s.ca.token(s.t, id, audience, s.tokenTTL), nil
}

func uid(n int) *int { return &n }

// me is a rule for this test's own user.
func me(name string) api.Workload { return api.Workload{Name: name, UID: uid(os.Geteuid())} }

// serve starts a server of src and returns its socket.
func serve(t testing.TB, src workloadapi.Source, tweak ...func(*workloadapi.Config)) string {
	t.Helper()
	return serveWith(t, src, func(*workloadapi.Server) {}, tweak...)
}

func serveWith(t testing.TB, src workloadapi.Source, prepare func(*workloadapi.Server), tweak ...func(*workloadapi.Config)) string {
	t.Helper()
	// t.TempDir is under a folder of the test's name, which is long.
	dir, err := os.MkdirTemp("", "zbw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := workloadapi.Config{Socket: filepath.Join(dir, "run", "w.sock"), Source: src}
	for _, f := range tweak {
		f(&cfg)
	}
	server, err := workloadapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	prepare(server)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(cfg.Socket); !os.IsNotExist(err) {
			t.Errorf("the socket stays behind: %v", err)
		}
	})
	return cfg.Socket
}

// client is go-spiffe's.
func client(t testing.TB, socket string) *spiffe.Client {
	t.Helper()
	c, err := spiffe.New(t.Context(), spiffe.WithAddr("unix://"+socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// stub is the bare protocol, for what go-spiffe would not send.
func stub(t testing.TB, socket string) workload.SpiffeWorkloadAPIClient {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return workload.NewSpiffeWorkloadAPIClient(conn)
}

func withHeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
}

// deadline bounds what a test waits for.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := withTimeout(t, 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func withTimeout(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// eventually waits until what holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
