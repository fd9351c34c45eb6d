package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// transaction is one group commit. Its locks are taken in one order by every
// writer: new nodes, nodes, join tokens, log, and the first of all logs where one
// broker at a time may write. What is shared by content comes after them.
type transaction struct {
	w     *writer
	items []*item
	seq   int64

	lost    map[*item]error // refused by compare-and-set
	winners []*item
	head    *logHead // nil until the log's lock is held
	log     sequenced
	out     *outcome
	fresh   []contentKey // of evidence and measurements that it stores

	committing bool // set once COMMIT may have reached the server
}

// logHead is the head of the log, and the database's clock, under its lock.
type logHead struct {
	size      int64
	frontier  []byte
	last, now time.Time
	others    pgtype.Timestamptz // of the newest record of any other log
}

// time is when the next record is recorded: by the database's clock, and never
// backwards. Within a log time and index agree; between logs a record is later
// than every one that its broker could know of, so that all of them have an order
// in which no node's records are exchanged.
func (h *logHead) time() time.Time {
	at := h.now.UTC().Truncate(time.Microsecond)
	if at.Before(h.last) {
		at = h.last.UTC()
	}
	if others := timeOf(h.others); !at.After(others) {
		at = others.Add(time.Microsecond)
	}
	return at
}

// outcome is what a committed transaction answers, in the order of its items.
type outcome struct {
	pos  map[*item]ledger.Position
	lost map[*item]error
}

func (o *outcome) deliver(batch []*item) {
	for _, it := range batch {
		it.answer(o.pos[it], o.lost[it])
	}
}

func (t *transaction) run(ctx context.Context) (*outcome, error) {
	step := t.w.s.cfg.Step
	step("store.begin")
	if err := t.claim(ctx); err != nil {
		return nil, err
	}
	step("store.cas")
	for _, it := range t.items {
		if t.lost[it] == nil {
			t.winners = append(t.winners, it)
		}
	}
	t.out = &outcome{pos: make(map[*item]ledger.Position, len(t.winners)), lost: t.lost}
	if len(t.winners) == 0 {
		t.w.rollback(ctx)
		return t.out, nil
	}
	if err := t.lockLog(ctx); err != nil {
		return nil, err
	}
	step("store.head")
	if err := t.copyRows(ctx); err != nil {
		return nil, err
	}
	if err := t.write(ctx); err != nil {
		return nil, err
	}
	step("store.postcommit")
	t.w.tail, t.w.tailFrontier = t.log.tail, t.log.frontier
	if !t.w.s.cfg.Pooler {
		// A pooler keeps our connection while the server behind it is another.
		t.w.s.stored.remember(t.fresh)
	}
	return t.out, nil
}

// replacesNode reports whether the row of a known node is replaced, which comes
// before the log's lock and concerns winners alone: to know them takes a round
// trip of its own.
func (it *item) replacesNode() bool { return it.commit.Node != nil && it.commit.BasedOn != 0 }

// queueHead takes the log's lock and reads its head and the database's clock.
func (t *transaction) queueHead(b *pgx.Batch) {
	// Inside, the row is locked; outside, where the clock is read, it is held. What
	// stands in another log and was committed before our nodes were locked is seen.
	const head = `SELECT size, frontier, recorded_at, clock_timestamp(), (SELECT max(recorded_at) FROM log_head WHERE log_id <> $1) FROM
		(SELECT size, frontier, recorded_at FROM log_head WHERE log_id = $1 FOR UPDATE) locked`
	b.Queue(head, t.w.s.cfg.LogID).QueryRow(func(row pgx.Row) error {
		h := &logHead{}
		err := row.Scan(&h.size, &h.frontier, &h.last, &h.now, &h.others)
		if errors.Is(err, pgx.ErrNoRows) {
			return reason.New(reason.LedgerFork, "the head of the log is gone")
		}
		t.head = h
		return err
	})
}

