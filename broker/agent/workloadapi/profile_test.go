package workloadapi_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var errSecret = errors.New("dial tcp 10.9.8.7:5432")

// methods calls each method of the protocol once and waits for its first answer.
func methods(s workload.SpiffeWorkloadAPIClient) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"FetchX509SVID": func(ctx context.Context) error {
			return first(s.FetchX509SVID(ctx, &workload.X509SVIDRequest{}))
		},
		"FetchX509Bundles": func(ctx context.Context) error {
			return first(s.FetchX509Bundles(ctx, &workload.X509BundlesRequest{}))
		},
		"FetchJWTBundles": func(ctx context.Context) error {
			return first(s.FetchJWTBundles(ctx, &workload.JWTBundlesRequest{}))
		},
		"FetchWITSVID": func(ctx context.Context) error {
			return first(s.FetchWITSVID(ctx, &workload.WITSVIDRequest{}))
		},
		"FetchWITBundles": func(ctx context.Context) error {
			return first(s.FetchWITBundles(ctx, &workload.WITBundlesRequest{}))
		},
		"FetchJWTSVID": func(ctx context.Context) error {
			_, err := s.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"ledger"}})
			return err
		},
		"ValidateJWTSVID": func(ctx context.Context) error {
			_, err := s.ValidateJWTSVID(ctx, &workload.ValidateJWTSVIDRequest{Audience: "ledger", Svid: "x"})
			return err
		},
	}
}

