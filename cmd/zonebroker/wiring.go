package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/cmd/internal/zonefiles"
	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/embedded"
)

// The seams of the house, proved where everything is known.
var (
	_ broker.Store     = (*store.Store)(nil)
	_ broker.Questions = (*store.Reader)(nil)
	_ broker.Keeper    = (*store.Owner)(nil)
	_ server.Broker    = (*broker.Broker)(nil)
	_ server.Operator  = (*broker.Broker)(nil)
)

// brokerKeys are the secrets of a broker's folder.
type brokerKeys struct {
	cluster  [32]byte
	row      [32]byte // derived: authenticates granting rows
	log      note.Signer
	logCheck ledger.NoteVerifier
	anchor   *issuer.Anchor

	otherLogs []ledger.NoteVerifier // that other brokers of the database write
}

func loadKeys(dir string, cfg config) (brokerKeys, error) {
	var k brokerKeys
	var err error
	if k.cluster, err = readClusterKey(dir); err != nil {
		return k, err
	}
	row, err := hkdf.Key(sha256.New, k.cluster[:], nil, "zonebroker-row-v1", 32)
	if err != nil {
		return k, err
	}
	k.row = [32]byte(row)
	if err := k.loadLogKey(dir, cfg); err != nil {
		return k, err
	}
	if k.otherLogs, err = loadOtherLogs(dir, cfg); err != nil {
		return k, err
	}
	pem, err := readSecret(filepath.Join(dir, secretsDir, anchorKey))
	if err != nil {
		return k, err
	}
	if k.anchor, err = issuer.LoadAnchor(pem); err != nil {
		return k, fmt.Errorf("key file %s: %w", filepath.Join(dir, secretsDir, anchorKey), err)
	}
	return k, nil
}

// loadLogKey refuses a key that is named for another log: records of one trust
// domain would be sealed as those of another. log.pub is for auditors; what is
// verified with is derived from the key itself.
func (k *brokerKeys) loadLogKey(dir string, cfg config) error {
	path := filepath.Join(dir, secretsDir, logKeyFile)
	skey, err := readSecret(path)
	if err != nil {
		return err
	}
	if k.log, k.logCheck, err = ledger.ParseLogKey(string(skey)); err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	if want := ledger.Origin(cfg.TrustDomain, cfg.LogID); k.log.Name() != want {
		return fmt.Errorf("key file %s is the key of log %s, not of %s: trust_domain or log_id in %s is not that of the key",
			path, k.log.Name(), want, configFile)
	}
	return nil
}

// loadPolicy reads the folder as a whole, or says everything that is wrong.
func loadPolicy(dir string) (*policy.Set, error) {
	files, err := zonefiles.Read(dir)
	if err != nil {
		return nil, err
	}
	set, problems := policy.Load(files)
	if len(problems) == 0 {
		return set, nil
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.String()
	}
	return nil, fmt.Errorf("the policy in %s does not load:\n  %s", dir, strings.Join(lines, "\n  "))
}

// database is an open database and how to end it.
type database struct {
	owner, writer string
	reader        string
	private       *embedded.Server // nil for a server of somebody else's
}

const databaseName = "zonebroker"

// openDatabase opens the database. onStart hears of each postmaster of a private
// one; nil for nobody.
func openDatabase(ctx context.Context, dir string, cfg config, onStart func(pid int), logger *slog.Logger) (*database, error) {
	place, private := strings.CutPrefix(cfg.Database, "embedded:")
	if !private {
		if !strings.HasPrefix(cfg.Database, "postgres://") && !strings.HasPrefix(cfg.Database, "postgresql://") {
			return nil, fmt.Errorf("database %q is neither embedded:DIR nor postgres://…", cfg.Database)
		}
		owner := cfg.DatabaseOwner
		switch {
		case owner == "" && cfg.DatabasePooler:
			return nil, fmt.Errorf("database_pooler needs database_owner in %s: migrations and partitions are made over a connection of their own to the server", configFile)
		case owner == "":
			owner = cfg.Database
		}
		return &database{owner: owner, writer: cfg.Database}, nil
	}
	if cfg.DatabasePooler {
		return nil, fmt.Errorf("database_pooler in %s: the private Postgres of %s has no pooler before it", configFile, cfg.Database)
	}
	found, missing := hostdeps.Find(ctx, hostdeps.Postgres)
	if len(missing) > 0 {
		return nil, fmt.Errorf("a private Postgres needs the programs of PostgreSQL 15 or later: run zonebroker deps, or set %s", hostdeps.BinVariable)
	}
	pg, err := embedded.Start(ctx, embedded.Config{
		Dir: within(dir, place), Bin: filepath.Dir(found.Path("postgres")), Env: found.Env("postgres"), Logger: logger, OnStart: onStart,
	})
	if err != nil {
		return nil, err
	}
	return &database{owner: pg.DSN(embedded.Superuser, databaseName), writer: pg.DSN(store.WriterRole, databaseName), private: pg}, nil
}

