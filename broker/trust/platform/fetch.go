package platform

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/broker/trust"
)

// Limits of fetching.
const (
	fetchTimeout   = 20 * time.Second
	fetchTries     = 3
	fetchPause     = time.Second // before the second try; doubled for each further one
	fetchRedirects = 3
	// shareFor is how long an answer serves equal requests: all collateral names the
	// same lists.
	shareFor = time.Minute
	// maxWait is the longest Retry-After that a run waits for; a longer one is kept
	// for the next run.
	maxWait = time.Minute
	// longestWait bounds what a server may ask for.
	longestWait = 24 * time.Hour
)

// paces are the least times between two requests to one server.
var paces = map[string]time.Duration{
	"kdsintf.amd.com": 10 * time.Second, // answers about one request in ten seconds per address
}

const otherPace = 100 * time.Millisecond

// Fetcher asks servers: equal requests once, each server at its pace, no redirect
// to another host. Its zero value is ready; it is safe for concurrent use.
type Fetcher struct {
	// Client asks; nil takes one that uses the proxies of the environment
	// (HTTPS_PROXY, NO_PROXY) and TLS 1.2 or later. Redirects to other hosts are
	// refused in any.
	Client *http.Client
	// Mirror is the https or http URL of a copy laid out as MIRROR/host/path?query;
	// "" asks the addresses themselves.
	Mirror string
	// Now and Pause are the clock; nil takes the system's.
	Now   func() time.Time
	Pause func(ctx context.Context, d time.Duration) error
	// Waiting hears of each wait of a second or more before a server is asked; nil
	// for nobody.
	Waiting func(host string, d time.Duration)

	mu    sync.Mutex
	calls map[string]*call     // by address
	free  map[string]time.Time // when a server may be asked again, by host
}

// call is one request and who waits for it.
type call struct {
	done   chan struct{}
	at     time.Time
	answer answer
	err    error
}

type answer struct {
	raw       []byte
	header    http.Header
	unchanged bool // 304: what is held is still the newest
}

// laterError says that a server wants to be left alone.
type laterError struct {
	after time.Duration
	text  string
}

func (e *laterError) Error() string { return e.text }

func (f *Fetcher) now() time.Time {
	if f.Now == nil {
		return time.Now()
	}
	return f.Now()
}

func (f *Fetcher) pause(ctx context.Context, host string, d time.Duration) error {
	if f.Waiting != nil && d >= time.Second {
		f.Waiting(host, d)
	}
	if f.Pause != nil {
		return f.Pause(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func (f *Fetcher) client() *http.Client {
	var c http.Client
	if f.Client != nil {
		c = *f.Client
	} else {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		c.Transport = t
	}
	c.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		first := via[0].URL
		if len(via) > fetchRedirects || req.URL.Host != first.Host || req.URL.Scheme != first.Scheme && req.URL.Scheme != "https" {
			return fmt.Errorf("%s redirects to %s, which is not followed", first, req.URL)
		}
		return nil
	}
	return &c
}

// checkMirror refuses a mirror that is no URL of a server.
func (f *Fetcher) checkMirror() error {
	if f.Mirror == "" {
		return nil
	}
	if u, err := url.Parse(f.Mirror); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("mirror %q is no http or https URL", f.Mirror)
	}
	return nil
}

// place is where an address is asked for.
func (f *Fetcher) place(address string) string {
	if f.Mirror == "" {
		return address
	}
	_, rest, _ := strings.Cut(address, "://")
	return strings.TrimSuffix(f.Mirror, "/") + "/" + rest
}

// get asks for an address, or shares the answer of an equal request. Limit is in
// bytes; known names what is held already.
func (f *Fetcher) get(ctx context.Context, address string, limit int, known state) (answer, error) {
	place := f.place(address)
	key := strings.Join([]string{place, known.ETag, known.Changed}, "\x00")
	f.mu.Lock()
	c := f.calls[key]
	if c != nil && (c.at.IsZero() || c.err == nil && f.now().Sub(c.at) < shareFor) {
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return answer{}, context.Cause(ctx)
		case <-c.done:
			return c.answer, c.err
		}
	}
	c = &call{done: make(chan struct{})}
	if f.calls == nil {
		f.calls = map[string]*call{}
	}
	f.calls[key] = c
	f.mu.Unlock()

	got, err := f.tries(ctx, place, limit, known)
	f.mu.Lock()
	defer f.mu.Unlock()
	c.answer, c.err, c.at = got, err, f.now()
	close(c.done)
	for k, old := range f.calls {
		if !old.at.IsZero() && f.now().Sub(old.at) >= shareFor {
			delete(f.calls, k)
		}
	}
	return got, err
}