func first[M any](stream grpc.ServerStreamingClient[M], err error) error {
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

func withValues(ctx context.Context, values ...string) context.Context {
	for _, v := range values {
		ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", v)
	}
	return ctx
}

func TestX509ProfileForGoSPIFFE(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	c := client(t, serve(t, src))
	got, err := c.FetchX509Context(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	svid := got.DefaultSVID()
	if len(got.SVIDs) != 1 || svid.ID.String() != idOf("payments", "checkout") || svid.Hint != "checkout" {
		t.Errorf("%d SVIDs, %s, hint %q", len(got.SVIDs), svid.ID, svid.Hint)
	}
	if _, _, err := x509svid.Verify(svid.Certificates, got.Bundles); err != nil {
		t.Error(err)
	}
	if got.Bundles.Len() != 1 {
		t.Errorf("%d bundles", got.Bundles.Len())
	}
	bundles, err := c.FetchX509Bundles(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	bundle, ok := bundles.Get(domain)
	if !ok || bundles.Len() != 1 || !bundle.Equal(src.TrustBundle().X509Bundle()) {
		t.Error("another bundle")
	}
}

func TestX509MessageIsOfTheSpecification(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	other := newAuthority(t)
	src.bundle = bundleOf(t, src.ca, other)
	stream, err := stub(t, serve(t, src)).FetchX509SVID(withHeader(deadline(t)), &workload.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Svids) != 1 || len(m.Crl) != 0 || len(m.FederatedBundles) != 0 {
		t.Fatalf("%d svids, %d crl, %d federated", len(m.Svids), len(m.Crl), len(m.FederatedBundles))
	}
	if _, err := x509.ParsePKCS8PrivateKey(m.Svids[0].X509SvidKey); err != nil {
		t.Error(err)
	}
	if chain, err := x509.ParseCertificates(m.Svids[0].X509Svid); err != nil || len(chain) != 1 {
		t.Errorf("%d certificates: %v", len(chain), err)
	}
	if roots, err := x509.ParseCertificates(m.Svids[0].Bundle); err != nil || len(roots) != 2 || !bytes.Equal(roots[1].Raw, other.root.Raw) {
		t.Errorf("%d authorities: %v", len(roots), err)
	}
}

func TestJWTProfileForGoSPIFFE(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	socket := serve(t, src)
	from, err := spiffe.NewJWTSource(deadline(t), spiffe.WithClientOptions(spiffe.WithAddr("unix://"+socket)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { from.Close() })
	svid, err := from.FetchJWTSVID(deadline(t), jwtsvid.Params{Audience: "ledger"})
	if err != nil {
		t.Fatal(err)
	}
	if svid.ID.String() != idOf("payments", "checkout") || svid.Hint != "checkout" || !cmp.Equal(svid.Audience, []string{"ledger"}) {
		t.Errorf("%s, hint %q, for %v", svid.ID, svid.Hint, svid.Audience)
	}
	if _, err := jwtsvid.ParseAndValidate(svid.Marshal(), from, []string{"ledger"}); err != nil {
		t.Errorf("through the served bundle: %v", err)
	}
	c := client(t, socket)
	valid, err := c.ValidateJWTSVID(deadline(t), svid.Marshal(), "ledger")
	if err != nil {
		t.Fatal(err)
	}
	if valid.ID != svid.ID {
		t.Errorf("validated as %s", valid.ID)
	}
	answer, err := stub(t, socket).ValidateJWTSVID(withHeader(deadline(t)), &workload.ValidateJWTSVIDRequest{Audience: "ledger", Svid: svid.Marshal()})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"name": "payments", "tier": 2.0}, answer.Claims.AsMap()["zone"]); diff != "" {
		t.Error(diff)
	}
}

func TestJWTBundlesAreTheSameForTheSameKeys(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	src.bundle = bundleOf(t, src.ca, newAuthority(t), newAuthority(t), newAuthority(t), newAuthority(t))
	s := stub(t, serve(t, src))
	var before []byte
	for range 8 {
		stream, err := s.FetchJWTBundles(withHeader(deadline(t)), &workload.JWTBundlesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		now := m.Bundles["spiffe://example.org"]
		if before != nil && !bytes.Equal(before, now) {
			t.Fatal("another order")
		}
		before = now
	}
}

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
	for name, test := range map[string]struct{ token, audience string }{
		"other_audience":     {good, "billing"},
		"no_audience":        {good, ""},
		"no_token":           {"", "ledger"},
		"not_a_token":        {"x", "ledger"},
		"alg_none":           {"eyJhbGciOiJub25lIn0." + part[1] + ".", "ledger"},
		"signature_cut":      {part[0] + "." + part[1] + ".", "ledger"},
		"unknown_key":        {other.token(t, own, "ledger", time.Minute).Token, "ledger"},
		"key_id_of_another":  {confused.token(t, own, "ledger", time.Minute).Token, "ledger"},
		"other_trust_domain": {src.ca.token(t, "spiffe://other.org/zone/payments/workload/checkout", "ledger", time.Minute).Token, "ledger"},
		"expired":            {src.ca.token(t, own, "ledger", -2*time.Minute).Token, "ledger"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.ValidateJWTSVID(withHeader(deadline(t)), &workload.ValidateJWTSVIDRequest{Audience: test.audience, Svid: test.token})
			if status.Code(err) != codes.InvalidArgument || (test.audience == "" && !strings.Contains(err.Error(), "audience missing")) {
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

// TestMTLSByZone: two workloads on two hosts trust each other by zone alone, with
// go-spiffe's own TLS and what the agents serve.
func TestMTLSByZone(t *testing.T) {
	host := func(zone, name string, ca *authority) *spiffe.X509Source {
		src := newSource(t, zone, me(name))
		src.ca, src.bundle = ca, bundleOf(t, ca)
		from, err := spiffe.NewX509Source(deadline(t), spiffe.WithClientOptions(spiffe.WithAddr("unix://"+serve(t, src))))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { from.Close() })
		return from
	}
	ca := newAuthority(t)
	checkout, ledger, guest := host("payments", "checkout", ca), host("payments", "ledger", ca), host("lab", "guest", ca)
	authorize := tlsconfig.AuthorizeIDPrefix(spiffeid.RequireFromString("spiffe://example.org/zone/payments"))
	listener, err := spiffetls.ListenWithMode(deadline(t), "tcp", "127.0.0.1:0", spiffetls.MTLSServerWithSource(authorize, ledger))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := c.Write([]byte("paid")); err == nil {
				c.Close()
			}
		}
	}()
	ask := func(from *spiffe.X509Source) (string, error) {
		c, err := tls.Dial("tcp", listener.Addr().String(), tlsconfig.MTLSClientConfig(from, from, authorize))
		if err != nil {
			return "", err
		}
		defer c.Close()
		got := make([]byte, 4)
		_, err = c.Read(got)
		return string(got), err
	}
	if got, err := ask(checkout); err != nil || got != "paid" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := ask(guest); err == nil {
		t.Errorf("a workload of another zone got %q", got)
	}
}
