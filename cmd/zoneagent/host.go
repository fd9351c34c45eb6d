package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/agent"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

// hostFlags say how this host proves itself, and to whom.
type hostFlags struct {
	broker    brokerFlags
	tpm       string
	state     string
	eventLog  string
	imaLog    string
	userLog   string
	joinToken string
	ak, ek    string
	format    string
	documents documentFlags
}

func (f *hostFlags) register(cmd *cobra.Command) {
	f.broker.register(cmd)
	registerState(cmd, &f.state)
	cmd.Flags().StringVar(&f.eventLog, "event-log", tpm2collect.DefaultEventLog, "firmware event log")
	cmd.Flags().StringVar(&f.imaLog, "ima-log", tpm2collect.DefaultIMALog, "measurement list of the kernel (IMA), sent where a zone wants it")
	cmd.Flags().StringVar(&f.userLog, "userspace-log", "", "systemd's measurement log (default: "+tpm2collect.DefaultUserspaceLog+", none for a software TPM)")
	cmd.Flags().StringVar(&f.joinToken, "join-token", "", "file with a one-time join token, mode 0600")
	cmd.Flags().StringVar(&f.ak, "ak", "", "kind of attestation key: p256 or rsa (default: as before, p256 at first)")
	cmd.Flags().StringVar(&f.format, "format", agent.AutoFormat, "evidence that names the node: auto, tpm2, or a format of documents (auto: as before; at first tpm2, or the strongest document where there is no TPM)")
	f.documents.register(cmd)
	registerTPM(cmd, &f.tpm, &f.ek)
}

func registerState(cmd *cobra.Command, state *string) {
	cmd.Flags().StringVar(state, "state", defaultState(), "folder for what is kept between runs, mode 0700")
}

func needState(state string) error {
	if state == "" {
		return usageError{"--state is missing: this user has no home to keep the state in"}
	}
	return nil
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
func (f *hostFlags) config(progress func(string)) (agent.Config, error) {
	if err := f.broker.needServer(); err != nil {
		return agent.Config{}, err
	}
	if err := needState(f.state); err != nil {
		return agent.Config{}, err
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
	if err := checkFormat(f.format); err != nil {
		return agent.Config{}, err
	}
	documents, err := f.documents.config()
	if err != nil {
		return agent.Config{}, err
	}
	cfg := agent.Config{
		Format: f.format, Documents: documents,
		Server: f.broker.server, Trust: trust, TrustDomain: f.broker.trustDomain, StateDir: f.state, Device: f.tpm,
		AK: tpm2collect.Kind(f.ak), EK: tpm2collect.Kind(f.ek), EventLog: f.eventLog, IMALog: f.imaLog, UserspaceLog: f.userLog,
		UserAgent: "zoneagent/" + version(),
		Progress:  progress,
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
