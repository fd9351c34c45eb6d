package workloadapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestRequestsThatAreRefused(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	s := stub(t, serve(t, src))
	own := idOf("payments", "checkout")
	for name, test := range map[string]struct {
		req  *workload.JWTSVIDRequest
		want codes.Code
	}{
		"own_id":              {&workload.JWTSVIDRequest{Audience: []string{"a"}, SpiffeId: own}, codes.OK},
		"no_audience":         {&workload.JWTSVIDRequest{}, codes.InvalidArgument},
		"two_audiences":       {&workload.JWTSVIDRequest{Audience: []string{"a", "b"}}, codes.InvalidArgument},
		"empty_audience":      {&workload.JWTSVIDRequest{Audience: []string{""}}, codes.InvalidArgument},
		"endless_audience":    {&workload.JWTSVIDRequest{Audience: []string{strings.Repeat("a", 513)}}, codes.InvalidArgument},
		"id_that_is_none":     {&workload.JWTSVIDRequest{Audience: []string{"a"}, SpiffeId: "https://example.org/x"}, codes.InvalidArgument},
		"id_of_another_name":  {&workload.JWTSVIDRequest{Audience: []string{"a"}, SpiffeId: idOf("payments", "ledger")}, codes.PermissionDenied},
		"id_of_another_zone":  {&workload.JWTSVIDRequest{Audience: []string{"a"}, SpiffeId: idOf("lab", "checkout")}, codes.PermissionDenied},
		"id_of_another_trust": {&workload.JWTSVIDRequest{Audience: []string{"a"}, SpiffeId: "spiffe://other.org/zone/payments/workload/checkout"}, codes.PermissionDenied},
		"id_of_the_node":      {&workload.JWTSVIDRequest{Audience: []string{"a"}, SpiffeId: "spiffe://example.org/zone/payments/node/x"}, codes.PermissionDenied},
		"message_too_large":   {&workload.JWTSVIDRequest{Audience: []string{strings.Repeat("a", 70000)}}, codes.ResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.FetchJWTSVID(withHeader(deadline(t)), test.req)
			if status.Code(err) != test.want {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
	if n := src.count("jwt checkout a"); n != 2 {
		t.Errorf("the broker was asked %d times; an ID that cannot fit must not cost a token", n)
	}
}

// T52: what does not verify under the served bundle is refused.
func TestT52_TokensThatDoNotValidate(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	s := stub(t, serve(t, src))
	own := idOf("payments", "checkout")
	good := src.ca.token(t, own, "ledger", time.Minute).Token
	part := strings.Split(good, ".")
	other := newAuthority(t)
	confused := newAuthority(t)
	confused.kid = src.ca.kid
	for name, test := range map[string]struct{ token, audience, text string }{
		"other_audience":     {good, "billing", ""},
		"no_audience":        {good, "", "audience missing"},
		"no_token":           {"", "ledger", "svid missing"},
		"not_a_token":        {"x", "ledger", ""},
		"alg_none":           {"eyJhbGciOiJub25lIn0." + part[1] + ".", "ledger", ""},
		"signature_cut":      {part[0] + "." + part[1] + ".", "ledger", ""},
		"unknown_key":        {other.token(t, own, "ledger", time.Minute).Token, "ledger", ""},
		"key_id_of_another":  {confused.token(t, own, "ledger", time.Minute).Token, "ledger", ""},
		"other_trust_domain": {src.ca.token(t, "spiffe://other.org/zone/payments/workload/checkout", "ledger", time.Minute).Token, "ledger", ""},
		"just_expired":       {src.ca.token(t, own, "ledger", -time.Second).Token, "ledger", "expired"},
		"expired":            {src.ca.token(t, own, "ledger", -2*time.Minute).Token, "ledger", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.ValidateJWTSVID(withHeader(deadline(t)), &workload.ValidateJWTSVIDRequest{Audience: test.audience, Svid: test.token})
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestSecurityHeader: every method demands it, with this value, once.
func TestSecurityHeader(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	s := stub(t, serve(t, src))
	ctx := deadline(t)
	for name, call := range methods(s) {
		for _, values := range [][]string{nil, {"false"}, {"TRUE"}, {""}, {"true", "true"}} {
			if err := call(withValues(ctx, values...)); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s with %q: %v", name, values, err)
			}
		}
	}
	for what := range src.asked {
		t.Errorf("asked for %s", what)
	}
}

// TestWITIsUnimplemented: the profile is optional, and clients look for this code.
func TestWITIsUnimplemented(t *testing.T) {
	s := stub(t, serve(t, newSource(t, "payments", me("checkout"))))
	for _, name := range []string{"FetchWITSVID", "FetchWITBundles"} {
		if err := methods(s)[name](withHeader(deadline(t))); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSourceErrors: what a caller is told, and nothing of the inside.
func TestSourceErrors(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want codes.Code
		text string
	}{
		"denied":      {reason.Wrap(reason.PolicyAudience, "audience not in the zone", errSecret), codes.PermissionDenied, "policy.audience: audience not in the zone"},
		"outage":      {reason.Wrap(reason.StoreUnavailable, "x", errSecret), codes.Unavailable, "store.unavailable"},
		"not_defined": {errSecret, codes.Unavailable, "zoneagent status"},
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource(t, "payments", me("checkout"))
			src.err = test.err
			s := stub(t, serve(t, src))
			for _, method := range []string{"FetchX509SVID", "FetchJWTSVID"} {
				err := methods(s)[method](withHeader(deadline(t)))
				if status.Code(err) != test.want || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), errSecret.Error()) {
					t.Errorf("%s: %v", method, err)
				}
			}
		})
	}
}

// TestEveryMethodIsForWorkloadsOnly: a bundle too says whom this host trusts.
func TestEveryMethodIsForWorkloadsOnly(t *testing.T) {
	for name, rules := range map[string][]api.Workload{"no_rule": {}, "no_zone": nil} {
		src := newSource(t, "payments")
		src.workloads = rules
		s := stub(t, serve(t, src))
		for _, method := range []string{"FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"} {
			if err := methods(s)[method](withHeader(deadline(t))); status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s, %s: %v", name, method, err)
			}
		}
	}
}

// TestIdentitiesThatAreNotWhole never leave the agent.
func TestIdentitiesThatAreNotWhole(t *testing.T) {
	for name, spoil := range map[string]func(*source) error{
		"key_of_another": func(src *source) error {
			i := src.ca.identity(t, idOf("payments", "checkout"), time.Hour)
			i.Key = newKey(t)
			src.identities["checkout"] = i
			return nil
		},
		"other_id": func(src *source) error {
			i := src.ca.identity(t, idOf("payments", "ledger"), time.Hour)
			i.SPIFFEID = idOf("payments", "checkout")
			src.identities["checkout"] = i
			return nil
		},
		"other_trust_domain": func(src *source) error {
			src.identities["checkout"] = src.ca.identity(t, "spiffe://other.org/zone/payments/workload/checkout", time.Hour)
			return nil
		},
		"no_chain": func(src *source) error {
			i := src.ca.identity(t, idOf("payments", "checkout"), time.Hour)
			i.Chain = nil
			src.identities["checkout"] = i
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource(t, "payments", me("checkout"))
			if err := spoil(src); err != nil {
				t.Fatal(err)
			}
			err := methods(stub(t, serve(t, src)))["FetchX509SVID"](withHeader(deadline(t)))
			if status.Code(err) != codes.Internal {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("token_for_another", func(t *testing.T) {
		for name, spoil := range map[string]func(*source){
			"audience": func(s *source) { s.tokenFor = "billing" },
			"id":       func(s *source) { s.tokenID = idOf("lab", "checkout") },
		} {
			src := newSource(t, "payments", me("checkout"))
			spoil(src)
			_, err := stub(t, serve(t, src)).FetchJWTSVID(withHeader(deadline(t)), &workload.JWTSVIDRequest{
				Audience: []string{"ledger"}, SpiffeId: idOf("payments", "checkout"),
			})
			if err == nil {
				t.Errorf("%s: given out", name)
			}
		}
	})
	t.Run("expired", func(t *testing.T) {
		src := newSource(t, "payments", me("checkout"))
		src.identities["checkout"] = src.ca.identity(t, idOf("payments", "checkout"), -time.Second)
		src.tokenTTL = -time.Second
		for _, method := range []string{"FetchX509SVID", "FetchJWTSVID"} {
			if err := methods(stub(t, serve(t, src)))[method](withHeader(deadline(t))); status.Code(err) != codes.Unavailable {
				t.Errorf("%s: %v", method, err)
			}
		}
	})
	t.Run("no_bundle", func(t *testing.T) {
		src := newSource(t, "payments", me("checkout"))
		src.bundle = nil
		for _, method := range []string{"FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles", "ValidateJWTSVID"} {
			if err := methods(stub(t, serve(t, src)))[method](withHeader(deadline(t))); status.Code(err) != codes.Unavailable {
				t.Errorf("%s: %v", method, err)
			}
		}
	})
}
