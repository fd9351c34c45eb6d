package test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// brokerForgery is a case that only a broker can see through: it knows which
// nonces it gave, which were used, and who is who. send returns its answer.
type brokerForgery struct {
	name string
	send func(t *testing.T, b *brokers) error
	want reason.Code
}

// brokers are one running broker and another with other keys.
type brokers struct {
	one, other *replica
}

// TestCatalogueAtTheBroker sends the forgeries to a running broker. The slow
// ones wait for tokens to expire, all at the same time.
func TestCatalogueAtTheBroker(t *testing.T) {
	t.Parallel()
	b := &brokers{one: newCluster(t).start(t), other: newCluster(t).start(t)}
	for _, r := range catalogue() {
		for _, f := range r.broker {
			t.Run(r.String()+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				wantCode(t, f.send(t, b), f.want)
			})
		}
	}
}

// machine is a TPM in software that speaks to a broker, so that what it signs
// can be chosen.
type machine struct {
	t      *testing.T
	p      *replica
	tpm    *evidencetest.TPM
	key    *evidencetest.Key
	client *client.Client
	node   string
	prev   string // last attestation
}

func (m *machine) ekHash() string {
	hash := m.tpm.EK.RootHash(m.t)
	return hex.EncodeToString(hash[:])
}

func newMachine(t *testing.T, p *replica) *machine {
	t.Helper()
	m := &machine{t: t, p: p, tpm: evidencetest.New(t), key: evidencetest.NewSVIDKey(t)}
	var err error
	m.client, err = agentClient(t, p)
	must(t, err)
	p.ctl(t, nil, "node", "admit", "--group", "rack-7", m.ekHash())
	return m
}

// newNode is a machine that enrolled.
func newNode(t *testing.T, p *replica) *machine {
	t.Helper()
	m := newMachine(t, p)
	res, err := m.send(m.answer(m.enrolment()))
	must(t, err)
	m.node, m.prev = res.Node, res.AttestationID
	return m
}

func (m *machine) enrolRequest() api.ChallengeRequest {
	return api.ChallengeRequest{Format: api.FormatTPM2, Purpose: api.PurposeEnrol, Enrol: &api.Enrol{EKPublic: m.tpm.EK.Public, AKPublic: m.tpm.AK.Public}}
}

func (m *machine) enrolment() api.Challenge { return m.ask(m.enrolRequest()) }

func (m *machine) renewal() api.Challenge {
	return m.ask(api.ChallengeRequest{Format: api.FormatTPM2, Purpose: api.PurposeRenew, AKName: m.tpm.AK.Name()})
}

func (m *machine) ask(req api.ChallengeRequest) api.Challenge {
	m.t.Helper()
	c, err := m.client.Challenge(m.t.Context(), req)
	must(m.t, err)
	return c
}

// answer answers a challenge honestly.
func (m *machine) answer(c api.Challenge) api.AttestRequest {
	m.t.Helper()
	nonce := []byte(c.Nonce)
	if c.Credential != nil {
		var err error
		nonce, err = m.tpm.EK.Activate(m.tpm.AK.Name(), c.Credential.Blob, c.Credential.Secret)
		must(m.t, err)
	}
	return m.answerWith(c, nonce)
}

func (m *machine) answerWith(c api.Challenge, nonce []byte) api.AttestRequest {
	m.t.Helper()
	sel, err := tpm2.ParseSelection(c.Select)
	must(m.t, err)
	ev := m.tpm.Evidence(m.t, verifier.Expectation{TrustDomain: trustDomain, Purpose: c.Purpose, Nonce: nonce, Selection: sel}, m.key)
	e := ev.TPM2
	out := &api.TPM2Evidence{
		AKPublic: e.AKPublic, EKPublic: e.EKPublic, Quote: e.Quote, Signature: e.Signature,
		PCRs: map[string]api.Bytes{}, EventLog: e.EventLog,
		Certify: &api.Certify{Public: e.Certify.Public, Attest: e.Certify.Attest, Signature: e.Certify.Signature},
	}
	for i, v := range e.PCRs {
		out.PCRs[strconv.Itoa(i)] = v
	}
	return api.AttestRequest{Token: c.Token, Prev: m.prev, SPKI: ev.SPKI, TPM2: out}
}

func (m *machine) send(req api.AttestRequest) (api.AttestResponse, error) {
	return m.client.Attest(m.t.Context(), req)
}

// refuse sends what must be refused.
func (m *machine) refuse(req api.AttestRequest) error {
	_, err := m.send(req)
	return err
}

