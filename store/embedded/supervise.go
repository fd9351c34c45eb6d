package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	firstBackoff = 100 * time.Millisecond
	longBackoff  = 5 * time.Second
	// A run as long as this earns a fresh back-off.
	healthyRun = 30 * time.Second
	// Starts that fail in a row before the owner is told; with the back-off
	// above that is about ten seconds.
	maxFailedStarts = 7
	// A restart that includes crash recovery may take long; a hanging one must
	// not hang for ever.
	restartLimit = 5 * time.Minute
	// quitPatience is how long an immediate shutdown may take.
	quitPatience = 5 * time.Second
	// The log is a help for a human, not a record: it is cut at this size.
	maxLogBytes = 8 << 20
)

var errStopped = errors.New("stopped")

// supervise owns the process from the first start to the end.
func (s *Server) supervise() {
	err := s.keepRunning()
	if errors.Is(err, errStopped) {
		err = nil
	}
	s.err = errors.Join(err, s.folder.close())
	close(s.ended)
}

func (s *Server) keepRunning() error {
	backoff := firstBackoff
	for {
		began := time.Now()
		if err := s.watch(); err != nil {
			return err
		}
		if time.Since(began) > healthyRun {
			backoff = firstBackoff
		}
		var err error
		if backoff, err = s.restart(backoff); err != nil {
			return err
		}
	}
}

// watch returns nil when Postgres died by itself and errStopped when it was
// told to end.
func (s *Server) watch() error {
	s.mu.Lock()
	p := s.current
	s.mu.Unlock()
	logs := time.NewTicker(time.Minute)
	defer logs.Stop()
	for {
		select {
		case <-p.done:
		case <-logs.C:
			s.folder.boundLog()
			continue
		}
		break
	}
	s.mu.Lock()
	s.current = nil
	s.mu.Unlock()
	if s.isStopping() {
		return errStopped
	}
	s.log.Error("private postgres died", "cause", p.err)
	return nil
}

func (s *Server) restart(backoff time.Duration) (time.Duration, error) {
	ctx, cancel := s.untilStopped()
	defer cancel()
	for failed := 0; ; {
		select {
		case <-ctx.Done():
			return backoff, errStopped
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, longBackoff)
		p, err := s.launch(ctx)
		switch {
		case err == nil && s.adopt(p):
			s.log.Info("private postgres restarted", "pid", p.pid())
			return backoff, nil
		case err == nil || s.isStopping():
			return backoff, errStopped
		}
		failed++
		s.log.Error("private postgres does not start", "error", err, "tries", failed)
		if failed == maxFailedStarts {
			return backoff, fmt.Errorf("private postgres died and does not start again: %w", err)
		}
	}
}

// adopt makes p the current process, unless Stop came in between: Stop signals
// only what it sees, so the one who comes later must end the process.
func (s *Server) adopt(p *process) bool {
	s.mu.Lock()
	s.current = p
	s.mu.Unlock()
	if !s.isStopping() {
		return true
	}
	p.shutDown()
	return false
}

func (s *Server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// untilStopped returns a context that Stop ends.
func (s *Server) untilStopped() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), restartLimit)
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
