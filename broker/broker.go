package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

// Numbers of wire.md, "Numbers".
const (
	enrolmentRate   = 50 // enrolments a second, unless configured
	pendingCap      = 1000
	pollEvery       = time.Second
	checkpointEvery = time.Second
	nodeRate        = 10 // attestations a minute of one node, unless configured
	caEvery         = time.Minute
	recordTimeout   = 10 * time.Second
	maxSkew         = 2 * time.Second // between our clock and the database's
)

// Config is what a Broker is made of. All fields are required unless they say
// otherwise.
type Config struct {
	TrustDomain string
	Replica     string // name of this replica, unique in the trust domain
	LogID       string
	ClusterKey  [32]byte
	Store       Store
	// Questions returns who answers questions about the history, asked for each of
	// them; nil answers none, with reason.StoreUnavailable.
	Questions  func(ctx context.Context) (Questions, error)
	Keeper     Keeper // nil: this replica drops and erases nothing
	Issuer     *issuer.Issuer
	Trust      TrustData        // in force from the start, until UseTrust
	VerifierID claim.VerifierID // how this software names itself in claims
	LogKey     note.Verifier    // opens checkpoints that agents name
	OtherLogs  []note.Verifier  // as LogKey, of the logs that other brokers of the database write
	// SignCheckpoint proves that the log extends its anchor, signs its head and
	// returns the note. reason.LedgerFork stops issuing for good.
	SignCheckpoint func(ctx context.Context) (string, error)
	// Anchor returns the signed note that the log anchor outside the database
	// holds, "" before the first.
	Anchor func() (string, error)

	// Enrichers are asked about documents; none by default. Enriched hears of each
	// answer, nil for nobody.
	Enrichers []Enricher
	Enriched  func(name string, answered bool)

	// EnrolmentRate is how many enrolments a second may begin, 0 for 50; NodeRate
	// how many attestations a minute of one node are looked at whatever their
	// outcome, 0 for 10.
	EnrolmentRate int
	NodeRate      int

	Now    func() time.Time
	Rand   io.Reader
	Logger *slog.Logger
	Step   func(name string) // failpoint hook of test builds; nil otherwise
}

// Broker is the pipeline. Make it with New, start Run, and ask only after Ready.
type Broker struct {
	cfg        Config
	seal       sealer
	admissions admissions
	roles      roles
	pending    pendingQueue
	enrolSlots chan struct{}
	enrolRate  *rate.Limiter
	asking     enrichGate
	policy     atomic.Pointer[activePolicy]
	trust      atomic.Pointer[TrustData] // in force
	pastTrust  atomic.Pointer[TrustData] // the last one that a record was judged again with
	bundle     atomic.Pointer[bundleDocument]
	checkpoint atomic.Pointer[string]
	skew       atomic.Int64 // database clock minus ours, ns
	forked     atomic.Bool
	logs       logCache
	refusals   refusalCounter
	next       *nextCA
	nextJWT    *nextJWT
	tokens     atomic.Pointer[tokens]
	nodes      nodeRates
	kept       keptNodes
	measured   measuredCache
	retention  retention
}

