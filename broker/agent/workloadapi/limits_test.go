package workloadapi_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// dial opens a bare connection.
func dial(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// refused reports whether the server closed the connection without a byte; one
// that it serves begins with HTTP/2 settings.
func refused(t *testing.T, c net.Conn) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("neither served nor closed")
	}
	return err != nil
}

func TestConnectionsAreBounded(t *testing.T) {
	for name, tweak := range map[string]func(*workloadapi.Config){
		"overall": func(c *workloadapi.Config) { c.MaxConns = 3 },
		"a_uid":   func(c *workloadapi.Config) { c.MaxConnsPerUID = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			socket := serve(t, newSource(t, "payments", me("checkout")), tweak)
			var held []net.Conn
			for range 3 {
				c := dial(t, socket)
				if refused(t, c) {
					t.Fatal("one within the bound is refused")
				}
				held = append(held, c)
			}
			for range 5 {
				if !refused(t, dial(t, socket)) {
					t.Fatal("one above the bound is served")
				}
			}
			held[0].Close()
			eventually(t, "the place is free again", func() bool { return !refused(t, dial(t, socket)) })
		})
	}
	t.Run("users_do_not_take_each_others_place", func(t *testing.T) {
		needRoot(t)
		bin := program(t, "workload")
		src := newSource(t, "payments", me("checkout"))
		src.workloads[0].UID = uid(nobody)
		socket := serve(t, src, func(c *workloadapi.Config) { c.MaxConnsPerUID = 1 })
		if refused(t, dial(t, socket)) || !refused(t, dial(t, socket)) {
			t.Fatal("not one for root")
		}
		if got := start(t, bin, socket, nobody).ask(); got != idOf("payments", "checkout") {
			t.Errorf("%s", got)
		}
	})
}

// TestConnectionsLeaveNothing: neither places nor descriptors. A place given back
// twice would lift the bound.
func TestConnectionsLeaveNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.sock")
	l, taken, err := workloadapi.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial(t, path)
	c, err := l.Accept()
	if err != nil || taken() != 1 {
		t.Fatalf("%d taken, %v", taken(), err)
	}
	c.Close()
	c.Close()
	if n := taken(); n != 0 {
		t.Errorf("%d taken", n)
	}
	if _, err := workloadapi.PidfdOf(c).Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("pidfd: %v", err)
	}
}

