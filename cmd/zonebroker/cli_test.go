package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"zonebroker": main})
}

const (
	testNode   = "abcdefghijklmnopqrstuvwxyz"
	testRecord = "0192f0c1-2345-7abc-8def-0123456789ab"
	testHash   = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

// TestScripts runs the commands against the real admin socket; behind it stands
// a desk that answers the same to everybody. The broker itself is tested end to
// end elsewhere.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(env *testscript.Env) error {
			env.Setenv("ZONEBROKER_DIR", env.WorkDir)
			env.Setenv("NODE", testNode)
			env.Setenv("RECORD", testRecord)
			env.Setenv("HASH", testHash)
			env.Setenv("FORGED", "a\nforged")
			if err := writeSVID(env.WorkDir); err != nil {
				return err
			}
			return serveDesk(env)
		},
	})
}

// exits runs a command and checks its exit code: "exits 4 zonebroker node list".
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if want := args[0]; strconv.Itoa(got) != want {
		ts.Fatalf("%s exits %d, want %s", strings.Join(args[1:], " "), got, want)
	}
}

func serveDesk(env *testscript.Env) error {
	anchor, err := issuer.NewAnchor(time.Now(), nil)
	if err != nil {
		return err
	}
	certs := serverCertificates{anchor: anchor, trustDomain: "test.zonebroker"}
	srv, err := server.New(server.Config{
		Broker: desk{}, Operator: desk{roleDesk: &roleDesk{}}, Listen: "127.0.0.1:0", TrustDomain: "test.zonebroker",
		AdminSocket:    filepath.Join(env.WorkDir, runDir, adminSocket),
		GetCertificate: certs.get,
	})
	if err != nil {
		return err
	}
	if err := leaveAddress(env, anchor, srv.Addr()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Run(ctx) })
	env.Defer(func() {
		cancel()
		running.Wait()
	})
	return nil
}

// desk answers operators. Ids choose the answer, so that scripts can ask for
// refusals: a node of only a's does not exist, one of only b's is forged.
type desk struct {
	server.Broker
	*roleDesk
}

func (desk) Health(context.Context) api.Health {
	return api.Health{Status: "failing", Checks: []api.HealthCheck{
		{Name: "store", OK: true, Detail: "answers in 1ms"},
		{Name: "policy", Detail: "no policy is active", Fix: "put zones there"},
	}}
}

func theNode() api.Node {
	now := time.Now()
	return api.Node{
		ID: testNode, Status: "active", Standing: "fresh", Zone: "payments", Tier: 2, Verdict: "allow", RootHash: testHash,
		Machine: "rack7-n1", Groups: []string{"rack-7"}, Last: testRecord, AttestedAt: now.Add(-90 * time.Second),
		FreshUntil: now.Add(240 * time.Second), CreatedAt: now.Add(-72 * time.Hour),
	}
}

func (desk) node(id string) (api.Node, error) {
	switch {
	case strings.Trim(id, "a") == "":
		return api.Node{}, reason.New(reason.RequestNotFound, "no such node")
	case strings.Trim(id, "b") == "":
		return api.Node{}, &api.Refusal{Reasons: []*reason.Error{
			reason.New(reason.NodeDisabled, "since Tuesday"), reason.New(reason.PolicyNoZone, "group \x1b[31mred"),
		}}
	case strings.Trim(id, "c") == "":
		return api.Node{}, reason.New(reason.StoreUnavailable, "")
	}
	return theNode(), nil
}

func (d desk) Node(_ context.Context, _ server.Caller, id string) (api.Node, error) {
	return d.node(id)
}

func (desk) Nodes(_ context.Context, _ server.Caller, cursor string, _ int) ([]api.Node, string, error) {
	if cursor == "" {
		return []api.Node{theNode()}, testNode, nil
	}
	n := theNode()
	n.ID = strings.Repeat("z", 26)
	n.Machine = "evil\x1b[2J\nforged line"
	return []api.Node{n}, "", nil
}

func (d desk) Announce(_ context.Context, _ server.Caller, id string, r api.AnnounceRequest) (api.Node, error) {
	n, err := d.node(id)
	n.RebootUntil = time.Now().Add(time.Duration(r.Within) * time.Second)
	return n, err
}

func (d desk) RevokeAdmission(_ context.Context, c server.Caller, ek string, _ api.RevokeRequest) (api.Admission, error) {
	return api.Admission{ID: testRecord, Kind: "inventory", EKHashes: []string{ek}, By: c.Operator, Revoked: true}, nil
}

func (d desk) Disable(_ context.Context, _ server.Caller, id string, _ api.DisableRequest) (api.Node, error) {
	n, err := d.node(id)
	n.Status = "disabled"
	return n, err
}

