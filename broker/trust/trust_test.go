package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/ekcert"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func newCA(t *testing.T, name string, ca bool) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true,
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func inPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func row(c *x509.Certificate, address string) Row {
	r := rowOf(c)
	r.Maker, r.Address = "ABC", address
	return r
}

func opened(t *testing.T, rows ...Row) *Folder {
	t.Helper()
	f, err := open(filepath.Join(t.TempDir(), "roots"), rows)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// again reads the folder as the next command does.
func (f *Folder) again(t *testing.T) *Folder {
	t.Helper()
	rows := make([]Row, 0, len(f.rows))
	for _, r := range f.rows {
		rows = append(rows, r)
	}
	out, err := open(f.dir, rows)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// readable says that a broker could start with the folder.
func (f *Folder) readable(t *testing.T) {
	t.Helper()
	var bundles [][]byte
	files, err := filepath.Glob(filepath.Join(f.dir, "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bundles = append(bundles, raw)
	}
	if _, err := ekcert.NewRoots(bundles...); err != nil {
		t.Error(err)
	}
}

// TestTable: the shipped table parses, is in order, and names each certificate once.
func TestTable(t *testing.T) {
	rows, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]bool{}
	makers := map[string]int{}
	for _, r := range rows {
		if seen[r.SHA256] {
			t.Errorf("%s stands twice", r.Subject)
		}
		seen[r.SHA256] = true
		makers[r.Maker]++
		if r.Address != "" && !strings.HasPrefix(r.Address, "https://") && !strings.HasPrefix(r.Address, "http://") {
			t.Errorf("%s: address %q", r.Subject, r.Address)
		}
		if r.Maker == "" || r.Subject == "" || r.Serial == "" || !r.NotAfter.After(r.NotBefore) {
			t.Errorf("%+v", r)
		}
	}
	for _, m := range []string{"AMD", "GOOG", "IFX", "INTC", "MSFT", "NSG", "NTC", "NTZ", "STM"} {
		if makers[m] == 0 {
			t.Errorf("no certificate of %s", m)
		}
	}
	rows[0].Maker = "changed"
	if other, _ := Table(); other[0].Maker == "changed" {
		t.Error("the table can be changed from outside")
	}
}

func TestParseTableRefuses(t *testing.T) {
	good := "IFX\troot\tCN=A\t5a\t2019-11-22T00:00:00Z\t2054-11-22T23:59:59Z\t" + strings.Repeat("ab", 32) + "\t-"
	if rows, err := parseTable(tableHead + "\n" + good + "\n"); err != nil || len(rows) != 1 || rows[0].Address != "" {
		t.Fatalf("%+v, %v", rows, err)
	}
	for name, line := range map[string]string{
		"a field less": strings.TrimSuffix(good, "\t-"),
		"role":         strings.Replace(good, "root", "leaf", 1),
		"not_before":   strings.Replace(good, "2019-11-22T00:00:00Z", "2019", 1),
		"not_after":    strings.Replace(good, "2054-11-22T23:59:59Z", "2054", 1),
		"short sum":    strings.Replace(good, "abab", "ab", 1),
		"sum not hex":  strings.Replace(good, "abab", "abxy", 1),
	} {
		if _, err := parseTable(tableHead + "\n" + line + "\n"); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := parseTable(good + "\n"); err == nil {
		t.Error("a table without its head was taken")
	}
}

func TestStatus(t *testing.T) {
	a, b, old, other := newCA(t, "A", true), newCA(t, "B", true), newCA(t, "Old", true), newCA(t, "Other", true)
	expired := row(old, "")
	expired.NotAfter = noon.Add(-time.Hour)
	f := opened(t, row(a, ""), row(b, ""), expired)
	for _, c := range []*x509.Certificate{a, other} {
		if added, err := f.keep(c); err != nil || !added {
			t.Fatal(added, err)
		}
	}
	got := map[string]string{}
	list := f.again(t).Status(noon)
	for _, s := range list {
		got[s.Subject] = fmt.Sprint(s.Maker, " ", s.State, " ", s.Held)
	}
	want := map[string]string{"CN=A": "ABC present true", "CN=B": "ABC missing false", "CN=Old": "ABC expired false", "CN=Other": " unlisted true"}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %q, want %q", k, got[k], v)
		}
	}
	if list[len(list)-1].Subject != "CN=Other" || len(list) != 4 {
		t.Errorf("what the table does not list stands last of 4: %+v", list)
	}
	if s := f.Status(noon.AddDate(2, 0, 0)); s[len(s)-1].State != StateExpired {
		t.Errorf("an unlisted certificate expires too: %s", s[len(s)-1].State)
	}
	if f.Held() != 2 || f.Anchors() != 2 {
		t.Errorf("%d held, %d anchors", f.Held(), f.Anchors())
	}
	f.readable(t)
}

func TestOpenRefuses(t *testing.T) {
	for name, content := range map[string][]byte{
		"no certificate": []byte("hello"),
		"a key":          pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}),
		"a broken one":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}),
		"too large":      make([]byte, maxFile+1),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a.pem"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "a.pem") {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Rename(filepath.Join(dir, "a.pem"), filepath.Join(dir, "a.txt")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err != nil {
			t.Errorf("%s: a file that the broker does not read: %v", name, err)
		}
	}
}

