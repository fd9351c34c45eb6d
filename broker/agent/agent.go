package agent

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect/roster"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Config says which broker, which TPM and which state.
type Config struct {
	// Server is the broker's base URL.
	Server string
	// Trust says who may vouch for the broker; it must not be empty. The bundle of
	// the last answer is trusted beside it.
	Trust client.Trust
	// TrustDomain is the one that the broker must be of; "" takes the one that the
	// first trusted broker proves. Once kept in the state it cannot change.
	TrustDomain string
	// StateDir is made with mode 0700 where it does not exist. Trusted: an
	// attacker who can write it can choose the bundle that is trusted next.
	StateDir string
	// Device is the TPM: "" is /dev/tpmrm0; "swtpm:SOCKET" a software TPM.
	Device string
	// AK and EK choose the kinds of keys; "" keeps those of the state, P-256 and
	// automatic at first. Another AK than before is a re-enrolment, which the
	// broker records.
	AK, EK tpm2collect.Kind
	// EventLog is the firmware's log; "" is where Linux shows it. Not trusted: the
	// broker compares it with the quote.
	EventLog string
	// IMALog is the kernel's measurement list, sent where the broker asks for it;
	// "" is where Linux shows it. Not trusted, as EventLog.
	IMALog string
	// UserspaceLog is systemd's measurement log; "" is where systemd keeps it, and
	// none for a software TPM, to which no systemd measures. It is sent where PCR 9
	// or 11 to 15 are asked for. Not trusted, as EventLog.
	UserspaceLog string
	// Format is what names the node: "tpm2", a format of documents, or AutoFormat,
	// which "" is too. Another one than before makes this host another node.
	Format string
	// Documents says where the sources of documents are. Device, TPM, JoinToken and
	// Now of it are filled in from here.
	Documents roster.Config
	// JoinToken is sent at an enrolment. Secret.
	JoinToken string
	// UserAgent is sent with requests.
	UserAgent string
	// Progress gets one line for each step; nil for silence.
	Progress func(string)
	// Spread is the time over which the first attestation of an Agent without a
	// valid zone falls, so that a rack that gets power does not come as one; 0 is
	// two seconds, less than 0 none.
	Spread time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Result is an earned zone.
type Result struct {
	Node          string
	SPIFFEID      string
	TrustDomain   string
	Zone          string
	Tier          int
	AttestationID string
	Purpose       string // how it was earned: enrol or renew
	Format        string // of the evidence that names the node
	InTPM         bool   // the SVID's key is in the TPM
	AttestedAt    time.Time
	FreshUntil    time.Time
	RenewAt       time.Time
	ExpiresAt     time.Time // end of the certificate
	Chain         []*x509.Certificate
	Bundle        []byte // SPIFFE bundle document
	Log           api.LogPosition
	Events        []string
	Workloads     []api.Workload
}

// run is one attestation of a session.
type run struct {
	*session
	waits int // how often a busy broker is waited for
	began time.Time

	enrol     bool // the next challenge is asked for with EK and AK
	withLog   bool // the event log is sent in any case
	lastQuote tpm2collect.Quote
	lastLog   bool // the last evidence had the event log
	wholeList bool // the measurement list is sent from its start
	lastFirst bool // the last evidence had only a later part of it
}

// Attest proves the state of this host once: challenge, quote, zone. It keeps
// the answer in the state folder before it returns it; a denial too, so that an
// agent that starts afterwards does not serve what was earned before.
//
// Errors are *Fault for what is wrong on this host, reason codes for refusals
// (*client.RefusedError where the broker refused), and the client's errors for
// brokers that are unreachable or not trusted.
func Attest(ctx context.Context, cfg Config) (Result, error) {
	s, err := newSession(cfg)
	if err != nil {
		return Result{}, err
	}
	defer s.close()
	result, err := s.attest(ctx, maxWaits)
	if judge(err).verdict == denied {
		s.deny(reason.Of(err))
	}
	return result, err
}

// rounds bounds one attestation: each round is at most one challenge and one
// attempt, and only the ways back of wire.md start another.
const rounds = 8

func (r *run) attest(ctx context.Context) (Result, error) {
	var fresh *api.Challenge
	back := newWaysBack(r)
	for range rounds {
		challenge, err := r.challenge(ctx, fresh)
		if err == nil {
			var answer api.AttestResponse
			if answer, err = r.answer(ctx, challenge); err == nil {
				return r.accept(answer, challenge)
			}
		}
		if fresh, err = back.next(ctx, err); err != nil {
			return Result{}, err
		}
	}
	return Result{}, &Fault{Kind: FaultAnswer, What: "attest", Why: fmt.Sprintf("no decision after %d tries", rounds), Fix: "try again; if it stays, look at the broker's log"}
}

// challenge asks for one, unless the broker gave a fresh one with its refusal.
func (r *run) challenge(ctx context.Context, fresh *api.Challenge) (api.Challenge, error) {
	if fresh != nil {
		return *fresh, fresh.Validate()
	}
	req := api.ChallengeRequest{Format: r.format, Purpose: api.PurposeRenew, AKName: r.ak.Name}
	switch {
	case r.enrol && r.format != api.FormatTPM2:
		req.Purpose, req.AKName, req.Agent = api.PurposeEnrol, nil, r.introduction()
	case r.enrol:
		ek, err := r.endorsementKey(ctx)
		if err != nil {
			return api.Challenge{}, err
		}
		req = api.ChallengeRequest{Format: api.FormatTPM2, Purpose: api.PurposeEnrol, Enrol: &api.Enrol{
			EKPublic: ek.Public, EKCertificate: ek.Certificate, EKChain: asBytes(ek.Chain), AKPublic: r.ak.Public, JoinToken: r.cfg.JoinToken,
		}}
	}
	r.cfg.Progress("asking " + r.cfg.Server + " for a challenge (" + req.Purpose + ")")
	challenge, err := r.broker.Challenge(ctx, req)
	if err != nil {
		return api.Challenge{}, err
	}
	if err := challenge.Validate(); err != nil {
		return api.Challenge{}, answerFault("the challenge is not of the contract", err)
	}
	if challenge.Credential == nil && req.Enrol != nil {
		return api.Challenge{}, answerFault("the challenge of an EK comes without a credential", nil)
	}
	if challenge.Purpose != req.Purpose {
		return api.Challenge{}, answerFault("the challenge is for another purpose than was asked for", nil)
	}
	return challenge, nil
}

// introduction names the key that a document will go with.
func (r *run) introduction() *api.AgentEnrol {
	if r.agent != nil {
		return &api.AgentEnrol{Public: r.agent.SPKI(), JoinToken: r.cfg.JoinToken}
	}
	return &api.AgentEnrol{AKPublic: r.ak.Public, JoinToken: r.cfg.JoinToken}
}

// endorsementKey returns the EK. Where it is another than that of the state,
// this is another TPM, and what was received belongs to another node: naming
// its last attestation would look like a clone.
func (r *run) endorsementKey(ctx context.Context) (tpm2collect.EK, error) {
	ek, err := r.tpm.EK(ctx)
	if err != nil {
		return ek, tpmFault("make the endorsement key", err)
	}
	hash := hex.EncodeToString(ek.Hash[:])
	if r.state.EKHash == hash && r.state.EK == ek.Kind {
		return ek, nil
	}
	if r.state.EKHash != hash {
		r.state.forget()
		r.present.Store(nil)
	}
	r.state.EKHash, r.state.EK = hash, ek.Kind
	return ek, r.folder.save(r.state)
}
