package workloadapi

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zonebroker/zonebroker/broker/api"
)

// FetchX509SVID streams the caller's identity with its key and the bundle. There
// are neither revocation lists (SVIDs are short-lived) nor federated bundles.
func (s *Server) FetchX509SVID(_ *workload.X509SVIDRequest, out grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	return stream(out.Context(), s, "FetchX509SVID", s.x509SVID, out.Send)
}

func (s *Server) x509SVID(ctx context.Context, rule api.Workload) (*workload.X509SVIDResponse, time.Time, error) {
	bundle, err := s.bundle()
	if err != nil {
		return nil, time.Time{}, err
	}
	var identity Identity
	err = s.ask(ctx, rule, func(ctx context.Context) (err error) {
		identity, err = s.source.X509SVID(ctx, rule.Name)
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	if !s.now().Before(identity.ExpiresAt) {
		return nil, time.Time{}, status.Error(codes.Unavailable, "the identity has expired and the agent could not renew it yet; see: zoneagent status")
	}
	svid, err := s.encode(identity, bundle)
	if err != nil {
		s.log.ErrorContext(ctx, "workload api: identity of the agent is not whole", "workload", rule.Name, "error", err)
		return nil, time.Time{}, status.Error(codes.Internal, "the agent holds an identity that is not whole; see its log")
	}
	svid.Hint = rule.Name
	return &workload.X509SVIDResponse{Svids: []*workload.X509SVID{svid}}, identity.ExpiresAt, nil
}

// encode checks once more that key, certificate and ID are of one identity: a
// workload that took over a wrong pair would fail in a place where nobody knows why.
func (s *Server) encode(identity Identity, bundle *spiffebundle.Bundle) (*workload.X509SVID, error) {
	key, err := x509.MarshalPKCS8PrivateKey(identity.Key)
	if err != nil {
		return nil, err
	}
	var chain []byte
	for _, c := range identity.Chain {
		chain = append(chain, c.Raw...)
	}
	parsed, err := x509svid.ParseRaw(chain, key)
	if err != nil {
		return nil, err
	}
	if parsed.ID.String() != identity.SPIFFEID || parsed.ID.TrustDomain() != bundle.TrustDomain() {
		return nil, errOtherID
	}
	return &workload.X509SVID{SpiffeId: identity.SPIFFEID, X509Svid: chain, X509SvidKey: key, Bundle: authorities(bundle)}, nil
}

// FetchX509Bundles streams the X.509 authorities of the trust domain to callers
// whom a rule fits.
func (s *Server) FetchX509Bundles(_ *workload.X509BundlesRequest, out grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	return stream(out.Context(), s, "FetchX509Bundles", func(context.Context, api.Workload) (*workload.X509BundlesResponse, time.Time, error) {
		bundle, err := s.bundle()
		if err != nil {
			return nil, time.Time{}, err
		}
		bundles := map[string][]byte{bundle.TrustDomain().IDString(): authorities(bundle)}
		return &workload.X509BundlesResponse{Bundles: bundles}, time.Time{}, nil
	}, out.Send)
}

// bundle returns the bundle of the node's own trust domain.
func (s *Server) bundle() (*spiffebundle.Bundle, error) {
	bundle := s.source.TrustBundle()
	if bundle == nil {
		return nil, status.Error(codes.Unavailable, "the agent has no trust bundle yet; see: zoneagent status")
	}
	return bundle, nil
}

func authorities(bundle *spiffebundle.Bundle) []byte {
	var der []byte
	for _, c := range bundle.X509Authorities() {
		der = append(der, c.Raw...)
	}
	return der
}
