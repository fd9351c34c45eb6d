package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/deploy/hostdeps/hostdepstest"
)

// TestOpenSSLAcceptsTheChain lets a foreign and strict reader judge both chains:
// the SVID with its non-critical claim under the replica's CA, and the broker's
// TLS certificate under the trust anchor.
func TestOpenSSLAcceptsTheChain(t *testing.T) {
	openssl := hostdepstest.Program(t, hostdeps.OpenSSL, "openssl")
	now := time.Now()
	dir := t.TempDir()
	svid, ca := issueSVID(t, now)
	anchor, err := issuer.NewAnchor(now, nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := issuer.ServerCertificate(anchor, "zb.example", now)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	caFile, svidFile := write("ca.pem", ca), write("svid.pem", svid)
	anchorFile, serverFile := write("anchor.pem", anchor.Certificate().Raw), write("server.pem", server.Certificate[0])
	at := strconv.FormatInt(now.Unix(), 10)
	verify := func(want bool, args ...string) {
		t.Helper()
		full := append([]string{"verify", "-x509_strict", "-check_ss_sig", "-attime", at, "-no-CApath", "-no-CAfile", "-no-CAstore"}, args...)
		out, err := exec.Command(openssl, full...).CombinedOutput()
		if (err == nil) != want {
			t.Errorf("openssl %s: %v\n%s", strings.Join(full, " "), err, out)
		}
	}
	verify(true, "-CAfile", caFile, "-purpose", "sslclient", svidFile)
	verify(true, "-CAfile", caFile, "-purpose", "sslserver", svidFile)
	verify(true, "-CAfile", anchorFile, "-purpose", "sslserver", serverFile)
	verify(true, "-CAfile", caFile, caFile)
	verify(true, "-CAfile", anchorFile, anchorFile)
	verify(false, "-CAfile", anchorFile, svidFile) // the anchor vouches for no SVID
	verify(false, "-CAfile", caFile, serverFile)
	verify(false, "-CAfile", anchorFile, "-purpose", "sslclient", serverFile)

	out, err := exec.Command(openssl, "x509", "-in", svidFile, "-noout", "-text").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"URI:spiffe://zb.example/zone/payments/node/", "O = Zonebroker", "1.3.6.1.5.5.7.1.35: \n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("openssl does not show %q:\n%s", want, out)
		}
	}
}

// issueSVID makes a CA and an SVID with a claim, both as DER.
func issueSVID(t *testing.T, now time.Time) (svid, ca []byte) {
	t.Helper()
	i, err := issuer.New(issuer.Config{TrustDomain: "zb.example", Replica: "one"})
	if err != nil {
		t.Fatal(err)
	}
	authority, key, err := i.NewCA(now)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Activate(authority); err != nil {
		t.Fatal(err)
	}
	fresh, node, hash := now.Add(5*time.Minute), strings.Repeat("a", 26), "sha256:"+strings.Repeat("0c", 32)
	end, err := i.Expiry(now, fresh, time.Hour, 55*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	ext, err := claim.EncodeCMW(claim.Claims{
		VerifierID: claim.VerifierID{Developer: "https://zonebroker.example", Build: "zonebroker test"},
		Status:     claim.StatusAffirming,
		Submods:    map[string]claim.Submod{claim.SubmodTPM: claim.Measured{PolicyID: claim.PolicyID("payments", 1, hash)}.Submod()},
		IssuedAt:   now.Unix(), Expires: end.Unix(),
		Zone: claim.Zone{
			Name: "payments", Tier: 2, Epoch: 1, Node: node, AttestationID: "0197b3c2-0000-7000-8000-000000000001",
			AttestedAt: now.Unix(), FreshUntil: fresh.Unix(), Evidence: hash,
			Policy: claim.Policy{Version: 1, Hash: hash, Mode: claim.ModeEnforce}, Key: claim.KeyTPM,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	p, err := i.Prepare(issuer.Request{
		SPIFFEID: "spiffe://zb.example/zone/payments/node/" + node, SPKI: spki, CommonName: node, Key: claim.KeyTPM,
		NotAfter: end, FreshUntil: fresh, Grace: 55 * time.Minute, ClaimExtension: ext,
	})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := i.Sign(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("leaf of %d bytes", len(chain[0]))
	return chain[0], key.DER
}