func sendsTwice(t *testing.T, b *brokers) error {
	m := newNode(t, b.one)
	req := m.answer(m.renewal())
	_, err := m.send(req)
	must(t, err)
	return m.refuse(req)
}

func sendsLate(t *testing.T, b *brokers) error {
	m := newNode(t, b.one)
	c := m.renewal()
	req := m.answer(c)
	time.Sleep(time.Until(c.ExpiresAt.Add(100 * time.Millisecond)))
	return m.refuse(req)
}

// sendsQuoteMadeAhead: TPM2_ClockSet moves the clock, so a quote made now says
// that it is of later.
func sendsQuoteMadeAhead(t *testing.T, b *brokers) error {
	m := newNode(t, b.one)
	c := m.renewal()
	m.tpm.Wait(150 * time.Second)
	req := m.answer(c)
	time.Sleep(time.Until(c.ExpiresAt.Add(100 * time.Millisecond)))
	return m.refuse(req)
}

func sendsTokenOfAnother(t *testing.T, b *brokers) error {
	m, other := newNode(t, b.one), newNode(t, b.one)
	return m.refuse(m.answer(other.renewal()))
}

func sendsAlteredToken(t *testing.T, b *brokers) error {
	m := newNode(t, b.one)
	req := m.answer(m.renewal())
	letters := []byte(req.Token)
	if mid := &letters[len(letters)/2]; *mid == 'A' { // stay within the alphabet
		*mid = 'B'
	} else {
		*mid = 'A'
	}
	req.Token = string(letters)
	return m.refuse(req)
}

func sendsTokenOfAnotherBroker(t *testing.T, b *brokers) error {
	m := newNode(t, b.one)
	elsewhere := *m
	elsewhere.p = b.other
	var err error
	elsewhere.client, err = agentClient(t, b.other)
	must(t, err)
	b.other.ctl(t, nil, "node", "admit", "--group", "rack-7", m.ekHash())
	_, err = elsewhere.send(elsewhere.answer(elsewhere.enrolment()))
	must(t, err)
	return m.refuse(m.answer(elsewhere.renewal()))
}

func sendsTwin(t *testing.T, b *brokers) error {
	m := newNode(t, b.one)
	req := m.answer(m.renewal())
	_, err := m.send(req)
	must(t, err)
	sig := partsOf(req.TPM2.Signature)
	req.TPM2.Signature = signatureOf(algECDSA, algSHA256, sig[0], twin(sig[1]))
	return m.refuse(req)
}

func opensForeignCredential(t *testing.T, b *brokers) error {
	m, other := newMachine(t, b.one), evidencetest.NewAK(t)
	c := m.enrolment()
	if _, err := m.tpm.EK.Activate(other.Name(), c.Credential.Blob, c.Credential.Secret); err == nil {
		t.Error("the credential opened for another AK")
	}
	return m.refuse(m.answerWith(c, make([]byte, 32)))
}

func sendsOldSecret(t *testing.T, b *brokers) error {
	m := newMachine(t, b.one)
	old, fresh := m.enrolment(), m.enrolment()
	req := m.answer(old)
	req.Token = fresh.Token
	return m.refuse(req)
}

func sendsEnrolmentOfAnother(t *testing.T, b *brokers) error {
	m := newMachine(t, b.one)
	first := m.tpm.AK
	c := m.enrolment()
	nonce, err := m.tpm.EK.Activate(first.Name(), c.Credential.Blob, c.Credential.Secret)
	must(t, err)
	m.tpm.AK = evidencetest.NewAK(t)
	return m.refuse(m.answerWith(c, nonce))
}

func sendsEnrolmentTwice(t *testing.T, b *brokers) error {
	m := newMachine(t, b.one)
	req := m.answer(m.enrolment())
	_, err := m.send(req)
	must(t, err)
	return m.refuse(req)
}

func sendsLateEnrolment(t *testing.T, b *brokers) error {
	m := newMachine(t, b.one)
	c := m.enrolment()
	req := m.answer(c)
	time.Sleep(time.Until(c.ExpiresAt.Add(100 * time.Millisecond)))
	return m.refuse(req)
}

// enrolsForeignAK: an AK that belongs to a node already, beside another EK. The
// credential cannot be opened in a real TPM; here it can.
func enrolsForeignAK(t *testing.T, b *brokers) error {
	owner, m := newNode(t, b.one), newMachine(t, b.one)
	m.tpm.AK = owner.tpm.AK
	return m.refuse(m.answer(m.enrolment()))
}