func (d *database) close() error {
	if d.private == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return d.private.Stop(ctx)
}

// watch ends when the private Postgres cannot be kept running any more.
func (d *database) watch(ctx context.Context) error {
	if d.private == nil {
		<-ctx.Done()
		return nil
	}
	ended := make(chan error, 1)
	go func() { ended <- d.private.Wait() }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return fmt.Errorf("the private Postgres ended: %w", err)
	}
}

func prepareSchema(ctx context.Context, owner string, logger *slog.Logger) error {
	return store.Migrate(ctx, owner, func(step string) { logger.Info("migration", "step", step) })
}

// keepPartitions makes the partitions of the coming periods, daily, under the
// owner's role: the writer may not.
func keepPartitions(ctx context.Context, owner string, logger *slog.Logger) error {
	t := time.NewTicker(24 * time.Hour)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			if err := store.EnsurePartitions(ctx, owner, now); err != nil {
				logger.Error("partitions ahead were not made", "error", err)
			}
		}
	}
}

func newBroker(dir string, cfg config, keys brokerKeys, st *store.Store, owner string, ask *reader, m *trustMetrics, logger *slog.Logger) (*broker.Broker, error) {
	trust, err := loadTrust(dir, cfg, m)
	if err != nil {
		return nil, err
	}
	iss, err := issuer.New(issuer.Config{TrustDomain: cfg.TrustDomain, Replica: cfg.Replica, Now: now, CALifetime: time.Duration(cfg.CALifetime)})
	if err != nil {
		return nil, err
	}
	enrichers, err := cfg.Enrich.enrichers(dir)
	if err != nil {
		return nil, err
	}
	anchor := fileAnchor(filepath.Join(dir, logAnchor))
	return broker.New(broker.Config{
		TrustDomain: cfg.TrustDomain, Replica: cfg.Replica, LogID: cfg.LogID, ClusterKey: keys.cluster,
		Store: st, Keeper: store.NewOwner(st, owner), Questions: ask.questions, Issuer: iss, Trust: trust, LogKey: keys.logCheck, OtherLogs: keys.otherLogs,
		VerifierID:     claim.VerifierID{Developer: "https://github.com/zonebroker/zonebroker", Build: "zonebroker " + readBuildInfo().Version},
		SignCheckpoint: func(ctx context.Context) (string, error) { return st.SignCheckpoint(ctx, keys.log, anchor) },
		Anchor:         anchor.Load, Now: now, Rand: randomSource, Logger: logger, Step: failpoint,
		EnrolmentRate: cfg.Limits.Enrolments, NodeRate: cfg.Limits.NodeAttestations, Enrichers: enrichers,
	})
}

// fileAnchor is a log anchor in a file: the last signed checkpoint, outside the
// database. It is enough for a single broker: who holds both can roll back both.
type fileAnchor string

// Load returns the note, "" before the first.
func (f fileAnchor) Load() (string, error) {
	raw, err := readCapped(string(f), maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(raw), err
}

// Store replaces the note by rename, so that a crash leaves the old or the new
// one and never half of one.
func (f fileAnchor) Store(text string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(string(f)), ".anchor-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if _, err := tmp.WriteString(text); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), string(f))
}
