package broker_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const zoneEC2 = `apiVersion: zonebroker/v1
kind: Zone
name: cloud
tier: 1
selectors: {any: [{format: ec2.iid}]}
admit: [owner]
requires: {class: C, format: [ec2.iid]}
issue: {audiences: [aud]}
`

// zoneBeside also wants a document beside a quote.
const zoneBeside = `apiVersion: zonebroker/v1
kind: Zone
name: beside
tier: 1
priority: 10
selectors: {any: [{format: tpm2}]}
admit: [inventory]
requires: {class: C, format: [tpm2], evidence: {all: [ec2.iid]}}
`

// platform is an enricher that counts, and answers once it may.
type platform struct {
	essential bool
	hold      chan struct{} // nil answers at once

	mu       sync.Mutex
	calls    int
	deadline []time.Time
	asked    chan struct{} // hears of each question, nil for nobody
}

func (*platform) Name() string      { return "platform" }
func (*platform) Format() string    { return verifier.FormatEC2IID }
func (p *platform) Essential() bool { return p.essential }

func (p *platform) Enrich(ctx context.Context, _ verifier.Item, _ [32]byte) (map[string][]byte, error) {
	p.mu.Lock()
	p.calls++
	if at, ok := ctx.Deadline(); ok {
		p.deadline = append(p.deadline, at)
	}
	p.mu.Unlock()
	if p.asked != nil {
		p.asked <- struct{}{}
	}
	if p.hold != nil {
		<-p.hold
	}
	return nil, nil
}

func (p *platform) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// cloudRig starts a broker of the zones that asks the platforms, and trusts a region.
func cloudRig(t *testing.T, zones []string, platforms ...broker.Enricher) (*rig, *documenttest.EC2PKI) {
	t.Helper()
	r := newRig(t, zones...)
	r.cfg.Enrichers = platforms
	r.b, r.iss = r.newReplica("b")
	r.must(r.b.Start(t.Context()))
	r.activate(zones...)
	pki := documenttest.NewEC2("us-east-1", evidencetest.Noon)
	pem := r.maker.PEM()
	td, err := broker.NewTrustData([]verifier.TrustObject{
		{Kind: broker.TrustEKRoot, Name: fmt.Sprintf("%x", sha256.Sum256(pem)), Raw: pem},
		{Kind: verifier.TrustEC2, Name: "us-east-1", Raw: pki.CertificatePEM()},
	})
	r.must(err)
	r.must(r.b.UseTrust(t.Context(), td))
	_, err = r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{Owner: "aws.account=123456789012"})
	r.must(err)
	return r, pki
}

// instance makes the nth host of the account.
func (r *rig) instance(pki *documenttest.EC2PKI, n int) *docHost {
	i := documenttest.NewEC2Instance("us-east-1", evidencetest.Noon)
	i.Instance = fmt.Sprintf("i-%017x", n)
	doc := pki.Document(i)
	return r.newDocHost(verifier.FormatEC2IID, map[string]collect{
		verifier.FormatEC2IID: func(_, _ [32]byte, _ time.Time) verifier.Item { return verifier.Item{Document: doc} },
	})
}

