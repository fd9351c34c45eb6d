package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
)

// floodVariable makes TestFlooder a crowd of strangers: kind and address.
const floodVariable = "ZONEBROKER_TEST_FLOOD"

// floodTally is what strangers did and got.
type floodTally struct {
	Begun   int
	Answers map[string]int
}

// stranger does one thing from an address of its own. A kept one has a
// connection that lasts.
type stranger struct {
	address string // of the broker
	from    net.Dialer
	http    *http.Client
	body    func() []byte
	hello   []byte // a recorded first flight of TLS
}

// flood is a kind of attack: how many of it at once from each address, how many
// begin a second from all, and one of them.
type flood struct {
	workers int
	rate    int
	do      func(ctx context.Context, s *stranger) string
}

// floodAddresses is how many addresses strangers come from.
const floodAddresses = 16

func floodKinds() []string {
	return []string{"garbage", "unknown-eks", "slow-headers", "half-open-tls", "hellos", "handshakes", "held", "resets"}
}

// floods are the kinds of attack. The rates are what a machine of the same size
// sends with little effort.
func floods() map[string]flood {
	return map[string]flood{
		// 16 KiB that are no JSON, to the route that takes the largest bodies.
		"garbage": {4, 1000, func(ctx context.Context, s *stranger) string {
			return s.post(ctx, "/v1/attest", bytes.Repeat([]byte("{\"token\":\xff"), 1600))
		}},
		// A machine that nobody admitted asks for a credential.
		"unknown-eks": {4, 1000, func(ctx context.Context, s *stranger) string { return s.post(ctx, "/v1/challenge", s.body()) }},
		// A request whose header never ends, over HTTP/1.1.
		"slow-headers": {64, 200, slowHeader},
		// Connections that say nothing.
		"half-open-tls": {64, 1000, silence},
		// A recorded first flight, again and again: the broker computes and signs, the
		// stranger copies bytes.
		"hellos": {4, 500, replayHello},
		// Whole handshakes without a request.
		"handshakes": {4, 250, handshake},
		// The same, and the connections stay.
		"held": {64, 250, heldHandshake},
		// Requests that are taken back as soon as they are sent.
		"resets": {4, 500, reset},
	}
}

// TestFlooder is no test: in a process of its own it is a crowd of strangers
// until its input ends.
func TestFlooder(t *testing.T) {
	what := os.Getenv(floodVariable)
	if what == "" {
		return
	}
	kind, address, _ := strings.Cut(what, " ")
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	tally := floods()[kind].run(ctx, t, address)
	if err := json.NewEncoder(os.Stdout).Encode(tally); err != nil {
		t.Fatal(err)
	}
	os.Exit(0)
}

func (f flood) run(ctx context.Context, t testing.TB, address string) floodTally {
	tally := floodTally{Answers: map[string]int{}}
	var mu sync.Mutex
	turns := make(chan struct{})
	var wg sync.WaitGroup
	for a := range floodAddresses {
		for range f.workers {
			s := newStranger(t, address, fmt.Sprintf("127.0.1.%d", a+1))
			wg.Go(func() {
				for range turns {
					answer := f.do(ctx, s)
					mu.Lock()
					tally.Answers[answer]++
					mu.Unlock()
				}
			})
		}
	}
	tick := time.NewTicker(time.Second / time.Duration(f.rate))
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			select {
			case turns <- struct{}{}:
				if tally.Begun++; tally.Begun == 1 {
					fmt.Println("begun")
				}
			case <-ctx.Done():
			}
		}
	}
	close(turns)
	wg.Wait()
	delete(tally.Answers, "ended")
	return tally
}

func newStranger(t testing.TB, address, from string) *stranger {
	s := &stranger{address: address, from: net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}}
	s.http = bareClient()
	s.http.Transport.(*http.Transport).DialContext = s.from.DialContext
	ak := evidencetest.NewAK(t)
	// A fresh EK each time, at the price of one: strangers have keys enough.
	s.body = func() []byte {
		ek := evidencetest.NewEK(t)
		out, _ := json.Marshal(api.ChallengeRequest{
			Format: api.FormatTPM2, Purpose: api.PurposeEnrol, Enrol: &api.Enrol{EKPublic: ek.Public, AKPublic: ak.Public},
		})
		return out
	}
	s.hello = recordedHello()
	return s
}

