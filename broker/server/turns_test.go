package server_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// line fills the turns with nodes, queues requests in an order, and then ends one
// turn after the other: it returns in which order they got theirs.
func line(t *testing.T, turns *server.Turns, held []func(), queue []server.Urgency) (got []server.Urgency) {
	t.Helper()
	var mu sync.Mutex
	for i, u := range queue {
		go func() {
			done, err := turns.Take(t.Context(), u)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			got = append(got, u)
			mu.Unlock()
			done()
		}()
		synctest.Wait()
		if turns.Waiting() != i+1 {
			t.Fatalf("%d wait after %d came", turns.Waiting(), i+1)
		}
	}
	for _, done := range held {
		done()
	}
	synctest.Wait()
	mu.Lock()
	defer mu.Unlock()
	return got
}

func hold(t *testing.T, turns *server.Turns, n int, u server.Urgency) (held []func()) {
	t.Helper()
	for range n {
		done, err := turns.Take(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, done)
	}
	return held
}

func TestTurns(t *testing.T) {
	t.Run("who_loses_most_goes_first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			turns := server.NewTurns(1, 100)
			queue := []server.Urgency{
				server.StrangerBegins, server.NodeIssues, server.NodeBegins, server.StrangerAttests,
				server.NodeAttests, server.NodeBegins, server.NodeAttests,
			}
			got := line(t, turns, hold(t, turns, 1, server.NodeBegins), queue)
			if slices.Sort(queue); !slices.Equal(got, queue) {
				t.Errorf("%v", got)
			}
		})
	})
	t.Run("the_room_is_for_the_more_urgent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			turns := server.NewTurns(1, 3)
			held := hold(t, turns, 1, server.NodeBegins)[0]
			var got []string
			come := func(name string, u server.Urgency) {
				go func() {
					end, err := turns.Take(t.Context(), u)
					if err != nil {
						got = append(got, name+" goes")
						return
					}
					got = append(got, name)
					end()
				}()
				synctest.Wait()
			}
			come("stranger 1", server.StrangerBegins)
			come("stranger 2", server.StrangerBegins)
			come("issue", server.NodeIssues)
			come("stranger 3", server.StrangerBegins) // no room
			come("node 1", server.NodeBegins)         // takes that of stranger 2
			come("node 2", server.NodeBegins)         // of stranger 1
			come("attestation 1", server.StrangerAttests)
			come("attestation 2", server.NodeAttests)
			come("node 3", server.NodeBegins) // of issue
			come("node 4", server.NodeBegins) // no room
			held()
			synctest.Wait()
			want := []string{
				"stranger 3 goes", "stranger 2 goes", "stranger 1 goes", "issue goes", "node 4 goes",
				"attestation 2", "attestation 1", "node 1", "node 2", "node 3",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("strangers_have_half", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			turns := server.NewTurns(4, 100)
			held := hold(t, turns, 2, server.StrangerAttests)
			go func() { _, _ = turns.Take(t.Context(), server.StrangerBegins) }()
			synctest.Wait()
			if turns.Waiting() != 1 {
				t.Error("a third stranger has a turn")
			}
			nodes := hold(t, turns, 2, server.NodeBegins)
			nodes[0]()
			synctest.Wait()
			if turns.Waiting() != 1 {
				t.Error("a stranger has the turn of a node")
			}
			held[0]()
			synctest.Wait()
			if turns.Waiting() != 0 {
				t.Error("the stranger still waits")
			}
		})
	})
	t.Run("nobody_waits_for_ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			turns := server.NewTurns(1, 1)
			held := hold(t, turns, 1, server.NodeBegins)[0]
			for _, u := range []server.Urgency{server.NodeBegins, server.NodeAttests} {
				began := time.Now()
				if _, err := turns.Take(t.Context(), u); reason.Of(err) != reason.RequestOverloaded || time.Since(began) != server.MaxWait {
					t.Errorf("%v after %s", err, time.Since(began))
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			began := time.Now()
			if _, err := turns.Take(ctx, server.NodeAttests); err == nil || time.Since(began) != time.Millisecond {
				t.Errorf("%v after %s, though the client is gone", err, time.Since(began))
			}
			if turns.Waiting() != 0 {
				t.Errorf("%d still wait", turns.Waiting())
			}
			held()
			hold(t, turns, 1, server.NodeBegins)[0]()
		})
	})
	t.Run("no_turn_is_lost", func(t *testing.T) {
		turns := server.NewTurns(4, 20)
		var wg sync.WaitGroup
		var mu sync.Mutex
		computing, most := 0, 0
		for i := range 64 {
			wg.Go(func() {
				for range 50 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
					done, err := turns.Take(ctx, server.Urgency(i%5))
					cancel()
					if err != nil {
						continue
					}
					mu.Lock()
					computing++
					most = max(most, computing)
					mu.Unlock()
					time.Sleep(100 * time.Microsecond)
					mu.Lock()
					computing--
					mu.Unlock()
					done()
				}
			})
		}
		wg.Wait()
		if most > 4 {
			t.Errorf("%d at once", most)
		}
		for _, done := range hold(t, turns, 4, server.NodeBegins) {
			done()
		}
		if turns.Waiting() != 0 {
			t.Errorf("%d wait for nothing", turns.Waiting())
		}
	})
}

