package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/store"
)

// readerPause is how long a reader that could not be opened is left alone: who
// asks meanwhile is told so at once.
const readerPause = 5 * time.Second

// reader answers questions about the history. It is opened by the first question,
// and again after a failure: a standby that is away keeps nobody from recording.
type reader struct {
	cfg    store.ReaderConfig
	logger *slog.Logger

	mu    sync.Mutex // guards what follows
	open  *store.Reader
	err   error
	tried time.Time
}

func newReader(cfg config, db *database, logger *slog.Logger) *reader {
	return &reader{logger: logger, cfg: store.ReaderConfig{DSN: db.reader, LogID: cfg.LogID, Pooler: cfg.DatabaseReaderPooler, Logger: logger}}
}

// questions is broker.Config.Questions.
func (r *reader) questions(ctx context.Context) (broker.Questions, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open != nil {
		return r.open, nil
	}
	if r.err != nil && now().Sub(r.tried).Abs() < readerPause {
		return nil, r.err
	}
	open, err := store.OpenReader(ctx, r.cfg)
	if r.err, r.tried = err, now(); err != nil {
		r.logger.ErrorContext(ctx, "the reader of the history cannot be opened; questions are not answered", "error", err,
			"fix", "set database_reader in "+configFile+" to a login that is "+store.ReaderRole+" or a member of it")
		return nil, err
	}
	r.open = open
	return open, nil
}

func (r *reader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open != nil {
		r.open.Close()
	}
}

// readerOf is where questions are asked where zonebroker.yaml does not say: the
// main database. Its writer is a member of the reader's role; a private one lets
// the reader in by itself; a pooler would lose the role, so it is gone round.
func (d *database) readerOf(cfg config) string {
	switch {
	case cfg.DatabaseReader != "":
		return cfg.DatabaseReader
	case d.private != nil:
		return d.private.DSN(store.ReaderRole, databaseName)
	case cfg.DatabasePooler:
		return d.owner
	}
	return d.writer
}
