package store

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

const (
	// verifyWindow is how many indices are checked at once.
	verifyWindow = 4 * tileWidth
	// maxProblems bounds the report: past it, the history is beyond listing.
	maxProblems = 10_000
)

// VerifyHistory reads every log of the database whole and compares each with its
// records, the granting rows with all of them, each head with every checkpoint
// stored of its log, and that of our log with anchor (a signed note, "" for none).
// Checkpoints of our log are opened with key, others with OtherLogs. What it
// finds stands in Problems, each with index and record id; an error means that
// it could not finish. It reads one snapshot, so that brokers may go on writing.
// Progress may be nil.
func (s *Store) VerifyHistory(ctx context.Context, anchor string, key ledger.NoteVerifier, progress func(done, size int64)) (ledger.Verification, error) {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	v := &verification{s: s, facts: newFacts(), gone: make(map[ledger.NodeID]int64), progress: progress}
	err := s.snapshot(ctx, "verify history", func(tx pgx.Tx) error {
		v.tx = tx
		return v.run(ctx, anchor, key)
	})
	if err != nil {
		return ledger.Verification{}, err
	}
	return v.out, nil
}

type verification struct {
	s        *Store
	tx       pgx.Tx
	progress func(done, size int64)

	out    ledger.Verification
	logs   []*logCheck
	facts  *facts
	gone   map[ledger.NodeID]int64 // changes of a node whose records are declared gone, in all logs
	shared map[contentKey]int64    // evidence that records of the windows at hand share, by the first index
	erased map[[32]byte]bool       // evidence that erasures name; nil before somebody asks

	*logCheck // the one at hand
}

// wantedRoot is a root that the tree must have at some size.
type wantedRoot struct {
	name string
	size int64
	root [32]byte
}

// problem notes what is wrong. Of several logs, the one at hand is named.
func (v *verification) problem(format string, args ...any) {
	if len(v.logs) > 1 && v.logCheck != nil {
		format, args = "log %s: "+format, append([]any{v.id}, args...)
	}
	if len(v.out.Problems) < maxProblems {
		v.out.Problems = append(v.out.Problems, fmt.Sprintf(format, args...))
	}
}

func (v *verification) run(ctx context.Context, anchor string, key ledger.NoteVerifier) error {
	// Whole tables are read below; the snapshot stays consistent meanwhile.
	const patience = `SET LOCAL statement_timeout = '10min'; SET LOCAL idle_in_transaction_session_timeout = '1min'`
	if err := v.set(ctx, patience); err != nil {
		return err
	}
	if err := v.findLogs(ctx, key); err != nil {
		return err
	}
	for _, v.logCheck = range v.logs {
		if err := v.begin(ctx, anchor); err != nil {
			return err
		}
	}
	if err := v.inOrder(ctx); err != nil {
		return err
	}
	if err := v.checkShared(ctx); err != nil {
		return err
	}
	for _, v.logCheck = range v.logs {
		if err := v.end(ctx); err != nil {
			return err
		}
	}
	v.logCheck = nil
	if err := v.strayLogs(ctx); err != nil {
		return err
	}
	return v.checkGrants(ctx)
}

func (v *verification) set(ctx context.Context, statement string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := v.tx.Exec(ctx, statement)
	return err
}

// expectRoots reads the checkpoints of sizes above a, up to and including b: the
// roots that the tree must have while it grows from a to b. A log is signed up to
// once a second, so they are never all in memory.
func (v *verification) expectRoots(ctx context.Context, a, b int64) error {
	v.wanted = make(map[int64][]wantedRoot)
	if w := v.held; w != nil && w.size > a && w.size <= b {
		v.wanted[w.size] = append(v.wanted[w.size], *w)
	}
	return v.checkpoints(ctx, a, b, func(w wantedRoot) { v.wanted[w.size] = append(v.wanted[w.size], w) })
}

// checkpoints hands out the stored checkpoints of sizes above a, up to and
// including b, that the log's key signed.
func (v *verification) checkpoints(ctx context.Context, a, b int64, each func(wantedRoot)) error {
	const query = `SELECT size, root, note FROM checkpoint WHERE log_id = $1 AND size > $2 AND size <= $3 ORDER BY size`
	rows, err := v.tx.Query(ctx, query, v.id, a, b)
	if err != nil {
		return err
	}
	var at int64
	var root []byte
	var text string
	_, err = pgx.ForEachRow(rows, []any{&at, &root, &text}, func() error {
		if v.key == nil {
			return nil // said once, in findLogs
		}
		cp, err := ledger.OpenCheckpoint(text, v.key)
		if err != nil || cp.Size != at || !bytes.Equal(cp.Root[:], root) {
			v.problem("the stored checkpoint of size %d is not what the log's key signed", at)
			return nil
		}
		each(wantedRoot{name: fmt.Sprintf("the stored checkpoint of size %d", at), size: at, root: cp.Root})
		return nil
	})
	return err
}

// openAnchor takes the anchor of the log at hand, which is ours.
func (v *verification) openAnchor(anchor string, size int64) {
	if anchor == "" {
		return
	}
	cp, err := ledger.OpenCheckpoint(anchor, v.key)
	if err != nil {
		v.problem("the log anchor is not a checkpoint that the log's key signed")
		return
	}
	w := wantedRoot{name: fmt.Sprintf("the log anchor of size %d", cp.Size), size: cp.Size, root: cp.Root}
	if w.size > size {
		v.cut(w, size)
		return
	}
	v.held = &w
}

func (v *verification) cut(w wantedRoot, size int64) {
	v.problem("%s reaches beyond the log, which has size %d: it was cut or rolled back", w.name, size)
}

