package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/agent"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// demoCaller is whose hand the demo is in the history.
var demoCaller = broker.Caller{Operator: "demo"}

// demoHost is one machine: a TPM, what it boots, and the agent on it.
type demoHost struct {
	name string
	dir  string
	zone *demoZone
	boot *build.Builder // the log of its boot
	node string         // "" before it is known to the broker
	told bool           // it was denied in the story

	agent *agent.Agent // once the story is told; nil for a host that was denied

	mu  sync.Mutex // guards tpm
	tpm *swtpm.TPM // nil before the first power-on
}

// demoFleet deals n hosts to the zones, in blocks.
func demoFleet(dir string, n int) []*demoHost {
	block := (n + len(demoZones) - 1) / len(demoZones)
	var out []*demoHost
	for i := range n {
		z := &demoZones[i/block]
		name := fmt.Sprintf("host-%02d", i+1)
		out = append(out, &demoHost{name: name, dir: filepath.Join(dir, name), zone: z, boot: z.machine.Log()})
	}
	return out
}

func (h *demoHost) state() string { return filepath.Join(h.dir, "state") }

func (h *demoHost) eventLog() string { return filepath.Join(h.dir, "eventlog") }

func (h *demoHost) running() *swtpm.TPM {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tpm
}

// isOff says whether the process of the TPM is gone.
func (h *demoHost) isOff() bool {
	tpm := h.running()
	if tpm == nil {
		return true
	}
	select {
	case <-tpm.Done():
		return true
	default:
		return false
	}
}

// powerOn starts the host's TPM and boots it: it extends the PCRs as the
// firmware that wrote the log would have.
func (d *demo) powerOn(ctx context.Context, h *demoHost) error {
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(h.eventLog(), h.boot.Bytes(), 0o600); err != nil {
		return err
	}
	tpm, err := swtpm.Start(ctx, swtpm.Config{
		SWTPM: d.found.Path("swtpm"), Env: d.found.Env(hostdeps.SWTPM), Dir: filepath.Join(h.dir, "tpm"), Sockets: h.dir, CA: d.ca,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	d.keeper.name(tpm.PID())
	h.mu.Lock()
	h.tpm = tpm
	h.mu.Unlock()
	if err := tpm.Boot(ctx, h.boot.Extends()); err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	return nil
}

// reboot boots the host through another log.
func (d *demo) reboot(ctx context.Context, h *demoHost, log *build.Builder) error {
	h.boot = log
	if h.isOff() {
		return d.powerOn(ctx, h)
	}
	if err := os.WriteFile(h.eventLog(), log.Bytes(), 0o600); err != nil {
		return err
	}
	return h.running().Reboot(ctx, log.Extends())
}

// powerOff ends all TPMs.
func (d *demo) powerOff() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var g errgroup.Group
	for _, h := range d.hosts {
		if !h.isOff() {
			g.Go(func() error { return h.running().Stop(ctx) })
		}
	}
	_ = g.Wait() // one that did not stop in order was killed
}

// parallel does what for every host, as many at a time as the machine has
// cores, and shows how far it is.
func (d *demo) parallel(ctx context.Context, doing string, what func(context.Context, *demoHost) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.NumCPU()))
	d.working("%s", doing)
	var done atomic.Int64
	for _, h := range d.hosts {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := what(ctx, h); err != nil {
				return err
			}
			d.working("%s: %d of %d", doing, done.Add(1), len(d.hosts))
			return nil
		})
	}
	return g.Wait()
}

// admit puts the EKs of a host into the inventory.
func (d *demo) admit(ctx context.Context, h *demoHost) error {
	eks, err := h.running().Endorsements()
	if err != nil {
		return fmt.Errorf("%s: %w", h.name, err)
	}
	var hashes []string
	for _, ek := range eks {
		hash := sha256.Sum256(ek.SPKI)
		hashes = append(hashes, hex.EncodeToString(hash[:]))
	}
	return patiently(ctx, func() error {
		_, err := d.broker.broker.AdmitNode(ctx, demoCaller, api.AdmitRequest{EKHashes: hashes, Machine: h.name, Groups: []string{h.zone.group}})
		return err
	})
}

func (d *demo) agentConfig(h *demoHost) (agent.Config, error) {
	trust, err := client.Pin(d.broker.pin)
	return agent.Config{
		Server: "https://" + d.broker.address, Trust: trust, StateDir: h.state(), EK: tpm2collect.P256,
		Device: "swtpm:" + filepath.Join(h.dir, "tpm.sock"), EventLog: h.eventLog(), UserAgent: "zonebroker-demo",
		Spread: -1,
	}, err
}

// attest has the host prove its state once. What passes by itself is waited for:
// a database that was killed, a TPM whose process was.
func (d *demo) attest(ctx context.Context, h *demoHost) (agent.Result, error) {
	cfg, err := d.agentConfig(h)
	if err != nil {
		return agent.Result{}, err
	}
	var res agent.Result
	err = patiently(ctx, func() error {
		if h.isOff() {
			d.step("the TPM of %s died; %s is started and booted again", h.name, h.name)
			if err := d.powerOn(ctx, h); err != nil {
				return err
			}
		}
		var err error
		res, err = agent.Attest(ctx, cfg)
		return err
	})
	if err != nil {
		return res, fmt.Errorf("%s: %w", h.name, err)
	}
	return res, nil
}

// patience is how long the story waits for what passes by itself.
const patience = 30 * time.Second

// patiently repeats what failed for a reason that passes.
func patiently(ctx context.Context, what func() error) error {
	end := time.NewTimer(patience)
	defer end.Stop()
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for {
		err := what()
		if err == nil || !passes(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-end.C:
			return err
		case <-again.C:
		}
	}
}

// passes says whether the reason of a failure may end by itself.
func passes(err error) bool {
	if refused, ok := errors.AsType[*client.RefusedError](err); ok {
		return refused.Status >= http.StatusInternalServerError || refused.Status == http.StatusTooManyRequests
	}
	if fault, ok := errors.AsType[*agent.Fault](err); ok {
		return fault.Kind == agent.FaultTPM
	}
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		return true
	}
	switch reason.Of(err) {
	case reason.StoreUnavailable, reason.IssuerUnavailable, reason.RequestOverloaded:
		return true
	}
	return false
}