// lockLog changes the node rows of winners and takes the log's lock, where that
// is still to do, and gives every winner its place.
func (t *transaction) lockLog(ctx context.Context) error {
	if t.head == nil {
		b := &pgx.Batch{}
		for _, it := range t.winners {
			if !it.replacesNode() {
				continue
			}
			b.Queue(updateNode, updateNodeArgs(it)...).Query(func(rows pgx.Rows) error {
				ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
				if err == nil && len(ids) == 0 {
					return &itemError{item: it, err: errIdentity()}
				}
				return err
			})
		}
		t.queueHead(b)
		if err := t.w.conn.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
	}
	size := t.head.size
	f, err := ledger.UnmarshalFrontier(t.head.frontier)
	if err != nil || f.Size() != size {
		return reason.New(reason.LedgerFork, "the head of the log is not a tree of its size")
	}
	at := t.head.time()
	tail := t.w.tail
	if !bytes.Equal(t.head.frontier, t.w.tailFrontier) {
		if tail, err = t.readTail(ctx, size); err != nil {
			return err
		}
	}
	t.log = sequence(f, tail, t.winners, at)
	for i, it := range t.winners {
		p := ledger.Position{Index: size + int64(i), Size: t.log.size, RecordedAt: at}
		if it.commit.State != nil {
			p.Version = it.commit.BasedOn + 1
		}
		t.out.pos[it] = p
	}
	return nil
}

func (t *transaction) readTail(ctx context.Context, size int64) ([]byte, error) {
	start := size - size%tileWidth
	if start == size {
		return nil, nil
	}
	const tail = `SELECT coalesce(string_agg(entries, ''::bytea ORDER BY first_idx), ''::bytea) FROM log_entry WHERE log_id = $1 AND first_idx >= $2`
	var raw []byte
	if err := t.w.conn.QueryRow(ctx, tail, t.w.s.cfg.LogID, start).Scan(&raw); err != nil {
		return nil, err
	}
	if int64(len(raw)) != (size-start)*ledger.EntrySize {
		return nil, reason.Newf(reason.LedgerFork, "the log's open tail does not reach from %d to its head at %d", start, size)
	}
	return raw, nil
}

// write adds what is not copied (evidence, measurements, counts, grants, the log
// itself, and the writer's own mark) and commits: in one round trip, unless an answer may still
// refuse a grant.
func (t *transaction) write(ctx context.Context) error {
	b := &pgx.Batch{}
	t.queueTurn(b)
	if err := t.queueEvidence(ctx, b); err != nil {
		return err
	}
	t.queueMeasurements(b)
	t.queueHours(b)
	others := b.Len()
	for _, it := range t.winners {
		t.queueGrants(b, it)
	}
	grants := b.Len() > others
	written := false
	t.queueLog(b, &written)
	if grants {
		if err := t.w.conn.SendBatch(ctx, b).Close(); err != nil {
			return fmt.Errorf("write batch: %w", err)
		}
		b = &pgx.Batch{}
	}
	t.w.s.cfg.Step("store.precommit")
	b.Queue(commitStatement)
	t.committing = true
	err := t.w.conn.SendBatch(ctx, b).Close()
	if err == nil {
		return nil
	}
	if pgCode(err) != "" && !written {
		// What follows a statement that the server refuses is not executed.
		t.committing = false
	}
	return fmt.Errorf("write batch: %w", err)
}

// queueTurn has one broker at a time count the versions of objects and replace
// the inventory, whichever log it writes. It comes before evidence: who has the
// turn may wait for evidence of those who wait for it.
func (t *transaction) queueTurn(b *pgx.Batch) {
	if slices.ContainsFunc(t.winners, func(it *item) bool { return it.commit.Object != nil || it.commit.Inventory != nil }) {
		b.Queue(`SELECT size FROM log_head WHERE log_id = (SELECT min(log_id) FROM log_head) FOR UPDATE`)
	}
}

// queueLog adds what the log gains, the writer's mark and the new head, which
// sets written.
func (t *transaction) queueLog(b *pgx.Batch, written *bool) {
	logID := t.w.s.cfg.LogID
	t.log.queue(b, logID)
	t.queueMark(b)
	const head = `UPDATE log_head SET size = $2, frontier = $3, recorded_at = $4 WHERE log_id = $1`
	b.Queue(head, logID, t.log.size, t.log.frontier, t.log.recordedAt).Exec(func(pgconn.CommandTag) error {
		*written = true
		return nil
	})
}

// queueMark notes which batch of this process is the last: resolve reads it.
func (t *transaction) queueMark(b *pgx.Batch) {
	const mark = `INSERT INTO log_writer (log_id, writer, seq) VALUES ($1, $2, $3)
		ON CONFLICT (log_id, writer) DO UPDATE SET seq = EXCLUDED.seq, updated_at = now()`
	b.Queue(mark, t.w.s.cfg.LogID, t.w.s.session, t.seq)
}
