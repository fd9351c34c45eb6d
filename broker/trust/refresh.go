package trust

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Limits of fetching. Makers' servers are slow and some refuse many connections.
const (
	fetchTimeout  = 20 * time.Second
	fetchAtOnce   = 4
	fetchTries    = 3
	fetchPause    = time.Second // before the second try; doubled for each further one
	maxFetched    = 64 << 10    // bytes; a certificate has one or two thousand
	fetchRedirect = 5
)

// Outcomes of a row that is refreshed.
const (
	RefreshFetched   = "fetched"    // came, matched, and is kept
	RefreshPresent   = "present"    // was in the folder already
	RefreshNoAddress = "no_address" // nobody knows where: only to be imported
	RefreshMismatch  = "mismatch"   // what came is not that certificate, and is not kept
	RefreshFailed    = "failed"     // nothing came
)

// Refreshed is what became of a row.
type Refreshed struct {
	Row
	Outcome string // a Refresh constant
	Detail  string // of a failure
}

// Source is where Refresh gets certificates from. The zero value asks the
// makers' addresses directly.
type Source struct {
	// Client asks; nil takes one that uses the proxies of the environment
	// (HTTPS_PROXY, NO_PROXY).
	Client *http.Client
	// Mirror is the URL of a copy of the makers' files laid out as
	// MIRROR/host/path, as "wget -x" does; "" asks the makers.
	Mirror string
	// Maker restricts the rows; "" takes all.
	Maker string
	// Pause waits between tries; nil takes a timer.
	Pause func(ctx context.Context, d time.Duration) error
}

// Refresh fetches the rows of the table that are not in the folder, and keeps
// what matches its fingerprint: the servers and the way there need no trust.
// Rows are handled in the order of Status; done, where given, hears of each. The
// error is one of writing or of the context.
func (f *Folder) Refresh(ctx context.Context, from Source, done func(r Refreshed, n, of int)) ([]Refreshed, error) {
	if from.Mirror != "" {
		if u, err := url.Parse(from.Mirror); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return nil, fmt.Errorf("mirror %q is no http or https URL", from.Mirror)
		}
	}
	var rows []Row
	for _, s := range f.Status(time.Time{}) {
		if _, listed := f.rows[s.SHA256]; listed && (from.Maker == "" || from.Maker == s.Maker) {
			rows = append(rows, s.Row)
		}
	}
	if from.Client == nil {
		from.Client = &http.Client{CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) >= fetchRedirect {
				return fmt.Errorf("more than %d redirects", fetchRedirect)
			}
			return nil
		}}
	}
	if from.Pause == nil {
		from.Pause = pause
	}
	return f.refresh(ctx, from, rows, done)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func (f *Folder) refresh(ctx context.Context, from Source, rows []Row, done func(Refreshed, int, int)) ([]Refreshed, error) {
	out := make([]Refreshed, len(rows))
	slots := make(chan struct{}, fetchAtOnce)
	var wg sync.WaitGroup
	var mu sync.Mutex // guards f.held, failed, finished and calls of done
	var failed error
	finished := 0
	for i, r := range rows {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			mu.Lock()
			held := f.held[r.SHA256] != nil
			mu.Unlock()
			got, cert := from.row(ctx, r, held)
			mu.Lock()
			defer mu.Unlock()
			if cert != nil {
				if _, err := f.keep(cert); err != nil {
					failed = errors.Join(failed, err)
				}
			}
			out[i] = got
			finished++
			if done != nil {
				done(got, finished, len(rows))
			}
		})
	}
	wg.Wait()
	return out, errors.Join(failed, ctx.Err())
}

// row fetches one row; the certificate is nil unless it is that of the row.
func (s Source) row(ctx context.Context, r Row, held bool) (Refreshed, *x509.Certificate) {
	switch {
	case held:
		return Refreshed{Row: r, Outcome: RefreshPresent}, nil
	case r.Address == "":
		return Refreshed{Row: r, Outcome: RefreshNoAddress}, nil
	}
	address := s.address(r.Address)
	var raw []byte
	var err error
	for try := range fetchTries {
		if try > 0 {
			if err = s.Pause(ctx, fetchPause<<(try-1)); err != nil {
				break
			}
		}
		var again bool
		if raw, again, err = s.get(ctx, address); !again {
			break
		}
	}
	if err != nil {
		return Refreshed{Row: r, Outcome: RefreshFailed, Detail: err.Error()}, nil
	}
	der := raw
	if block, _ := pem.Decode(raw); block != nil {
		der = block.Bytes
	}
	if sum := sha256.Sum256(der); sum != r.SHA256 {
		return Refreshed{Row: r, Outcome: RefreshMismatch, Detail: address + " offers something with SHA-256 " + hex.EncodeToString(sum[:])}, nil
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return Refreshed{Row: r, Outcome: RefreshFailed, Detail: "it does not parse: " + err.Error()}, nil
	}
	return Refreshed{Row: r, Outcome: RefreshFetched}, c
}

// address puts the mirror in front of host and path.
func (s Source) address(of string) string {
	if s.Mirror == "" {
		return of
	}
	_, rest, _ := strings.Cut(of, "://")
	return strings.TrimSuffix(s.Mirror, "/") + "/" + rest
}

// UnknownHost reports whether err says that no server has that name: nobody was
// asked, and to try again would ask the same resolver. Without a network it is the
// answer to every address.
func UnknownHost(err error) bool {
	e, ok := errors.AsType[*net.DNSError](err)
	return ok && e.IsNotFound
}

// get reports whether another try may help: after failures of the network and
// of a server that is overloaded or broken.
func (s Source) get(ctx context.Context, address string) (raw []byte, again bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, fmt.Errorf("no answer within %s", fetchTimeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, false, err
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		return nil, !UnknownHost(err), err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		again := resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests
		return nil, again, fmt.Errorf("%s answers %s", address, resp.Status)
	}
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxFetched+1))
	switch {
	case err != nil:
		return nil, true, err
	case len(raw) > maxFetched:
		return nil, false, fmt.Errorf("%s answers with more than %d bytes", address, maxFetched)
	}
	return raw, false, nil
}
