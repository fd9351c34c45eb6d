package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
)

const (
	// maxDeaths is how often a host gets power again: what dies more often has a
	// reason that the demo cannot mend.
	maxDeaths = 5
	// glance is how often the live line is drawn anew.
	glance = time.Second
	// settle is how long the first host may take to have something to serve.
	settle = 10 * time.Second
)

const workloadSocket = "workload.sock"

// stay keeps the fleet in its zones until ctx ends, which is success. The host
// that was refused stays refused.
func (d *demo) stay(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	serves := make(chan struct{})
	if d.hosts[0].told { // nothing will be served
		close(serves)
	}
	for i, h := range d.hosts {
		g.Go(func() error { return d.keepPower(ctx, h) })
		if h.told {
			continue
		}
		a, err := d.newAgent(h)
		if err != nil {
			g.Go(func() error { return err })
			break
		}
		h.agent = a
		g.Go(func() error { return a.Run(ctx) })
		if i == 0 {
			g.Go(func() error { return d.serveWorkloads(ctx, h, serves) })
		}
	}
	g.Go(func() error {
		late := time.NewTimer(settle)
		defer late.Stop()
		served := false
		select {
		case <-serves:
			served = true
		case <-late.C:
		case <-ctx.Done():
			return nil
		}
		d.tell(d.ready())
		d.text(d.tryNext(served && !d.hosts[0].told))
		d.watch(ctx)
		return nil
	})
	return g.Wait()
}

// newAgent makes the agent of a host; what it says goes into its log.
func (d *demo) newAgent(h *demoHost) (*agent.Agent, error) {
	cfg, err := d.agentConfig(h)
	if err != nil {
		return nil, err
	}
	cfg.Progress = func(line string) { h.log().Info(line) }
	return agent.New(cfg)
}

// log appends to the host's log file; a line that cannot be written is lost.
func (h *demoHost) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(appendFile(filepath.Join(h.dir, "agent.log")), nil))
}

// appendFile is a file that is open only while it is written to: a hundred hosts
// would hold a hundred open otherwise.
type appendFile string

func (a appendFile) Write(p []byte) (int, error) {
	f, err := os.OpenFile(string(a), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Write(p)
}

// serveWorkloads serves the Workload API of a host; serves is closed once it has
// an identity for the user of the demo.
func (d *demo) serveWorkloads(ctx context.Context, h *demoHost, serves chan<- struct{}) error {
	server, err := workloadapi.New(workloadapi.Config{Socket: filepath.Join(h.dir, workloadSocket), Source: h.agent, Logger: h.log()})
	if err != nil {
		d.step("%s serves no Workload API here: %v", h.name, err)
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error {
		for {
			changed := h.agent.Changed()
			if len(h.agent.Workloads()) > 0 {
				close(serves)
				return nil
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
		}
	})
	return g.Wait()
}

// keepPower starts a TPM whose process died again, and boots it: the host lost
// power. Its agent finds it at its next renewal.
func (d *demo) keepPower(ctx context.Context, h *demoHost) error {
	for range maxDeaths {
		select {
		case <-ctx.Done():
			return nil
		case <-h.running().Done():
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := d.powerOn(ctx, h); err != nil {
			d.step("%s lost power and does not come back: %v", h.name, err)
			return nil
		}
		d.step("%s lost power: its TPM was started and booted again", h.name)
	}
	d.step("%s stays off: its TPM dies again and again", h.name)
	return nil
}

// watch shows on a terminal how the fleet is.
func (d *demo) watch(ctx context.Context) {
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for d.live {
		attested, refused := 0, 0
		next := time.Time{}
		for _, h := range d.hosts {
			if h.agent == nil {
				refused++
				continue
			}
			s := h.agent.Status()
			if s.Phase == agent.PhaseAttested {
				attested++
			}
			if next.IsZero() || s.NextAttempt.Before(next) {
				next = s.NextAttempt
			}
		}
		line := fmt.Sprintf("%s attested, %d refused", count(attested, "host"), refused)
		if !next.IsZero() {
			line += ", next renewal in " + span(max(0, time.Until(next)))
		}
		d.working("%s", line)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tryNext is what can be typed in another terminal.
func (d *demo) tryNext(workloads bool) string {
	refused := d.hosts[min(1, len(d.hosts)-1)]
	var b strings.Builder
	fmt.Fprintf(&b, `
Try, in another terminal:
  set -a; . %s; set +a
  zonebroker node list
  zonebroker node timeline %s
  zonebroker drift list --kind pcr.4
  zonebroker history verify
`, shellWord(filepath.Join(d.dir, envFile)), refused.node)
	if workloads {
		fmt.Fprintf(&b, `  zoneagent status --state "$ZONEBROKER_DIR/%[1]s/state"
  zoneagent fetch x509 --socket "$ZONEBROKER_DIR/%[1]s/%[2]s"
  zoneagent fetch jwt --audience payments-api --socket "$ZONEBROKER_DIR/%[1]s/%[2]s"
`, d.hosts[0].name, workloadSocket)
	}
	fmt.Fprintf(&b, "  psql %s\nCtrl-C ends everything.\n", shellWord(d.broker.database))
	return b.String()
}
