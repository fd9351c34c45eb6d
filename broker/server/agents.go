package server

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func (s *Server) challenge(r *request) (answer, error) {
	var req api.ChallengeRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	ch, err := s.cfg.Broker.Challenge(r.Context(), r.caller, req)
	return answer{value: ch}, err
}

func (s *Server) attest(r *request) (answer, error) {
	var req api.AttestRequest
	if err := r.decode(&req); err != nil {
		return answer{}, err
	}
	res, err := s.cfg.Broker.Attest(r.Context(), r.caller, req)
	return answer{value: res}, err
}

func (s *Server) bundle(r *request) (answer, error) {
	doc, err := s.cfg.Broker.Bundle(r.Context())
	if err != nil {
		return answer{}, err
	}
	return tagged(r, doc, map[string]string{"Cache-Control": "no-cache"}), nil
}

func (s *Server) checkpoint(r *request) (answer, error) {
	note, err := s.cfg.Broker.Checkpoint(r.Context())
	if err != nil {
		return answer{}, err
	}
	if note == "" {
		return answer{}, reason.New(reason.RequestNotFound, "no checkpoint is signed yet")
	}
	return answer{raw: []byte(note), typ: "text/plain; charset=utf-8"}, nil
}

func (s *Server) live(*request) (answer, error) {
	return answer{value: api.Status{Status: "ok"}}, nil
}

func (s *Server) readyz(r *request) (answer, error) {
	switch {
	case s.draining.Load():
		return answer{status: http.StatusServiceUnavailable, value: api.Status{Status: "draining"}}, nil
	case !s.ready.ok(r.Context(), s.cfg.Broker):
		return answer{status: http.StatusServiceUnavailable, value: api.Status{Status: "failing"}}, nil
	}
	return answer{value: api.Status{Status: "ok"}}, nil
}

// readiness remembers the broker's health for a second: strangers may ask, and
// the answer may cost a query.
type readiness struct {
	mu   sync.Mutex
	at   time.Time // by mu
	good bool      // by mu
}

const readyFor = time.Second

func (c *readiness) ok(ctx context.Context, b Broker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.at) > readyFor {
		c.good = b.Health(ctx).Status == "ok"
		c.at = time.Now()
	}
	return c.good
}
