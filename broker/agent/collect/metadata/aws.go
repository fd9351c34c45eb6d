package metadata

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
)

// Of IMDSv2: a token is got with PUT, which most forged requests cannot send, and
// shown with each question. Version 1, which needs none, is never used.
const (
	tokenPath   = "/latest/api/token"
	tokenHeader = "X-aws-ec2-metadata-token"
	tokenTTL    = "X-aws-ec2-metadata-token-ttl-seconds"
	tokenLife   = 300 * time.Second
	maxToken    = 1 << 10
)

func (s *Service) probeAWS(ctx context.Context) error {
	_, err := s.awsToken(ctx)
	return err
}

// awsToken returns a token that is good for a while.
func (s *Service) awsToken(ctx context.Context) (string, error) {
	s.mu.Lock()
	if len(s.token) > 0 && s.now().Before(s.tokenEnd) {
		defer s.mu.Unlock()
		return string(s.token), nil
	}
	s.mu.Unlock()
	asked := s.now()
	a, err := s.do(ctx, Request{
		Method: http.MethodPut, Path: tokenPath, Limit: maxToken,
		Header: map[string]string{tokenTTL: "300"},
	})
	if err != nil {
		if e, ok := errors.AsType[*collect.Error](err); ok && !s.overridden() {
			e.Fix = "in a container the answer may not reach this process: raise the instance's metadata hop limit to 2"
		}
		return "", err
	}
	if !printable(a.body) {
		return "", &collect.Error{What: "ask the metadata service", Why: "what it gave as a token is none"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Half of its life: the clock of a host that sleeps stands still.
	s.token, s.tokenEnd = a.body, asked.Add(tokenLife/2)
	return string(a.body), nil
}

// GetAWS asks EC2's service.
func (s *Service) GetAWS(ctx context.Context, path string, limit int) ([]byte, error) {
	for fresh := false; ; fresh = true {
		token, err := s.awsToken(ctx)
		if err != nil {
			return nil, err
		}
		a, err := s.do(ctx, Request{Path: path, Limit: limit, Header: map[string]string{tokenHeader: token}})
		// An instance that was stopped and started has a new key for its tokens.
		if Status(err) == http.StatusUnauthorized && !fresh {
			s.mu.Lock()
			s.token = nil
			s.mu.Unlock()
			continue
		}
		return a.body, err
	}
}

// printable: what goes into a header may hold nothing else.
func printable(text []byte) bool {
	for _, c := range text {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(text) > 0
}
