package platform

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/trust"
	"github.com/zonebroker/zonebroker/verifier"
)

// scene is a server for all hosts, a folder and a clock that only pauses move.
type scene struct {
	t       *testing.T
	dir     string
	rows    []Row
	fetcher *Fetcher

	mu      sync.Mutex
	now     time.Time
	pauses  []time.Duration
	asked   []*http.Request
	answers map[string]http.HandlerFunc // by host/path?query
}

func newScene(t *testing.T, rows ...Row) *scene {
	t.Helper()
	s := &scene{t: t, dir: t.TempDir(), rows: rows, now: noon, answers: map[string]http.HandlerFunc{}}
	srv := httptest.NewTLSServer(http.HandlerFunc(s.answer))
	t.Cleanup(srv.Close)
	tr := srv.Client().Transport.(*http.Transport).Clone()
	tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}
	tr.TLSClientConfig.ServerName = "example.com"
	s.fetcher = &Fetcher{Client: &http.Client{Transport: tr}, Now: s.clock, Pause: s.pause}
	return s
}

func (s *scene) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *scene) pause(ctx context.Context, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
	s.pauses = append(s.pauses, d)
	return ctx.Err()
}

func (s *scene) wait(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *scene) answer(w http.ResponseWriter, r *http.Request) {
	place := r.Host + r.URL.RequestURI()
	s.mu.Lock()
	s.asked = append(s.asked, r)
	h := s.answers[place]
	s.mu.Unlock()
	if h == nil {
		http.NotFound(w, r)
		return
	}
	h(w, r)
}

func (s *scene) serves(address string, raw []byte) {
	s.handles(address, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) })
}

func (s *scene) handles(address string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[strings.TrimPrefix(address, "https://")] = h
}