func TestImport(t *testing.T) {
	a, b, other, leaf := newCA(t, "A -----BEGIN X-----", true), newCA(t, "B", true), newCA(t, "Other", true), newCA(t, "Leaf", false)
	dir := t.TempDir()
	write := func(name string, content []byte) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1.pem", inPEM(a, other))
	write("2.txt", append([]byte("# comment\n"), inPEM(a, leaf)...))
	write("below/3.cer", b.Raw)
	write("below/4", []byte("hello"))
	write("below/5.pem", append(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{5, 0}}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{5, 0}})...))
	write("below/6", make([]byte, maxFile+1))
	outcomes := func(f *Folder, alsoUnlisted bool) string {
		t.Helper()
		got, err := f.Import(dir, alsoUnlisted, nil)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, i := range got {
			out = append(out, filepath.Base(i.File)+" "+i.Outcome+" "+i.Maker)
		}
		slices.Sort(out)
		return strings.Join(out, "\n")
	}
	f := opened(t, row(a, ""), row(b, ""))
	want := "1.pem added ABC\n1.pem unlisted \n2.txt duplicate ABC\n2.txt no_ca \n3.cer added ABC\n4 unreadable \n5.pem unreadable \n6 unreadable "
	if got := outcomes(f, false); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	want = strings.ReplaceAll(strings.Replace(want, "unlisted", "added", 1), "added ABC", "present ABC")
	lines := strings.Split(want, "\n")
	slices.Sort(lines)
	if got := outcomes(f.again(t), true); got != strings.Join(lines, "\n") {
		t.Errorf("again, with what is in no row:\n%s\nwant\n%s", got, strings.Join(lines, "\n"))
	}
	f = f.again(t)
	if got := outcomes(f, false); !strings.Contains(got, "1.pem present \n") {
		t.Errorf("what was kept before is there, in the table or not:\n%s", got)
	}
	if f.Held() != 3 {
		t.Errorf("%d held", f.Held())
	}
	f.readable(t)
	if got, err := f.Import(filepath.Join(dir, "below", "3.cer"), false, nil); err != nil || len(got) != 1 || got[0].Outcome != ImportPresent {
		t.Errorf("one file: %+v, %v", got, err)
	}
	if _, err := f.Import(filepath.Join(dir, "nowhere"), false, nil); err == nil {
		t.Error("a folder that is not there was imported")
	}
}

// tries counts requests for files that do not come at once.
type tries struct{ flaky, down, gone atomic.Int32 }

