package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/agent"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

type attestFlags struct {
	broker    brokerFlags
	once      bool
	tpm       string
	state     string
	eventLog  string
	joinToken string
	ak, ek    string
	save      string
	output    string
	timeout   time.Duration
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
apart. --once does it once and returns.

The SVID's key is made in the TPM and never leaves it. --save writes the
certificate chain to FILE, the SPIFFE bundle to FILE.bundle.json and its
authorities to FILE.bundle.pem.`,
		Example: `  zoneagent attest --once --server https://broker.example.org:8443 --anchor /etc/zoneagent/anchor.pem
  zoneagent attest --once --server https://127.0.0.1:8443 --pin sha256:9f86… --tpm swtpm:/run/tpm.sock -o json
  zoneagent attest --once --server https://broker.example.org:8443 --anchor anchor.pem --join-token /root/token --save /run/svid.pem`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.broker.register(cmd)
	cmd.Flags().BoolVar(&f.once, "once", false, "attest once and return (needed: this version does not keep SVIDs fresh by itself)")
	cmd.Flags().StringVar(&f.state, "state", defaultState(), "folder for what is kept between runs, mode 0700")
	cmd.Flags().StringVar(&f.eventLog, "event-log", tpm2collect.DefaultEventLog, "firmware event log")
	cmd.Flags().StringVar(&f.joinToken, "join-token", "", "file with a one-time join token, mode 0600")
	cmd.Flags().StringVar(&f.ak, "ak", "", "kind of attestation key: p256 or rsa (default: as before, p256 at first)")
	cmd.Flags().StringVar(&f.save, "save", "", "write the SVID's chain to FILE (PEM), the bundle beside it; the key stays in the TPM")
	registerTPM(cmd, &f.tpm, &f.ek)
	registerOutput(cmd, &f.output)
	cmd.Flags().DurationVar(&f.timeout, "timeout", 2*time.Minute, "give up after this time")
	return cmd
}

func registerTPM(cmd *cobra.Command, device, ek *string) {
	cmd.Flags().StringVar(device, "tpm", defaultTPM(), "TPM: a device, or swtpm:SOCKET for a software TPM (environment: ZONEAGENT_TPM)")
	cmd.Flags().StringVar(ek, "ek", string(tpm2collect.Auto), "endorsement key: auto, rsa, p256, rsa-high or p384 (auto: the one with a certificate, else rsa)")
}

func defaultTPM() string {
	if device := os.Getenv("ZONEAGENT_TPM"); device != "" {
		return device
	}
	return tpm2collect.DefaultDevice
}

// defaultState follows the file system hierarchy for root and the XDG base
// directories for everybody else; "" where there is no home.
func defaultState() string {
	if os.Geteuid() == 0 {
		return "/var/lib/zoneagent"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "zoneagent")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "zoneagent")
	}
	return ""
}

// config checks the command line and turns it into the agent's configuration.
func (f *attestFlags) config(notes io.Writer) (agent.Config, error) {
	if err := checkOutput(f.output); err != nil {
		return agent.Config{}, err
	}
	if !f.once {
		return agent.Config{}, usageError{"--once is missing: this version attests once and returns; run it from a timer to renew"}
	}
	if err := f.broker.needServer(); err != nil {
		return agent.Config{}, err
	}
	if f.state == "" {
		return agent.Config{}, usageError{"--state is missing: this user has no home to keep the state in"}
	}
	trust, err := f.broker.trust()
	if err != nil {
		return agent.Config{}, err
	}
	if trust.Empty() {
		return agent.Config{}, usageError{"give the broker's trust anchor with --anchor, --pin or --bundle; there is no trust on first use"}
	}
	if f.ak != "" && f.ak != string(tpm2collect.P256) && f.ak != string(tpm2collect.RSA) {
		return agent.Config{}, usageError{"--ak: want p256 or rsa"}
	}
	if err := checkEK(f.ek); err != nil {
		return agent.Config{}, err
	}
	cfg := agent.Config{
		Server: f.broker.server, Trust: trust, TrustDomain: f.broker.trustDomain, StateDir: f.state, Device: f.tpm,
		AK: tpm2collect.Kind(f.ak), EK: tpm2collect.Kind(f.ek), EventLog: f.eventLog,
		UserAgent: "zoneagent/" + version(),
		Progress:  func(line string) { fmt.Fprintln(notes, terminal.Plain(line)) },
	}
	if f.joinToken != "" {
		if cfg.JoinToken, err = agent.ReadJoinToken(f.joinToken); err != nil {
			return agent.Config{}, err
		}
	}
	return cfg, nil
}

func checkEK(kind string) error {
	switch tpm2collect.Kind(kind) {
	case tpm2collect.Auto, tpm2collect.RSA, tpm2collect.P256, tpm2collect.RSAHigh, tpm2collect.P384:
		return nil
	}
	return usageError{"--ek: want auto, rsa, p256, rsa-high or p384"}
}

func (f *attestFlags) run(cmd *cobra.Command) error {
	cfg, err := f.config(cmd.ErrOrStderr())
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
		cfg.Progress("wrote the SVID to " + f.save + "; its key stays in the TPM")
	}
	return printResult(cmd.OutOrStdout(), f.output, result, time.Now())
}