func (s *stranger) post(ctx context.Context, path string, body []byte) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.address+path, bytes.NewReader(body))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	rsp, err := s.http.Do(req)
	if err != nil {
		return ended(ctx, "no answer")
	}
	defer rsp.Body.Close()
	_, _ = io.Copy(io.Discard, rsp.Body)
	answer := fmt.Sprint(rsp.StatusCode)
	if (rsp.StatusCode == http.StatusTooManyRequests || rsp.StatusCode == http.StatusServiceUnavailable) && rsp.Header.Get("Retry-After") == "" {
		answer += " without Retry-After"
	}
	return answer
}

func ended(ctx context.Context, otherwise string) string {
	if ctx.Err() != nil {
		return "ended"
	}
	return otherwise
}

// dial connects; the connection closes with ctx.
func (s *stranger) dial(ctx context.Context) (net.Conn, func(), error) {
	c, err := s.from.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return c, func() { stop(); c.Close() }, nil
}

// held waits until the broker has had enough.
func held(ctx context.Context, c net.Conn) string {
	_, _ = io.Copy(io.Discard, c)
	return ended(ctx, "closed")
}

func silence(ctx context.Context, s *stranger) string {
	c, done, err := s.dial(ctx)
	if err != nil {
		return ended(ctx, "no connection")
	}
	defer done()
	return held(ctx, c)
}

func slowHeader(ctx context.Context, s *stranger) string {
	c, done, err := s.shake(ctx, "http/1.1")
	if err != nil {
		return ended(ctx, "no handshake")
	}
	defer done()
	if _, err := io.WriteString(c, "GET /healthz/live HTTP/1.1\r\nHost: x\r\n"); err != nil {
		return ended(ctx, "closed")
	}
	go func() {
		for ctx.Err() == nil {
			if _, err := io.WriteString(c, "X: y\r\n"); err != nil {
				return
			}
			time.Sleep(500 * time.Millisecond)
		}
	}()
	return held(ctx, c)
}

func handshake(ctx context.Context, s *stranger) string {
	_, done, err := s.shake(ctx, "h2")
	if err != nil {
		return ended(ctx, "no handshake")
	}
	done()
	return "shaken"
}

func heldHandshake(ctx context.Context, s *stranger) string {
	c, done, err := s.shake(ctx, "h2")
	if err != nil {
		return ended(ctx, "no handshake")
	}
	defer done()
	return held(ctx, c)
}

// shake connects and goes through the handshake; the connection closes with ctx.
func (s *stranger) shake(ctx context.Context, proto string) (net.Conn, func(), error) {
	raw, done, err := s.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}})
	if err := c.HandshakeContext(ctx); err != nil {
		done()
		return nil, nil, err
	}
	return c, done, nil
}

func reset(ctx context.Context, s *stranger) string {
	ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	body := `{"format":"tpm2","purpose":"renew","ak_name":"AAsAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`
	return s.post(ctx, "/v1/challenge", []byte(body))
}

// recordedHello is what a client sends first.
func recordedHello() []byte {
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		_ = tls.Client(client, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake()
		client.Close()
	}()
	hello := make([]byte, 8<<10)
	n, _ := server.Read(hello)
	return hello[:n]
}

func replayHello(ctx context.Context, s *stranger) string {
	c, done, err := s.dial(ctx)
	if err != nil {
		return ended(ctx, "no connection")
	}
	defer done()
	if _, err := c.Write(s.hello); err != nil {
		return ended(ctx, "closed")
	}
	// The broker's own flight, or its end.
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, _ := c.Read(make([]byte, 4<<10)); n == 0 {
		return ended(ctx, "closed")
	}
	return "answered"
}
