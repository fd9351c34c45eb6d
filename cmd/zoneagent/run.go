package main

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
)

const defaultSocket = "/run/zoneagent/workload.sock"

type runFlags struct {
	host   hostFlags
	socket string
	log    string
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Keep this host in its zone, and serve its workloads",
		Long: `run attests this host, renews at half of the zone's max_age, and serves the
SPIFFE Workload API on a Unix socket to those local processes that the zone's
workloads name by user or executable.

It keeps running whatever happens. While the broker does not answer, it serves
what is still valid, each SVID to its own end, and tries again with growing
pauses. When the broker refuses this host, it stops serving at once, and asks
again: an operator may approve the host, or it may boot what it should.

The state folder brings a host that restarts back as the same node. zoneagent
status shows what it holds. Lines go to standard error.`,
		Example: `  zoneagent run --server https://broker.example.org:8443 --anchor /etc/zoneagent/anchor.pem
  zoneagent run --server https://broker.example.org:8443 --pin sha256:9f86… --workload-api /run/zoneagent/workload.sock
  zoneagent run --server https://127.0.0.1:8443 --anchor anchor.pem --tpm swtpm:/run/tpm.sock --state ./state --workload-api ""`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.host.register(cmd)
	cmd.Flags().StringVar(&f.socket, "workload-api", defaultSocket, `socket of the SPIFFE Workload API; "" serves none`)
	cmd.Flags().StringVar(&f.log, "log", "text", "form of the lines: text or json")
	return cmd
}

// logger writes one line for each thing that an operator may want to know.
func (f *runFlags) logger(w io.Writer) (*slog.Logger, error) {
	switch f.log {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	}
	return nil, usageError{"--log: want text or json"}
}

func (f *runFlags) run(cmd *cobra.Command) error {
	log, err := f.logger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	cfg, err := f.host.config(func(line string) { log.Info("agent", "said", line) })
	if err != nil {
		return err
	}
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	defer a.Close() // where Run was not reached
	group, ctx := errgroup.WithContext(cmd.Context())
	if f.socket != "" {
		server, err := workloadapi.New(workloadapi.Config{Socket: f.socket, Source: a, Logger: log})
		if err != nil {
			return err
		}
		group.Go(func() error { return server.Run(ctx) })
		log.Info("workload api", "socket", f.socket)
	}
	group.Go(func() error { return a.Run(ctx) })
	return group.Wait()
}
