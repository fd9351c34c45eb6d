package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// BenchLog commits the records' entries and nothing else of them, batches times:
// the lock of the log, its entries, tiles and head, in the round trips and by the
// code of a whole commit. Without the log it commits the writer's mark alone, so
// that the difference is what sequencing and the Merkle tree cost. Postgres has
// no records to these entries: the log of s must be one that nobody reads.
func (s *Store) BenchLog(ctx context.Context, batches int, records []ledger.Record, log bool) error {
	w := &writer{s: s}
	defer w.disconnect()
	if err := w.connect(ctx); err != nil {
		return err
	}
	items := make([]*item, len(records))
	for i, r := range records {
		items[i] = &item{commit: ledger.Commit{Record: r}}
	}
	for i := range batches {
		t := &transaction{w: w, items: items, winners: items, seq: int64(i)}
		t.out = &outcome{pos: make(map[*item]ledger.Position, len(items))}
		if err := t.benchLog(ctx, log); err != nil {
			return err
		}
		w.tail, w.tailFrontier = t.log.tail, t.log.frontier
	}
	return nil
}

func (t *transaction) benchLog(ctx context.Context, log bool) error {
	b := &pgx.Batch{}
	t.w.queueBegin(b)
	if log {
		t.queueHead(b)
	}
	if err := t.w.conn.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	b = &pgx.Batch{}
	if log {
		if err := t.lockLog(ctx); err != nil {
			return err
		}
		t.queueLog(b, new(bool))
	} else {
		t.queueMark(b)
	}
	b.Queue(commitStatement)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return t.w.conn.SendBatch(ctx, b).Close()
}
