package enrich

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Limits of every call.
const (
	// DefaultTimeout bounds one call, from the look-up of the name to the last byte.
	DefaultTimeout = 3 * time.Second
	// maxBody bounds what is read of an answer, in bytes: an instance with 50 tags
	// has about 20 KiB in XML.
	maxBody = 64 << 10
	// maxHeader bounds the headers of an answer.
	maxHeader = 16 << 10
	// maxSecret bounds files with credentials.
	maxSecret = 16 << 10
)

// errTooLarge says that an answer is longer than maxBody.
var errTooLarge = errors.New("the answer is longer than 64 KiB")

// Endpoint says where a platform is called. The zero value is the platform itself
// under the system's CAs.
type Endpoint struct {
	// Address replaces the host of every call, as host:port: for a private endpoint
	// or a test server. Trusted: whoever answers there speaks for the platform.
	Address string
	// RootCAs are the CAs of the platform; nil for the system's.
	RootCAs *x509.CertPool
	// Timeout bounds one call; 0 for DefaultTimeout.
	Timeout time.Duration
	// plain has Address called without TLS. Metadata services on the link are; nothing
	// else should be.
	plain bool
}

// caller sends requests. Its connections are kept, so that it is made once.
type caller struct {
	endpoint Endpoint
	client   *http.Client
}

func newCaller(e Endpoint) *caller {
	dialer := &net.Dialer{Timeout: cmp.Or(e.Timeout, DefaultTimeout)}
	transport := &http.Transport{
		Proxy:       nil, // credentials go to the platform, not past somebody
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		TLSClientConfig:        &tls.Config{RootCAs: e.RootCAs, MinVersion: tls.VersionTLS12},
		MaxResponseHeaderBytes: maxHeader, DisableCompression: true, // a bomb would not be 64 KiB on the wire
	}
	return &caller{endpoint: e, client: &http.Client{
		Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // a redirect is an answer, and never a good one
		},
	}}
}

// answer is what came back.
type answer struct {
	status int
	kind   string // Content-Type as it stands
	body   []byte
}

// request is a call. Header names are canonical.
type request struct {
	method, host, path, query string
	header                    http.Header
	body                      string
}

// send makes a call. An error is one of the network, of time or of size; every
// status is an answer.
func (c *caller) send(ctx context.Context, r request) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(c.endpoint.Timeout, DefaultTimeout), errors.New("the platform did not answer in time"))
	defer cancel()
	u := url.URL{Scheme: "https", Host: r.host, Path: r.path, RawQuery: r.query}
	if c.endpoint.Address != "" {
		u.Host = c.endpoint.Address
	}
	if c.endpoint.plain {
		u.Scheme = "http"
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), strings.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	req.Header, req.Host = r.header, r.host // a signature is over the host that was meant
	res, err := c.client.Do(req)
	if err != nil {
		return answer{}, errors.Join(err, context.Cause(ctx))
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case err != nil:
		return answer{}, errors.Join(err, context.Cause(ctx))
	case len(body) > maxBody:
		return answer{}, errTooLarge
	}
	return answer{res.StatusCode, res.Header.Get("Content-Type"), body}, nil
}

// is reports whether an answer is of a status and a media type.
func (a *answer) is(status int, kind string) error {
	media, _, _ := strings.Cut(a.kind, ";")
	switch {
	case a.status != status:
		return fmt.Errorf("answered with status %d", a.status)
	case strings.TrimSpace(media) != kind:
		return fmt.Errorf("answered with %.40q, not %s", media, kind)
	}
	return nil
}

// secret reads a file with credentials, which nobody but its owner may read. It is
// read for each use: credentials are changed under running brokers.
func secret(path string) ([]byte, error) {
	f, err := os.Open(path) // #nosec G304 -- the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s has to be a file that nobody but its owner may read (0600)", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(b) > maxSecret {
		err = fmt.Errorf("%s is longer than 16 KiB", path)
	}
	return b, err
}

// mounted reads a token that somebody else keeps fresh in a file.
func mounted(path string) (string, error) {
	f, err := os.Open(path) // #nosec G304 -- the operator names it
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(raw))
	if len(raw) > maxSecret || !tokenForm.MatchString(token) {
		return "", fmt.Errorf("%s does not hold a token", path)
	}
	return token, nil
}
