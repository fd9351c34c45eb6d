package agent

import (
	"context"
	"errors"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/roster"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
)

// AutoFormat lets the agent choose what names the node.
const AutoFormat = "auto"

// quotes says that the TPM quotes for a format.
func quotes(format string) bool { return format == api.FormatTPM2 || roster.Quoted(format) }

// akKind is the kind of AK that a format quotes with; that of the state for the
// TPM's own.
func (s *session) akKind() tpm2collect.Kind {
	switch s.format {
	case verifier.FormatGCEAKCert:
		return tpm2collect.GCE
	case verifier.FormatAzureCVM:
		return tpm2collect.AzureHCL
	}
	return s.state.AK
}

// chooseFormat settles what names the node: what was said, what the state is
// about, the TPM where there is one, or the strongest document that this host can
// make. Another one than before is another node: what was received is not its.
func (s *session) chooseFormat(ctx context.Context) error {
	if s.format != "" {
		return nil
	}
	format := s.cfg.Format
	if format == "" || format == AutoFormat {
		var err error
		if format, err = s.autoFormat(ctx); err != nil {
			return err
		}
	} else if format != api.FormatTPM2 && s.roster.Find(format) == nil {
		return &Fault{Kind: FaultEvidence, What: "choose the evidence", Why: "this agent cannot collect " + format, Fix: "see what it can with: zoneagent doctor"}
	}
	if before := s.state.format(); before != format {
		if s.state.Enrolled {
			s.cfg.Progress("this host was named by " + before + " before; by " + format + " it is another node")
		}
		s.state.forget()
		s.present.Store(nil)
		s.state.Format = format
		if err := s.folder.save(s.state); err != nil {
			return err
		}
	}
	s.format = format
	return nil
}

func (s *session) autoFormat(ctx context.Context) (string, error) {
	if s.state.Enrolled {
		return s.state.format(), nil
	}
	// Who names a TPM wants it to be used, or to hear that it is not there.
	if d := s.cfg.Device; d != "" && d != tpm2collect.DefaultDevice || tpm2collect.Present(d) {
		return api.FormatTPM2, nil
	}
	s.cfg.Progress("there is no TPM; looking for other evidence")
	best, found := s.roster.Best(ctx)
	if !found {
		return "", &Fault{Kind: FaultEvidence, What: "choose the evidence", Why: "this host has neither a TPM nor any other evidence that is known here", Fix: "see what is missing for each kind with: zoneagent doctor"}
	}
	s.cfg.Progress("using " + best.Format + ": " + best.Why)
	return best.Format, nil
}

// newRoster fills in what the session knows.
func (s *session) newRoster() error {
	cfg := s.cfg.Documents
	cfg.Device, cfg.JoinToken, cfg.Now = s.cfg.Device, s.cfg.JoinToken, s.cfg.Now
	cfg.TPM = func(context.Context) (*tpm2collect.TPM, error) { return s.tpm, nil }
	r, err := roster.New(cfg)
	if err != nil {
		return evidenceFault("choose the evidence", err)
	}
	s.roster = r
	return nil
}

func evidenceFault(what string, err error) error {
	if e, ok := errors.AsType[*collect.Error](err); ok {
		return &Fault{Kind: FaultEvidence, What: e.What, Why: e.Why, Fix: e.Fix, err: err}
	}
	if e, ok := errors.AsType[*tpm2collect.Error](err); ok {
		return &Fault{Kind: FaultTPM, What: e.What, Why: e.Why, Fix: e.Fix, err: err}
	}
	return &Fault{Kind: FaultEvidence, What: what, Why: err.Error(), err: err}
}