// revoked is a node whose EK an operator revokes after it enrolled.
func revoked(t *testing.T, b *brokers) *machine {
	m := newNode(t, b.one)
	b.one.ctl(t, nil, "node", "revoke", m.ekHash())
	return m
}

func enrolsRevokedEK(t *testing.T, b *brokers) error {
	m := revoked(t, b)
	_, err := m.client.Challenge(t.Context(), m.enrolRequest())
	return err
}

func renewsRevokedEK(t *testing.T, b *brokers) error {
	m := revoked(t, b)
	return m.refuse(m.answer(m.renewal()))
}

func sendsHugeBody(t *testing.T, b *brokers) error {
	return postRaw(t, b.one, "/v1/attest", `{"token":"`+strings.Repeat("A", 3<<20)+`"}`)
}

// postRaw sends bytes that the client would not.
func postRaw(t *testing.T, p *replica, path, body string) error {
	t.Helper()
	res, err := strangersClient().Post(p.url+path, "application/json", strings.NewReader(body))
	must(t, err)
	defer res.Body.Close()
	var problem api.Problem
	must(t, json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&problem))
	return reason.New(reason.Code(problem.Code), problem.Detail)
}

// catalogueOfRequests: rows 97 to 100.
func catalogueOfRequests() []row {
	valid := `{"format":"tpm2","purpose":"renew","ak_name":"AAsAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`
	malformed := func(name, body string) brokerForgery {
		return brokerForgery{name, func(t *testing.T, b *brokers) error { return postRaw(t, b.one, "/v1/challenge", body) }, reason.RequestMalformed}
	}
	return []row{
		{number: 97, name: "JSON", broker: []brokerForgery{
			malformed("duplicate key", strings.Replace(valid, `{`, `{"format":"tpm2",`, 1)),
			malformed("base64 garbage", strings.Replace(valid, "AAsA", "AA=A", 1)),
			malformed("wrong case", strings.Replace(valid, "format", "Format", 1)),
			malformed("unknown field", strings.Replace(valid, `{`, `{"node":"x",`, 1)),
			malformed("deep nesting", strings.Repeat("[", 5000)),
		}},
		{number: 98, name: "one nonce at the same time", broker: []brokerForgery{{"eight requests", sendsAtOnce, reason.ChallengeSpent}}},
		{number: 99, name: "node disabled", broker: []brokerForgery{{"renewal", renewsDisabled, reason.NodeDisabled}}},
		{number: 100, name: "resettable PCR in a policy", broker: []brokerForgery{
			{"PCR 16", func(*testing.T, *brokers) error { return lintReference(16) }, reason.PolicyInvalid},
			{"PCR 23", func(*testing.T, *brokers) error { return lintReference(23) }, reason.PolicyInvalid},
		}},
	}
}

// sendsAtOnce: exactly one is accepted; the error is what all others got.
func sendsAtOnce(t *testing.T, b *brokers) error {
	m := newNode(t, b.one)
	req := m.answer(m.renewal())
	const tries = 8
	answers := make([]error, tries)
	var wg sync.WaitGroup
	for i := range tries {
		wg.Go(func() { _, answers[i] = m.client.Attest(t.Context(), req) })
	}
	wg.Wait()
	accepted := 0
	var spent error
	for _, err := range answers {
		switch reason.Of(err) {
		case "":
			accepted++
		case reason.ChallengeSpent:
			spent = err
		case reason.RequestRateLimited, reason.RequestOverloaded:
		default:
			t.Errorf("a try ended with %v", err)
		}
	}
	if accepted != 1 {
		t.Errorf("%d of %d were accepted", accepted, tries)
	}
	return spent
}

func renewsDisabled(t *testing.T, b *brokers) error {
	m := newNode(t, b.one)
	b.one.ctl(t, nil, "node", "disable", m.node)
	return m.refuse(m.answer(m.renewal()))
}

// lintReference loads a reference set over one PCR and returns what lint says.
func lintReference(pcr int) error {
	doc := "apiVersion: zonebroker/v1\nkind: ReferenceSet\nname: ref\nbank: sha256\npcrs: {" + strconv.Itoa(pcr) +
		": [" + strings.Repeat("ab", 32) + "]}\n"
	_, problems := policy.Load([]policy.File{{Name: "zone.yaml", Bytes: []byte(labZone)}, {Name: "ref.yaml", Bytes: []byte(doc)}})
	if len(problems) == 0 {
		return nil
	}
	if p := problems[0]; strings.Contains(p.Text, "resettable") {
		return reason.New(p.Code, p.Text)
	}
	return errors.New(problems[0].String())
}
