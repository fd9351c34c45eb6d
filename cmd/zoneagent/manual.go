package main

import (
	"github.com/spf13/cobra"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/cmd/internal/completion"
	"github.com/zonebroker/zonebroker/cmd/internal/manual"
)

func completionCommand() *cobra.Command { return completion.NewCommand("zoneagent") }

// places says what Tab offers, by the names of flags.
func places() completion.Places {
	return completion.Places{
		Flags: map[string]completion.Offers{
			"output": completion.Fixed(asTable, asJSON),
			"ak":     completion.Fixed(string(tpm2collect.P256), string(tpm2collect.RSA)),
			"ek": completion.Fixed(string(tpm2collect.Auto), string(tpm2collect.RSA), string(tpm2collect.P256),
				string(tpm2collect.RSAHigh), string(tpm2collect.P384)),
			"level":  completion.Fixed("live", "ready", "attested"),
			"tpm":    completion.Fixed(tpm2collect.DefaultDevice),
			"format": completion.Fixed(namingFormats()...),
		},
		Paths: []string{"DIR", "anchor", "bundle", "state", "event-log", "ima-log", "userspace-log", "join-token", "save", "write", "policy", "token-file", "service-account", "certificate", "key", "ear", "maa", "gpu"},
	}
}

func manCommand() *cobra.Command {
	return manual.NewCommand("zoneagent", about())
}

// about is what the manual pages say besides the help.
func about() manual.About {
	return manual.About{
		Version: version,
		Exit: [][2]string{
			{"0", "Done."},
			{"1", "An error."},
			{"2", "A wrong command line."},
			{"3", "Denied by policy."},
			{"4", "No broker answered, or no agent."},
			{"5", "A proof does not verify: the broker's identity, or its answer."},
		},
		Environment: [][2]string{
			{"ZONEAGENT_SERVER", "Address of the broker, as --server."},
			{"ZONEBROKER_PIN", "Pin of the trust anchor's key, where none of --anchor, --pin and --bundle is given."},
			{"ZONEAGENT_TPM", "TPM, as --tpm."},
			{"SPIFFE_ENDPOINT_SOCKET", "Socket of the Workload API, for fetch."},
			{"XDG_STATE_HOME", "Where the state folder lies, for everybody but root."},
		},
		Files: [][2]string{
			{"/var/lib/zoneagent", "State folder, for root."},
			{"~/.local/state/zoneagent", "State folder, for everybody else."},
		},
	}
}
