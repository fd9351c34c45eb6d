package test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/zonebroker/zonebroker/broker/claim"
)

// workloadZone has a workload for this test's own user on each rack, under
// another name, and one for an executable.
func workloadZone(uid int, program string) string {
	return `apiVersion: zonebroker/v1
kind: Zone
name: payments
tier: 1
selectors: {any: [{group: rack-7}, {group: rack-8}]}
admit: [inventory]
requires: {class: A, format: [tpm2]}
evidence: {max_age: 10s}
issue: {x509_ttl: 1h, jwt_ttl: 10s, grace: 10m, audiences: [payments-api]}
workloads:
  - {name: auditor, path: ` + program + `}
  - {name: checkout, uid: ` + strconv.Itoa(uid) + `, groups: [rack-7]}
  - {name: ledger, uid: ` + strconv.Itoa(uid) + `, groups: [rack-8]}
`
}

func guestZone(uid int) string {
	return `apiVersion: zonebroker/v1
kind: Zone
name: guests
tier: 1
selectors: {any: [{group: rack-9}]}
admit: [inventory]
requires: {class: A, format: [tpm2]}
evidence: {max_age: 5m}
issue: {x509_ttl: 1h, grace: 10m}
workloads:
  - {name: guest, uid: ` + strconv.Itoa(uid) + `}
`
}

// workloadHost is a host of a group whose agent serves workloads.
type workloadHost struct {
	*daemon
	socket string
	api    *workloadapi.Client
}

func newWorkloadHost(t *testing.T, p *replica, server, group string) *workloadHost {
	t.Helper()
	h := newHost(t, p.cluster.rig)
	p.ctl(t, nil, append([]string{"node", "admit", "--group", group}, h.ekHashes()...)...)
	w := &workloadHost{daemon: h.runAgent(server, p.pin), socket: filepath.Join(h.dir, "run", "w.sock")}
	w.until("attested", isAttested)
	var err error
	w.api, err = workloadapi.New(t.Context(), w.addr())
	must(t, err)
	t.Cleanup(func() { _ = w.api.Close() })
	return w
}

func (w *workloadHost) addr() workloadapi.ClientOption {
	return workloadapi.WithAddr("unix://" + w.socket)
}

