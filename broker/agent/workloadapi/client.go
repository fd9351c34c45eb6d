package workloadapi

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Client asks the agent of this host once, for commands. Programs that stay use
// go-spiffe's sources, which hear of every renewal. All that it returns was
// verified under the bundle that the agent serves.
type Client struct {
	path string
	conn *spiffe.Client
	away atomic.Pointer[error] // why the last dial failed
}

// ClientError says why an agent gave nothing.
type ClientError struct {
	Kind ClientErrorKind
	Why  string // one sentence, in the agent's words where it answered
}

// ClientErrorKind groups errors for scripts.
type ClientErrorKind string

// The kinds of error of a Client.
const (
	Unreachable ClientErrorKind = "agent.unreachable" // nobody listens
	Unavailable ClientErrorKind = "agent.unavailable" // it listens, and could not answer now
	Denied      ClientErrorKind = "agent.denied"      // not for this caller
	Refused     ClientErrorKind = "agent.refused"     // not this request
	Unverified  ClientErrorKind = "agent.answer"      // what came does not verify
)

// Error returns kind and reason.
func (e *ClientError) Error() string { return string(e.Kind) + ": " + e.Why }

// Dial prepares to ask the agent at the absolute path of a socket. It connects
// at the first request; close it.
func Dial(ctx context.Context, path string) (*Client, error) {
	c := &Client{path: path}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			c.away.Store(&err)
			return nil, err
		}
		c.away.Store(nil)
		return conn, nil
	}
	var err error
	c.conn, err = spiffe.New(ctx, spiffe.WithAddr("unix:///agent"), spiffe.WithDialOptions(grpc.WithContextDialer(dial)))
	return c, err
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// X509SVID fetches the caller's X.509-SVID with its key, and the authorities of
// its trust domain. Errors are *ClientError.
func (c *Client) X509SVID(ctx context.Context) (*x509svid.SVID, []*x509.Certificate, error) {
	answer, err := c.conn.FetchX509Context(ctx)
	if err != nil {
		return nil, nil, c.explain(ctx, err)
	}
	svid := answer.DefaultSVID()
	if _, _, err := x509svid.Verify(svid.Certificates, answer.Bundles); err != nil {
		return nil, nil, &ClientError{Unverified, err.Error()}
	}
	bundle, err := answer.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return nil, nil, &ClientError{Unverified, err.Error()}
	}
	return svid, bundle.X509Authorities(), nil
}

// JWTSVID fetches a JWT-SVID of the caller for one audience; a zero id takes the
// identity that the caller has. Errors are *ClientError.
func (c *Client) JWTSVID(ctx context.Context, audience string, id spiffeid.ID) (*jwtsvid.SVID, error) {
	svid, err := c.conn.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience, Subject: id})
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	bundles, err := c.conn.FetchJWTBundles(ctx)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if _, err := jwtsvid.ParseAndValidate(svid.Marshal(), bundles, []string{audience}); err != nil {
		return nil, &ClientError{Unverified, err.Error()}
	}
	return svid, nil
}

// Bundle fetches the bundle of the node's trust domain, whose halves the
// protocol gives apart. Errors are *ClientError.
func (c *Client) Bundle(ctx context.Context) (*spiffebundle.Bundle, error) {
	x509s, err := c.conn.FetchX509Bundles(ctx)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	jwts, err := c.conn.FetchJWTBundles(ctx)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if x509s.Len() != 1 {
		return nil, &ClientError{Unverified, fmt.Sprintf("the agent serves bundles of %d trust domains, not of one", x509s.Len())}
	}
	one := x509s.Bundles()[0]
	bundle := spiffebundle.FromX509Bundle(one)
	if keys, ok := jwts.Get(one.TrustDomain()); ok {
		bundle.SetJWTAuthorities(keys.JWTAuthorities())
	}
	return bundle, nil
}

// explain turns the codes of the protocol into kinds. An error without code is
// go-spiffe's own, about an answer that it could not read.
func (c *Client) explain(ctx context.Context, err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return &ClientError{Unverified, err.Error()}
	}
	switch s.Code() {
	case codes.PermissionDenied:
		return &ClientError{Denied, s.Message()}
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		if away := c.away.Load(); away != nil {
			return &ClientError{Unreachable, (*away).Error()}
		}
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			return &ClientError{Unavailable, cause.Error()}
		}
		return &ClientError{Unavailable, s.Message()}
	}
	return &ClientError{Refused, s.Message()}
}
