package agent_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadatatest"
	"github.com/zonebroker/zonebroker/broker/agent/collect/roster"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// nothing is a root of a system with no device of any kind.
func nothing(t testing.TB) string {
	t.Helper()
	return t.TempDir()
}

// cloudHost is a machine without a TPM, on a metadata service.
func cloudHost(t testing.TB, b *broker, url string) *host {
	t.Helper()
	return &host{cfg: agent.Config{
		Server: b.url, Trust: b.trust(), StateDir: filepath.Join(t.TempDir(), "state"), Format: verifier.FormatJoinToken, JoinToken: "join-me",
		Documents: roster.Config{Metadata: url, Root: nothing(t)}, Progress: func(line string) { t.Log(line) },
	}}
}

// azureEcho answers with the nonce that it was asked for.
func azureEcho(t testing.TB) *metadatatest.Server {
	return metadatatest.Azure(t, map[string]metadatatest.Answer{
		"/metadata/attested/document": func(r *http.Request) string { return r.URL.Query().Get("nonce") },
	})
}

func TestHostWithoutTPMEnrolsThenRenews(t *testing.T) {
	b := newBroker(t)
	h := cloudHost(t, b, "")
	first := h.attest(t)
	if first.Purpose != api.PurposeEnrol || first.Format != verifier.FormatJoinToken || first.InTPM {
		t.Errorf("first: %+v", first)
	}
	req := b.last()
	if req.TPM2 != nil || len(req.CSR) == 0 || len(req.Items) != 1 || req.Items[0].Format != verifier.FormatJoinToken {
		t.Errorf("%+v", req)
	}
	if bytes.Equal(req.Agent.Public, req.SPKI) {
		t.Error("the key of the SVID is that of the agent")
	}
	b.mu.Lock()
	b.withCert = nil
	b.mu.Unlock()
	second := h.attest(t)
	if second.Purpose != api.PurposeRenew || second.Node != first.Node || b.last().Prev != first.AttestationID {
		t.Errorf("second: %+v", second)
	}
	if !bytes.Equal(b.last().SPKI, req.SPKI) || !bytes.Equal(b.last().Agent.Public, req.Agent.Public) {
		t.Error("another key than before")
	}
	if slices.Contains(b.withCert, false) {
		t.Error("a request went without the SVID")
	}
}

