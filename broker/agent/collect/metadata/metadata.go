// Package metadata asks the instance metadata service of a cloud over its
// link-local address: AWS (IMDSv2 only), Google Cloud and Azure.
//
// The address is fixed: no environment variable, name service or proxy chooses
// it, and no redirect is followed, because a request carries a token of the
// service in its header and an answer may be a credential. What answers there is
// still not trusted: answers are bounded, and each has to look as its platform
// makes it.
package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
)

// Address is where all three platforms listen. Google's has a name too, which a
// name service could lead elsewhere.
const Address = "http://169.254.169.254"

const (
	requestTime = 5 * time.Second
	dialTime    = time.Second // link-local: one hop, or nobody
	maxHeader   = 16 << 10

	tries     = 3
	firstWait = 200 * time.Millisecond
)

// Config says where the service is.
type Config struct {
	// URL replaces Address, for a test server. Trusted: it is given credentials of
	// the service.
	URL string
	// Root is put before the paths of the firmware's tables; "" is the running system.
	Root string
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Service is the metadata service of this host. Its methods may be called from
// several goroutines.
type Service struct {
	base   string
	root   string
	client *http.Client
	now    func() time.Time

	mu       sync.Mutex // guards everything below
	platform Platform
	failed   error
	until    time.Time // how long platform or failed is believed
	token    []byte    // of IMDSv2
	tokenEnd time.Time
}

// New makes a service; it asks nobody.
func New(cfg Config) (*Service, error) {
	s := &Service{base: Address, root: cfg.Root, now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	if cfg.URL != "" {
		u, err := url.Parse(cfg.URL)
		if err != nil || u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
			return nil, &collect.Error{What: "choose the metadata service", Why: "no plain http:// address with nothing behind the port: " + cfg.URL, Fix: "say --metadata http://HOST:PORT"}
		}
		s.base = "http://" + u.Host
	}
	s.client = &http.Client{
		Timeout: requestTime,
		Transport: &http.Transport{
			Proxy:                  nil,
			DialContext:            (&net.Dialer{Timeout: dialTime}).DialContext,
			MaxResponseHeaderBytes: maxHeader,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        10 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// overridden says that the address is not the platform's own.
func (s *Service) overridden() bool { return s.base != Address }

// Request is one question to the service.
type Request struct {
	Method string // "" is GET
	Path   string
	Query  url.Values
	Header map[string]string
	Body   []byte
	// Limit is the most bytes of an answer.
	Limit int
	// Host is sent instead of the address where it is not "".
	Host string
}

// answer is what came back with 200.
type answer struct {
	body   []byte
	header http.Header
}

// statusError is an answer that is not 200.
type statusError struct {
	path string
	code int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the metadata service answered %s with %d", e.path, e.code)
}

// Status is the HTTP status of an error of this package; 0 where nothing answered.
func Status(err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.code
	}
	return 0
}

// do asks, and asks again where the service says that it is busy: all three limit
// the rate of their clients, and a host that was just started asks for much.
func (s *Service) do(ctx context.Context, q Request) (answer, error) {
	wait := firstWait
	for try := 1; ; try++ {
		a, err := s.once(ctx, q)
		if err == nil || try == tries || !passing(Status(err)) {
			return a, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return answer{}, context.Cause(ctx)
		}
		wait *= 2
	}
}

// passing: Azure documents 410 and 429 as "try again", AWS throttles with 503.
func passing(status int) bool {
	switch status {
	case http.StatusGone, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable:
		return true
	}
	return false
}

func (s *Service) once(ctx context.Context, q Request) (answer, error) {
	target := s.base + q.Path
	if len(q.Query) > 0 {
		target += "?" + q.Query.Encode()
	}
	method := q.Method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(string(q.Body)))
	if err != nil {
		return answer{}, fmt.Errorf("ask the metadata service: %w", err)
	}
	for name, value := range q.Header {
		req.Header.Set(name, value)
	}
	if q.Host != "" {
		req.Host = q.Host
	}
	rsp, err := s.client.Do(req)
	if err != nil {
		return answer{}, s.unreachable(err)
	}
	defer rsp.Body.Close()
	if rsp.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, io.LimitReader(rsp.Body, maxHeader)) // only so that the connection can be kept
		return answer{}, &statusError{q.Path, rsp.StatusCode}
	}
	body, err := collect.ReadAll(rsp.Body, q.Limit)
	if err != nil {
		return answer{}, &collect.Error{What: "ask the metadata service", Why: "the answer to " + q.Path + ": " + err.Error(), Err: err}
	}
	return answer{body, rsp.Header}, nil
}

func (s *Service) unreachable(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // its text repeats the query, which has the nonce
	}
	fix := "see that nothing blocks the link-local address 169.254.169.254"
	if s.overridden() {
		fix = "look at the address in --metadata"
	}
	return &collect.Error{What: "ask the metadata service", Why: "no answer from " + s.base + ": " + err.Error(), Fix: fix, Err: err}
}