// compareRoots holds the tree at its present size against what was signed.
func (v *verification) compareRoots() {
	wanted := v.wanted[v.tree.Size()]
	if len(wanted) == 0 || v.broken {
		return
	}
	root := v.tree.Root()
	for _, w := range wanted {
		if w.root != root {
			v.problem("%s has another root than the log: an entry below that index was changed", w.name)
		}
	}
}

// index checks the next index of the log at hand.
func (v *verification) index() {
	i := v.next
	entry, logged := v.entriesAt[i]
	found := v.rowsAt[i]
	if logged {
		v.misdated(i, entry)
	}
	switch {
	case len(found) == 0 && logged && v.missing.decisions.Has(i):
		v.out.Dropped++
	case len(found) == 0 && logged:
		v.problem("index %d record %s: the record is missing", i, entry.ID())
	case len(found) == 0:
		v.problem("index %d: record and log entry are missing", i)
	case len(found) > 1:
		v.problem("index %d record %s: %d records stand at this index", i, found[0].ID, len(found))
	}
	for _, r := range found {
		v.row(r, entry, logged)
	}
	v.grow(i, entry, logged, found)
	v.next++
}

// grow appends the entry of index i to the tree. A lost entry is made again from
// its record where there is one.
func (v *verification) grow(i int64, entry ledger.Entry, logged bool, found []*row) {
	if !logged {
		if len(found) == 0 {
			v.broken = true
		} else {
			entry = ledger.NewEntry(found[0].Record, found[0].RecordedAt)
		}
	}
	if entry.RecordedAt().Before(v.last.RecordedAt()) && i > 0 {
		v.problem("index %d record %s: recorded before the index before it", i, entry.ID())
	}
	v.last = entry
	v.tree.Append(entry.Leaf())
	v.compareRoots()
}

// entries reads what the log holds, and compares leaf tiles with entry bundles.
func (v *verification) entries(ctx context.Context, a, b int64) (map[int64]ledger.Entry, error) {
	out := make(map[int64]ledger.Entry, b-a)
	first, end := a/tileWidth, (b+tileWidth-1)/tileWidth
	bundles, err := readTiles(ctx, v.tx, v.id, levelEntries, first, end)
	if err != nil {
		return nil, err
	}
	leaves, err := readTiles(ctx, v.tx, v.id, levelLeaves, first, end)
	if err != nil {
		return nil, err
	}
	for n := first; n < end; n++ {
		bundle, whole := bundles[n]
		if !whole {
			open, err := readOpen(ctx, v.tx, v.id, n)
			if err != nil {
				return nil, err
			}
			for i, e := range open {
				out[n*tileWidth+int64(i)] = e
			}
		}
		for i := 0; i+ledger.EntrySize <= len(bundle); i += ledger.EntrySize {
			out[n*tileWidth+int64(i/ledger.EntrySize)] = ledger.Entry(bundle[i:])
		}
		v.compareTile(n, b, out, leaves[n], whole)
	}
	return out, nil
}

func (v *verification) compareTile(n, end int64, entries map[int64]ledger.Entry, leaves []byte, whole bool) {
	if full := (n+1)*tileWidth <= end; full && (!whole || leaves == nil) {
		v.problem("index %d to %d: the log's tile is missing", n*tileWidth, (n+1)*tileWidth-1)
	}
	for i := range int64(len(leaves) / hashSize) {
		idx := n*tileWidth + i
		e, ok := entries[idx]
		if leaf := e.Leaf(); ok && !bytes.Equal(leaf[:], leaves[i*hashSize:(i+1)*hashSize]) {
			v.problem("index %d record %s: the leaf in the log's tile is not that of its entry", idx, e.ID())
		}
	}
}

// beyond looks for what stands behind the head.
func (v *verification) beyond(ctx context.Context, size int64) error {
	if err := v.checkpoints(ctx, size, math.MaxInt64, func(w wantedRoot) { v.cut(w, size) }); err != nil {
		return err
	}
	const records = `SELECT log_idx, record_id::text FROM attestation WHERE log_id = $1 AND (log_idx >= $2 OR log_idx < 0) ORDER BY log_idx LIMIT 100`
	const entries = `SELECT first_idx, '' FROM log_entry WHERE log_id = $1 AND first_idx >= $2
		UNION ALL SELECT n * 256, '' FROM log_tile WHERE log_id = $1 AND level IN (0, -1) AND n >= $2 / 256 ORDER BY 1 LIMIT 100`
	const drift = `SELECT log_idx, record_id::text FROM drift_event WHERE log_id = $1 AND (log_idx >= $2 OR log_idx < 0) ORDER BY log_idx LIMIT 100`
	const svids = `SELECT log_idx, serial FROM svid WHERE log_id = $1 AND (log_idx >= $2 OR log_idx < 0) ORDER BY log_idx LIMIT 100`
	const parts = `SELECT log_idx, kind FROM evidence_part WHERE log_id = $1 AND (log_idx >= $2 OR log_idx < 0) ORDER BY log_idx LIMIT 100`
	const spans = `SELECT log_idx, last_record::text FROM measurement_interval WHERE log_id = $1 AND (log_idx >= $2 OR log_idx < 0) ORDER BY log_idx LIMIT 100`
	for _, q := range []struct{ sql, what string }{
		{records, "a record"}, {drift, "its drift"}, {svids, "an SVID"}, {parts, "its evidence"}, {spans, "an interval"}, {entries, "an entry"},
	} {
		rows, err := v.tx.Query(ctx, q.sql, v.id, size)
		if err != nil {
			return err
		}
		var idx int64
		var id string
		_, err = pgx.ForEachRow(rows, []any{&idx, &id}, func() error {
			v.problem("index %d record %s: %s stands behind the head of the log at %d", idx, id, q.what, size)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
