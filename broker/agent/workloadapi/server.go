package workloadapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Bounds of what local processes can make an agent hold or do.
const (
	defaultMaxConns       = 1024
	defaultMaxConnsPerUID = 256      // a server that forks has one for each of its processes
	maxStreams            = 32       // of a connection
	maxRequest            = 64 << 10 // the largest is a JWT-SVID to validate
	maxHeaders            = 8 << 10
	bufferSize            = 4 << 10 // of a connection, each way; the default is 32 KiB
	handshakeTimeout      = 5 * time.Second
	askTimeout            = 30 * time.Second // of a Source
	askAgain              = 10 * time.Second // after a Source failed while what was sent is still good
)

// Config says where to listen and what to serve.
type Config struct {
	// Socket is a path of at most 107 bytes, made absolute, in a folder that nobody
	// but root and this user can write, nor a folder above it, sticky ones excepted.
	// A missing folder is made with mode 0755. Trusted: an attacker who can write
	// there can pose as this server to every workload.
	Socket string
	// Source is where identities come from.
	Source Source
	// Logger gets a line for each stream that begins and for denials; nil is silent.
	Logger *slog.Logger
	// MaxConns and MaxConnsPerUID bound connections; 0 is 1024 and 256.
	MaxConns, MaxConnsPerUID int
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Server is a Workload API that listens.
type Server struct {
	// What the protocol has and this server does not, WIT-SVIDs, is Unimplemented.
	workload.UnimplementedSpiffeWorkloadAPIServer

	source   Source
	log      *slog.Logger
	now      func() time.Time
	listener *listener
	grpc     *grpc.Server
	again    time.Duration
	refusals *budget // that a workload may cause, by name of the workload
	quiet    *budget // of log lines about callers who are denied
}

// New listens on the socket: from its return on clients can connect. Run has to
// be called to serve them and to give the socket back.
func New(cfg Config) (*Server, error) {
	if cfg.Source == nil {
		return nil, errors.New("workload api: no source of identities")
	}
	if cfg.MaxConns < 0 || cfg.MaxConnsPerUID < 0 {
		return nil, errors.New("workload api: a bound below zero")
	}
	s := &Server{source: cfg.Source, log: cfg.Logger, now: cfg.Now, again: askAgain}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.refusals = newBudget(64, 6*time.Second, s.now)
	s.quiet = newBudget(20, 3*time.Second, s.now)
	l, err := listen(cfg.Socket)
	if err != nil {
		return nil, err
	}
	s.listener = &listener{
		UnixListener: l, log: s.log, quiet: s.quiet, byUID: map[uint32]int{},
		max: orDefault(cfg.MaxConns, defaultMaxConns), maxPerUID: orDefault(cfg.MaxConnsPerUID, defaultMaxConnsPerUID),
	}
	s.grpc = grpc.NewServer(
		grpc.Creds(peerCredentials{}),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.WaitForHandlers(true),
		grpc.ReadBufferSize(bufferSize),
		grpc.WriteBufferSize(bufferSize),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 5 * time.Minute, Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := checkHeader(ctx); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := checkHeader(stream.Context()); err != nil {
				return err
			}
			return next(srv, stream)
		}),
	)
	workload.RegisterSpiffeWorkloadAPIServer(s.grpc, s)
	return s, nil
}

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// Run serves until ctx ends, then ends all streams and removes the socket. It
// returns nil where it was ctx that ended it.
func (s *Server) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- s.grpc.Serve(s.listener) }()
	select {
	case err := <-done:
		s.grpc.Stop()
		return fmt.Errorf("workload api: %w", err)
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
		return nil
	}
}

// checkHeader demands the security header (SPIFFE Workload Endpoint, section 5):
// a web page or a proxy that is talked into sending a request does not have it.
func checkHeader(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if !slices.Equal(md.Get("workload.spiffe.io"), []string{"true"}) {
		return status.Error(codes.InvalidArgument, "security header missing: send the metadata workload.spiffe.io: true")
	}
	return nil
}
