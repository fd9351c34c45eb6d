package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/store"
)

// serveOptions override what zonebroker.yaml says; empty leaves it.
type serveOptions struct {
	dir, database, databaseOwner, listen, replica, policy string
	// onPostgres hears the process number of each postmaster of a private Postgres,
	// before it answers; nil for nobody.
	onPostgres func(pid int)
}

func newServeCmd() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve --dir DIR",
		Short: "Run a broker from a folder made by init",
		Long: `Serve runs a broker: it opens (and with embedded:DIR supervises) the database,
migrates it, loads the policy and answers agents over TLS 1.3 and operators on
the admin socket.

--database embedded:DIR keeps a private Postgres in DIR: on a Unix socket in a
0700 folder, with fsync on, started and stopped with the broker. It uses the
programs of the host (ZONEBROKER_PG_BIN, PATH, /usr/lib/postgresql) or those
that "zonebroker deps" fetched, and never downloads anything by itself.
--database postgres://… uses any server, PostgreSQL 15 or later.

SIGHUP reloads the policy and the trust data, which is also looked at once a
minute; either is refused as a whole where it has a problem, and the old one
stays. SIGTERM and Ctrl-C stop the broker in order.`,
		Example: `  zonebroker serve --dir /var/lib/zonebroker
  zonebroker serve --dir ./lab --database embedded:./lab/pg --listen 127.0.0.1:0
  zonebroker serve --dir /etc/zonebroker --database "postgres://zb_writer@db/zonebroker" --database-owner "postgres://admin@db/zonebroker"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.dir == "" {
				o.dir = os.Getenv("ZONEBROKER_DIR")
			}
			if o.dir == "" {
				return errors.New("name the broker's folder: --dir DIR or ZONEBROKER_DIR")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			logger := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
			return serve(ctx, o, logger, func(r *running) {
				fmt.Fprintf(cmd.OutOrStdout(), "ready https://%s %s\n", r.address, r.pin)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "", "the broker's folder (default $ZONEBROKER_DIR)")
	f.StringVar(&o.database, "database", "", "embedded:DIR or postgres://… (default: that of zonebroker.yaml)")
	f.StringVar(&o.databaseOwner, "database-owner", "", "postgres://… of the role that migrates (default: that of --database)")
	f.StringVar(&o.listen, "listen", "", "host:port for agents; port 0 takes a free one")
	f.StringVar(&o.replica, "replica", "", "name of this replica (default: the host name)")
	f.StringVar(&o.policy, "policy", "", "folder of zone documents")
	return cmd
}

// running is a broker that answers.
type running struct {
	dir, address, pin string
	broker            *broker.Broker
	database          string // connection string for psql
}

// serve runs a broker until ctx ends; ready is called once it answers.
func serve(ctx context.Context, o serveOptions, logger *slog.Logger, ready func(*running)) (err error) {
	cfg, err := loadConfig(o.dir)
	if err != nil {
		return err
	}
	cfg.override(o)
	keys, err := loadKeys(o.dir, cfg)
	if err != nil {
		return err
	}
	// A policy that does not load stops the start before anything else starts.
	set, err := loadPolicy(within(o.dir, cfg.Policy))
	if err != nil {
		return err
	}
	db, err := openDatabase(ctx, o.dir, cfg, o.onPostgres, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if err := prepareSchema(ctx, db.owner, logger); err != nil {
		return err
	}
	st, err := store.Open(ctx, store.Config{
		DSN: db.writer, Pooler: cfg.DatabasePooler, RowKey: keys.row, LogID: cfg.LogID, OtherLogs: keys.otherLogs, Writer: cfg.Replica, Now: now, Step: failpoint,
		Logger: logger, OnForged: func(table, id string) {
			logger.Error("a granting row fails its HMAC and counts as absent", "code", "store.row_forged", "table", table, "id", id)
		},
	})
	if err != nil {
		return err
	}
	// The writer outlives the routes: a decision on its way into the log is
	// finished before the database stops.
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	var storeDone sync.WaitGroup
	var storeErr error
	storeDone.Go(func() { storeErr = st.Run(storeCtx) })
	defer func() {
		stopStore()
		storeDone.Wait()
		st.Close()
		err = errors.Join(err, storeErr)
	}()
	db.reader = db.readerOf(cfg)
	ask := newReader(cfg, db, logger)
	defer ask.close()
	trusting := newTrustMetrics()
	b, err := newBroker(o.dir, cfg, keys, st, db.owner, ask, trusting, logger)
	if err != nil {
		return err
	}
	if err := b.Start(ctx); err != nil {
		return err
	}
	if _, err := b.ActivatePolicy(ctx, set, "replica:"+cfg.Replica); err != nil {
		return fmt.Errorf("activate policy: %w", err)
	}
	return answer(ctx, o.dir, cfg, keys, db, b, trusting, logger, ready)
}

func (c *config) override(o serveOptions) {
	for _, p := range []struct {
		to   *string
		from string
	}{{&c.Database, o.database}, {&c.DatabaseOwner, o.databaseOwner}, {&c.Listen, o.listen}, {&c.Replica, o.replica}, {&c.Policy, o.policy}} {
		if p.from != "" {
			*p.to = p.from
		}
	}
}

// answer opens the listeners and runs everything that runs until ctx ends.
func answer(ctx context.Context, dir string, cfg config, keys brokerKeys, db *database, b *broker.Broker, trusting *trustMetrics, logger *slog.Logger, ready func(*running)) error {
	certs := &serverCertificates{anchor: keys.anchor, trustDomain: cfg.TrustDomain, names: cfg.hostNames()}
	if _, err := certs.get(nil); err != nil {
		return err
	}
	srv, err := newServer(dir, cfg, b, certs, trusting, logger)
	if err != nil {
		return err
	}
	// The address is known only now: port 0 takes a free one.
	if err := b.StartTokens(ctx, cfg.issuerURL(srv.Addr())); err != nil {
		return err
	}
	r := &running{dir: dir, address: srv.Addr(), pin: keys.anchor.Pin(), broker: b, database: db.writer}
	if err := writeEnv(r); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Run(gctx) })
	g.Go(func() error { return b.Run(gctx) })
	g.Go(func() error { return reloadOnHangup(gctx, within(dir, cfg.Policy), cfg.Replica, b, logger) })
	g.Go(func() error { return keepTrust(gctx, dir, cfg, b, trusting, logger) })
	g.Go(func() error { return refreshTrust(gctx, dir, cfg, trusting, logger) })
	g.Go(func() error { return keepPartitions(gctx, db.owner, logger) })
	g.Go(func() error { return db.watch(gctx) })
	g.Go(func() error { paceCollector(gctx); return nil })
	ready(r)
	return g.Wait()
}

// newServer opens the listeners; the admin socket lies in a 0700 folder.
func newServer(dir string, cfg config, b *broker.Broker, certs *serverCertificates, trusting *trustMetrics, logger *slog.Logger) (*server.Server, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(trusting); err != nil {
		return nil, err
	}
	return server.New(server.Config{
		Broker: b, Operator: b, TrustDomain: cfg.TrustDomain, Listen: cfg.Listen,
		AdminSocket: filepath.Join(dir, runDir, adminSocket), GetCertificate: certs.get,
		Registry: registry, Logger: logger, Now: now, Limits: cfg.Limits.ofServer(), Timeouts: cfg.Limits.timeouts(),
	})
}

// writeEnv leaves a file that a shell on this machine sources (set -a; . DIR/env),
// so that zonebroker and zoneagent find this broker. It holds nothing secret.
func writeEnv(r *running) error {
	dir, err := filepath.Abs(r.dir)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("ZONEBROKER_DIR=%s\nZONEAGENT_SERVER=https://%s\nZONEBROKER_PIN=%s\n", shellWord(dir), r.address, r.pin)
	return os.WriteFile(filepath.Join(r.dir, envFile), []byte(text), 0o600)
}

// shellWord quotes text so that a shell reads it as one word.
func shellWord(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// serverCertificates keeps a TLS certificate signed by the trust anchor, and
// makes the next at half life.
type serverCertificates struct {
	anchor      *issuer.Anchor
	trustDomain string
	names       []string // hosts by which readers of OIDC find this broker

	mu   sync.Mutex // guards cert
	cert *tls.Certificate
}

func (s *serverCertificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := now()
	if s.cert != nil && at.Before(s.cert.Leaf.NotAfter.Add(-issuer.ServerLifetime/2)) {
		return s.cert, nil
	}
	c, err := issuer.ServerCertificate(s.anchor, s.trustDomain, at, s.names...)
	if err != nil {
		return nil, err
	}
	s.cert = &c
	return s.cert, nil
}

// reloadOnHangup loads the policy again on SIGHUP. Requests in flight finish
// under the version they began with.
func reloadOnHangup(ctx context.Context, dir, replica string, b *broker.Broker, logger *slog.Logger) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
		}
		set, err := loadPolicy(dir)
		if err != nil {
			logger.Error("policy not reloaded, the old one stays", "error", err)
			continue
		}
		version, err := b.ActivatePolicy(ctx, set, "replica:"+replica)
		if err != nil {
			logger.Error("policy not activated, the old one stays", "error", err)
			continue
		}
		logger.Info("policy active", "version", version, "hash", set.Hash())
	}
}

// randomSource is the one source of randomness of the product.
var randomSource io.Reader = rand.Reader
