package agent_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// TestT19_ActivationFailureLeaksNothing: a credential that this TPM cannot open
// ends the run before a quote, once, and its secret shows nowhere.
func TestT19_ActivationFailureLeaksNothing(t *testing.T) {
	var nonces [][]byte
	for name, credential := range map[string]func(tpm2.EK, tpm2.AK, []byte) ([]byte, []byte, error){
		"for_another_name": func(ek tpm2.EK, ak tpm2.AK, nonce []byte) ([]byte, []byte, error) {
			nonces = append(nonces, nonce)
			name := ak.Name()
			name[5] ^= 1
			return ek.MakeCredential(rand.Reader, name, nonce)
		},
		"altered": func(ek tpm2.EK, ak tpm2.AK, nonce []byte) ([]byte, []byte, error) {
			nonces = append(nonces, nonce)
			blob, secret, err := ek.MakeCredential(rand.Reader, ak.Name(), nonce)
			blob[len(blob)-1] ^= 1
			return blob, secret, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			h := newHost(t, b)
			b.credential = credential
			var said strings.Builder
			h.cfg.Progress = func(line string) { said.WriteString(line + "\n") }
			_, err := agent.Attest(t.Context(), h.cfg)
			if reason.Of(err) != reason.TPM2AKActivationFailed {
				t.Fatalf("got %v", err)
			}
			if len(b.attests) != 0 || len(b.challenges) != 1 {
				t.Errorf("%d challenges, %d attests; want one try", len(b.challenges), len(b.attests))
			}
			for _, nonce := range nonces {
				for _, text := range []string{err.Error(), said.String(), h.state(t)} {
					if strings.Contains(text, hexOf(nonce)) || strings.Contains(text, string(nonce)) {
						t.Error("the secret is told")
					}
				}
			}
		})
	}
}

func TestStrangersLearnNothing(t *testing.T) {
	b, stranger := newBroker(t), newBroker(t)
	h := newHost(t, b)
	h.cfg.Server = stranger.url
	_, err := agent.Attest(t.Context(), h.cfg)
	if _, ok := errors.AsType[*client.UntrustedError](err); !ok {
		t.Errorf("got %v", err)
	}
	if len(stranger.challenges) != 0 {
		t.Error("EK and AK went to a stranger")
	}
}

// TestAnswersThatDoNotVerify: nothing of them is kept.
func TestAnswersThatDoNotVerify(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.attest(t)
	before := h.state(t)
	other := authority(t, "another CA")
	for name, spoil := range map[string]func(*api.AttestResponse){
		"no_chain":            func(a *api.AttestResponse) { a.Chain = nil },
		"garbage":             func(a *api.AttestResponse) { a.Chain = []api.Bytes{{1, 2, 3}} },
		"bundle_of_another":   func(a *api.AttestResponse) { a.Bundle = bundleOf(other.cert) },
		"empty_bundle":        func(a *api.AttestResponse) { a.Bundle = json.RawMessage(`{"keys":[]}`) },
		"for_another_key":     func(a *api.AttestResponse) { a.Chain = []api.Bytes{b.leafForAnotherKey(a)} },
		"another_zone":        func(a *api.AttestResponse) { a.Zone = "payments" },
		"another_tier":        func(a *api.AttestResponse) { a.Tier = 4 },
		"another_node":        func(a *api.AttestResponse) { a.Node = strings.Repeat("a", 26) },
		"another_spiffe_id":   func(a *api.AttestResponse) { a.SPIFFEID = "spiffe://" + trustDomain + "/zone/lab/node/x" },
		"another_attestation": func(a *api.AttestResponse) { a.AttestationID = "01970000-0000-7000-8000-000000000000" },
		"longer_freshness":    func(a *api.AttestResponse) { a.FreshUntil = a.FreshUntil.AddDate(1, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			b.spoil = spoil
			_, err := agent.Attest(t.Context(), h.cfg)
			if !isFault(err, agent.FaultAnswer) {
				t.Errorf("got %v", err)
			}
			if h.state(t) != before {
				t.Error("the state changed")
			}
		})
	}
}

func bundleOf(c *x509.Certificate) json.RawMessage {
	key, err := json.Marshal(map[string]any{"kty": "EC", "use": "x509-svid", "x5c": [][]byte{c.Raw}})
	if err != nil {
		panic(err)
	}
	return json.RawMessage(`{"keys":[` + string(key) + `]}`)
}

// leafForAnotherKey has the right names and the right issuer.
func (b *broker) leafForAnotherKey(a *api.AttestResponse) []byte {
	leaf, err := x509.ParseCertificate(a.Chain[0])
	if err != nil {
		b.t.Fatal(err)
	}
	return certificate(b.t, &x509.Certificate{
		Subject: leaf.Subject, KeyUsage: leaf.KeyUsage, ExtKeyUsage: leaf.ExtKeyUsage, URIs: leaf.URIs,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		ExtraExtensions: slices.DeleteFunc(leaf.Extensions, func(e pkix.Extension) bool { return !e.Id.Equal(claimOID) }),
	}, &b.ca, b.now()).cert.Raw
}

// claimOID is id-pe-cmw.
var claimOID = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}

func TestChallengesOutsideTheContract(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	for name, change := range map[string]func(*api.Challenge){
		"no_token":             func(c *api.Challenge) { c.Token = "" },
		"no_selection":         func(c *api.Challenge) { c.Select = "" },
		"empty_selection":      func(c *api.Challenge) { c.Select = "000000" },
		"nonce_and_credential": func(c *api.Challenge) { c.Nonce = make([]byte, 32) },
		"other_purpose":        func(c *api.Challenge) { c.Purpose, c.Credential, c.Nonce = api.PurposeRenew, nil, make([]byte, 32) },
	} {
		t.Run(name, func(t *testing.T) {
			b.challenge, b.attests = change, nil
			_, err := agent.Attest(t.Context(), h.cfg)
			if !isFault(err, agent.FaultAnswer) || len(b.attests) != 0 {
				t.Errorf("got %v, %d attests", err, len(b.attests))
			}
		})
	}
}

func TestTrustDomainIsPinned(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	h.cfg.TrustDomain = "other.org"
	if _, err := agent.Attest(t.Context(), h.cfg); err == nil || len(b.challenges) != 0 {
		t.Fatalf("got %v", err)
	}
	h.cfg.TrustDomain = ""
	h.attest(t)
	h.cfg.TrustDomain = "other.org"
	if _, err := agent.Attest(t.Context(), h.cfg); !isFault(err, agent.FaultState) {
		t.Errorf("got %v", err)
	}
}

func TestSave(t *testing.T) {
	b := newBroker(t)
	h := newHost(t, b)
	r := h.attest(t)
	path := filepath.Join(t.TempDir(), "svid.pem")
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("PRIVATE")) {
			t.Errorf("%s holds a key", name)
		}
		return text
	}
	read(path)
	if _, err := client.Bundle(read(path + ".bundle.json")); err != nil {
		t.Error(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(read(path + ".bundle.pem")) {
		t.Error("no authority in the bundle")
	}
	if err := r.Save(filepath.Join(t.TempDir(), "absent", "svid.pem")); !isFault(err, agent.FaultFile) {
		t.Errorf("got %v", err)
	}
}