// New checks the configuration and returns a Broker that has read nothing yet.
func New(cfg Config) (*Broker, error) {
	if cfg.TrustDomain == "" || cfg.Replica == "" || cfg.Store == nil || cfg.Issuer == nil ||
		cfg.SignCheckpoint == nil || cfg.Anchor == nil || cfg.LogKey == nil || cfg.Now == nil || cfg.Rand == nil || cfg.Logger == nil {
		return nil, errors.New("broker: incomplete configuration")
	}
	if cfg.EnrolmentRate < 0 || cfg.NodeRate < 0 {
		return nil, errors.New("broker: a rate below zero")
	}
	if cfg.ClusterKey == [32]byte{} {
		return nil, errors.New("broker: the cluster key is all zero")
	}
	if cfg.Step == nil {
		cfg.Step = func(string) {}
	}
	if cfg.Enriched == nil {
		cfg.Enriched = func(string, bool) {}
	}
	cfg.EnrolmentRate, cfg.NodeRate = cmp.Or(cfg.EnrolmentRate, enrolmentRate), cmp.Or(cfg.NodeRate, nodeRate)
	b := &Broker{
		cfg:        cfg,
		seal:       sealer{cluster: cfg.ClusterKey, rand: cfg.Rand},
		enrolSlots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/4)),
		enrolRate:  rate.NewLimiter(rate.Limit(cfg.EnrolmentRate), cfg.EnrolmentRate),
		asking:     newEnrichGate(cfg.NodeRate),
		nodes:      nodeRates{perMinute: cfg.NodeRate},
	}
	b.retention.ahead.Store(-1)
	b.trust.Store(&b.cfg.Trust)
	return b, nil
}

// Start makes the replica ready: it checks the clocks, reads admissions,
// publishes a first CA and the trust data. The policy is activated by its own
// call, ActivatePolicy, and so are tokens, StartTokens.
func (b *Broker) Start(ctx context.Context) error {
	if err := b.checkClock(ctx); err != nil {
		return err
	}
	// The log is held against its anchor before anything is written: a database
	// that was rolled back stays as it was found.
	if err := b.signCheckpoint(ctx); err != nil {
		return err
	}
	if err := b.pollAdmissions(ctx); err != nil {
		return fmt.Errorf("read admissions: %w", err)
	}
	if err := b.pollOperators(ctx); err != nil {
		return fmt.Errorf("read roles: %w", err)
	}
	if err := b.pollRetention(ctx); err != nil {
		return fmt.Errorf("read the retention policy: %w", err)
	}
	if err := b.publishTrust(ctx, b.trust.Load()); err != nil {
		return fmt.Errorf("record trust data: %w", err)
	}
	if err := b.rotateCA(ctx); err != nil {
		return fmt.Errorf("publish the first CA: %w", err)
	}
	return nil
}

// Run keeps the replica going until ctx ends: admissions, pending machines,
// refusal counts, rotation of CA and token keys, clock and checkpoints.
func (b *Broker) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.every(ctx, pollEvery, "admissions", b.pollAdmissions) })
	g.Go(func() error { return b.every(ctx, pollEvery, "roles", b.pollOperators) })
	g.Go(func() error { return b.every(ctx, pollEvery, "pending", b.flushPending) })
	g.Go(func() error { return b.every(ctx, pollEvery, "refusals", b.flushRefusals) })
	g.Go(func() error { return b.every(ctx, pollEvery, "bundle", b.refreshBundle) })
	g.Go(func() error { return b.every(ctx, checkpointEvery, "checkpoint", b.signCheckpoint) })
	g.Go(func() error { return b.every(ctx, 10*time.Second, "clock", b.checkClock) })
	g.Go(func() error { return b.every(ctx, caEvery, "ca", b.rotateCA) })
	g.Go(func() error { return b.every(ctx, retentionEvery, "retention", b.pollRetention) })
	g.Go(func() error { return b.every(ctx, sweepEvery, "sweep", b.sweepDaily) })
	g.Go(func() error { return b.every(ctx, caEvery, "tokens", b.rotateTokens) })
	return g.Wait()
}

// every runs job until ctx ends. A failing job is logged and tried again: the
// request path notices by itself what it lacks.
func (b *Broker) every(ctx context.Context, d time.Duration, name string, job func(context.Context) error) error {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			// A fork was said once, when it was found.
			if err := job(ctx); err != nil && ctx.Err() == nil && !b.forked.Load() {
				b.cfg.Logger.WarnContext(ctx, "background job failed", "job", name, "error", err)
			}
		}
	}
}

func (b *Broker) origin() string { return ledger.Origin(b.cfg.TrustDomain, b.cfg.LogID) }
