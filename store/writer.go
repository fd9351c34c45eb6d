package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	// A batch is tried again until then; its items are answered afterwards.
	batchDeadline = 6 * time.Second
	// Bound of one attempt: one statement that runs into its timeout, no two.
	attemptTimeout = 6 * time.Second
	firstBackoff   = 10 * time.Millisecond
	maxBackoff     = 300 * time.Millisecond
)

// writer is the one goroutine that appends to the log, with its own connection.
type writer struct {
	s    *Store
	conn *pgx.Conn // nil while not connected
	seq  int64     // of the last batch that was tried

	// The open tail of the log as the last own commit left it; another writer's
	// commit makes it stale, which the frontier shows: no two trees share one.
	tail         []byte
	tailFrontier []byte
}

// Run is the writer: it takes what is queued, commits it, and repeats, without
// ever lingering for more. It ends with ctx, after the batch at hand; what is
// still queued is refused. A Store has one Run.
func (s *Store) Run(ctx context.Context) error {
	w := &writer{s: s}
	defer w.disconnect()
	defer s.queue.fail(reason.New(reason.StoreUnavailable, "the broker is stopping"), true)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.queue.wake:
		}
		for {
			batch := s.queue.take(time.Now())
			if len(batch) == 0 {
				break
			}
			// Once taken, a batch is finished: its callers wait for the outcome.
			w.finish(context.WithoutCancel(ctx), batch)
			if ctx.Err() != nil {
				return nil
			}
		}
	}
}

// finish commits a batch and answers every item of it, whatever happens.
func (w *writer) finish(ctx context.Context, batch []*item) {
	if w.s.forked.Load() {
		answerAll(batch, errForked())
		return
	}
	deadline := time.Now().Add(batchDeadline)
	for wait := firstBackoff; len(batch) > 0; wait = min(2*wait, maxBackoff) {
		out, err := w.attempt(ctx, batch)
		if err == nil {
			out.deliver(batch)
			return
		}
		if bad, ok := errors.AsType[*itemError](err); ok {
			bad.item.answer(ledger.Position{}, bad.err)
			batch = slices.DeleteFunc(slices.Clone(batch), func(it *item) bool { return it == bad.item })
			continue
		}
		switch classify(err) {
		case poisoned:
			w.bisect(ctx, batch, err)
			return
		case broken:
			answerAll(batch, w.s.unavailable(ctx, "append", err))
			return
		}
		if time.Now().After(deadline) {
			err := w.s.unavailable(ctx, "append", err)
			answerAll(batch, err)
			// What waited behind this batch would wait as long again.
			w.s.queue.fail(err, false)
			return
		}
		w.pause(ctx, wait)
	}
}

// bisect isolates an item that the database refuses: the others must not pay
// for it.
func (w *writer) bisect(ctx context.Context, batch []*item, err error) {
	if len(batch) == 1 {
		batch[0].answer(ledger.Position{}, refusal(err))
		w.s.cfg.Logger.ErrorContext(ctx, "the database refuses a record", "record", batch[0].commit.Record.ID, "error", err)
		return
	}
	half := len(batch) / 2
	w.finish(ctx, batch[:half])
	w.finish(ctx, batch[half:])
}

func answerAll(batch []*item, err error) {
	for _, it := range batch {
		it.answer(ledger.Position{}, err)
	}
}

func (w *writer) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// attempt runs one transaction. After an error nothing of it is in the database
// unless it returns an outcome.
func (w *writer) attempt(ctx context.Context, batch []*item) (*outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	w.seq++
	t := &transaction{w: w, items: batch, seq: w.seq}
	out, err := t.run(ctx)
	if err == nil {
		return out, nil
	}
	if t.committing {
		// Even an answer with an error may come after the commit: a backend that
		// is ended while it waits for a standby has committed.
		return w.resolve(ctx, t, err)
	}
	w.rollback(ctx)
	if pgCode(err) == lockNotAvailable {
		w.endStalled(ctx)
	}
	return nil, err
}

func (w *writer) rollback(ctx context.Context) {
	if w.conn == nil {
		return
	}
	if w.conn.IsClosed() {
		w.disconnect()
		return
	}
	if _, err := w.conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
		w.disconnect()
	}
}

func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil && !w.conn.IsClosed() {
		return nil
	}
	w.disconnect()
	conn, err := pgx.ConnectConfig(ctx, w.s.conn.Copy())
	if err != nil {
		return err
	}
	if err := w.prepare(ctx, conn); err != nil {
		_ = conn.Close(ctx)
		return err
	}
	w.conn = conn
	return nil
}