// TestPlatformsAreAskedForAuthorsOnly: no call leaves the broker for evidence whose
// author or form does not hold, nor for documents that no zone wants.
func TestPlatformsAreAskedForAuthorsOnly(t *testing.T) {
	p := &platform{essential: true}
	r, _ := cloudRig(t, []string{zoneLab}, p)
	h := r.enrolled()
	r.activate(zoneBeside)
	document := api.Item{Format: verifier.FormatEC2IID, Document: []byte("{}")}
	for name, c := range map[string]struct {
		spoil func(*api.AttestRequest)
		want  reason.Code
		calls int
	}{
		"another signature": {func(q *api.AttestRequest) { q.TPM2.Signature[len(q.TPM2.Signature)-3] ^= 1 }, reason.TPM2SignatureInvalid, 0},
		"no quote":          {func(q *api.AttestRequest) { q.TPM2 = nil }, reason.RequestMalformed, 0},
		"the same again":    {func(q *api.AttestRequest) { q.Items = append(q.Items, document, document) }, reason.RequestMalformed, 0},
		"unknown":           {func(q *api.AttestRequest) { q.Items = append(q.Items, api.Item{Format: "none"}) }, reason.RequestUnknownFormat, 0},
		"its own quote":     {func(*api.AttestRequest) {}, reason.EC2Variant, 1},
	} {
		h.minute()
		ch, err := h.askRenew()
		r.must(err)
		req := h.answer(ch)
		req.Items = []api.Item{document}
		c.spoil(&req)
		before := p.count()
		if _, err := h.attest(req); reason.Of(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if n := p.count() - before; n != c.calls {
			t.Errorf("%s: %d calls", name, n)
		}
	}
	r.activate(zoneLab)
	h.minute()
	ch, err := h.askRenew()
	r.must(err)
	req, before := h.answer(ch), p.count()
	req.Items = []api.Item{document}
	if _, err := h.attest(req); reason.Of(err) != reason.EC2Variant || p.count() != before {
		t.Errorf("a document that no zone wants: %d calls, %v", p.count()-before, err)
	}
}

func TestPlatformsAreNotAskedForAnotherAgentKey(t *testing.T) {
	p := &platform{essential: true}
	r, pki := cloudRig(t, []string{zoneEC2}, p)
	h := r.instance(pki, 1)
	h.forge = true
	if _, err := h.tryEnrol(); reason.Of(err) != reason.AgentSignature || p.count() != 0 {
		t.Errorf("%d calls, %v", p.count(), err)
	}
	h.forge = false
	if _, err := h.tryEnrol(); err != nil || p.count() != 1 {
		t.Errorf("its own key: %d calls, %v", p.count(), err)
	}
}

// TestEnrolmentsGoOnWhileAPlatformIsAsked: who waits for a platform has no slot.
func TestEnrolmentsGoOnWhileAPlatformIsAsked(t *testing.T) {
	for _, essential := range []bool{true, false} {
		p := &platform{essential: essential, hold: make(chan struct{}), asked: make(chan struct{}, 1)}
		r, pki := cloudRig(t, []string{zoneEC2, zoneLab}, p)
		other := r.admitted()
		slow := r.instance(pki, 1)
		ch, err := slow.askEnrol()
		r.must(err)
		req, done := slow.answer(ch), make(chan error)
		go func() {
			_, err := r.b.Attest(context.Background(), broker.Caller{}, req)
			done <- err
		}()
		<-p.asked
		if n := r.b.EnrolSlotsTaken(); n != 0 {
			t.Errorf("essential %v: %d slots are held", essential, n)
		}
		if _, err := other.tryEnrol(); err != nil {
			t.Errorf("essential %v: a host beside it: %v", essential, err)
		}
		close(p.hold)
		if err := <-done; err != nil {
			t.Errorf("essential %v: %v", essential, err)
		}
	}
}

// TestOneBudgetForAllPlatforms: both phases end at one time.
func TestOneBudgetForAllPlatforms(t *testing.T) {
	first, second := &platform{essential: true}, &platform{}
	r, pki := cloudRig(t, []string{zoneEC2}, first, second)
	r.instance(pki, 1).enrol()
	if len(first.deadline) != 1 || len(second.deadline) != 1 || !first.deadline[0].Equal(second.deadline[0]) {
		t.Errorf("deadlines %v and %v", first.deadline, second.deadline)
	}
}

// TestStrangersShareOneRateOfQuestions, which known nodes have no part in.
func TestStrangersShareOneRateOfQuestions(t *testing.T) {
	p := &platform{essential: true}
	r, pki := cloudRig(t, []string{zoneEC2}, p)
	known := r.instance(pki, 0)
	known.enrol()
	r.wait(time.Minute)
	ch, err := known.askRenew()
	r.must(err)
	before := p.count()
	for n := range broker.EnrichRate {
		r.instance(pki, n+1).enrol()
	}
	if _, err := r.instance(pki, 100).tryEnrol(); reason.Of(err) != reason.RequestOverloaded {
		t.Errorf("a stranger above the rate: %v", err)
	}
	if n := p.count() - before; n != broker.EnrichRate {
		t.Errorf("%d calls", n)
	}
	if _, err := known.attest(ch, nil); err != nil {
		t.Errorf("a known node meanwhile: %v", err)
	}
	r.wait(time.Second)
	if _, err := r.instance(pki, 100).tryEnrol(); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

// TestQuestionsAtOnce: strangers whose questions nobody answers leave room to the
// known, and what is not essential is left out.
func TestQuestionsAtOnce(t *testing.T) {
	for _, essential := range []bool{true, false} {
		p := &platform{essential: essential, hold: make(chan struct{}), asked: make(chan struct{}, 2*broker.EnrichAtOnce)}
		free, held := make(chan struct{}), p.hold
		close(free)
		p.hold = free
		r, pki := cloudRig(t, []string{zoneEC2}, p)
		known := r.instance(pki, 0)
		known.enrol()
		<-p.asked
		r.wait(time.Minute)
		p.hold = held
		done := make(chan error)
		start := func(h *docHost, ch api.Challenge) {
			req := h.answer(ch)
			go func() {
				_, err := r.b.Attest(context.Background(), broker.Caller{}, req)
				done <- err
			}()
		}
		for n := range broker.EnrichAtOnce {
			h := r.instance(pki, n+1)
			ch, err := h.askEnrol()
			r.must(err)
			start(h, ch)
			<-p.asked
		}
		_, err := r.instance(pki, 100).tryEnrol()
		if essential && reason.Of(err) != reason.RequestOverloaded || !essential && err != nil {
			t.Errorf("essential %v: one more: %v", essential, err)
		}
		ch, err := known.askRenew()
		r.must(err)
		start(known, ch)
		<-p.asked
		close(held)
		for range broker.EnrichAtOnce + 1 {
			if err := <-done; err != nil {
				t.Errorf("essential %v: %v", essential, err)
			}
		}
	}
}

// TestNodeHasARateOfQuestions of its own.
func TestNodeHasARateOfQuestions(t *testing.T) {
	p := &platform{essential: true}
	r, pki := cloudRig(t, []string{strings.Replace(zoneEC2, "ec2.iid]}", "ec2.iid]}\nevidence: {max_age: 1h}", 1)}, p)
	noisy, quiet := r.instance(pki, 1), r.instance(pki, 2)
	noisy.enrol()
	quiet.enrol()
	r.wait(time.Minute)
	var codes []reason.Code
	for range 200 {
		_, err := noisy.attest(noisy.askRenew())
		codes = append(codes, reason.Of(err))
	}
	if n := p.count(); n > 2+10*verifier.MaxItems || !slices.Contains(codes, reason.RequestOverloaded) {
		t.Errorf("%d calls, %v", n, codes[len(codes)-1])
	}
	if _, err := quiet.attest(quiet.askRenew()); err != nil {
		t.Errorf("another node: %v", err)
	}
}