// refresh runs once, as a command of its own does.
func (s *scene) refresh(choice Choice) map[ID]Refreshed {
	s.t.Helper()
	s.mu.Lock()
	s.asked, s.pauses = nil, nil
	s.mu.Unlock()
	got, err := opened(s.t, s.dir, s.rows...).Refresh(s.t.Context(), s.fetcher, choice, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[ID]Refreshed{}
	for _, r := range got {
		out[r.ID] = r
	}
	return out
}

func (s *scene) folder() *Folder { return opened(s.t, s.dir, s.rows...) }

func outcomes(got map[ID]Refreshed) string {
	var out []string
	for id, r := range got {
		out = append(out, id.String()+"="+r.Outcome)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

const kds = "https://kdsintf.amd.com/"

// amdScene serves a chain, a list that its root signed, a root in a zip file, keys.
func amdScene(t *testing.T) (s *scene, ark *ca) {
	t.Helper()
	ark = newCA(t, "ARK-Milan", nil)
	ask := newCA(t, "SEV-Milan", ark)
	nitro := newCA(t, "aws.nitro-enclaves", nil)
	chain := ofCertificates([]*x509.Certificate{ask.cert, ark.cert})
	s = newScene(t,
		Row{ID: ID{verifier.TrustSNP, "milan-vcek"}, Subject: chain.subject, NotBefore: chain.begins, NotAfter: chain.ends, SHA256: chain.prints, Address: kds + "chain"},
		Row{ID: ID{verifier.TrustSNPCRL, "milan"}, Subject: "CN=ARK-Milan", Address: kds + "crl"},
		nitro.row(ID{verifier.TrustAzureIMDS, "root-g1"}, "https://nitro.example/root.zip"),
		Row{ID: ID{verifier.TrustJWKS, "google"}, Format: "gce.identity", Subject: "https://accounts.google.com", Address: "https://keys.example/certs"},
		newCA(t, "NVIDIA", nil).row(ID{verifier.TrustNVIDIA, "root"}, ""),
	)
	s.serves(kds+"chain", chain.raw)
	s.serves(kds+"crl", ark.crl(t, noon.AddDate(0, 2, 0)))
	var z bytes.Buffer
	zw := zip.NewWriter(&z)
	for name, raw := range map[string][]byte{"README": []byte("x"), "root.pem": nitro.pem()} {
		w, err := zw.Create(name)
		if err == nil {
			_, err = w.Write(raw)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	s.serves("https://nitro.example/root.zip", z.Bytes())
	s.serves("https://keys.example/certs", []byte(someKeys))
	return s, ark
}

func TestRefreshFetches(t *testing.T) {
	s, _ := amdScene(t)
	got := s.refresh(Choice{})
	if text, want := outcomes(got), "amd.crl/milan=fetched amd.snp/milan-vcek=fetched azure.imds/root-g1=fetched jwks/google=fetched nvidia.device/root=no_address"; text != want {
		t.Fatalf("%s, want %s\n%+v", text, want, got)
	}
	// What stands there is what a broker reads.
	f := s.folder()
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(f.held[ID{verifier.TrustJWKS, "google"}].raw, &doc); err != nil || string(doc["issuer"]) != `"https://accounts.google.com"` ||
		string(doc["format"]) != `"gce.identity"` || string(doc["jwks"]) != someKeys || len(doc) != 3 {
		t.Errorf("%s, %v", doc, err)
	}
	if ends := got[ID{verifier.TrustJWKS, "google"}].Ends; !ends.Equal(f.held[ID{verifier.TrustJWKS, "google"}].state.Fetched.Add(keysLife)) || ends.Before(noon.Add(keysLife)) {
		t.Errorf("keys count until %s", ends)
	}
	if ends := got[ID{verifier.TrustSNPCRL, "milan"}].Ends; !ends.Equal(noon.AddDate(0, 2, 0)) {
		t.Errorf("the list counts until %s", ends)
	}
	if n := len(f.Objects(noon)); n != 4 {
		t.Errorf("%d objects", n)
	}
	// Nothing is due: nobody is asked.
	if text := outcomes(s.refresh(Choice{})); strings.Contains(text, "fetched") || len(s.asked) != 0 {
		t.Errorf("again: %s, %d requests", text, len(s.asked))
	}
	// What never changes is not asked for again, whatever the time.
	s.wait(48 * time.Hour)
	s.refresh(Choice{})
	if n := len(s.asked); n != 2 {
		t.Errorf("after two days %d requests, want those for keys and list", n)
	}
	if text := outcomes(s.refresh(Choice{Kind: verifier.TrustSNPCRL, Force: true})); text != "amd.crl/milan=unchanged" {
		t.Errorf("forced: %s", text)
	}
}

// TestRefreshHeld: a broker that runs by itself keeps fresh what is there, and
// begins to believe nothing.
func TestRefreshHeld(t *testing.T) {
	s, _ := amdScene(t)
	if text := outcomes(s.refresh(Choice{Held: true})); text != "" || len(s.asked) != 0 {
		t.Errorf("an empty folder: %s, %d requests", text, len(s.asked))
	}
	s.refresh(Choice{Kind: verifier.TrustJWKS})
	s.wait(keysEvery)
	if text := outcomes(s.refresh(Choice{Held: true})); text != "jwks/google=unchanged" {
		t.Error(text)
	}
}

// TestRefreshByValidator: a server that knows what is held sends nothing, and the
// keys count longer.
func TestRefreshByValidator(t *testing.T) {
	s, _ := amdScene(t)
	s.handles("https://keys.example/certs", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"v1"` && r.Header.Get("If-Modified-Since") == "Fri, 20 Nov 2026 00:00:00 GMT" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Last-Modified", "Fri, 20 Nov 2026 00:00:00 GMT")
		_, _ = w.Write([]byte(someKeys))
	})
	keys := ID{verifier.TrustJWKS, "google"}
	s.refresh(Choice{Kind: keys.Kind})
	for range 2 {
		s.wait(keysEvery)
		got := s.refresh(Choice{Kind: keys.Kind})[keys]
		if got.Outcome != RefreshUnchanged || !got.Ends.Equal(s.clock().Add(keysLife)) {
			t.Errorf("%s %s", got.Outcome, got.Detail)
		}
	}
	if s.folder().held[keys].state.ETag != `"v1"` {
		t.Error("the validator is lost")
	}
}

// TestRefreshKeepsWhatOperatorSaid: of an operator's own issuer only the keys
// change.
func TestRefreshKeepsWhatOperatorSaid(t *testing.T) {
	s := newScene(t)
	s.dir = lay(t, map[string]string{
		"jwks/cluster.json":        `{"format":"k8s.psat","issuer":"https://k.example","cluster":"blue","jwks":` + someKeys + `}`,
		".state/jwks/cluster.json": `{"address":"https://k.example/openid/v1/jwks"}`,
	})
	next := strings.Replace(someKeys, `"kid":"1"`, `"kid":"2"`, 1)
	s.serves("https://k.example/openid/v1/jwks", []byte(next))
	if text := outcomes(s.refresh(Choice{Held: true})); text != "jwks/cluster=fetched" {
		t.Fatal(text)
	}
	o := s.folder().held[ID{verifier.TrustJWKS, "cluster"}]
	if text := string(o.raw); !strings.Contains(text, `"cluster":"blue"`) || !strings.Contains(text, `"kid":"2"`) || strings.Contains(text, `"kid":"1"`) {
		t.Error(text)
	}
	if o.state.Address != "https://k.example/openid/v1/jwks" || !o.state.Expires.Equal(noon.Add(keysLife)) {
		t.Errorf("%+v", o.state)
	}
}

// TestRefreshDisbelieves: what is not what was asked for is never kept, and what
// was held stays.
func TestRefreshDisbelieves(t *testing.T) {
	other := newCA(t, "ARK-Milan", nil)
	keys, list, root := ID{verifier.TrustJWKS, "google"}, ID{verifier.TrustSNPCRL, "milan"}, ID{verifier.TrustAzureIMDS, "root-g1"}
	send := func(raw []byte) func(*scene, *ca) http.HandlerFunc {
		return func(*scene, *ca) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) }
		}
	}
	status := func(code int) func(*scene, *ca) http.HandlerFunc {
		return func(*scene, *ca) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
		}
	}
	for name, tc := range map[string]struct {
		id     ID
		answer func(*scene, *ca) http.HandlerFunc
		want   string
	}{
		"another certificate":         {root, send(other.pem()), RefreshMismatch},
		"a page":                      {root, send([]byte("<html>")), RefreshMismatch},
		"half a certificate":          {root, send(other.cert.Raw[:100]), RefreshMismatch},
		"a zip without certificate":   {root, send([]byte("PK\x03\x04 and no more")), RefreshMismatch},
		"too much":                    {root, send(make([]byte, 70<<10)), RefreshFailed},
		"not there":                   {root, status(404), RefreshFailed},
		"a broken server":             {root, status(500), RefreshFailed},
		"nothing changed, of nothing": {root, status(304), RefreshFailed},
		"another host": {root, func(*scene, *ca) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://keys.example/certs", http.StatusFound)
			}
		}, RefreshFailed},
		"plain http": {root, func(*scene, *ca) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://nitro.example/root.zip", http.StatusFound)
			}
		}, RefreshFailed},
		"no end of redirects": {root, func(*scene, *ca) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), http.StatusFound) }
		}, RefreshFailed},
		"an answer that breaks off": {root, func(*scene, *ca) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = w.Write([]byte("-----BEGIN"))
			}
		}, RefreshFailed},
		"a list of another root":  {list, send(other.crl(t, noon.AddDate(0, 1, 0))), RefreshMismatch},
		"a list of another name":  {list, send(newCA(t, "ARK-Genoa", nil).crl(t, noon.AddDate(0, 1, 0))), RefreshMismatch},
		"a list that has expired": {list, func(_ *scene, ark *ca) http.HandlerFunc { return send(ark.crl(t, noon.Add(-time.Hour)))(nil, nil) }, RefreshMismatch},
		"no list":                 {list, send([]byte("<html>")), RefreshMismatch},
		"no keys":                 {keys, send([]byte(`{"keys":[]}`)), RefreshMismatch},
		"a page in place of keys": {keys, send([]byte("<html>")), RefreshMismatch},
		"a secret among keys":     {keys, send([]byte(`{"keys":[{"kty":"oct","k":"AA"}]}`)), RefreshMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			s, ark := amdScene(t)
			i := slices.IndexFunc(s.rows, func(r Row) bool { return r.ID == tc.id })
			s.handles(s.rows[i].Address, tc.answer(s, ark))
			got := s.refresh(Choice{})[tc.id]
			if got.Outcome != tc.want || got.Detail == "" || s.folder().held[tc.id] != nil {
				t.Errorf("%s %s", got.Outcome, got.Detail)
			}
		})
	}
}

// TestRefreshTakesNoRevocationBack: an older list does not come in place of a newer
// one, and keys that fail to come leave those that are held.
func TestRefreshTakesNoRevocationBack(t *testing.T) {
	s, ark := amdScene(t)
	s.refresh(Choice{})
	before := s.folder()
	s.wait(listEvery)
	old, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: before.held[ID{verifier.TrustSNPCRL, "milan"}].crl.Number, ThisUpdate: noon.AddDate(0, -2, 0), NextUpdate: noon.AddDate(0, 3, 0)}, ark.cert, ark.key)
	if err != nil {
		t.Fatal(err)
	}
	s.serves(kds+"crl", old)
	s.serves("https://keys.example/certs", []byte("<html>"))
	if text := outcomes(s.refresh(Choice{})); !strings.Contains(text, "amd.crl/milan=mismatch") || !strings.Contains(text, "jwks/google=mismatch") {
		t.Error(text)
	}
	after := s.folder()
	for id, o := range before.held {
		if !bytes.Equal(after.held[id].raw, o.raw) {
			t.Errorf("%s changed", id)
		}
	}
	// Keys that could not be refreshed for their lifetime stop to count.
	if n := len(after.Objects(noon.Add(keysLife + time.Minute))); n != 3 {
		t.Errorf("%d objects", n)
	}
}

// TestKeysOverHTTPSOnly: a mirror without TLS may hand out what has a fingerprint
// or a signature, and no keys.
func TestKeysOverHTTPSOnly(t *testing.T) {
	s, _ := amdScene(t)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		h := s.answers[strings.TrimPrefix(r.URL.RequestURI(), "/")]
		s.mu.Unlock()
		h(w, r)
	}))
	defer plain.Close()
	s.fetcher = &Fetcher{Mirror: plain.URL, Now: s.clock, Pause: s.pause}
	if text, want := outcomes(s.refresh(Choice{})), "amd.crl/milan=fetched amd.snp/milan-vcek=fetched azure.imds/root-g1=fetched jwks/google=mismatch nvidia.device/root=no_address"; text != want {
		t.Errorf("%s, want %s", text, want)
	}
	for _, mirror := range []string{"ftp://x", "mirror", "https://"} {
		if _, err := s.folder().Refresh(t.Context(), &Fetcher{Mirror: mirror}, Choice{}, nil); err == nil {
			t.Errorf("mirror %q is taken", mirror)
		}
	}
}

// TestRetryAfter: a server that says when to come back is left alone until then,
// by later runs too, and by no other object's turn.
func TestRetryAfter(t *testing.T) {
	s, _ := amdScene(t)
	keys := ID{verifier.TrustJWKS, "google"}
	tries := 0
	s.handles("https://keys.example/certs", func(w http.ResponseWriter, _ *http.Request) {
		if tries++; tries == 1 {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.Header().Set("Retry-After", s.clock().Add(2*time.Hour).Format(http.TimeFormat))
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	got := s.refresh(Choice{Kind: keys.Kind})[keys]
	if got.Outcome != RefreshFailed || tries != 2 || !slices.Contains(s.pauses, 7*time.Second) {
		t.Errorf("%+v after %d tries, pauses %v", got, tries, s.pauses)
	}
	s.wait(time.Hour)
	if got := s.refresh(Choice{Kind: keys.Kind})[keys]; got.Outcome != RefreshWaiting || tries != 2 || !strings.Contains(got.Detail, "503") {
		t.Errorf("%+v after %d tries", got, tries)
	}
	s.serves("https://keys.example/certs", []byte(someKeys))
	if got := s.refresh(Choice{Kind: keys.Kind, Force: true})[keys]; got.Outcome != RefreshFetched {
		t.Errorf("an operator who insists: %+v", got)
	}
	if st := s.folder().held[keys].state; st.Failures != 0 || !st.Next.IsZero() || st.Failure != "" {
		t.Errorf("%+v", st)
	}
}

// TestBackOff: an object that fails is asked for less and less often.
func TestBackOff(t *testing.T) {
	s, _ := amdScene(t)
	keys := ID{verifier.TrustJWKS, "google"}
	s.handles("https://keys.example/certs", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	last := time.Duration(0)
	for i := range 12 {
		got := s.refresh(Choice{Kind: keys.Kind})[keys]
		st, err := s.folder().readState(keys)
		if err != nil || got.Outcome != RefreshFailed || len(s.asked) != fetchTries || st.Failures != i+1 {
			t.Fatalf("%+v, %d requests, %+v, %v", got, len(s.asked), st, err)
		}
		wait := st.Next.Sub(s.clock())
		if low, high := min(firstBackOff<<i, maxBackOff)/2, min(firstBackOff<<i, maxBackOff); wait < low-time.Second || wait > high {
			t.Errorf("failure %d: the next try in %s, want %s to %s", i+1, wait, low, high)
		}
		last = wait
		s.wait(wait + time.Second)
	}
	if last < maxBackOff/2-time.Second {
		t.Errorf("at last %s", last)
	}
}

// TestPace: AMD's service hears one request in ten seconds, others are not held up
// by it, and what waits is not lost.
func TestPace(t *testing.T) {
	f := &Fetcher{}
	var waited []time.Duration
	f.Now = func() time.Time { return noon }
	f.Pause = func(_ context.Context, d time.Duration) error { waited = append(waited, d); return nil }
	for range 4 {
		if err := f.turn(t.Context(), "kdsintf.amd.com"); err != nil {
			t.Fatal(err)
		}
	}
	if want := []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second}; !slices.Equal(waited, want) {
		t.Errorf("%v, want %v", waited, want)
	}
	waited = nil
	if err := f.turn(t.Context(), "keys.example"); err != nil || len(waited) != 0 {
		t.Errorf("another server waits %v, %v", waited, err)
	}

	s, _ := amdScene(t)
	s.refresh(Choice{Kind: verifier.TrustSNP})
	s.wait(time.Second)
	s.refresh(Choice{Kind: verifier.TrustSNPCRL})
	if len(s.pauses) != 1 || s.pauses[0] != 9*time.Second {
		t.Errorf("the second request, a second later, waits %v", s.pauses)
	}
}

// TestCoalescing: who asks for the same at the same time gets one answer.
func TestCoalescing(t *testing.T) {
	s := newScene(t)
	release := make(chan struct{})
	s.handles("https://one.example/x", func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, "x")
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := s.fetcher.get(t.Context(), "https://one.example/x", 10, state{}); err != nil || string(got.raw) != "x" {
				t.Errorf("%q, %v", got.raw, err)
			}
		})
	}
	for s.requests() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if _, err := s.fetcher.get(t.Context(), "https://one.example/x", 10, state{}); err != nil || s.requests() != 1 {
		t.Errorf("%d requests, %v", s.requests(), err)
	}
	s.wait(shareFor)
	if _, err := s.fetcher.get(t.Context(), "https://one.example/x", 10, state{}); err != nil || s.requests() != 2 {
		t.Errorf("a minute later %d requests, %v", s.requests(), err)
	}
	// A failure is nobody else's answer.
	for range 2 {
		if _, err := s.fetcher.get(t.Context(), "https://one.example/none", 10, state{}); err == nil {
			t.Error("404 is an answer")
		}
	}
	if n := s.requests(); n != 4 {
		t.Errorf("%d requests", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.fetcher.get(ctx, "https://one.example/y", 10, state{}); err == nil {
		t.Error("a run that was ended goes on")
	}
}

func (s *scene) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// TestIntermediateBeforeItsRoot: the order of names is not that of chains; an
// intermediate whose root cannot be had is not kept, because a broker would not
// start with it.
func TestIntermediateBeforeItsRoot(t *testing.T) {
	root := newCA(t, "root", nil)
	below := newCA(t, "below", root)
	first, second := ID{verifier.TrustGoogleAK, "a"}, ID{verifier.TrustGoogleAK, "b"}
	s := newScene(t, below.row(first, "https://g.example/a"), root.row(second, "https://g.example/b"))
	s.serves("https://g.example/a", below.pem())
	if text := outcomes(s.refresh(Choice{})); text != "google.akca/a=mismatch google.akca/b=failed" {
		t.Error(text)
	}
	s.serves("https://g.example/b", root.cert.Raw)
	if text := outcomes(s.refresh(Choice{Force: true})); text != "google.akca/a=fetched google.akca/b=fetched" {
		t.Error(text)
	}
	if _, err := verifier.NewDocuments(s.folder().Objects(noon)); err != nil {
		t.Error(err)
	}
}

// FuzzRead: what servers and files hold is read without a panic, and what is read
// is read again the same.
func FuzzRead(f *testing.F) {
	a := newCA(f, "a", nil)
	for _, seed := range [][]byte{a.pem(), a.cert.Raw, a.crl(f, noon), []byte(issuerKeys("https://i.example")), []byte("PK\x03\x04"), []byte(`{"tcb_info":"{}"}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_ = unzip(raw)
		for _, k := range kinds {
			c, err := k.read(raw)
			if err != nil {
				continue
			}
			again, err := k.read(c.raw)
			if err != nil || !bytes.Equal(again.raw, c.raw) || !again.ends.Equal(c.ends) {
				t.Errorf("%s: what was read is read otherwise again: %v", k.name, err)
			}
		}
	})
}

// TestUnknownHost: where no server has the name nobody was asked, so that it is not
// tried again and no pace is kept. Each wait that is one is told.
func TestUnknownHost(t *testing.T) {
	var asked int
	var waited []time.Duration
	var told []string
	lost := true
	f := &Fetcher{
		Client: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			asked++
			return nil, &net.DNSError{Err: "no such host", IsNotFound: lost}
		})},
		Now:     func() time.Time { return noon },
		Pause:   func(_ context.Context, d time.Duration) error { waited = append(waited, d); return nil },
		Waiting: func(host string, d time.Duration) { told = append(told, fmt.Sprint(host, " ", d)) },
	}
	for _, path := range []string{"a", "b", "c"} {
		if _, err := f.get(t.Context(), "https://kdsintf.amd.com/"+path, 10, state{}); !trust.UnknownHost(err) {
			t.Fatal(err)
		}
	}
	if asked != 3 || len(waited) > 0 || len(told) > 0 {
		t.Errorf("%d requests for three addresses, waited %v, told %v", asked, waited, told)
	}
	lost = false // a resolver that did not answer
	if _, err := f.get(t.Context(), "https://kdsintf.amd.com/d", 10, state{}); err == nil || trust.UnknownHost(err) {
		t.Fatal(err)
	}
	if asked != 3+fetchTries || !slices.Contains(told, "kdsintf.amd.com 10s") || !slices.Contains(told, "kdsintf.amd.com 20s") {
		t.Errorf("%d requests, told %v", asked, told)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
