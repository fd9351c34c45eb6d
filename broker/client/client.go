package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/api"
)

const (
	// DefaultTimeout bounds one call: more than the broker's own limits on
	// recording, less than the life of a challenge.
	DefaultTimeout = 30 * time.Second

	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 10 * time.Minute // the broker ends idle connections, as a rule sooner

	maxChallenge = 16 << 10 // bytes of a challenge; a token is at most 2 KiB
	maxAttest    = 1 << 20  // bytes of an answer: chain, bundle, workloads
	maxSVID      = 64 << 10 // bytes of an answer with one X.509- or JWT-SVID
	maxBundle    = 1 << 20  // bytes of a bundle document
	maxProblem   = 64 << 10 // bytes of a problem document
	maxHeaders   = 64 << 10
)

// Config says which broker and how to know it.
type Config struct {
	// Server is the base URL, "https://host:port". Nothing else is accepted.
	Server string
	// Trust must not be empty.
	Trust Trust
	// TrustDomain is the broker's, as a name or a SPIFFE ID. Empty takes the one
	// of the first verified broker and refuses every other from then on.
	TrustDomain string
	// ClientCertificate is asked in each handshake; nil, or a nil result, goes
	// without. An error ends the handshake.
	ClientCertificate func() (*tls.Certificate, error)
	// Timeout bounds a call; 0 is DefaultTimeout.
	Timeout time.Duration
	// UserAgent is sent with each request; "" is "zonebroker-client".
	UserAgent string
	// Now is the clock for certificates; nil is time.Now.
	Now func() time.Time
}

// Client talks to one broker over kept connections. Its methods may be called
// from several goroutines.
type Client struct {
	cfg  Config
	base url.URL
	http *http.Client

	mu   sync.Mutex // guards td and peer
	td   spiffeid.TrustDomain
	peer Peer
}

// New returns a client. It connects to nobody yet.
func New(cfg Config) (*Client, error) {
	base, err := baseURL(cfg.Server)
	if err != nil {
		return nil, err
	}
	if cfg.Trust.Empty() {
		return nil, errors.New("client: no trust anchor, pin or bundle; there is no insecure default")
	}
	c := &Client{cfg: cfg, base: base}
	if cfg.TrustDomain != "" {
		if c.td, err = spiffeid.TrustDomainFromString(cfg.TrustDomain); err != nil {
			return nil, fmt.Errorf("client: trust domain: %w", err)
		}
	}
	if c.cfg.Timeout == 0 {
		c.cfg.Timeout = DefaultTimeout
	}
	if c.cfg.UserAgent == "" {
		c.cfg.UserAgent = "zonebroker-client"
	}
	if c.cfg.Now == nil {
		c.cfg.Now = time.Now
	}
	c.http = &http.Client{
		Transport: c.transport(),
		// A broker never redirects; following would send evidence elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// CheckServer says whether New would take server as the broker's base URL.
func CheckServer(server string) error {
	_, err := baseURL(server)
	return err
}

func baseURL(server string) (url.URL, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil ||
		(u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return url.URL{}, fmt.Errorf("client: server %q: want https://host:port", server)
	}
	return url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func (c *Client) transport() *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	dialer := net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment, // a CONNECT tunnel sees only TLS
		DialContext:            dialer.DialContext,
		TLSClientConfig:        c.tlsConfig(),
		TLSHandshakeTimeout:    handshakeTimeout,
		ForceAttemptHTTP2:      true,
		Protocols:              &protocols,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    1,
		MaxResponseHeaderBytes: maxHeaders,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 30 * time.Second, // a balancer that forgot the connection shows
			PingTimeout:     5 * time.Second,
		},
	}
}

func (c *Client) tlsConfig() *tls.Config { return TLS(c.verify, c.cfg.ClientCertificate) }

// TLS returns the configuration of everybody who knows a broker by its SPIFFE ID
// and a Trust, at whatever address. It replaces the check by host name and system
// roots with verify, which runs as VerifyConnection: no kind of resumption leaves
// that out. verify must not be nil. certificate is asked in each handshake, also
// where the server names no authorities; nil, or a nil result, goes without.
func TLS(verify func(tls.ConnectionState) error, certificate func() (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // verify does, by SPIFFE ID
		VerifyConnection:   verify,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if certificate == nil {
				return &tls.Certificate{}, nil
			}
			shown, err := certificate()
			if err == nil && shown == nil {
				shown = &tls.Certificate{}
			}
			return shown, err
		},
	}
}

func (c *Client) verify(state tls.ConnectionState) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	peer, err := c.cfg.Trust.Verify(state.PeerCertificates, c.td, c.cfg.Now())
	if err != nil {
		return &UntrustedError{Server: c.base.String(), err: err}
	}
	c.td, c.peer = peer.TrustDomain(), peer
	return nil
}

