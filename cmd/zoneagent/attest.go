package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

type attestFlags struct {
	host    hostFlags
	once    bool
	save    string
	output  string
	timeout time.Duration
}

func attestCommand() *cobra.Command {
	var f attestFlags
	cmd := &cobra.Command{
		Use:   "attest --once",
		Short: "Prove the state of this host to a broker and receive an SVID",
		Long: `attest proves the measured state of this host to a broker and receives an
X.509-SVID of the zone that it has earned.

The first time the host enrols with its endorsement key, which an operator has
to have admitted (zonebroker node admit, see zoneagent ek) or for which there is
a join token. Later runs prove the same host again; the state folder tells them
apart. --once does it once and returns; zoneagent run keeps the SVID fresh.

A host without a TPM is named by the document of --format, or by the strongest
that it can make (zoneagent doctor); an operator admits the account, project or
cluster that it is of (zonebroker node admit --owner).

The SVID's key is made in the TPM and never leaves it, or lies in the state folder
of a host without one. --save writes the
certificate chain to FILE, the SPIFFE bundle to FILE.bundle.json and its
authorities to FILE.bundle.pem.`,
		Example: `  zoneagent attest --once --server https://broker.example.org:8443 --anchor /etc/zoneagent/anchor.pem
  zoneagent attest --once --server https://127.0.0.1:8443 --pin sha256:9f86… --tpm swtpm:/run/tpm.sock -o json
  zoneagent attest --once --server https://broker.example.org:8443 --anchor anchor.pem --join-token /root/token --save /run/svid.pem`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.host.register(cmd)
	cmd.Flags().BoolVar(&f.once, "once", false, "attest once and return (needed; to keep the SVID fresh: zoneagent run)")
	cmd.Flags().StringVar(&f.save, "save", "", "write the SVID's chain to FILE (PEM), the bundle beside it; the key stays where it is")
	registerOutput(cmd, &f.output)
	cmd.Flags().DurationVar(&f.timeout, "timeout", 2*time.Minute, "give up after this time")
	return cmd
}

func (f *attestFlags) run(cmd *cobra.Command) error {
	if err := checkOutput(f.output); err != nil {
		return err
	}
	if !f.once {
		return usageError{"--once is missing: attest proves the host once and returns; to keep an SVID use zoneagent run"}
	}
	notes := cmd.ErrOrStderr()
	cfg, err := f.host.config(func(line string) { fmt.Fprintln(notes, terminal.Plain(line)) })
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), f.timeout, fmt.Errorf("not done within %s", f.timeout))
	defer cancel()
	result, err := agent.Attest(ctx, cfg)
	if err != nil {
		return err
	}
	if f.save != "" {
		if err := result.Save(f.save); err != nil {
			return err
		}
		where := "the TPM"
		if !result.InTPM {
			where = f.host.state
		}
		cfg.Progress("wrote the SVID to " + f.save + "; its key stays in " + where)
	}
	return printResult(cmd.OutOrStdout(), f.output, result, time.Now())
}