// turnRig is a server with one turn, which somebody holds until free is closed.
type turnRig struct {
	*harness
	t     *testing.T
	free  chan struct{}
	wg    sync.WaitGroup
	mu    sync.Mutex
	order []string // by mu; routes and callers as they get their turn
}

func newTurnRig(t *testing.T, queue int) *turnRig {
	t.Helper()
	r := &turnRig{t: t, free: make(chan struct{})}
	entered := make(chan struct{})
	enter := sync.OnceFunc(func() {
		close(entered)
		<-r.free
	})
	r.harness = start(t, func(c *server.Config) { c.Limits.Turns, c.Limits.Queue = 1, queue })
	note := func(route string) {
		enter()
		who := "stranger"
		if r.pipeline.last().NodeID != "" {
			who = "node"
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.order = append(r.order, who+" "+route)
	}
	r.pipeline.challenge = func(context.Context, api.ChallengeRequest) (api.Challenge, error) {
		note("challenge")
		return freshChallenge(), nil
	}
	r.pipeline.attest = func(context.Context, api.AttestRequest) (api.AttestResponse, error) {
		note("attest")
		return api.AttestResponse{AttestationID: recordID, Node: nodeID, SPIFFEID: "spiffe://x", Bundle: []byte(`{"keys":[]}`)}, nil
	}
	r.pipeline.jwt = func() { note("jwt") }
	r.ask(r.client(r.ca.node(t, nodeID)), "/v1/challenge", renewal, 200)
	<-entered
	return r
}

// ask asks in the background, and fails for another status.
func (r *turnRig) ask(c *http.Client, path, body string, status int) {
	r.wg.Go(func() {
		if got := r.do(c, "POST", path, body); got.StatusCode != status {
			r.t.Errorf("%s: %d %q", path, got.StatusCode, got.problem.Code)
		}
	})
}

// waits asks, and returns once that many wait.
func (r *turnRig) waits(c *http.Client, path, body string, status, n int) {
	r.t.Helper()
	r.ask(c, path, body, status)
	eventually(r.t, "it waits", func() bool { return r.Turns().Waiting() == n })
}

// TestTurnsOfRoutes: what computes waits for a turn, in the order of the caller
// and of what it has paid; what is read does not.
func TestTurnsOfRoutes(t *testing.T) {
	t.Run("order", func(t *testing.T) {
		r := newTurnRig(t, 100)
		asNode, stranger := r.client(r.ca.node(t, nodeID)), r.client(nil)
		r.waits(stranger, "/v1/challenge", renewal, 200, 1)
		r.waits(asNode, "/v1/jwt", `{"audience":"x"}`, 200, 2)
		r.waits(asNode, "/v1/challenge", renewal, 200, 3)
		r.waits(stranger, "/v1/attest", attestation, 200, 4)
		r.waits(asNode, "/v1/attest", attestation, 200, 5)
		if got := r.do(stranger, "GET", "/spiffe/bundle.json", ""); got.StatusCode != 200 {
			t.Errorf("the bundle: %d", got.StatusCode)
		}
		close(r.free)
		r.wg.Wait()
		want := []string{"node challenge", "node attest", "stranger attest", "node challenge", "node jwt", "stranger challenge"}
		if diff := cmp.Diff(want, r.order); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("room", func(t *testing.T) {
		r := newTurnRig(t, 1)
		asNode, stranger := r.client(r.ca.node(t, nodeID)), r.client(nil)
		r.waits(stranger, "/v1/challenge", renewal, 503, 1) // until a node comes
		r.ask(asNode, "/v1/challenge", renewal, 200)
		eventually(t, "the stranger goes", func() bool { return metric(t, r.harness, "zonebroker_http_limited_total", "turns") == 1 })
		for who, c := range map[string]*http.Client{"node": asNode, "stranger": stranger} {
			got := r.do(c, "POST", "/v1/challenge", renewal)
			if got.problem.Code != "request.overloaded" || got.Header.Get("Retry-After") != "1" {
				t.Errorf("a %s: %d %q, Retry-After %q", who, got.StatusCode, got.problem.Code, got.Header.Get("Retry-After"))
			}
		}
		r.waits(stranger, "/v1/attest", attestation, 200, 2) // is paid for
		close(r.free)
		r.wg.Wait()
	})
	t.Run("no_turn_waits_for_bytes", func(t *testing.T) {
		h := start(t, func(c *server.Config) { c.Limits.Turns, c.Limits.Queue = 1, 1 })
		slow := dialTLS(t, h, "http/1.1")
		fmt.Fprint(slow, "POST /v1/attest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		eventually(t, "the slow one is in work", func() bool { return !h.InWork() })
		began := time.Now()
		if got := h.do(h.client(nil), "POST", "/v1/challenge", renewal); got.StatusCode != 200 || time.Since(began) > 2*time.Second {
			t.Errorf("%d after %s", got.StatusCode, time.Since(began))
		}
	})
}

// TestTurnEndsWhereTheRecordIsAwaited: a slow commit keeps no core idle.
func TestTurnEndsWhereTheRecordIsAwaited(t *testing.T) {
	h := start(t, func(c *server.Config) { c.Limits.Turns, c.Limits.Queue = 1, 1 })
	entered, judged, awaited, committed := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	h.pipeline.attest = func(context.Context, api.AttestRequest) (api.AttestResponse, error) {
		waiting := h.pipeline.last().Waiting
		close(entered)
		<-judged
		waiting()
		close(awaited)
		<-committed
		return api.AttestResponse{AttestationID: recordID, Node: nodeID, SPIFFEID: "spiffe://x", Bundle: []byte(`{"keys":[]}`)}, nil
	}
	asNode, other := h.client(h.ca.node(t, nodeID)), h.client(h.ca.node(t, otherNode))
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := h.do(asNode, "POST", "/v1/attest", attestation); got.StatusCode != 200 {
			t.Errorf("%d %s", got.StatusCode, got.text)
		}
	})
	<-entered
	wg.Go(func() {
		if got := h.do(other, "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
			t.Errorf("%d %q", got.StatusCode, got.problem.Code)
		}
		close(committed) // so that the record may come after the answer
	})
	eventually(t, "another waits while evidence is judged", func() bool { return h.Turns().Waiting() == 1 })
	close(judged)
	<-awaited
	wg.Wait()
	if got := h.do(asNode, "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
		t.Errorf("afterwards: %d %q", got.StatusCode, got.problem.Code)
	}
}