func (desk) AdmitNode(_ context.Context, c server.Caller, r api.AdmitRequest) (api.Admission, error) {
	return api.Admission{ID: testRecord, Kind: "inventory", Machine: r.Machine, Groups: r.Groups, EKHashes: r.EKHashes, By: c.Operator}, nil
}

func (d desk) Approve(_ context.Context, c server.Caller, subject string, r api.ApproveRequest) (api.Approval, error) {
	if len(subject) == 64 {
		a := api.Admission{ID: testRecord, Kind: "operator", Machine: r.Machine, EKHashes: []string{subject}, By: c.Operator}
		return api.Approval{Admission: &a}, nil
	}
	n, err := d.node(subject)
	return api.Approval{Node: &n}, err
}

func (desk) CreateToken(_ context.Context, _ server.Caller, r api.TokenRequest) (api.Token, error) {
	return api.Token{ID: testRecord, Secret: "join-me", ExpiresAt: time.Now().Add(time.Duration(r.TTL) * time.Second)}, nil
}

func (desk) Pending(context.Context, server.Caller) ([]api.PendingNode, error) { return nil, nil }

func (desk) History(_ context.Context, _ server.Caller, q api.HistoryQuery) (api.HistoryPage, error) {
	if q.Zone == "empty" {
		return api.HistoryPage{}, nil
	}
	top := int64(600)
	if q.Cursor != "" {
		top, _ = strconv.ParseInt(q.Cursor, 10, 64)
	}
	var p api.HistoryPage
	for i := top - 1; i >= 0 && len(p.Entries) < q.Limit; i-- {
		p.Entries = append(p.Entries, api.Entry{Log: "main", Index: i, ID: testRecord, Type: "attestation", Node: testNode, Zone: q.Zone, Verdict: q.Verdict, RecordedAt: time.Now()})
		p.NextCursor = strconv.FormatInt(i, 10)
	}
	return p, nil
}

func (desk) Entry(context.Context, server.Caller, string) (api.Entry, error) {
	return api.Entry{
		Index: 7, ID: testRecord, Type: "attestation", Node: testNode, Verdict: "deny", Reason: "policy.pcr_mismatch",
		Body: json.RawMessage(`{"zone":"payments"}`), Drift: []api.DriftChange{{Kind: "pcr.4", Before: "aa", After: "bb"}},
	}, nil
}

func (desk) VerifyHistory(context.Context, server.Caller) (api.Verification, error) {
	return api.Verification{
		Size: 9, Records: 9, Problems: []string{"entry 3: the record is missing"},
		Logs: []api.LogSum{{Log: "main", Size: 9}, {Log: "second", Size: 4, Root: "ab"}},
	}, nil
}

func (desk) Reference(_ context.Context, _ server.Caller, node, attestation string) (api.ReferenceMaterial, error) {
	m := api.ReferenceMaterial{
		Node: node, AttestationID: testRecord,
		PCRs: map[string]string{
			"0": testHash, "4": strings.Repeat("12", 32), "7": strings.Repeat("1e", 32), "9": testHash,
			"10": testHash, "11": testHash, "15": testHash,
		},
		Events: map[string][]string{"4": {testHash}, "9": {testHash, strings.Repeat("ab", 32), testHash}, "11": {strings.Repeat("cd", 32)}},
	}
	if attestation != "" {
		m.AttestationID = attestation
	}
	if strings.Trim(node, "d") == "" {
		m.PCRs["0"] = "0\nkind: Zone"
	}
	return m, nil
}