// TestPatience: no request waits for a Source without an end, however long the
// caller's stream lives.
func TestPatience(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	s := stub(t, serve(t, src))
	for _, method := range []string{"FetchX509SVID", "FetchJWTSVID"} {
		if err := methods(s)[method](withHeader(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if len(src.patience) != 2 || max(src.patience[0], src.patience[1]) > time.Minute {
		t.Errorf("%v", src.patience)
	}
}

// TestStreamsAreBounded: what is above the bound waits on the client's side.
func TestStreamsAreBounded(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	s := stub(t, serve(t, src))
	for range workloadapi.MaxStreams {
		stream, err := s.FetchX509Bundles(withHeader(deadline(t)), &workload.X509BundlesRequest{})
		if err := first(stream, err); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := withTimeout(t, 300*time.Millisecond)
	defer cancel()
	stream, err := s.FetchX509Bundles(withHeader(ctx), &workload.X509BundlesRequest{})
	if err := first(stream, err); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v", err)
	}
}

// TestGarbageEndsItsConnectionOnly: anybody on the host can send it.
func TestGarbageEndsItsConnectionOnly(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	socket := serve(t, src)
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x16\x03\x01"} {
		c := dial(t, socket)
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if _, err := client(t, socket).FetchX509SVID(deadline(t)); err != nil {
		t.Error(err)
	}
}

// TestSilentConnectionsEnd: a connection that says nothing keeps its place only
// for the time of a handshake.
func TestSilentConnectionsEnd(t *testing.T) {
	t.Parallel()
	socket := serve(t, newSource(t, "payments", me("checkout")))
	c := dial(t, socket)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("still open: %v", err)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	s := stub(t, serve(t, newSource(t, "payments", me("checkout"))))
	ctx := metadata.AppendToOutgoingContext(withHeader(deadline(t)), "x", strings.Repeat("x", 12<<10))
	if err := methods(s)["FetchX509Bundles"](ctx); err == nil {
		t.Error("accepted")
	}
}

// TestDenialsOfTheBrokerAreBounded: one workload must not use up what the broker
// lets the whole node ask.
func TestDenialsOfTheBrokerAreBounded(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	src.err = reason.New(reason.PolicyAudience, "")
	socket := serve(t, src)
	s := stub(t, socket)
	seen := map[codes.Code]int{}
	for i := range 200 {
		_, err := s.FetchJWTSVID(withHeader(deadline(t)), &workload.JWTSVIDRequest{Audience: []string{strconv.Itoa(i)}})
		seen[status.Code(err)]++
	}
	if seen[codes.PermissionDenied] > 80 || seen[codes.ResourceExhausted] < 120 {
		t.Errorf("%v", seen)
	}
	src.set(func() { src.workloads, src.err = append(src.workloads[:0:0], me("ledger")), nil })
	if _, err := client(t, socket).FetchX509SVID(deadline(t)); err != nil {
		t.Errorf("another workload: %v", err)
	}
	t.Run("who_waits_is_not_denied", func(t *testing.T) {
		const many = 100 // more than may be denied
		src := newSource(t, "payments", me("checkout"))
		src.hold = make(chan struct{})
		socket, got := serve(t, src), make(chan error, many)
		for range many / workloadapi.MaxStreams {
			s := stub(t, socket)
			for range workloadapi.MaxStreams {
				go func() { got <- methods(s)["FetchJWTSVID"](withHeader(deadline(t))) }()
			}
		}
		asked := many / workloadapi.MaxStreams * workloadapi.MaxStreams
		eventually(t, "all wait", func() bool { return src.count("jwt checkout ledger") == asked })
		close(src.hold)
		for range asked {
			if err := <-got; err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("what_succeeds_costs_nothing", func(t *testing.T) {
		for range 200 {
			if err := methods(s)["FetchJWTSVID"](withHeader(deadline(t))); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("outages_cost_nothing", func(t *testing.T) {
		src.set(func() { src.err = errors.New("away") })
		for range 100 {
			if err := methods(s)["FetchJWTSVID"](withHeader(deadline(t))); status.Code(err) != codes.Unavailable {
				t.Fatal(err)
			}
		}
	})
}

func TestBudget(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b := workloadapi.NewBudget(2, time.Second, func() time.Time { return now })
	take := func(key string, want bool) {
		t.Helper()
		if got := b.Take(key); got != want {
			t.Errorf("take %s at %s: %t", key, now.UTC().Format("05.000"), got)
		}
	}
	left := func(key string, want bool) {
		t.Helper()
		if got := b.Left(key); got != want {
			t.Errorf("left of %s at %s: %t", key, now.UTC().Format("05.000"), got)
		}
	}
	take("a", true)
	left("a", true)
	left("a", true)
	take("a", true)
	left("a", false)
	take("a", false)
	take("b", true)
	now = now.Add(999 * time.Millisecond)
	left("a", false)
	take("a", false)
	now = now.Add(time.Millisecond)
	left("a", true)
	take("a", true)
	take("a", false)
	now = now.Add(1500 * time.Millisecond)
	take("a", true)
	take("a", false)
	now = now.Add(500 * time.Millisecond) // the rest of the second before counts
	take("a", true)
	now = now.Add(time.Hour)
	take("a", true)
	take("a", true)
	take("a", false)
	now = now.Add(-time.Hour) // a clock that is set back gives nothing
	take("a", false)
	left("never", true)
	for i := range 3 * workloadapi.MaxBudgetKeys {
		b.Take(strconv.Itoa(i))
	}
	if n := b.Keys(); n > workloadapi.MaxBudgetKeys {
		t.Errorf("%d keys", n)
	}
}

// TestManyClients: a hundred clients at once, through rotations, without a race.
func TestManyClients(t *testing.T) {
	src := newSource(t, "payments", me("checkout"))
	socket := serve(t, src, func(c *workloadapi.Config) { c.MaxConnsPerUID = 128 })
	var group sync.WaitGroup
	stop := make(chan struct{})
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				src.set(func() { delete(src.identities, "checkout") })
			}
		}
	})
	var clients sync.WaitGroup
	for range 100 {
		s := stub(t, socket)
		clients.Go(func() {
			stream, err := s.FetchX509SVID(withHeader(deadline(t)), &workload.X509SVIDRequest{})
			for range 5 {
				if err := first(stream, err); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	group.Wait()
}
