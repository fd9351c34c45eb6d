package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

// answer proves what the challenge asks for and hands the evidence over.
func (r *run) answer(ctx context.Context, c api.Challenge) (api.AttestResponse, error) {
	req := api.AttestRequest{Token: c.Token, Prev: r.state.Prev, Checkpoint: r.state.Checkpoint, SPKI: r.key.SPKI()}
	nonce := []byte(c.Nonce)
	var err error
	if r.tpm != nil {
		req.TPM2, nonce, err = r.quoted(ctx, c)
	} else if req.Agent, req.CSR, err = r.prove(&c, nonce); err != nil {
		return api.AttestResponse{}, err
	}
	if err != nil {
		return api.AttestResponse{}, err
	}
	if req.Items, err = r.documents(ctx, &c, nonce); err != nil {
		return api.AttestResponse{}, err
	}
	return r.broker.Attest(ctx, req)
}

// quoted quotes over a challenge. It returns the nonce, which at the enrolment of
// an EK is in the credential.
func (r *run) quoted(ctx context.Context, c api.Challenge) (*api.TPM2Evidence, []byte, error) {
	selection, err := tpm2.ParseSelection(c.Select)
	if err != nil || selection == (tpm2.Selection{}) {
		return nil, nil, answerFault("the challenge selects no PCRs", err)
	}
	evidence := &api.TPM2Evidence{AKPublic: r.ak.Public}
	nonce := []byte(c.Nonce)
	if c.Credential != nil {
		if nonce, err = r.activate(ctx, c, evidence); err != nil {
			return nil, nil, err
		}
	}
	bound := r.binding(&c, nonce, r.format)
	r.cfg.Progress("quoting PCRs " + selection.String())
	if err := r.quote(ctx, evidence, selection, bound[:]); err != nil {
		return nil, nil, err
	}
	if err := r.addLog(evidence); err != nil {
		return nil, nil, err
	}
	if err := r.addIMA(evidence, c.IMA); err != nil {
		return nil, nil, err
	}
	if err := r.addUserspaceLog(evidence, selection); err != nil {
		return nil, nil, err
	}
	return evidence, nonce, nil
}

// activate opens the credential: the nonce of an enrolment is its secret. A
// credential that is not for this TPM ends the run; it is never tried again,
// and nothing of it is said (attacks.md, T19).
func (r *run) activate(ctx context.Context, c api.Challenge, evidence *api.TPM2Evidence) ([]byte, error) {
	ek, err := r.endorsementKey(ctx)
	if err != nil {
		return nil, err
	}
	evidence.EKPublic, evidence.EKCertificate, evidence.EKChain = ek.Public, ek.Certificate, asBytes(ek.Chain)
	r.cfg.Progress("activating the credential")
	nonce, err := r.tpm.Activate(ctx, c.Credential.Blob, c.Credential.Secret)
	if e, ok := errors.AsType[*reason.Error](err); ok {
		return nil, e
	}
	if err != nil {
		return nil, tpmFault("activate the credential", err)
	}
	return nonce, nil
}

// asBytes writes issuers for the wire; nil where there are none.
func asBytes(chain [][]byte) []api.Bytes {
	var out []api.Bytes
	for _, der := range chain {
		out = append(out, der)
	}
	return out
}

// quote fills in quote, PCR values and the certification of the SVID key, all
// bound to the same 32 bytes.
func (r *run) quote(ctx context.Context, evidence *api.TPM2Evidence, selection tpm2.Selection, bound []byte) error {
	q, err := r.tpm.Quote(ctx, selection, bound)
	if err != nil {
		return tpmFault("quote", err)
	}
	certified, err := r.tpm.Certify(ctx, bound)
	if err != nil {
		return tpmFault("certify the SVID key", err)
	}
	r.lastQuote = q
	evidence.Quote, evidence.Signature = q.Attest, q.Signature
	evidence.PCRs = make(map[string]api.Bytes, len(q.PCRs))
	for i, value := range q.PCRs {
		evidence.PCRs[strconv.Itoa(i)] = value
	}
	evidence.Certify = &api.Certify{Public: certified.Public, Attest: certified.Attest, Signature: certified.Signature}
	return nil
}

// addLog adds the event log at first contact, when the broker asked for it, and
// when counters or PCRs are not those of the last accepted quote.
func (r *run) addLog(evidence *api.TPM2Evidence) error {
	r.lastLog = r.enrol || r.withLog || len(evidence.EKPublic) > 0 || !r.sameBoot()
	if !r.lastLog {
		return nil
	}
	log, err := tpm2collect.ReadEventLog(r.cfg.EventLog)
	if err != nil {
		return logFault("read the event log", err)
	}
	if len(log) == 0 {
		r.cfg.Progress("there is no event log at " + r.cfg.EventLog)
	}
	evidence.EventLog = log
	return nil
}

// addIMA adds the measurement list where the broker wants it: what it does not
// know of this boot, all of it in another one. It is read after the quote, so
// that it holds all that is quoted.
func (r *run) addIMA(evidence *api.TPM2Evidence, known *api.IMAKnown) error {
	if known == nil {
		return nil
	}
	from := known.Entries
	if r.wholeList || !r.sameCounters() || from < 0 {
		from = 0
	}
	log, first, err := tpm2collect.ReadIMALog(r.cfg.IMALog, from, api.MaxIMALog)
	if err != nil {
		return logFault("read the measurement list", err)
	}
	if log == nil {
		r.cfg.Progress("there is no measurement list at " + r.cfg.IMALog)
	}
	evidence.IMALog, evidence.IMAOffset, r.lastFirst = log, first, first > 0
	return nil
}

// addUserspaceLog adds systemd's log to each quote of a PCR that systemd extends:
// it grows while the host is up, so no broker keeps it. It is read after the
// quote, and may have records that the quote does not cover.
func (r *run) addUserspaceLog(evidence *api.TPM2Evidence, selection tpm2.Selection) error {
	if r.cfg.UserspaceLog == "" || !slices.ContainsFunc([]int{9, 11, 12, 13, 14, 15}, selection.Has) {
		return nil
	}
	log, err := tpm2collect.ReadUserspaceLog(r.cfg.UserspaceLog)
	if err != nil {
		return logFault("read systemd's measurement log", err)
	}
	evidence.UserspaceLog = log
	return nil
}

func logFault(what string, err error) error {
	if e, ok := errors.AsType[*tpm2collect.Error](err); ok {
		return &Fault{Kind: FaultFile, What: e.What, Why: e.Why, Fix: e.Fix, err: err}
	}
	return &Fault{Kind: FaultFile, What: what, Why: err.Error(), err: err}
}

func (r *run) sameBoot() bool {
	return r.sameCounters() && bytes.Equal(r.state.PCRs, pcrDigest(r.lastQuote.PCRs))
}

func (r *run) sameCounters() bool {
	s, q := r.state, r.lastQuote
	return s.ResetCount == q.ResetCount && s.RestartCount == q.RestartCount
}

// pcrDigest is over indexes and values: another selection is another digest. PCR
// 10 is left out: it grows with every file, and what explains it is not the event
// log.
func pcrDigest(pcrs map[int][]byte) []byte {
	h := sha256.New()
	for _, i := range slices.Sorted(maps.Keys(pcrs)) {
		if i == 10 {
			continue
		}
		h.Write([]byte{byte(i)})
		h.Write(pcrs[i])
	}
	return h.Sum(nil)
}
