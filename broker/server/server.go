// Package server puts the pipeline on the wire: one TCP listener for agents and
// relying parties, one Unix socket for operators. It decides who is asking, as
// far as the transport can prove it, bounds what strangers cost, and renders
// every refusal as a problem document. It judges no evidence.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// Config of a Server.
type Config struct {
	// Broker is the pipeline behind the routes of the TCP listener. Needed.
	Broker Broker
	// Operator is what the admin socket leads to, and role certificates over TCP.
	// Needed with AdminSocket; nil leaves the operators' routes out.
	Operator Operator

	// Listen is the TCP address, "127.0.0.1:0" for any free port. Needed.
	Listen string
	// AdminSocket is the path of the operators' Unix socket, "" for none. Trusted:
	// whoever can write to its folder can pose as the broker to operators.
	AdminSocket string

	// GetCertificate returns the replica's current TLS certificate. Needed.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// TrustDomain and Bundles say which client certificates are nodes. TrustDomain
	// is needed. Bundles is asked on every request, so it must answer from memory;
	// nil takes the bundle document of Broker.
	TrustDomain string
	Bundles     x509bundle.Source

	// Registry takes the metrics and is served at /metrics on the admin socket;
	// nil makes one.
	Registry *prometheus.Registry
	// Logger is for operators; nil discards.
	Logger *slog.Logger
	// Now is the clock of certificates and rates; nil is time.Now.
	Now func() time.Time

	Limits   Limits
	Timeouts Timeouts
}

// Timeouts of the TCP listener. A zero member takes its default.
type Timeouts struct {
	Header time.Duration // TLS handshake, and header of a request: 5 s
	Body   time.Duration // body of a request: 10 s
	Idle   time.Duration // of a kept connection: 10 s, because one holds 75 kB and a handshake costs less than a millisecond
	Drain  time.Duration // for requests in work when Run ends: 10 s
}

func (t Timeouts) withDefaults() Timeouts {
	set := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	set(&t.Header, 5*time.Second)
	set(&t.Body, 10*time.Second)
	set(&t.Idle, 10*time.Second)
	set(&t.Drain, 10*time.Second)
	return t
}

// maxHeader bounds the header of a request: ours are a few hundred bytes.
const maxHeader = 16 << 10

// Server serves both listeners.
type Server struct {
	cfg        Config
	td         spiffeid.TrustDomain
	log        *slog.Logger
	metrics    *metrics
	lanes      lanes
	arrivals   *arrivals
	logRate    *buckets[bool]       // true: faults
	mayOperate func(uid int64) bool // tests replace it
	verifying  *semaphore.Weighted  // one history at a time for role certificates
	ready      readiness
	openAPI    []byte // JSON
	draining   atomic.Bool

	tcp, admin net.Listener
}

// New opens the listeners; nothing is answered before Run. After an error
// nothing stays open.
func New(cfg Config) (*Server, error) {
	if cfg.Broker == nil || cfg.GetCertificate == nil || cfg.Listen == "" {
		return nil, errors.New("server: Broker, Listen and GetCertificate are needed")
	}
	td, err := spiffeid.TrustDomainFromString(cfg.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("server: trust domain: %w", err)
	}
	if cfg.AdminSocket != "" && cfg.Operator == nil {
		return nil, errors.New("server: AdminSocket without Operator")
	}
	cfg.Limits, cfg.Timeouts = cfg.Limits.withDefaults(runtime.GOMAXPROCS(0)), cfg.Timeouts.withDefaults()
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Bundles == nil {
		cfg.Bundles = &remembering{brokerBundle: &brokerBundle{broker: cfg.Broker, td: td}, chains: verifiedChains{max: cfg.Limits.Table}}
	}
	m, err := newMetrics(cfg.Registry, cfg.Broker.PartitionsAhead)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	doc, err := contractJSON()
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s := &Server{
		cfg: cfg, td: td, log: cfg.Logger, metrics: m, lanes: newLanes(cfg.Limits), arrivals: newArrivals(cfg.Limits),
		logRate: newBuckets[bool](Rate{PerSecond: 10, Burst: 50}, 2), mayOperate: mayOperate, openAPI: doc,
		verifying: semaphore.NewWeighted(1),
	}
	return s, s.listen()
}

func (s *Server) listen() error {
	l, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	s.tcp = newLimitListener(l, s.cfg.Limits, s.arrivals, s.cfg.Now, s.metrics)
	if s.cfg.AdminSocket == "" {
		return nil
	}
	if s.admin, err = listenAdmin(s.cfg.AdminSocket); err != nil {
		l.Close()
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

// Addr is the host:port of the TCP listener.
func (s *Server) Addr() string { return s.tcp.Addr().String() }

// Run serves until ctx ends or a listener fails, then stops accepting, lets the
// requests in work finish for Timeouts.Drain, and closes what is left. It
// returns nil after an ordinary end. Run is called once.
func (s *Server) Run(ctx context.Context) error {
	public := s.publicServer()
	servers := []*http.Server{public}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serving(public.ServeTLS(s.tcp, "", "")) })
	if s.admin != nil {
		admin := s.adminServer()
		servers = append(servers, admin)
		g.Go(func() error { return serving(admin.Serve(s.admin)) })
	}
	g.Go(func() error {
		<-gctx.Done()
		s.draining.Store(true)
		// The context has ended; what drains gets a time of its own.
		dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeouts.Drain)
		defer cancel()
		return drain(dctx, servers)
	})
	return g.Wait()
}

func serving(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("server: %w", err)
}

// drain ends all servers at the same time: they share one deadline.
func drain(ctx context.Context, servers []*http.Server) error {
	var g errgroup.Group
	for _, srv := range servers {
		g.Go(func() error {
			if srv.Shutdown(ctx) != nil {
				return srv.Close()
			}
			return nil
		})
	}
	return g.Wait()
}

func (s *Server) publicServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           s.router(onTCP),
		TLSConfig:         s.tlsConfig(),
		ReadHeaderTimeout: s.cfg.Timeouts.Header,
		IdleTimeout:       s.cfg.Timeouts.Idle,
		MaxHeaderBytes:    maxHeader,
		Protocols:         protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: s.cfg.Limits.MaxStreams,
			// A peer that neither reads nor answers pings is gone.
			SendPingTimeout:  s.cfg.Timeouts.Idle / 2,
			PingTimeout:      s.cfg.Timeouts.Header,
			WriteByteTimeout: s.cfg.Timeouts.Body,
		},
		ErrorLog: s.serverLog(),
	}
}

func (s *Server) adminServer() *http.Server {
	return &http.Server{
		Handler:           s.router(onAdmin),
		ReadHeaderTimeout: s.cfg.Timeouts.Header,
		IdleTimeout:       s.cfg.Timeouts.Idle,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withPeerUID,
		ErrorLog:          s.serverLog(),
	}
}

// serverLog takes the complaints of net/http, which strangers cause at will:
// debug only.
func (s *Server) serverLog() *log.Logger {
	return slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
}

// tlsConfig asks for a client certificate and takes any: whether it is good is
// judged on every request. Tickets are off, so that no session outlives the
// certificate that it began with.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         s.cfg.GetCertificate,
		ClientAuth:             tls.RequestClientCert,
		NextProtos:             []string{"h2", "http/1.1"},
		SessionTicketsDisabled: true,
	}
}
