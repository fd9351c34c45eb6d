package broker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"maps"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
)

// collect makes a document that carries bound; primary is the bound value of the
// format that names the node, at the time now.
type collect func(bound, primary [32]byte, now time.Time) verifier.Item

// docHost is a machine without a TPM: an agent key, and documents.
type docHost struct {
	r       *rig
	agent   *ecdsa.PrivateKey
	key     *evidencetest.Key
	format  string // of the document that names it
	collect map[string]collect
	join    string
	prev    string
	forge   bool // sign with another agent key than was named
}

func (r *rig) newDocHost(format string, documents map[string]collect) *docHost {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r.must(err)
	return &docHost{r: r, agent: key, key: evidencetest.NewSVIDKey(r.t), format: format, collect: documents}
}

func (h *docHost) public() []byte {
	h.r.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(h.agent.Public())
	h.r.must(err)
	return der
}

func (h *docHost) askEnrol() (api.Challenge, error) {
	return h.r.b.Challenge(h.r.t.Context(), broker.Caller{}, api.ChallengeRequest{
		Format: h.format, Purpose: api.PurposeEnrol, Agent: &api.AgentEnrol{Public: h.public(), JoinToken: h.join},
	})
}

func (h *docHost) askRenew() (api.Challenge, error) {
	return h.r.b.Challenge(h.r.t.Context(), broker.Caller{}, api.ChallengeRequest{
		Format: h.format, Purpose: api.PurposeRenew, AKName: verifier.AgentKeyName(h.public()),
	})
}

// answer collects every document that the host can make.
func (h *docHost) answer(ch api.Challenge) api.AttestRequest {
	t := h.r.t
	t.Helper()
	spki := h.key.SPKI(t)
	bound := func(format string) [32]byte {
		return verifier.Binding(ch.Nonce, spki, testDomain, ch.Purpose, format, nil)
	}
	primary := bound(h.format)
	agent := h.agent
	if h.forge {
		agent = h.r.newDocHost(h.format, nil).agent
	}
	digest := verifier.AgentDigest(primary)
	signature, err := ecdsa.SignASN1(rand.Reader, agent, digest[:])
	h.r.must(err)
	req := api.AttestRequest{
		Token: ch.Token, Prev: h.prev, SPKI: spki, CSR: h.key.CSR(t),
		Agent: &api.AgentProof{Public: h.public(), Signature: signature},
	}
	for _, format := range slices.Sorted(maps.Keys(h.collect)) {
		item := h.collect[format](bound(format), primary, h.r.now())
		wire := api.Item{Format: format, Document: item.Document, Parts: map[string]api.Bytes{}}
		for name, part := range item.Parts {
			wire.Parts[name] = part
		}
		req.Items = append(req.Items, wire)
	}
	h.r.must(req.Validate())
	return req
}

func (h *docHost) attest(ch api.Challenge, err error) (api.AttestResponse, error) {
	h.r.t.Helper()
	h.r.must(err)
	out, err := h.r.b.Attest(h.r.t.Context(), broker.Caller{}, h.answer(ch))
	if err == nil {
		h.prev = out.AttestationID
	}
	return out, err
}

func (h *docHost) tryEnrol() (api.AttestResponse, error) {
	h.r.t.Helper()
	return h.attest(h.askEnrol())
}

func (h *docHost) tryRenew() (api.AttestResponse, error) {
	h.r.t.Helper()
	h.r.wait(time.Minute)
	return h.attest(h.askRenew())
}

func (h *docHost) enrol() api.AttestResponse {
	h.r.t.Helper()
	out, err := h.tryEnrol()
	h.r.must(err)
	return out
}

func (h *docHost) renew() api.AttestResponse {
	h.r.t.Helper()
	out, err := h.tryRenew()
	h.r.must(err)
	return out
}
