// Package collecttest has a host answer a challenge with what its collectors make,
// and the product's verifier judge that: names of parts, encodings and what a device
// is handed have to be those that the verifier looks for.
package collecttest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
)

// Noon is when hosts are challenged; they are judged a second later.
var Noon = evidencetest.Noon

// Host answers one challenge.
type Host struct {
	want verifier.Expectation
	ev   verifier.Evidence
	sign func(digest [32]byte) ([]byte, error) // of the agent key, nil with a TPM
	ak   []byte
}

// NewHost is a host without a TPM that a document of format names, at its first
// contact. Nonce tells challenges apart.
func NewHost(t testing.TB, format, nonce string) *Host {
	t.Helper()
	key, agent := evidencetest.NewSVIDKey(t), documenttest.NewJWTKey("agent", "ES256").Signer()
	public := evidencetest.SPKI(t, agent.Public())
	h := newHost(nonce, verifier.AgentKeyName(public))
	h.ev = verifier.Evidence{Format: format, SPKI: key.SPKI(t), CSR: key.CSR(t), Agent: &verifier.AgentProof{Public: public}}
	h.sign = func(digest [32]byte) ([]byte, error) {
		return ecdsa.SignASN1(rand.Reader, agent.(*ecdsa.PrivateKey), digest[:])
	}
	return h
}

// NewTPMHost is a host that quotes with a TPM of its own.
func NewTPMHost(t testing.TB, nonce string) *Host {
	t.Helper()
	tpm := evidencetest.New(t)
	h := newHost(nonce, tpm.AK.Name())
	h.want.Selection = evidencetest.Selection
	h.ev, h.ak = tpm.Evidence(t, h.want, evidencetest.NewSVIDKey(t)), tpm.AK.SPKI(t)
	return h
}

func newHost(nonce string, name []byte) *Host {
	sum := sha256.Sum256([]byte(nonce))
	return &Host{want: verifier.Expectation{
		TrustDomain: "example.org", Purpose: verifier.PurposeEnrol, Nonce: sum[:], AKName: name, IssuedAt: Noon,
	}}
}

func (h *Host) binding(format string) [32]byte {
	return verifier.Binding(h.want.Nonce, h.ev.SPKI, h.want.TrustDomain, h.want.Purpose, format, nil)
}

// Collect has a collector answer the challenge, as the agent does.
func (h *Host) Collect(t testing.TB, c collect.Collector) verifier.Item {
	t.Helper()
	if f := c.Detect(t.Context()); !f.Able {
		t.Fatalf("%s: %s", f.Format, f.Why)
	}
	item, err := c.Collect(t.Context(), collect.Bound{Value: h.binding(c.Format()), Primary: h.binding(h.ev.Format), AK: h.ak})
	if err != nil {
		t.Fatal(err)
	}
	return item
}

// Judge has the verifier judge the host with one document, and returns that.
func (h *Host) Judge(t testing.TB, item verifier.Item, trust ...verifier.TrustObject) (verifier.Document, error) {
	t.Helper()
	documents, err := verifier.NewDocuments(trust)
	if err != nil {
		t.Fatal(err)
	}
	h.ev.Items = []verifier.Item{item}
	if h.sign != nil {
		if h.ev.Agent.Signature, err = h.sign(verifier.AgentDigest(h.binding(h.ev.Format))); err != nil {
			t.Fatal(err)
		}
	}
	got, err := verifier.Appraise(h.ev, h.want, verifier.Trust{Documents: documents}, Noon.Add(time.Second))
	if err == nil && len(got.Documents()) == 1 {
		return got.Documents()[0], nil
	}
	return verifier.Document{}, err
}

// Proves fails the test unless the document is, to the verifier, one of class A for
// this challenge and key, about this host, and without a hazard.
func (h *Host) Proves(t testing.TB, item verifier.Item, trust ...verifier.TrustObject) {
	t.Helper()
	d, err := h.Judge(t, item, trust...)
	if err != nil || d.Class != verifier.ClassA || !d.NonceBound || !d.KeyBound || !d.Anchored || len(d.Hazards) > 0 {
		t.Errorf("%s: %+v, %v", item.Format, d, err)
	}
}
