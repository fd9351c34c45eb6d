package workloadapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/zonebroker/zonebroker/broker/api"
)

// maxAudience bounds what is sent on to a broker.
const maxAudience = 512

var errOtherID = errors.New("the identity is of another SPIFFE ID or trust domain")

// FetchJWTSVID returns a JWT-SVID of the caller for one audience.
func (s *Server) FetchJWTSVID(ctx context.Context, req *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	changed := s.source.Changed()
	rule, err := s.authorize(ctx, "FetchJWTSVID")
	if err != nil {
		return nil, err
	}
	audience, err := oneAudience(req.GetAudience())
	if err != nil {
		return nil, err
	}
	if err := s.mayBe(rule, req.GetSpiffeId()); err != nil {
		return nil, err
	}
	var token Token
	err = s.ask(ctx, rule, func(ctx context.Context) (err error) {
		token, err = s.source.JWTSVID(ctx, rule.Name, audience)
		return err
	})
	if err != nil {
		return nil, err
	}
	switch {
	case req.GetSpiffeId() != "" && req.GetSpiffeId() != token.SPIFFEID:
		return nil, notYours(req.GetSpiffeId())
	case !s.now().Before(token.ExpiresAt):
		return nil, status.Error(codes.Unavailable, "the token has expired and the agent could not renew it yet; see: zoneagent status")
	case token.Audience != audience:
		return nil, status.Error(codes.Internal, "the agent holds a token for another audience")
	}
	if still, err := s.still(ctx, "FetchJWTSVID", rule, changed); err != nil {
		return nil, err
	} else if !still {
		return nil, status.Error(codes.Unavailable, "the workloads of the node's zone have just changed; ask again")
	}
	return &workload.JWTSVIDResponse{Svids: []*workload.JWTSVID{{SpiffeId: token.SPIFFEID, Svid: token.Token, Hint: rule.Name}}}, nil
}

// oneAudience: a token here is for one audience only, so that one who receives
// it cannot use it elsewhere (RFC 8725, 3.9).
func oneAudience(audiences []string) (string, error) {
	if len(audiences) != 1 {
		return "", status.Errorf(codes.InvalidArgument, "%d audiences: a JWT-SVID is for exactly one; ask once for each", len(audiences))
	}
	if a := audiences[0]; a == "" || len(a) > maxAudience {
		return "", status.Errorf(codes.InvalidArgument, "an audience has 1 to %d bytes", maxAudience)
	}
	return audiences[0], nil
}

// mayBe refuses a SPIFFE ID that can only be somebody else's before a broker is
// asked and has recorded a token.
func (s *Server) mayBe(rule api.Workload, wanted string) error {
	if wanted == "" {
		return nil
	}
	id, err := spiffeid.FromString(wanted)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "spiffe_id: %v", err)
	}
	if !id.MemberOf(s.source.TrustDomain()) || !strings.HasSuffix(id.Path(), "/workload/"+rule.Name) {
		return notYours(wanted)
	}
	return nil
}

func notYours(id string) error {
	return status.Errorf(codes.PermissionDenied, "%s is not the identity of this caller; leave spiffe_id out to get the one that is", id)
}

// FetchJWTBundles streams the JWT authorities of the trust domain to callers
// whom a rule fits.
func (s *Server) FetchJWTBundles(_ *workload.JWTBundlesRequest, out grpc.ServerStreamingServer[workload.JWTBundlesResponse]) error {
	return stream(out.Context(), s, "FetchJWTBundles", func(context.Context, api.Workload) (*workload.JWTBundlesResponse, time.Time, error) {
		bundle, err := s.bundle()
		if err != nil {
			return nil, time.Time{}, err
		}
		keys, err := jwks(bundle)
		if err != nil {
			return nil, time.Time{}, status.Error(codes.Internal, "the trust bundle has a key that cannot be written")
		}
		return &workload.JWTBundlesResponse{Bundles: map[string][]byte{bundle.TrustDomain().IDString(): keys}}, time.Time{}, nil
	}, out.Send)
}

// jwks writes the JWT authorities in one order, so that equal sets are equal
// messages.
func jwks(bundle *spiffebundle.Bundle) ([]byte, error) {
	text, err := bundle.JWTBundle().Marshal()
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, err
	}
	slices.SortFunc(set.Keys, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
	return json.Marshal(set)
}

// ValidateJWTSVID checks a JWT-SVID of the node's trust domain for the audience
// of the caller, and returns its claims. Numbers above 2^53 lose precision in a
// Struct, which is why the zone claim carries those as text. A token with cnf is
// for the holder of that certificate: that the caller has to compare itself.
func (s *Server) ValidateJWTSVID(ctx context.Context, req *workload.ValidateJWTSVIDRequest) (*workload.ValidateJWTSVIDResponse, error) {
	if _, err := s.authorize(ctx, "ValidateJWTSVID"); err != nil {
		return nil, err
	}
	if req.GetAudience() == "" {
		return nil, status.Error(codes.InvalidArgument, "audience missing: name the one that the token has to be for")
	}
	if req.GetSvid() == "" {
		return nil, status.Error(codes.InvalidArgument, "svid missing: give the JWT-SVID to validate")
	}
	bundle, err := s.bundle()
	if err != nil {
		return nil, err
	}
	svid, err := jwtsvid.ParseAndValidate(req.GetSvid(), bundle, []string{req.GetAudience()})
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	// go-spiffe allows for clocks that are a minute off; a token that ends with its
	// evidence has no grace.
	if !s.now().Before(svid.Expiry) {
		return nil, status.Error(codes.InvalidArgument, "the token has expired")
	}
	claims, err := structpb.NewStruct(svid.Claims)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "the claims are not JSON that can be passed on")
	}
	return &workload.ValidateJWTSVIDResponse{SpiffeId: svid.ID.String(), Claims: claims}, nil
}
