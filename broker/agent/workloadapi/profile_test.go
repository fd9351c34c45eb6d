package workloadapi_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
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
