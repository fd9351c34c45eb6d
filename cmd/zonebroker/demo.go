package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/store/embedded"
)

const (
	defaultHosts = 12
	maxHosts     = 100
)

type demoOptions struct {
	once, keep, yes, json bool
	hosts                 int
}

func newDemoCmd() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole story on this machine: database, broker, a fleet with TPMs, its zones",
		Long: `Demo starts a private Postgres, a broker and a fleet of hosts, each with a
software TPM of its own that is booted through a firmware log. The hosts enrol
and earn their zones by quotes; one is booted with another kernel and refused
with the event of its boot log that made the difference; the history is
verified. No configuration, no fixed port, no root, nothing installed.

It stays until Ctrl-C, with the hosts renewing, so that the commands it prints
can be tried, and then removes everything; --keep leaves the folder, --once ends
after the story. It exits with 1 when the story could not be told to its end.

--json prints one event a line: step, node, svid, denied, drift, history, ready,
end.`,
		Example: `  zonebroker demo
  zonebroker demo --once --yes
  zonebroker demo --hosts 3 --once --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.hosts < 1 || o.hosts > maxHosts {
				return usageError{fmt.Sprintf("--hosts: want 1 to %d", maxHosts)}
			}
			// SIGHUP comes when the terminal is closed: nobody watches any more.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return runDemo(ctx, o, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.once, "once", false, "end after the story")
	f.BoolVar(&o.keep, "keep", false, "leave the folder behind")
	f.BoolVar(&o.yes, "yes", false, "fetch missing programs without asking")
	f.BoolVar(&o.json, "json", false, "print events for programs, one JSON object a line")
	f.IntVar(&o.hosts, "hosts", defaultHosts, fmt.Sprintf("how many hosts, 1 to %d", maxHosts))
	return cmd
}

// demo is one run of the story.
type demo struct {
	*narrator
	options demoOptions
	dir     string
	found   hostdeps.Found
	keeper  *keeper
	ca      *swtpm.CA
	hosts   []*demoHost
	broker  *running

	postgres atomic.Int64  // how often it was started
	ended    chan struct{} // closed when the broker has ended
	cause    error         // why; read it after ended
}

func runDemo(ctx context.Context, o demoOptions, in io.Reader, out, errOut io.Writer) (err error) {
	d := &demo{narrator: newNarrator(out, o.json), options: o, ended: make(chan struct{})}
	defer func() {
		end := &endEvent{eventHead: eventHead{Type: eventEnd}, OK: err == nil}
		if err != nil {
			end.Error = err.Error()
		}
		d.tell(end)
	}()
	if d.found, err = hostdeps.Ensure(ctx, hostdeps.Options{Yes: o.yes, In: in, Err: errOut}, hostdeps.Postgres, hostdeps.SWTPM); err != nil {
		return err
	}
	if d.dir, err = embedded.TempDir(demoPrefix); err != nil {
		return fmt.Errorf("make a folder for the demo (TMPDIR says where): %w", err)
	}
	defer func() {
		if o.keep {
			fmt.Fprintf(errOut, "kept: %s\n", d.dir)
		} else {
			err = errors.Join(err, os.RemoveAll(d.dir))
		}
		if d.keeper != nil { // last: until here it has something to keep
			if e := d.keeper.release(); e != nil {
				err = errors.Join(err, fmt.Errorf("the demo's keeper did not end in order: %w", e))
			}
		}
	}()
	if d.keeper, err = startKeeper(d.dir, o.keep); err != nil {
		return err
	}
	if err := d.furnish(time.Now()); err != nil {
		return err
	}
	return d.run(ctx)
}

// run serves the broker while the story is told.
func (d *demo) run(ctx context.Context) (err error) {
	logFile, err := os.OpenFile(filepath.Join(d.dir, "broker.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	d.working("making a database")
	// The broker ends after the hosts, which still talk to it.
	serveCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ready := make(chan *running, 1)
	go func() {
		defer close(d.ended)
		o := serveOptions{dir: d.dir, onPostgres: d.postgresStarted}
		d.cause = serve(serveCtx, o, slog.New(slog.NewJSONHandler(logFile, nil)), func(r *running) { ready <- r })
	}()
	defer func() {
		d.working("ending")
		stop()
		<-d.ended
		if err == nil {
			err = d.cause
		}
	}()
	select {
	case d.broker = <-ready:
		return d.perform(ctx)
	case <-d.ended:
		return fmt.Errorf("the broker did not start (--keep leaves its log, broker.log): %w", d.why())
	case <-ctx.Done():
		return errInterrupted
	}
}

// postgresStarted entrusts every postmaster to the keeper: one that was killed
// and started again too.
func (d *demo) postgresStarted(pid int) {
	d.keeper.name(pid)
	if d.postgres.Add(1) > 1 {
		d.step("Postgres died and was started again")
	}
}

var errInterrupted = errors.New("interrupted before the end of the story")

// why says what ended the broker.
func (d *demo) why() error {
	if d.cause == nil {
		return errors.New("it was told to stop")
	}
	return d.cause
}

// perform tells the story and, unless asked otherwise, keeps the fleet running.
// A broker that ends by itself ends it.
func (d *demo) perform(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-d.ended:
			cancel(errBrokerEnded)
		case <-ctx.Done():
		}
	}()
	defer d.powerOff()
	err = d.story(ctx)
	switch {
	case err != nil:
	case d.options.once:
		d.tell(d.ready())
	default:
		err = d.stay(ctx)
	}
	switch {
	case errors.Is(context.Cause(ctx), errBrokerEnded):
		return fmt.Errorf("%w (--keep leaves its log, broker.log): %w", errBrokerEnded, d.why())
	case err != nil && ctx.Err() != nil:
		return errInterrupted
	}
	return err
}

var errBrokerEnded = errors.New("the broker ended by itself")
