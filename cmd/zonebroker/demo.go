package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/agent/swtpm"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/store/embedded"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

const demoDomain = "demo.zonebroker.test"

type demoOptions struct {
	once, keep, yes bool
}

func newDemoCmd() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole story on this machine: database, broker, a host with a TPM, its zone",
		Long: `Demo starts a private Postgres, a broker and a host with a software TPM that is
booted through a firmware log. The host enrols, earns its zone by a quote, is
booted with another kernel and refused with the reason, and the history is
verified. No configuration, no fixed port, no root, nothing installed.

It stays until Ctrl-C, so that the commands it prints can be tried, and then
removes everything; --keep leaves the folder, --once ends after the story.`,
		Example: `  zonebroker demo
  zonebroker demo --once --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return runDemo(ctx, o, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVar(&o.once, "once", false, "end after the story")
	cmd.Flags().BoolVar(&o.keep, "keep", false, "leave the folder behind")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "fetch missing programs without asking")
	return cmd
}

// demo is one run of the story.
type demo struct {
	out    io.Writer
	dir    string
	found  hostdeps.Found
	began  time.Time
	keeper *keeper
	ended  chan struct{} // closed when the broker has ended
	cause  error         // why; read it after ended
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%6.1fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func runDemo(ctx context.Context, o demoOptions, in io.Reader, out, errOut io.Writer) (err error) {
	d := &demo{out: out, began: time.Now(), ended: make(chan struct{})}
	if d.found, err = hostdeps.Ensure(ctx, hostdeps.Options{Yes: o.yes, In: in, Err: errOut}, hostdeps.Postgres, hostdeps.SWTPM); err != nil {
		return err
	}
	if d.dir, err = embedded.TempDir(demoPrefix); err != nil {
		return fmt.Errorf("make a folder for the demo (TMPDIR says where): %w", err)
	}
	defer func() {
		if o.keep {
			fmt.Fprintf(out, "kept: %s\n", d.dir)
		} else {
			err = errors.Join(err, os.RemoveAll(d.dir))
		}
		if d.keeper != nil { // last: until here it has something to keep
			err = errors.Join(err, d.keeper.release())
		}
	}()
	if d.keeper, err = startKeeper(d.dir, o.keep); err != nil {
		return err
	}
	ca, err := d.furnish()
	if err != nil {
		return err
	}
	return d.run(ctx, o, ca)
}

// run serves the broker while the story is told.
func (d *demo) run(ctx context.Context, o demoOptions, ca *swtpm.CA) (err error) {
	logFile, err := os.OpenFile(filepath.Join(d.dir, "broker.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	serveCtx, stop := context.WithCancel(ctx)
	ready := make(chan *running, 1)
	go func() {
		defer close(d.ended)
		d.cause = serve(serveCtx, serveOptions{dir: d.dir}, slog.New(slog.NewJSONHandler(logFile, nil)), func(r *running) { ready <- r })
	}()
	defer func() {
		stop()
		<-d.ended
		if err == nil {
			err = d.cause
		}
	}()
	select {
	case r := <-ready:
		d.keeper.name(r.postmaster)
		return d.story(ctx, o, r, ca)
	case <-d.ended:
		return fmt.Errorf("the broker did not start (--keep leaves its log, broker.log): %w", d.why())
	}
}

// why says what ended the broker.
func (d *demo) why() error {
	if d.cause == nil {
		return errors.New("it was told to stop")
	}
	return d.cause
}

// furnish makes the broker's folder: keys, the lab's CA as the only root, and
// one zone whose reference set is that of the golden boot.
func (d *demo) furnish() (*swtpm.CA, error) {
	if _, err := initDir(d.dir, demoDomain, "127.0.0.1:0", time.Now()); err != nil {
		return nil, err
	}
	ca, err := swtpm.OpenCA(filepath.Join(d.dir, "lab-ca"), time.Now())
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(d.dir, configFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(f, "extra_vendors: [%q]\n", swtpm.Manufacturer)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	golden, err := goldenReference()
	if err != nil {
		return nil, err
	}
	for name, text := range map[string][]byte{
		filepath.Join(rootsDir, "lab-ca.pem"):        ca.RootPEM(),
		filepath.Join(policyDir, "payments.yaml"):    []byte(demoZone),
		filepath.Join(policyDir, "golden-boot.yaml"): golden,
	} {
		if err := os.WriteFile(filepath.Join(d.dir, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	return ca, nil
}

const demoZone = `apiVersion: zonebroker/v1
kind: Zone
name: payments
tier: 2
selectors: {any: [{group: rack-7}]}
admit: [inventory]
requires: {class: A, format: [tpm2], references: [golden-boot], secure_boot: true}
evidence: {max_age: 5m}
issue: {x509_ttl: 1h, grace: 55m}
`

func goldenBoot() *build.Builder { return build.Machine{}.Log() }

// goldenReference is the reference set that an image builder would publish with
// the image: what its boot replays to.
func goldenReference() ([]byte, error) {
	log, err := eventlog.Parse(goldenBoot().Bytes())
	if err != nil {
		return nil, err
	}
	m := api.ReferenceMaterial{Node: "golden-image", AttestationID: "built", PCRs: map[string]string{}}
	values := log.Replay()
	for _, pcr := range []int{0, 4, 7, 8, 9} {
		m.PCRs[strconv.Itoa(pcr)] = hex.EncodeToString(values[pcr])
	}
	o := referenceOptions{name: "golden-boot", approvedBy: "demo"}
	return o.document(m)
}

func otherBoot() *build.Builder {
	return build.Machine{KernelVersion: "6.1.0-99-other"}.Log()
}

// story tells what happens, and what it showed.
func (d *demo) story(ctx context.Context, o demoOptions, r *running, ca *swtpm.CA) (err error) {
	d.say("Postgres runs in %s, fsync on", filepath.Join(d.dir, embeddedName))
	d.say("broker answers on https://%s, trust domain %s", r.address, demoDomain)
	tpm, err := swtpm.Start(ctx, swtpm.Config{
		SWTPM: d.found.Path("swtpm"), Env: d.found.Env(hostdeps.SWTPM), Dir: filepath.Join(d.dir, "host-1"), CA: ca,
	})
	if err != nil {
		return err
	}
	d.keeper.name(tpm.PID())
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, tpm.Stop(stopCtx))
	}()
	if err := d.boot(ctx, tpm, goldenBoot()); err != nil {
		return err
	}
	d.say("host-1 booted: TPM 2.0 (swtpm), %d events measured", len(goldenBoot().Extends()))
	if err := d.admit(ctx, r.broker, tpm); err != nil {
		return err
	}
	if err := d.earn(ctx, r, tpm); err != nil {
		return err
	}
	if err := d.bootOther(ctx, r, tpm); err != nil {
		return err
	}
	if err := d.prove(ctx, r); err != nil {
		return err
	}
	if o.once {
		return nil
	}
	d.tryNext(r)
	select {
	case <-ctx.Done():
		return nil
	case <-d.ended:
		if ctx.Err() != nil { // it ended because the demo does
			return nil
		}
		return fmt.Errorf("the broker ended by itself (--keep leaves its log, broker.log): %w", d.why())
	}
}

// boot extends the PCRs as the firmware that wrote the log would have.
func (d *demo) boot(ctx context.Context, tpm *swtpm.TPM, log *build.Builder) error {
	if err := tpm.Reboot(ctx, log.Extends()); err != nil {
		return err
	}
	return os.WriteFile(d.eventLog(), log.Bytes(), 0o600)
}

func (d *demo) eventLog() string { return filepath.Join(d.dir, "host-1.eventlog") }

func (d *demo) admit(ctx context.Context, b *broker.Broker, tpm *swtpm.TPM) error {
	eks, err := tpm.Endorsements()
	if err != nil {
		return err
	}
	var hashes []string
	for _, ek := range eks {
		hash := sha256.Sum256(ek.SPKI)
		hashes = append(hashes, hex.EncodeToString(hash[:]))
	}
	adm, err := b.AdmitNode(ctx, broker.Caller{Operator: "demo"}, api.AdmitRequest{EKHashes: hashes, Machine: "host-1", Groups: []string{"rack-7"}})
	if err != nil {
		return err
	}
	d.say("operator admitted host-1 by the hashes of its %d EKs (admission %s)", len(hashes), adm.ID)
	return nil
}

func (d *demo) attest(ctx context.Context, r *running, tpm *swtpm.TPM) (agent.Result, error) {
	trust, err := client.Pin(r.pin)
	if err != nil {
		return agent.Result{}, err
	}
	return agent.Attest(ctx, agent.Config{
		Server: "https://" + r.address, Trust: trust, StateDir: filepath.Join(d.dir, "host-1.state"),
		Device: "swtpm:" + tpm.Socket(), EventLog: d.eventLog(), UserAgent: "zonebroker-demo",
	})
}

func (d *demo) earn(ctx context.Context, r *running, tpm *swtpm.TPM) error {
	for _, what := range []string{"enrolled", "renewed with a fresh quote"} {
		began := time.Now()
		res, err := d.attest(ctx, r, tpm)
		if err != nil {
			return err
		}
		d.say("host-1 %s: zone %s, tier %d, in %d ms", what, res.Zone, res.Tier, time.Since(began).Milliseconds())
		d.say("  SVID %s", res.SPIFFEID)
		d.say("  attested %s, fresh until %s, certificate ends %s", clock(res.AttestedAt), clock(res.FreshUntil), clock(res.ExpiresAt))
		d.say("  record %s is entry %d of the log", res.AttestationID, res.Log.Index)
	}
	return nil
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05Z") }

// bootOther boots a kernel that no reference set knows. The denial is part of
// the story; an acceptance would be a failure of the product.
func (d *demo) bootOther(ctx context.Context, r *running, tpm *swtpm.TPM) error {
	if err := d.boot(ctx, tpm, otherBoot()); err != nil {
		return err
	}
	d.say("host-1 rebooted with another kernel")
	_, err := d.attest(ctx, r, tpm)
	refused, ok := errors.AsType[*client.RefusedError](err)
	if !ok {
		return fmt.Errorf("a host with an unknown kernel was not refused: %w", errors.Join(err, errors.New("this is a defect")))
	}
	d.say("host-1 denied: %s", refused.Code)
	for _, reason := range refused.Reasons {
		d.say("  %s: %s", reason.Code, reason.Detail)
	}
	if refused.Remedy != "" {
		d.say("  remedy: %s", refused.Remedy)
	}
	return nil
}

func (d *demo) prove(ctx context.Context, r *running) error {
	v, err := r.broker.VerifyHistory(ctx, broker.Caller{Operator: "demo"})
	if err != nil {
		return err
	}
	if !v.OK {
		return fmt.Errorf("the history is not whole:\n  %s", strings.Join(v.Problems, "\n  "))
	}
	d.say("history verified: %d records, %d of them grants, root %s…, equal to the signed checkpoint", v.Records, v.Grants, v.Root[:16])
	return nil
}

func (d *demo) tryNext(r *running) {
	fmt.Fprintf(d.out, `
Try, in another terminal:
  set -a; . %s; set +a
  zonebroker node list
  zonebroker history list
  zonebroker history verify
  zoneagent verify-broker
  psql '%s'
Ctrl-C ends everything.
`, shellWord(filepath.Join(d.dir, envFile)), r.database)
}