// writeSVID leaves an SVID with a zone claim, its bundle, and another bundle.
func writeSVID(dir string) error {
	at := time.Now().Add(-time.Minute).Unix()
	hash := "sha256:" + testHash
	claims := claim.Claims{
		VerifierID: claim.VerifierID{Developer: "https://example.org", Build: "zonebroker test"},
		Status:     claim.StatusAffirming,
		Submods: map[string]claim.Submod{claim.SubmodTPM: claim.Measured{
			SecureBoot: "on", References: true, PolicyID: claim.PolicyID("payments", 1, hash),
		}.Submod()},
		IssuedAt: at,
		Zone: claim.Zone{
			Name: "payments", Tier: 2, Epoch: 1, Node: testNode, AttestationID: testRecord, AttestedAt: at, FreshUntil: at + 300,
			Evidence: hash, Policy: claim.Policy{Version: 1, Hash: hash, Mode: claim.ModeEnforce}, Key: claim.KeyTPM,
		},
	}
	ext, err := claim.EncodeCMW(claims)
	if err != nil {
		return err
	}
	root := func() *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	caKey, ca, err := makeCertificate(root(), nil, nil)
	if err != nil {
		return err
	}
	_, other, err := makeCertificate(root(), nil, nil)
	if err != nil {
		return err
	}
	id := &url.URL{Scheme: "spiffe", Host: "test.zonebroker", Path: "/zone/payments/node/" + testNode}
	_, leaf, err := makeCertificate(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: testNode}, URIs: []*url.URL{id}, ExtraExtensions: []pkix.Extension{ext},
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}, ca, caKey)
	if err != nil {
		return err
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("skipped")})
	files := map[string][]byte{
		"svid.pem":  append(key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})...),
		"svid.der":  leaf.Raw,
		"plain.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}),
	}
	files["list"] = build.New(
		build.Aggregate(nil), build.File("/usr/bin/sh", []byte("sh")), build.File("/usr/bin/sh", []byte("sh")), build.File("/etc/a b", nil),
		build.File("/odd\xff", []byte("odd")), build.Violation("/usr/bin/ls"), build.Buffer(".ima", nil), build.Buffer(".ima", []byte("x")),
	).Bytes()
	if files["token.jwt"], err = makeToken(claims, id.String(), leaf, caKey); err != nil {
		return err
	}
	for name, c := range map[string]*x509.Certificate{"bundle.json": ca, "other.json": other} {
		b := spiffebundle.New(spiffeid.RequireTrustDomainFromString("test.zonebroker"))
		b.AddX509Authority(c)
		if err := b.AddJWTAuthority("k1", c.PublicKey); err != nil {
			return err
		}
		if files[name], err = b.Marshal(); err != nil {
			return err
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// makeToken signs a JWT-SVID for audience payments-api, bound to a certificate.
func makeToken(c claim.Claims, subject string, bound *x509.Certificate, key *ecdsa.PrivateKey) ([]byte, error) {
	x5t := sha256.Sum256(bound.Raw)
	payload, err := claim.EncodeJWT(c, claim.Token{
		Issuer: "https://test.zonebroker", Subject: subject, Audience: "payments-api", ID: testRecord,
		IssuedAt: c.IssuedAt, Expires: c.Zone.FreshUntil, X5T: x5t[:],
	})
	if err != nil {
		return nil, err
	}
	b64 := base64.RawURLEncoding
	input := b64.EncodeToString([]byte(`{"alg":"ES256","kid":"k1"}`)) + "." + b64.EncodeToString(payload)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return []byte(input + "." + b64.EncodeToString(signature) + "\n"), nil
}

func makeCertificate(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if parent == nil {
		parent, signer = template, key
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return key, cert, err
}

// TestEveryCommandExplainsItself: Long and Example for each, and every example
// is a command line that would run.
func TestEveryCommandExplainsItself(t *testing.T) {
	root, _ := newRootCmd()
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s: Short, Long or Example is missing", cmd.CommandPath())
		}
		for _, line := range strings.Split(cmd.Example, "\n") {
			if strings.TrimSpace(line) != "" {
				checkExample(t, cmd.CommandPath(), line)
			}
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(root)
}

func checkExample(t *testing.T, of, line string) {
	t.Helper()
	// What the shell takes for itself: a process to source, a file to write.
	command := strings.TrimSpace(line)
	if inside, ok := strings.CutPrefix(command, "source <("); ok {
		command = strings.TrimSuffix(inside, ")")
	}
	command, _, _ = strings.Cut(command, " > ")
	words := splitWords(command)
	for len(words) > 0 && strings.Contains(words[0], "=") {
		words = words[1:]
	}
	if len(words) == 0 || words[0] != "zonebroker" {
		t.Errorf("%s: example %q is no zonebroker command", of, line)
		return
	}
	root, _ := newRootCmd()
	cmd, rest, err := root.Find(words[1:])
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err == nil {
		err = cmd.ValidateRequiredFlags()
	}
	if err != nil {
		t.Errorf("%s: example %q: %v", of, strings.TrimSpace(line), err)
	}
}

// splitWords splits as a shell does, as far as the examples need it.
func splitWords(line string) (words []string) {
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

func TestRelative(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "0s ago", 90 * time.Second: "90s ago", 5 * time.Minute: "5m ago", 3 * time.Hour: "3h ago", 72 * time.Hour: "3d ago",
		-40 * time.Second: "in 40s", -time.Hour + time.Second: "in 60m", -3 * time.Hour: "in 3h",
	} {
		if got := relative(now.Add(-d), now); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := relative(time.Time{}, now); got != "" {
		t.Errorf("never is %q", got)
	}
}
