package test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// BenchmarkCeiling measures what no broker on this machine could exceed, in the
// same run as what ours does:
//
//	crypto  the public-key operations of one attestation on all cores: check the quote and
//	        the certification, make the credential (new), sign the SVID; "host" adds what
//	        the hosts compute, which in these benchmarks are on the same cores
//	http    GET /healthz/live through our own server in a process of its own, over
//	        HTTP/2 and TLS 1.3 on a kept connection a caller; an attestation takes two requests
//	connect the same with a connection for each request
//
// The third ceiling, group commits without HTTP, is BenchmarkStore of package
// store.
func BenchmarkCeiling(b *testing.B) {
	b.Run("crypto/new", func(b *testing.B) { benchmarkCrypto(b, true, false) })
	b.Run("crypto/renew", func(b *testing.B) { benchmarkCrypto(b, false, false) })
	b.Run("crypto/new+host", func(b *testing.B) { benchmarkCrypto(b, true, true) })
	b.Run("crypto/renew+host", func(b *testing.B) { benchmarkCrypto(b, false, true) })
	s := startBareServer(b)
	for _, callers := range []int{8, 32, 256} {
		b.Run(fmt.Sprintf("http/callers=%d", callers), func(b *testing.B) { s.benchmark(b, callers, true) })
		b.Run(fmt.Sprintf("connect/callers=%d", callers), func(b *testing.B) { s.benchmark(b, callers, false) })
	}
}

// cryptoWork is one attestation as keys and bytes.
type cryptoWork struct {
	h          *labHost
	ak         tpm2.AK
	ek         tpm2.EK
	ev         verifier.Evidence
	qualifying []byte
	ca         *ecdsa.PrivateKey
}

func newCryptoWork(t testing.TB) *cryptoWork {
	t.Helper()
	w := &cryptoWork{h: newLabHost(t)}
	want := verifier.Expectation{TrustDomain: trustDomain, Purpose: verifier.PurposeRenew, Nonce: make([]byte, 32), Selection: evidencetest.Selection}
	w.ev = w.h.tpm.Evidence(t, want, w.h.key)
	bound := verifier.Binding(want.Nonce, w.ev.SPKI, want.TrustDomain, want.Purpose, w.ev.Format, nil)
	w.qualifying = bound[:]
	var err error
	w.ak, err = tpm2.ParseAK(w.h.tpm.AK.Public)
	must(t, err)
	w.ek, err = tpm2.ParseEK(w.h.tpm.EK.Public)
	must(t, err)
	w.ca = w.h.tpm.AK.Signer().(*ecdsa.PrivateKey) // any P-256 key signs at the same speed
	return w
}

// broker is what the broker computes.
func (w *cryptoWork) broker(enrol bool) (blob, secret []byte, err error) {
	q, err := tpm2.AuthenticateQuote(w.ak, w.ev.TPM2.Quote, w.ev.TPM2.Signature, w.qualifying)
	if err != nil {
		return nil, nil, err
	}
	if _, err := q.Quote(evidencetest.Selection, w.ev.TPM2.PCRs); err != nil {
		return nil, nil, err
	}
	if _, err := tpm2.VerifyCertify(w.ak, *w.ev.TPM2.Certify, w.qualifying); err != nil {
		return nil, nil, err
	}
	digest := sha256.Sum256(w.ev.TPM2.Quote)
	if _, err := ecdsa.SignASN1(rand.Reader, w.ca, digest[:]); err != nil || !enrol {
		return nil, nil, err
	}
	return w.ek.MakeCredential(rand.Reader, w.ak.Name(), make([]byte, 32))
}

// host is what the TPM computes: two signatures, and opening a credential.
func (w *cryptoWork) host(t testing.TB, blob, secret []byte) error {
	w.h.tpm.Quote(t, evidencetest.Selection, w.qualifying)
	w.h.tpm.Certify(t, w.h.key, w.qualifying)
	if blob == nil {
		return nil
	}
	_, err := w.h.tpm.EK.Activate(w.h.tpm.AK.Name(), blob, secret)
	return err
}

func benchmarkCrypto(b *testing.B, enrol, host bool) {
	w := newCryptoWork(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			blob, secret, err := w.broker(enrol)
			if err == nil && host {
				err = w.host(b, blob, secret)
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "att/s")
}

// bareVariable makes TestBareServer the server of BenchmarkCeiling.
const bareVariable = "ZONEBROKER_TEST_BARE_SERVER"

// onlyRoutes is a broker that nobody asks anything.
type onlyRoutes struct{ server.Broker }

// TestBareServer is no test: in a process of its own it serves the routes of a
// broker, without limits and with nothing behind them, until its input ends.
func TestBareServer(*testing.T) {
	if os.Getenv(bareVariable) == "" {
		return
	}
	if err := serveBare(); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveBare() error {
	anchor, err := issuer.NewAnchor(time.Now(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := issuer.ServerCertificate(anchor, trustDomain, time.Now())
	if err != nil {
		return err
	}
	all := server.Rate{PerSecond: 1e9, Burst: 1e9}
	s, err := server.New(server.Config{
		Broker: onlyRoutes{}, TrustDomain: trustDomain, Listen: "127.0.0.1:0",
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		Limits:         server.Limits{MaxConns: 100_000, MaxConnsPerIP: 100_000, Arrivals: all, Newcomers: all, Documents: all},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	fmt.Printf("ready https://%s\n", s.Addr())
	return s.Run(ctx)
}

// bareServer is the process of TestBareServer.
type bareServer struct {
	pid int
	url string
}

func startBareServer(t testing.TB) *bareServer {
	t.Helper()
	c, first := startChild(t, "TestBareServer", bareVariable, "1")
	t.Cleanup(func() { c.stdin.Close(); _ = c.cmd.Wait() })
	url, ok := strings.CutPrefix(first, "ready ")
	if !ok {
		t.Fatalf("the bare server did not start: %q", first)
	}
	return &bareServer{pid: c.cmd.Process.Pid, url: url}
}

func (s *bareServer) benchmark(b *testing.B, callers int, kept bool) {
	clients := make([]*http.Client, callers)
	for i := range clients {
		clients[i] = bareClient()
		defer clients[i].CloseIdleConnections()
	}
	get := func(ctx context.Context, caller, _ int) error {
		if !kept {
			clients[caller].CloseIdleConnections()
		}
		return getLive(ctx, clients[caller], s.url)
	}
	inParallel(b, callers, callers, func(i int) error { return get(b.Context(), i, 0) })
	server, _, _ := cpuOf(s.pid)
	own, _, _ := cpuOf(os.Getpid())
	drive(b, callers, get).report(b)
	server2, _, _ := cpuOf(s.pid)
	own2, _, _ := cpuOf(os.Getpid())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	b.ReportMetric(float64((server2-server).Microseconds())/float64(b.N), "server-cpu-µs/op")
	b.ReportMetric(float64((own2-own).Microseconds())/float64(b.N), "client-cpu-µs/op")
}

// bareClient has one kept connection and believes any server: what is measured
// is the wire.
func bareClient() *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}, Protocols: &protocols,
	}}
}

func getLive(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz/live", nil)
	if err != nil {
		return err
	}
	rsp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	if _, err := io.Copy(io.Discard, rsp.Body); err != nil || rsp.StatusCode != http.StatusOK {
		return fmt.Errorf("live: %s, %w", rsp.Status, err)
	}
	return nil
}
