package workloadapi_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// open begins a stream of identities and reads its first message.
func open(t *testing.T, socket string) grpc.ServerStreamingClient[workload.X509SVIDResponse] {
	t.Helper()
	stream, err := stub(t, socket).FetchX509SVID(withHeader(deadline(t)), &workload.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestRotationReachesEveryStream(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	socket := serve(t, src)
	options := spiffe.WithClientOptions(spiffe.WithAddr("unix://" + socket))
	x509s, err := spiffe.NewX509Source(deadline(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x509s.Close() })
	bundles, err := spiffe.NewBundleSource(deadline(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bundles.Close() })
	later := src.ca.identity(t, idOf("payments", "checkout"), time.Hour)
	next := newAuthority(t)
	src.set(func() {
		src.identities["checkout"] = later
		src.bundle = bundleOf(t, src.ca, next)
	})
	eventually(t, "the new certificate and both authorities", func() bool {
		svid, err := x509s.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		trust, err := bundles.GetBundleForTrustDomain(domain)
		if err != nil {
			t.Fatal(err)
		}
		return svid.Certificates[0].Equal(later.Chain[0]) && trust.HasX509Authority(next.root) && trust.HasJWTAuthority(next.kid)
	})
}

func TestOnlyDifferencesAreSent(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	stream := open(t, serve(t, src))
	for range 5 {
		asked := src.count("x509 checkout")
		src.set(func() {})
		eventually(t, "the stream has looked", func() bool { return src.count("x509 checkout") > asked })
	}
	later := src.ca.identity(t, idOf("payments", "checkout"), time.Hour)
	src.set(func() { src.identities["checkout"] = later })
	m, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Svids[0].X509Svid) != string(later.Chain[0].Raw) {
		t.Error("a message that says nothing new came in between")
	}
}

// TestRedaction: whoever lost an identity is told so, on every open stream.
func TestRedaction(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*source)
		text   string
	}{
		"rule_removed": {func(s *source) { s.workloads = []api.Workload{} }, "no workload of this node's zone matches uid"},
		"zone_lost":    {func(s *source) { s.workloads = nil }, "this node has no zone"},
		"denied":       {func(s *source) { s.err = reason.New(reason.NodeDisabled, "") }, "node.disabled"},
	} {
		t.Run(name, func(t *testing.T) {
			src := newSource(t, "payments", me("checkout"))
			stream := open(t, serve(t, src))
			src.set(func() { test.change(src) })
			_, err := stream.Recv()
			if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("bundles", func(t *testing.T) {
		src := newSource(t, "payments", me("checkout"))
		s := stub(t, serve(t, src))
		x, err := s.FetchX509Bundles(withHeader(deadline(t)), &workload.X509BundlesRequest{})
		if err := first(x, err); err != nil {
			t.Fatal(err)
		}
		j, err := s.FetchJWTBundles(withHeader(deadline(t)), &workload.JWTBundlesRequest{})
		if err := first(j, err); err != nil {
			t.Fatal(err)
		}
		src.set(func() { src.workloads = nil })
		if err := first(x, nil); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%v", err)
		}
		if err := first(j, nil); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%v", err)
		}
	})
	t.Run("another_workload_now", func(t *testing.T) {
		src := newSource(t, "payments", me("checkout"))
		stream := open(t, serve(t, src))
		src.set(func() { src.workloads = []api.Workload{me("ledger"), me("checkout")} })
		m, err := stream.Recv()
		if err != nil || m.Svids[0].SpiffeId != idOf("payments", "ledger") || len(m.Svids) != 1 {
			t.Errorf("%v, %v", m, err)
		}
	})
	t.Run("comes_back", func(t *testing.T) {
		src := newSource(t, "payments", me("checkout"))
		src.workloads = nil
		socket := serve(t, src)
		from := make(chan error, 1)
		go func() {
			s, err := spiffe.NewX509Source(deadline(t), spiffe.WithClientOptions(spiffe.WithAddr("unix://"+socket)))
			if err == nil {
				err = s.Close()
			}
			from <- err
		}()
		src.set(func() { src.workloads = []api.Workload{me("checkout")} })
		if err := <-from; err != nil {
			t.Error(err)
		}
	})
}

