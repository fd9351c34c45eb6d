// Command zoneagent runs on a host: it proves what the host is to a broker, with the
// host's TPM and with documents of its platform, and keeps the SVID that it earns.
//
// Exit codes: 0 ok, 1 error, 2 usage, 3 denied by policy, 4 broker unreachable,
// 5 a proof does not verify (the broker's identity, or its answer).
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process: data goes to out, everything else to notes.
func run(args []string, out, notes io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := command()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(notes)
	if err := root.ExecuteContext(ctx); err != nil {
		return fail(notes, err)
	}
	return terminal.ExitOK
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "zoneagent",
		Short: "Prove this host's measured state to a broker, and keep the SVID that it earns",
		Long: `zoneagent runs on a host. It asks a broker for a challenge, quotes the boot
measurements with the host's TPM over it, and receives an X.509-SVID of the zone
that the host has earned, whose key is made in the TPM and stays there. A host
without a TPM shows what its cloud, its processor or an existing PKI says of it
(zoneagent doctor), and keeps its keys in the state folder. zoneagent
run keeps it fresh and serves SVIDs of the zone's workloads to the processes of
this host through the SPIFFE Workload API.

The broker has to prove who it is before anything is sent: give its trust anchor
with --anchor, the pin of the anchor's key with --pin (or ZONEBROKER_PIN), or a
SPIFFE bundle with --bundle. There is no insecure default and no trust on first
use.

Data goes to standard output, progress and errors to standard error.

Exit codes: 0 ok, 1 error, 2 usage, 3 denied by policy, 4 broker unreachable,
5 a proof does not verify.`,
		Example: `  zoneagent run --server https://broker.example.org:8443 --anchor /etc/zoneagent/anchor.pem
  zoneagent status`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err.Error()} })
	root.AddCommand(runCommand(), statusCommand(), healthCommand(), fetchCommand(), attestCommand(), verifyBrokerCommand(), doctorCommand(), ekCommand(), completionCommand(), manCommand(), versionCommand())
	places().Register(root)
	return root
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{"unknown argument " + args[0] + " for " + cmd.CommandPath()}
	}
	return nil
}
