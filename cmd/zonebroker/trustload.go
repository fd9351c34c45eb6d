package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/trust/platform"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// trustPoll is how often a running broker looks whether its trust data changed.
const trustPoll = time.Minute

// maxRoots bounds a file of CA certificates, in bytes.
const maxRoots = 1 << 20

// loadTrust reads what a broker believes: makers' roots and revocation lists, and
// the platforms' objects.
func loadTrust(dir string, cfg config, m *trustMetrics) (broker.TrustData, error) {
	roots, err := trustFiles(broker.TrustEKRoot, within(dir, cfg.EKRoots), maxRoots, ".pem", ".crt")
	if err != nil {
		return broker.TrustData{}, err
	}
	lists, err := trustFiles(broker.TrustEKCRL, within(dir, cfg.EKCRLs), x509chain.MaxCRL, ".crl", ".pem")
	if err != nil {
		return broker.TrustData{}, err
	}
	platforms, err := platform.Open(within(dir, cfg.Trust))
	if err != nil {
		return broker.TrustData{}, err
	}
	files := slices.Concat(roots, lists, platforms.Objects(now()))
	if len(cfg.ExtraVendors) > 0 {
		files = append(files, verifier.TrustObject{Kind: broker.TrustEKVendor, Name: "list", Raw: []byte(strings.Join(cfg.ExtraVendors, "\n"))})
	}
	t, err := broker.NewTrustData(files)
	if err == nil {
		m.loaded(platforms.Ends())
	}
	return t, err
}

// trustFiles reads all files of a folder with one of the endings, each up to limit
// bytes; a folder that is not there has none.
func trustFiles(kind, dir string, limit int64, endings ...string) ([]verifier.TrustObject, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []verifier.TrustObject
	for _, e := range entries {
		if e.IsDir() || !slices.Contains(endings, filepath.Ext(e.Name())) {
			continue
		}
		raw, err := readCapped(filepath.Join(dir, e.Name()), limit)
		if err != nil {
			return nil, err
		}
		out = append(out, verifier.TrustObject{Kind: kind, Name: e.Name(), Raw: raw})
	}
	return out, nil
}

// keepTrust loads the trust data again when its folders changed, and on SIGHUP.
// What cannot be used leaves the version before in force: a broker goes on with
// what it believed, and says so.
func keepTrust(ctx context.Context, dir string, cfg config, b *broker.Broker, m *trustMetrics, logger *slog.Logger) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	t := time.NewTicker(trustPoll)
	defer t.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
		case <-t.C:
		}
		err := reloadTrust(ctx, dir, cfg, b, m, logger)
		m.reloaded(err)
		if err != nil && err.Error() != said {
			logger.ErrorContext(ctx, "trust data not reloaded, the old one stays", "error", err)
		}
		said = ""
		if err != nil {
			said = err.Error()
		}
	}
}

func reloadTrust(ctx context.Context, dir string, cfg config, b *broker.Broker, m *trustMetrics, logger *slog.Logger) error {
	next, err := loadTrust(dir, cfg, m)
	if err != nil || next.Digest == b.TrustDigest() {
		return err
	}
	if err := b.UseTrust(ctx, next); err != nil {
		return err
	}
	logger.InfoContext(ctx, "trust data in force", "version", next.Version())
	return nil
}

// refreshTrust keeps fresh what the folder of platforms holds and what is wished
// for. It begins to believe nothing: what the folder does not hold, an operator
// fetches or imports. Verifying never waits for it.
func refreshTrust(ctx context.Context, dir string, cfg config, m *trustMetrics, logger *slog.Logger) error {
	every := time.Duration(cfg.TrustRefresh)
	if every == 0 {
		return nil
	}
	var from platform.Fetcher
	// Replicas that start together do not ask together.
	t := time.NewTimer(rand.N(trustPoll))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := refreshTrustOnce(ctx, dir, cfg, &from, m, logger); err != nil && ctx.Err() == nil {
			logger.ErrorContext(ctx, "trust data not refreshed", "error", err)
		}
		t.Reset(every)
	}
}

func refreshTrustOnce(ctx context.Context, dir string, cfg config, from *platform.Fetcher, m *trustMetrics, logger *slog.Logger) error {
	f, err := platform.Open(within(dir, cfg.Trust))
	if err != nil {
		return err
	}
	_, err = f.Refresh(ctx, from, platform.Choice{Held: true}, func(r platform.Refreshed, _, _ int) {
		m.refreshed(r.Outcome)
		if r.Outcome == platform.RefreshFailed || r.Outcome == platform.RefreshMismatch {
			logger.WarnContext(ctx, "trust object not refreshed, the old one stays", "kind", r.Kind, "name", r.Name, "outcome", r.Outcome, "error", r.Detail)
		}
	})
	return err
}
