// Package embedded runs a private Postgres for one broker: it makes the
// cluster, starts it on a Unix socket that only its owner can reach, restarts
// it when it dies, and stops it. The programs are those of the host; nothing is
// downloaded here.
//
// The folder given in Config belongs to one owner at a time (a lock that the
// kernel drops when the owner dies). It holds data (the cluster), run (the
// socket, 0700), postgres.log and owner.lock. Whoever can enter run is trusted
// by Postgres as any role: that is the user who owns the files anyway, and root.
//
// Durability is not negotiable: fsync and full_page_writes are set on the
// command line, and a cluster whose own configuration turns one of them off is
// refused, so that nobody believes a setting that has no effect.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// Superuser is the role that owns a fresh cluster. It has no password; the
// socket's folder is what keeps others out.
const Superuser = "postgres"

// MinVersion is the oldest major version of Postgres that is accepted.
const MinVersion = 15

// Config says where the cluster lives and which programs run it.
type Config struct {
	// Dir is made if it does not exist. Trusted: an attacker who can write it
	// owns the database. Started by root, every folder above it must be
	// enterable by the user as whom Postgres then runs.
	Dir string
	// Bin is the folder of postgres and initdb. Empty: FindBin, but a version
	// that made the existing cluster comes first.
	Bin string
	// Env is added to the otherwise fixed environment of the programs, for
	// example LD_LIBRARY_PATH for programs of a private prefix.
	Env []string
	// Logger hears of starts, deaths and restarts. Nil: nothing is said.
	Logger *slog.Logger
	// OnStart is called with the process number of each postmaster, restarted ones
	// too, as soon as it exists and before it accepts connections. Nil: nobody is
	// told.
	OnStart func(pid int)
}

// Server is a running private Postgres. Its methods are safe for concurrent use.
type Server struct {
	programs programs
	folder   *folder
	log      *slog.Logger
	onStart  func(pid int) // never nil

	stopping chan struct{} // closed by the first Stop
	quit     chan struct{} // closed when a Stop ran out of patience
	ended    chan struct{} // closed by supervise, after err is set
	err      error

	stopOnce, quitOnce sync.Once

	mu      sync.Mutex
	current *process // guarded by mu
}

// Start takes the folder, makes the cluster if there is none, and returns once
// Postgres accepts connections. ctx bounds the start alone; the server runs
// until Stop. Crash recovery after a kill is part of the start.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	logger := cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	f, err := openFolder(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("private postgres: %w", err)
	}
	onStart := cfg.OnStart
	if onStart == nil {
		onStart = func(int) {}
	}
	s := &Server{
		folder: f, log: logger, onStart: onStart,
		stopping: make(chan struct{}), quit: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := s.bringUp(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("private postgres in %s: %w", f.dir, err), f.close())
	}
	go s.supervise()
	return s, nil
}

func (s *Server) bringUp(ctx context.Context, cfg Config) error {
	var err error
	s.programs, err = choosePrograms(ctx, cfg, s.folder)
	if err != nil {
		return err
	}
	if err := s.folder.clearLeftovers(ctx, s.log); err != nil {
		return err
	}
	if err := ensureCluster(ctx, s.programs, s.folder); err != nil {
		return err
	}
	p, err := s.launch(ctx)
	if err != nil {
		return err
	}
	s.current = p
	s.log.Info("private postgres started", "pid", p.pid(), "version", s.programs.major, "socket", s.folder.socketDir)
	return nil
}

// DSN returns the connection string of a role and a database on the private
// socket, in URL form; psql takes it as it stands. It names no secret and stays
// valid across restarts.
func (s *Server) DSN(user, db string) string {
	q := url.Values{"host": {s.folder.socketDir}, "port": {socketPort}, "sslmode": {"disable"}}
	return (&url.URL{Scheme: "postgres", User: url.User(user), Path: "/" + db, RawQuery: q.Encode()}).String()
}

// Wait blocks until the server has ended for good: nil after Stop, otherwise
// why it could not be kept running.
func (s *Server) Wait() error {
	<-s.ended
	return s.err
}

// Stop ends Postgres by a fast shutdown (open transactions are rolled back,
// everything committed is flushed) and gives the folder free. When ctx ends
// first, Postgres is told to quit at once and recovers at the next start; the
// error then says so. Further calls wait for the first.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		close(s.stopping)
		s.signal(syscall.SIGINT)
	})
	select {
	case <-s.ended:
		return s.err
	case <-ctx.Done():
	}
	s.quitOnce.Do(func() {
		close(s.quit)
		s.signal(syscall.SIGQUIT)
	})
	t := time.NewTimer(quitPatience)
	defer t.Stop()
	select {
	case <-s.ended:
		return fmt.Errorf("private postgres was stopped without a checkpoint: %w", context.Cause(ctx))
	case <-t.C:
		return fmt.Errorf("private postgres in %s does not end", s.folder.dir)
	}
}

// PID returns the process number of the running postmaster, 0 between a death
// and the restart.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return 0
	}
	return s.current.pid()
}

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current.signal(sig)
	}
}