// makerServer answers as makers' servers do, well and badly.
func makerServer(t *testing.T, certs map[string][]byte, n *tries) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/flaky.cer") && n.flaky.Add(1) < 3:
			http.Error(w, "busy", http.StatusServiceUnavailable)
		case strings.HasSuffix(r.URL.Path, "/down.cer"):
			n.down.Add(1)
			http.Error(w, "down", http.StatusBadGateway)
		case strings.HasSuffix(r.URL.Path, "/loop.cer"):
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case strings.HasSuffix(r.URL.Path, "/huge.cer"):
			_, _ = w.Write(make([]byte, maxFetched+1))
		case strings.HasSuffix(r.URL.Path, "/moved.cer"):
			http.Redirect(w, r, strings.Replace(r.URL.Path, "moved", "b", 1), http.StatusFound)
		default:
			b, ok := certs[filepath.Base(r.URL.Path)]
			if !ok {
				n.gone.Add(1)
				http.NotFound(w, r)
				return
			}
			_, _ = w.Write(b)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestRefresh(t *testing.T) {
	var rows []Row
	certs := map[string][]byte{}
	add := func(name, file string, body func(c *x509.Certificate) []byte) {
		c := newCA(t, name, true)
		address := ""
		if file != "" {
			address = "https://pki.example.org/dir/" + file
			certs[file] = body(c)
		}
		rows = append(rows, row(c, address))
	}
	der := func(c *x509.Certificate) []byte { return c.Raw }
	add("der", "a.cer", der)
	add("moved", "moved.cer", der)
	certs["b.cer"] = certs["moved.cer"]
	add("pem", "c.crt", func(c *x509.Certificate) []byte { return inPEM(c) })
	add("flaky", "flaky.cer", der)
	add("other", "d.cer", func(*x509.Certificate) []byte { return newCA(t, "other", true).Raw })
	add("html", "e.cer", func(*x509.Certificate) []byte { return []byte("<html>") })
	add("gone", "gone.cer", der)
	delete(certs, "gone.cer")
	add("huge", "huge.cer", der)
	add("loop", "loop.cer", der)
	add("down", "down.cer", der)
	add("nowhere", "", nil)
	var n tries
	server := makerServer(t, certs, &n)
	var pauses atomic.Int64
	from := Source{Mirror: server.URL + "/mirror/", Pause: func(_ context.Context, d time.Duration) error {
		pauses.Add(int64(d))
		return nil
	}}
	f := opened(t, rows...)
	heard := 0
	got, err := f.Refresh(t.Context(), from, func(r Refreshed, n, of int) {
		if heard++; n != heard || of != len(rows) || r.Subject == "" {
			t.Errorf("heard of %d of %d, the %d. time", n, of, heard)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"der": RefreshFetched, "moved": RefreshFetched, "pem": RefreshFetched, "flaky": RefreshFetched,
		"other": RefreshMismatch, "html": RefreshMismatch, "gone": RefreshFailed, "huge": RefreshFailed,
		"loop": RefreshFailed, "down": RefreshFailed, "nowhere": RefreshNoAddress,
	}
	for _, r := range got {
		if name := strings.TrimPrefix(r.Subject, "CN="); r.Outcome != want[name] {
			t.Errorf("%s: %s (%s), want %s", name, r.Outcome, r.Detail, want[name])
		}
	}
	if n.flaky.Load() != 3 || n.down.Load() != 3 || n.gone.Load() != 1 {
		t.Errorf("%d, %d and %d tries: want three for what may come back, one for what is not there", n.flaky.Load(), n.down.Load(), n.gone.Load())
	}
	if d := time.Duration(pauses.Load()); d != 3*(fetchPause+2*fetchPause) { // flaky, loop, down
		t.Errorf("paused %s in all", d)
	}
	f = f.again(t)
	if f.Held() != 4 {
		t.Errorf("%d held", f.Held())
	}
	f.readable(t)
	got, err = f.Refresh(t.Context(), Source{Mirror: server.URL, Maker: "XYZ"}, nil)
	if err != nil || len(got) != 0 {
		t.Errorf("another maker: %+v, %v", got, err)
	}
	certs["d.cer"] = nil
	got, err = f.Refresh(t.Context(), Source{Mirror: server.URL, Maker: "ABC", Pause: from.Pause}, nil)
	if err != nil || !slices.ContainsFunc(got, func(r Refreshed) bool { return r.Subject == "CN=der" && r.Outcome == RefreshPresent }) {
		t.Errorf("again: %v", err)
	}
}

func TestRefreshEnds(t *testing.T) {
	f := opened(t, row(newCA(t, "A", true), "https://127.0.0.1:1/a.cer"))
	if _, err := f.Refresh(t.Context(), Source{Mirror: "ftp://example.org"}, nil); err == nil {
		t.Error("a mirror without http was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Refresh(ctx, Source{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := pause(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := pause(t.Context(), time.Millisecond); err != nil {
		t.Error(err)
	}
}

// TestVectors: the published bundles are covered by the table, all of them.
func TestVectors(t *testing.T) {
	base := os.Getenv("ZONEBROKER_VECTORS")
	if base == "" {
		base = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	dir := filepath.Join(base, "tpm")
	manifest, err := os.ReadFile(filepath.Join(dir, "MANIFEST.tsv"))
	if err != nil {
		t.Skipf("no vectors: %s is absent; set ZONEBROKER_VECTORS to run these cases", dir)
	}
	rows, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	f := opened(t, rows...)
	files, added := 0, 0
	for line := range bytes.Lines(manifest) {
		fields := bytes.Split(line, []byte("\t"))
		if len(fields) < 2 || string(fields[1]) != "trust" {
			continue
		}
		files++
		got, err := f.Import(filepath.Join(dir, string(fields[0])), false, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range got {
			switch {
			case i.Outcome == ImportAdded:
				added++
			case i.Outcome == ImportNoCA && strings.Contains(i.File, "IntelSigningKey"): // signs platform certificates
			case i.Outcome != ImportPresent:
				t.Errorf("%s: %s %s %s", i.File, i.Outcome, i.Subject, i.Detail)
			}
		}
	}
	if added != len(rows) {
		t.Errorf("%d certificates for %d rows", added, len(rows))
	}
	f.readable(t)
	for _, r := range rows {
		c := f.held[r.SHA256]
		if c == nil {
			t.Errorf("%s is in no bundle", r.Subject)
			continue
		}
		if own := rowOf(c); own.Subject != r.Subject || own.Serial != r.Serial || own.Role != r.Role ||
			!own.NotAfter.Equal(r.NotAfter) || !own.NotBefore.Equal(r.NotBefore) || sha256.Sum256(c.Raw) != r.SHA256 {
			t.Errorf("the table says %+v of %+v", r, own)
		}
	}
	t.Logf("%d files, %d certificates", files, added)
}

// TestRefreshWithoutNetwork: where no name is known each server is asked for once.
func TestRefreshWithoutNetwork(t *testing.T) {
	asked := 0
	nobody := roundTripper(func(*http.Request) (*http.Response, error) {
		asked++
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	})
	f := opened(t, row(newCA(t, "a", true), "https://pki.example.org/a.cer"))
	got, err := f.Refresh(t.Context(), Source{Client: &http.Client{Transport: nobody}}, nil)
	if err != nil || len(got) != 1 || got[0].Outcome != RefreshFailed || asked != 1 {
		t.Errorf("%d requests: %+v, %v", asked, got, err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