// Peer returns the broker that was last authenticated; the zero Peer before the
// first connection.
func (c *Client) Peer() Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer
}

// Close drops the kept connections. The client stays usable: the next call
// connects anew, and asks for the client certificate again.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Challenge asks for a nonce or a credential. An EK gets a credential and nothing
// else does: a nonce in its place would prove no EK.
func (c *Client) Challenge(ctx context.Context, req api.ChallengeRequest) (api.Challenge, error) {
	var out api.Challenge
	err := c.call(ctx, "/v1/challenge", req, maxChallenge, &out)
	if err == nil && out.Purpose == req.Purpose && (req.Enrol != nil) != (out.Credential != nil) {
		return api.Challenge{}, &AnswerError{Status: 200, Why: "the challenge of an EK is a credential, and no other is"}
	}
	return out, err
}

// Attest hands over evidence. A RefusedError with reason.ChallengeSpent may
// carry a fresh challenge.
func (c *Client) Attest(ctx context.Context, req api.AttestRequest) (api.AttestResponse, error) {
	var out api.AttestResponse
	err := c.call(ctx, "/v1/attest", req, maxAttest, &out)
	return out, err
}

// SVID asks for an X.509-SVID of a workload. Config.ClientCertificate must show
// the node's SVID; without one the answer is reason.AuthRequired.
func (c *Client) SVID(ctx context.Context, req api.SVIDRequest) (api.SVIDResponse, error) {
	var out api.SVIDResponse
	err := c.call(ctx, "/v1/svid", req, maxSVID, &out)
	return out, err
}

// JWT asks for a JWT-SVID, over the node's SVID as SVID does.
func (c *Client) JWT(ctx context.Context, req api.JWTRequest) (api.JWTResponse, error) {
	var out api.JWTResponse
	err := c.call(ctx, "/v1/jwt", req, maxSVID, &out)
	return out, err
}

// Bundle returns the SPIFFE bundle document of the broker's trust domain, which
// is as good as the connection: parse it with the trust domain of Peer.
func (c *Client) Bundle(ctx context.Context) ([]byte, error) {
	var out json.RawMessage
	err := c.send(ctx, http.MethodGet, "/spiffe/bundle.json", nil, maxBundle, &out)
	return out, err
}

// call posts in and decodes the answer of at most limit bytes into out.
func (c *Client) call(ctx context.Context, path string, in any, limit int64, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	if len(body) > api.MaxBody {
		return fmt.Errorf("request of %d bytes, at most %d", len(body), api.MaxBody)
	}
	return c.send(ctx, http.MethodPost, path, body, limit, out)
}

func (c *Client) send(ctx context.Context, method, path string, body []byte, limit int64, out any) error {
	return c.sendQuery(ctx, method, path, nil, body, limit, out)
}

func (c *Client) sendQuery(ctx context.Context, method, path string, query url.Values, body []byte, limit int64, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, fmt.Errorf("no answer within %s", c.cfg.Timeout))
	defer cancel()
	target := c.base
	target.Path, target.RawQuery = path, query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	rsp, err := c.http.Do(req)
	if err != nil {
		return c.noAnswer(ctx, err)
	}
	defer rsp.Body.Close()
	return c.read(ctx, rsp, limit, out)
}

// noAnswer tells a stranger at the broker's address from nobody.
func (c *Client) noAnswer(ctx context.Context, err error) error {
	if untrusted, ok := errors.AsType[*UntrustedError](err); ok {
		return untrusted
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return &UnreachableError{Server: c.base.String(), err: err}
}

func (c *Client) read(ctx context.Context, rsp *http.Response, limit int64, out any) error {
	id := rsp.Header.Get("X-Request-Id")
	if rsp.StatusCode != http.StatusOK {
		limit = maxProblem
	}
	body, err := io.ReadAll(io.LimitReader(rsp.Body, limit+1))
	if err != nil {
		return c.noAnswer(ctx, err)
	}
	if int64(len(body)) > limit {
		return &AnswerError{Status: rsp.StatusCode, Why: fmt.Sprintf("larger than %d bytes", limit), RequestID: id}
	}
	kind, _, _ := mime.ParseMediaType(rsp.Header.Get("Content-Type"))
	switch {
	case rsp.StatusCode == http.StatusOK && kind == "application/json":
		if err := json.Unmarshal(body, out); err != nil {
			return &AnswerError{Status: rsp.StatusCode, Why: "not the JSON of the contract", RequestID: id}
		}
		return nil
	case rsp.StatusCode >= 400 && kind == "application/problem+json":
		return refusal(rsp.StatusCode, rsp.Header, body, c.cfg.Now())
	}
	return &AnswerError{Status: rsp.StatusCode, Why: fmt.Sprintf("content type %q", kind), RequestID: id}
}