// commitStatement is prepared under its name, to go with the last of what it
// commits; through a pooler it goes as it stands.
const commitStatement = "COMMIT"

// prepare takes the writer's role, makes the head of a new log, and forgets
// processes that are long gone.
func (w *writer) prepare(ctx context.Context, conn *pgx.Conn) error {
	if !w.s.cfg.Pooler {
		if err := becomeWriter(ctx, conn); err != nil {
			return err
		}
		if _, err := conn.Prepare(ctx, commitStatement, "commit"); err != nil {
			return err
		}
	}
	const head = `INSERT INTO log_head (log_id, size, frontier, recorded_at) VALUES ($1, 0, $2, 'epoch') ON CONFLICT DO NOTHING`
	var empty ledger.Frontier
	if _, err := conn.Exec(ctx, head, w.s.cfg.LogID, empty.Marshal()); err != nil {
		return err
	}
	const forget = `DELETE FROM log_writer WHERE log_id = $1 AND writer <> $2 AND updated_at < now() - interval '7 days'`
	_, err := conn.Exec(ctx, forget, w.s.cfg.LogID, w.s.session)
	return err
}

func (w *writer) disconnect() {
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.conn.Close(ctx)
		w.conn = nil
		w.s.stored.forget()
	}
}

// resolve finds out whether a batch whose commit got no answer was committed:
// whoever holds the head's lock knows that no commit is under way, and the own
// row of log_writer tells the last batch that made it.
func (w *writer) resolve(ctx context.Context, t *transaction, cause error) (*outcome, error) {
	w.s.cfg.Logger.WarnContext(ctx, "a commit got no answer", "error", cause)
	deadline := time.Now().Add(attemptTimeout)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
	defer cancel()
	for wait := firstBackoff; ; wait = min(2*wait, maxBackoff) {
		seq, err := w.lastSeq(ctx)
		switch {
		case err == nil && seq == t.seq:
			return t.out, nil
		case err == nil:
			return nil, cause
		case time.Now().After(deadline):
			return nil, &unresolved{cause: err}
		}
		w.pause(ctx, wait)
	}
}

func (w *writer) lastSeq(ctx context.Context) (int64, error) {
	w.disconnect()
	if err := w.connect(ctx); err != nil {
		return 0, err
	}
	defer w.rollback(ctx)
	b := &pgx.Batch{}
	w.queueBegin(b)
	if err := w.conn.SendBatch(ctx, b).Close(); err != nil {
		return 0, err
	}
	var size, seq int64
	err := w.conn.QueryRow(ctx, `SELECT size FROM log_head WHERE log_id = $1 FOR UPDATE`, w.s.cfg.LogID).Scan(&size)
	if pgCode(err) == lockNotAvailable {
		w.rollback(ctx)
		w.endStalled(ctx)
	}
	if err != nil {
		return 0, err
	}
	err = w.conn.QueryRow(ctx, `SELECT seq FROM log_writer WHERE log_id = $1 AND writer = $2`, w.s.cfg.LogID, w.s.session).Scan(&seq)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return seq, err
}

func (w *writer) queueBegin(b *pgx.Batch) {
	b.Queue("BEGIN")
	if w.s.cfg.Pooler {
		b.Queue(boundLocally)
	}
}

// endStalled ends backends of our own login role that hold the writers' locks in
// an old transaction and do not wait for a lock themselves: their client is
// frozen, and neither idle nor statement timeouts reach one inside COPY.
func (w *writer) endStalled(ctx context.Context) {
	if w.conn == nil || w.conn.IsClosed() {
		return
	}
	const end = `SELECT a.pid, pg_terminate_backend(a.pid) FROM pg_stat_activity a
		WHERE a.datname = current_database() AND a.usename = session_user AND a.pid <> pg_backend_pid()
		AND a.xact_start < clock_timestamp() - interval '1.5 seconds' AND a.wait_event_type IS DISTINCT FROM 'Lock'
		AND EXISTS (SELECT 1 FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.mode <> 'AccessShareLock'
			AND l.relation = ANY (ARRAY['log_head', 'node', 'node_state', 'join_token']::regclass[]))`
	// Ending a backend is a right of the login role, which owns it; through a pooler
	// that is the writer's.
	before, after := "RESET ROLE; ", "; SET ROLE "+WriterRole
	if w.s.cfg.Pooler {
		before, after = "", ""
	}
	results, err := w.conn.PgConn().Exec(ctx, before+end+after).ReadAll()
	if err != nil {
		w.disconnect()
		return
	}
	for _, r := range results {
		if len(r.Rows) > 0 {
			w.s.cfg.Logger.WarnContext(ctx, "ended stalled writers", "backends", len(r.Rows))
		}
	}
}