func (w *workloadHost) x509Source(t *testing.T) *workloadapi.X509Source {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(w.addr()))
	if err != nil {
		t.Fatalf("%v\n%s", err, w.logText())
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestWorkloads is what a workload has of all this: identities from a socket,
// that follow the host's attestations, between hosts that never heard of each
// other, and that end when the host is refused.
func TestWorkloads(t *testing.T) {
	program := filepath.Join(getRig(t).dir, "auditor")
	c := newCluster(t, workloadZone(os.Geteuid(), program), guestZone(os.Geteuid()))
	c.append(t, "zonebroker.yaml", fastNodes)
	p := c.start(t)
	g := newGate(t, p)
	checkout, ledger, guest := newWorkloadHost(t, p, g.url, "rack-7"), newWorkloadHost(t, p, g.url, "rack-8"), newWorkloadHost(t, p, g.url, "rack-9")
	from := checkout.x509Source(t)

	t.Run("names_and_claim", func(t *testing.T) {
		for host, want := range map[*workloadHost]string{
			checkout: "spiffe://test.example/zone/payments/workload/checkout",
			ledger:   "spiffe://test.example/zone/payments/workload/ledger",
			guest:    "spiffe://test.example/zone/guests/workload/guest",
		} {
			got, err := host.api.FetchX509Context(t.Context())
			must(t, err)
			svid := got.DefaultSVID()
			if svid.ID.String() != want {
				t.Errorf("%s, want %s", svid.ID, want)
			}
			_, _, err = x509svid.Verify(svid.Certificates, got.Bundles)
			must(t, err)
			claims, err := claim.FromCertificateInsecure(svid.Certificates[0])
			must(t, err)
			if s, _ := host.status(); claims.Zone.Name != s.Zone || claims.Zone.Node != s.Node {
				t.Errorf("%+v of %+v", claims.Zone, s)
			}
		}
	})

	t.Run("mutual_tls_by_zone", func(t *testing.T) {
		authorize := tlsconfig.AuthorizeIDPrefix(spiffeid.RequireFromString("spiffe://test.example/zone/payments"))
		listener, err := spiffetls.ListenWithMode(t.Context(), "tcp", "127.0.0.1:0", spiffetls.MTLSServerWithSource(authorize, ledger.x509Source(t)))
		must(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte("paid"))
				_ = conn.Close()
			}
		}()
		call := func(source *workloadapi.X509Source) (string, error) {
			conn, err := tls.Dial("tcp", listener.Addr().String(), tlsconfig.MTLSClientConfig(source, source, authorize))
			if err != nil {
				return "", err
			}
			defer conn.Close()
			got := make([]byte, 4)
			_, err = conn.Read(got)
			return string(got), err
		}
		if got, err := call(from); err != nil || got != "paid" {
			t.Errorf("%q, %v", got, err)
		}
		if got, err := call(guest.x509Source(t)); err == nil {
			t.Errorf("a workload of another zone got %q", got)
		}
	})

	t.Run("tokens", func(t *testing.T) {
		token, err := checkout.api.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "payments-api"})
		must(t, err)
		// The other host's bundle is the same trust domain's.
		bundles, err := ledger.api.FetchJWTBundles(t.Context())
		must(t, err)
		_, err = jwtsvid.ParseAndValidate(token.Marshal(), bundles, []string{"payments-api"})
		must(t, err)
		_, err = ledger.api.ValidateJWTSVID(t.Context(), token.Marshal(), "payments-api")
		must(t, err)
		if _, err := ledger.api.ValidateJWTSVID(t.Context(), token.Marshal(), "billing"); err == nil {
			t.Error("valid for another audience")
		}
		if _, err := guest.api.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: "payments-api"}); err == nil || !strings.Contains(err.Error(), "policy.audience") {
			t.Errorf("an audience that the zone does not list: %v", err)
		}
	})

	t.Run("another_executable", func(t *testing.T) { anotherExecutable(t, checkout, program) })
	t.Run("another_user", func(t *testing.T) { anotherUser(t, checkout) })

	t.Run("follows_the_attestations", func(t *testing.T) {
		first, err := from.GetX509SVID()
		must(t, err)
		before, err := claim.FromCertificateInsecure(first.Certificates[0])
		must(t, err)
		within(t, time.Minute, "an SVID of a later attestation", func() bool {
			svid, err := from.GetX509SVID()
			must(t, err)
			now, err := claim.FromCertificateInsecure(svid.Certificates[0])
			must(t, err)
			return now.Zone.AttestationID != before.Zone.AttestationID
		})
	})

	t.Run("served_while_the_broker_is_away", func(t *testing.T) {
		g.shut()
		defer g.let(p)
		_, err := guest.api.FetchX509SVID(t.Context())
		must(t, err)
	})

	t.Run("taken_back", func(t *testing.T) {
		s, _ := checkout.status()
		p.ctl(t, nil, "node", "disable", s.Node)
		within(t, time.Minute, "the agent has heard of it", func() bool {
			_, err := checkout.api.FetchX509SVID(t.Context())
			return err != nil && strings.Contains(err.Error(), "PermissionDenied") && strings.Contains(err.Error(), "no zone")
		})
		if _, err := ledger.api.FetchX509SVID(t.Context()); err != nil {
			t.Errorf("another host: %v", err)
		}
	})
}

// anotherExecutable: the copy of the command under the path of a rule is another
// workload than the command itself.
func anotherExecutable(t *testing.T, host *workloadHost, program string) {
	self := filepath.Join(host.h.rig.bin, "zoneagent")
	text, err := os.ReadFile(self)
	must(t, err)
	must(t, os.WriteFile(program, text, 0o755))
	for path, want := range map[string]string{self: "checkout", program: "auditor"} {
		out, err := exec.Command(path, "fetch", "x509", "--socket", host.socket, "-o", "json").Output()
		must(t, err)
		var got struct {
			Workload string `json:"workload"`
		}
		must(t, json.Unmarshal(out, &got))
		if got.Workload != want {
			t.Errorf("%s is %q, want %q", path, got.Workload, want)
		}
	}
}

// anotherUser: nobody's uid is in no rule.
func anotherUser(t *testing.T, host *workloadHost) {
	if os.Geteuid() != 0 {
		t.Skip("a caller of another user needs root to start it: run this test as root")
	}
	must(t, os.Chmod(host.h.dir, 0o711)) // a way in to the socket
	cmd := exec.Command(filepath.Join(host.h.rig.bin, "zoneagent"), "fetch", "x509", "--socket", host.socket)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "matches uid 65534") {
		t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), out)
	}
}

// within waits until what holds.
func within(t *testing.T, d time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", d, what)
		}
	}
}
