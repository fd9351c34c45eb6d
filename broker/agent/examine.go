package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/roster"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Checkup is what a host can prove.
type Checkup struct {
	// Automatic is what AutoFormat chooses on a host without a state; "" where there
	// is no evidence.
	Automatic string
	Evidence  []Examined // the TPM first, then the strongest
}

// Examined is a kind of evidence.
type Examined struct {
	collect.Finding
	// Names says that some zone of the broker takes nodes that this names, Beside
	// that one asks for it beside other evidence; nil where it was not asked.
	Names, Beside *bool
}

// Examine looks at every kind of evidence, and makes none. With a server it asks
// the broker for challenges with a key that nobody keeps, of which no trace is left
// there. It needs no state folder, and runs beside an agent.
func Examine(ctx context.Context, cfg Config) (Checkup, error) {
	var out Checkup
	tpm, found := examineTPM(ctx, cfg.Device)
	if tpm != nil {
		defer tpm.Close()
	}
	documents := cfg.Documents
	documents.Device, documents.JoinToken, documents.Now = cfg.Device, cfg.JoinToken, cfg.Now
	documents.TPM = func(context.Context) (*tpm2collect.TPM, error) { return tpm, nil }
	r, err := roster.New(documents)
	if err != nil {
		return out, evidenceFault("choose the evidence", err)
	}
	out.Evidence = append(out.Evidence, Examined{Finding: found})
	for _, f := range r.Detect(ctx) {
		out.Evidence = append(out.Evidence, Examined{Finding: f})
	}
	if best, ok := r.Best(ctx); found.Able {
		out.Automatic = found.Format
	} else if ok {
		out.Automatic = best.Format
	}
	if cfg.Server == "" {
		return out, nil
	}
	return out, out.ask(ctx, cfg, tpm)
}

func examineTPM(ctx context.Context, device string) (*tpm2collect.TPM, collect.Finding) {
	const class = verifier.ClassA
	no := func(err error) (*tpm2collect.TPM, collect.Finding) {
		if e, ok := errors.AsType[*tpm2collect.Error](err); ok {
			return nil, collect.No(api.FormatTPM2, class, e.Why, e.Fix)
		}
		return nil, collect.Missing(api.FormatTPM2, class, err)
	}
	tpm, err := tpm2collect.Open(ctx, tpm2collect.Config{Device: device})
	if err != nil {
		return no(err)
	}
	ek, err := tpm.EK(ctx)
	if err != nil {
		_ = tpm.Close() // the fault before it says what is wrong
		return no(err)
	}
	why := "quote of the TPM, whose endorsement key has a certificate of its maker"
	if len(ek.Certificate) == 0 {
		why = "quote of the TPM, whose endorsement key has no certificate: an operator has to admit it"
	}
	return tpm, collect.Yes(api.FormatTPM2, class, why)
}

// ask says for each format what zones of the broker make of it.
func (c *Checkup) ask(ctx context.Context, cfg Config, tpm *tpm2collect.TPM) error {
	broker, err := client.New(client.Config{Server: cfg.Server, Trust: cfg.Trust, TrustDomain: cfg.TrustDomain, UserAgent: cfg.UserAgent, Now: cfg.Now})
	if err != nil {
		return err
	}
	defer broker.Close()
	var beside []string
	asked := false
	for i := range c.Evidence {
		e := &c.Evidence[i]
		// The challenge of an EK would put an unknown machine on the operators' list, and
		// that of a join token needs one.
		if e.Format == api.FormatTPM2 || e.Format == verifier.FormatJoinToken || !roster.NamesNode(e.Format) {
			continue
		}
		key, err := passingKey(ctx, e.Format, tpm)
		if err != nil {
			continue // a format of a TPM, and there is none
		}
		challenge, err := broker.Challenge(ctx, api.ChallengeRequest{Format: e.Format, Purpose: api.PurposeEnrol, Agent: key})
		takes := err == nil
		switch code := reason.Of(err); {
		case err == nil:
			beside, asked = challenge.Evidence, true
		case code != reason.PolicyNoZone && code != reason.RequestUnknownFormat:
			if _, refused := errors.AsType[*client.RefusedError](err); !refused {
				return err
			}
			continue
		}
		e.Names = &takes
	}
	for i := range c.Evidence {
		if e := &c.Evidence[i]; asked && e.Format != api.FormatTPM2 {
			wanted := slices.Contains(beside, e.Format)
			e.Beside = &wanted
		}
	}
	return nil
}

// passingKey is a key for one question.
func passingKey(ctx context.Context, format string, tpm *tpm2collect.TPM) (*api.AgentEnrol, error) {
	if roster.Quoted(format) {
		if tpm == nil {
			return nil, errors.New("there is no TPM")
		}
		ak, err := tpm.AK(ctx)
		return &api.AgentEnrol{AKPublic: ak.Public}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	made, err := soft(key)
	if err != nil {
		return nil, err
	}
	return &api.AgentEnrol{Public: made.SPKI()}, nil
}