func (f *Fetcher) tries(ctx context.Context, place string, limit int, known state) (answer, error) {
	u, err := url.Parse(place)
	if err != nil {
		return answer{}, err
	}
	var got answer
	for try := range fetchTries {
		if err := f.turn(ctx, u.Host); err != nil {
			return answer{}, err
		}
		var again bool
		if got, again, err = f.ask(ctx, place, limit, known); err == nil || !again {
			if trust.UnknownHost(err) {
				f.unturned(u.Host)
			}
			return got, err
		}
		wait := jitter(fetchPause << try)
		if later, ok := errors.AsType[*laterError](err); ok && later.after > 0 {
			if wait = later.after; wait > maxWait {
				return answer{}, err
			}
		}
		if try == fetchTries-1 {
			break
		}
		if pauseErr := f.pause(ctx, u.Host, wait); pauseErr != nil {
			return answer{}, errors.Join(err, pauseErr)
		}
	}
	return answer{}, err
}

// jitter takes a part of d at random, so that brokers that failed together do not
// come back together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// turn waits until a server may be asked, and takes the turn.
func (f *Fetcher) turn(ctx context.Context, host string) error {
	pace, ok := paces[host]
	if !ok {
		pace = otherPace
	}
	f.mu.Lock()
	now := f.now()
	at := f.free[host]
	if at.Before(now) {
		at = now
	}
	if f.free == nil {
		f.free = map[string]time.Time{}
	}
	f.free[host] = at.Add(pace)
	f.mu.Unlock()
	if wait := at.Sub(now); wait > 0 {
		return f.pause(ctx, host, wait)
	}
	return nil
}

// unturned gives the last turn back: nobody heard of it.
func (f *Fetcher) unturned(host string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.free, host)
}

// ask makes one request. It reports whether another may help.
func (f *Fetcher) ask(ctx context.Context, place string, limit int, known state) (got answer, again bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, fmt.Errorf("no answer within %s", fetchTimeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, http.NoBody)
	if err != nil {
		return answer{}, false, err
	}
	if known.ETag != "" {
		req.Header.Set("If-None-Match", known.ETag)
	}
	if known.Changed != "" {
		req.Header.Set("If-Modified-Since", known.Changed)
	}
	resp, err := f.client().Do(req)
	if err != nil {
		return answer{}, !trust.UnknownHost(err) && !strings.Contains(err.Error(), "not followed"), err
	}
	defer resp.Body.Close()
	switch code := resp.StatusCode; {
	case code == http.StatusNotModified && (known.ETag != "" || known.Changed != ""):
		return answer{header: resp.Header, unchanged: true}, false, nil
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		return answer{}, true, &laterError{retryAfter(resp.Header, f.now()), place + " answers " + resp.Status}
	case code != http.StatusOK:
		return answer{}, code >= 500, fmt.Errorf("%s answers %s", place, resp.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	switch {
	case err != nil:
		return answer{}, true, err
	case len(raw) > limit:
		return answer{}, false, fmt.Errorf("%s answers with more than %d bytes", place, limit)
	}
	return answer{raw: raw, header: resp.Header}, false, nil
}

// retryAfter reads the header in both of its forms; 0 where there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, longestWait)
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return min(at.Sub(now), longestWait)
	}
	return 0
}