func TestKeysOfAHostWithoutTPMAreItsOwn(t *testing.T) {
	b := newBroker(t)
	h := cloudHost(t, b, "")
	h.attest(t)
	for _, name := range []string{"agent.key", "svid.key"} {
		path := filepath.Join(h.cfg.StateDir, name)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: %v, %v", name, info.Mode(), err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if block, _ := pem.Decode(text); block == nil {
			t.Errorf("%s is no PEM", name)
		} else if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for what, spoil := range map[string]func() error{
			"readable by others": func() error { return os.Chmod(path, 0o644) },
			"spoilt": func() error {
				return os.WriteFile(path, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600)
			},
			"empty": func() error { return os.WriteFile(path, nil, 0o600) },
			"huge":  func() error { return os.WriteFile(path, make([]byte, 1<<20), 0o600) },
		} {
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			_, err := agent.Attest(t.Context(), h.cfg)
			if fault, ok := errors.AsType[*agent.Fault](err); !ok || fault.Kind != agent.FaultState {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, text, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.attest(t)
}

// What the challenge lists is collected, each for its own format; what it does not
// list, and what this host does not have, is not.
func TestDocumentsThatAChallengeLists(t *testing.T) {
	b := newBroker(t)
	b.evidence = []string{verifier.FormatAzureIMDS, verifier.FormatGCEIdentity, verifier.FormatSNP, "unheard.of"}
	server := azureEcho(t)
	h := cloudHost(t, b, server.URL)
	var nonce []byte
	b.challenge = func(c *api.Challenge) { nonce = c.Nonce }
	h.attest(t)
	req := b.last()
	if len(req.Items) != 2 || req.Items[0].Format != verifier.FormatJoinToken || req.Items[1].Format != verifier.FormatAzureIMDS {
		t.Fatalf("%+v", req.Items)
	}
	bound := verifier.Binding(nonce, req.SPKI, trustDomain, api.PurposeEnrol, verifier.FormatAzureIMDS, nil)
	if got := string(req.Items[1].Document); got != document.Base62(bound) {
		t.Errorf("the document carries %s", got)
	}
	b.evidence = nil
	h.attest(t)
	if items := b.last().Items; len(items) != 1 {
		t.Errorf("%+v", items)
	}
}

// A TPM's host sends documents too, and stays the node that its EK names.
func TestDocumentsBesideAQuote(t *testing.T) {
	b := newBroker(t)
	b.evidence = []string{verifier.FormatAzureIMDS}
	h := newHost(t, b)
	h.cfg.Documents = roster.Config{Metadata: azureEcho(t).URL, Root: nothing(t)}
	first := h.attest(t) // the nonce is in the credential
	if !first.InTPM || first.Format != api.FormatTPM2 {
		t.Errorf("%+v", first)
	}
	var nonce []byte
	b.challenge = func(c *api.Challenge) { nonce = c.Nonce }
	h.attest(t)
	req := b.last()
	bound := verifier.Binding(nonce, req.SPKI, trustDomain, api.PurposeRenew, verifier.FormatAzureIMDS, nil)
	if req.TPM2 == nil || len(req.Items) != 1 || string(req.Items[0].Document) != document.Base62(bound) {
		t.Errorf("%+v", req.Items)
	}
}

// A document beside the one that names the node is left out where its source
// fails: whether a zone can do without it, the broker knows.
func TestSourceThatFailsIsLeftOut(t *testing.T) {
	b := newBroker(t)
	b.evidence = []string{verifier.FormatAzureIMDS, verifier.FormatAzureMSI}
	h := cloudHost(t, b, metadatatest.Azure(t, map[string]metadatatest.Answer{
		"/metadata/identity/oauth2/token": metadatatest.Text(`{"access_token":"h.p.s"}`),
		"/metadata/attested/document":     metadatatest.Text(strings.Repeat("x", 1<<20)),
	}).URL)
	var said []string
	h.cfg.Progress = func(line string) { said = append(said, line) }
	h.attest(t)
	if items := b.last().Items; len(items) != 2 || items[1].Format != verifier.FormatAzureMSI {
		t.Errorf("%+v", items)
	}
	if !slices.ContainsFunc(said, func(line string) bool { return strings.HasPrefix(line, "left out azure.imds: ") }) {
		t.Errorf("nothing is said of it: %q", said)
	}
}

func TestWhatNamesTheNodeHasToBeThere(t *testing.T) {
	b := newBroker(t)
	for format, want := range map[string]agent.FaultKind{
		verifier.FormatNitro: agent.FaultEvidence, verifier.FormatEC2IID: agent.FaultEvidence, "unheard.of": agent.FaultEvidence,
		verifier.FormatGCEAKCert: agent.FaultTPM, verifier.FormatAzureCVM: agent.FaultTPM,
	} {
		h := cloudHost(t, b, azureEcho(t).URL)
		h.cfg.Format, h.cfg.Device = format, "/nonexistent/tpm"
		_, err := agent.Attest(t.Context(), h.cfg)
		if fault, ok := errors.AsType[*agent.Fault](err); !ok || fault.Kind != want {
			t.Errorf("%s: %v", format, err)
		}
	}
	if len(b.attests) != 0 {
		t.Errorf("%d attestations without evidence", len(b.attests))
	}
}

// Without a word from the operator: what the state is about, the TPM that there
// is, the strongest document.
func TestFormatThatIsChosen(t *testing.T) {
	b := newBroker(t)
	asked := func(h *host) string {
		t.Helper()
		_, _ = agent.Attest(t.Context(), h.cfg) // the broker knows few formats
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.challenges[len(b.challenges)-1].Format
	}
	onAzure := cloudHost(t, b, azureEcho(t).URL)
	onAzure.cfg.Format = agent.AutoFormat
	if got := asked(onAzure); got != verifier.FormatAzureIMDS {
		t.Errorf("on Azure: %s", got)
	}
	nowhere := cloudHost(t, b, "http://127.0.0.1:1")
	nowhere.cfg.Format = ""
	if got := asked(nowhere); got != verifier.FormatJoinToken {
		t.Errorf("with a join token alone: %s", got)
	}
	nowhere.cfg.Documents.Metadata = azureEcho(t).URL
	if got := asked(nowhere); got != verifier.FormatJoinToken {
		t.Errorf("on a host that is named already: %s", got)
	}
	withTPM := newHost(t, b)
	withTPM.cfg.Documents = onAzure.cfg.Documents
	if got := asked(withTPM); got != api.FormatTPM2 {
		t.Errorf("with a TPM: %s", got)
	}
	alone := cloudHost(t, b, "http://127.0.0.1:1")
	alone.cfg.Format, alone.cfg.JoinToken = "", ""
	_, err := agent.Attest(t.Context(), alone.cfg)
	if fault, ok := errors.AsType[*agent.Fault](err); !ok || fault.Kind != agent.FaultEvidence || !strings.Contains(fault.Fix, "doctor") {
		t.Errorf("with nothing: %v", err)
	}
}

// Another format is another node: naming the attestation of the one before would
// look like a clone.
func TestOtherFormatIsAnotherNode(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.attest(t)
	h.cfg.Format, h.cfg.JoinToken = verifier.FormatJoinToken, "join-me"
	h.cfg.Documents = roster.Config{Root: nothing(t)}
	second := h.attest(t)
	if second.Purpose != api.PurposeEnrol || b.last().Prev != "" {
		t.Errorf("%+v after %q", second, b.last().Prev)
	}
	h.cfg.Format = api.FormatTPM2
	if back := h.attest(t); back.Purpose != api.PurposeEnrol && back.Purpose != api.PurposeRenew || b.last().Prev != "" {
		t.Errorf("%+v after %q", back, b.last().Prev)
	}
}

// A key that a cloud vouches for quotes in the place of the agent's own, and goes
// with its certificate.
func TestKeyOfACloudQuotes(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	tpm, err := tpm2collect.Open(t.Context(), tpm2collect.Config{Device: h.cfg.Device})
	if err != nil {
		t.Fatal(err)
	}
	own, err := tpm.AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for index, data := range map[uint32][]byte{0x01c10000: []byte("certificate"), 0x01c10001: own.Public} {
		if err := tpm.WriteNV(t.Context(), index, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tpm.Close(); err != nil {
		t.Fatal(err)
	}
	h.cfg.Format = verifier.FormatGCEAKCert
	b.refuseAttest = func(int) error { return reason.New(reason.NodeNotAdmitted, "not here") }
	if _, err := agent.Attest(t.Context(), h.cfg); reason.Of(err) != reason.NodeNotAdmitted {
		t.Fatal(err)
	}
	req, asked := b.last(), b.challenges[len(b.challenges)-1]
	if asked.Agent == nil || len(asked.Agent.AKPublic) == 0 || asked.Format != verifier.FormatGCEAKCert {
		t.Errorf("%+v", asked)
	}
	if req.Agent != nil || req.TPM2 == nil || req.TPM2.Certify == nil || len(req.Items) != 1 || string(req.Items[0].Document) != "certificate" {
		t.Errorf("%+v", req)
	}
}