// TestRuleLostWhileTheBrokerIsAsked: an answer that took long is not handed to
// one who lost the right to it meanwhile.
func TestRuleLostWhileTheBrokerIsAsked(t *testing.T) {
	for _, method := range []string{"FetchX509SVID", "FetchJWTSVID"} {
		t.Run(method, func(t *testing.T) {
			src := newSource(t, "payments", me("checkout"))
			src.hold = make(chan struct{})
			s := stub(t, serve(t, src))
			got := make(chan error, 1)
			go func() { got <- methods(s)[method](withHeader(deadline(t))) }()
			eventually(t, "the broker is asked", func() bool { return src.count("x509 checkout")+src.count("jwt checkout ledger") > 0 })
			src.set(func() { src.workloads = []api.Workload{} })
			close(src.hold)
			if err := <-got; status.Code(err) != codes.PermissionDenied {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("another_workload_now", func(t *testing.T) {
		src := newSource(t, "payments", me("checkout"))
		src.hold = make(chan struct{})
		s := stub(t, serve(t, src))
		token, identity := make(chan error, 1), make(chan string, 1)
		go func() { token <- methods(s)["FetchJWTSVID"](withHeader(deadline(t))) }()
		go func() {
			stream, err := s.FetchX509SVID(withHeader(deadline(t)), &workload.X509SVIDRequest{})
			if err != nil {
				identity <- err.Error()
				return
			}
			m, err := stream.Recv()
			if err != nil {
				identity <- err.Error()
				return
			}
			identity <- m.Svids[0].SpiffeId
		}()
		eventually(t, "the broker is asked", func() bool { return src.count("x509 checkout") > 0 && src.count("jwt checkout ledger") > 0 })
		src.set(func() { src.workloads = []api.Workload{me("ledger")} })
		close(src.hold)
		if err := <-token; status.Code(err) != codes.Unavailable {
			t.Errorf("%v", err)
		}
		if got := <-identity; got != idOf("payments", "ledger") {
			t.Errorf("first message: %s", got)
		}
	})
}

// TestOutageKeepsWhatIsGood: a Source that fails takes nothing back before its end.
func TestOutageKeepsWhatIsGood(t *testing.T) {
	t.Parallel()
	src := newSource(t, "payments", me("checkout"))
	src.identities["checkout"] = src.ca.identity(t, idOf("payments", "checkout"), 3*time.Second)
	end := src.identities["checkout"].ExpiresAt
	stream := open(t, serve(t, src))
	src.set(func() { src.err = errors.New("the broker is away") })
	_, err := stream.Recv()
	if status.Code(err) != codes.Unavailable || time.Now().Before(end) {
		t.Errorf("%v, %s before the identity's end", err, time.Until(end))
	}
}

// TestSourceThatComesBackInSilence: after a failure the Source is asked again,
// also where it announces nothing.
func TestSourceThatComesBackInSilence(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	stream := open(t, serveWith(t, src, func(s *workloadapi.Server) { workloadapi.AskAgainAfter(s, 5*time.Millisecond) }))
	src.set(func() { src.err = errors.New("the broker is away") })
	later := src.ca.identity(t, idOf("payments", "checkout"), time.Hour)
	eventually(t, "the source failed", func() bool { return src.count("x509 checkout") > 1 })
	src.mu.Lock()
	src.err, src.identities["checkout"] = nil, later
	src.mu.Unlock()
	if m, err := stream.Recv(); err != nil || string(m.Svids[0].X509Svid) != string(later.Chain[0].Raw) {
		t.Errorf("%v", err)
	}
}

// TestExpiryEndsAStream: also where the Source says nothing.
func TestExpiryEndsAStream(t *testing.T) {
	t.Parallel()
	src := newSource(t, "payments", me("checkout"))
	src.identities["checkout"] = src.ca.identity(t, idOf("payments", "checkout"), 2*time.Second)
	stream := open(t, serve(t, src))
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "expired") {
		t.Errorf("%v", err)
	}
}

// TestOutageOfAnotherWorkload: what was sent under another rule is not kept.
func TestOutageOfAnotherWorkload(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	stream := open(t, serve(t, src))
	src.set(func() {
		src.workloads = []api.Workload{me("ledger")}
		src.err = errors.New("the broker is away")
	})
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}

// TestSlowReader: states pass by a reader that does not read. What waits for it
// is bounded by the windows of its stream, and its last message is the newest.
func TestSlowReader(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	stream, err := stub(t, serve(t, src)).FetchX509SVID(withHeader(deadline(t)), &workload.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	// A large bundle, so that a few messages fill the windows.
	large := []*authority{src.ca}
	for range 60 {
		large = append(large, newAuthority(t))
	}
	src.set(func() { src.bundle = bundleOf(t, large...) })
	pair := []workloadapi.Identity{
		src.ca.identity(t, idOf("payments", "checkout"), time.Hour), src.ca.identity(t, idOf("payments", "checkout"), time.Hour),
	}
	eventually(t, "the stream is stuck", func() bool {
		before := src.count("x509 checkout")
		for i := range 50 {
			src.set(func() { src.identities["checkout"] = pair[i%2] })
			time.Sleep(time.Millisecond)
		}
		return before > 0 && src.count("x509 checkout") == before
	})
	last := src.ca.identity(t, idOf("payments", "checkout"), time.Hour)
	for range 200 {
		src.set(func() {})
	}
	src.set(func() { src.identities["checkout"] = last })
	for n := 1; ; n++ {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Svids[0].X509Svid) == string(last.Chain[0].Raw) {
			return
		}
		if n > 20 {
			t.Fatal("more than the windows hold waited for the reader")
		}
	}
}
