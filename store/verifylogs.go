package store

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// logCheck is how far the verification of one log is. All logs are read at once,
// in the order of time: what a node did may stand in several, and each of its
// records is judged by those before it.
type logCheck struct {
	id   string
	key  ledger.NoteVerifier // of its checkpoints; nil where nobody gave it
	ours bool

	size     int64
	frontier []byte // of its head
	headless bool

	tree    ledger.Frontier // over its entries
	broken  bool            // an entry is lost: no root can be computed any more
	last    ledger.Entry    // the one before, for the order of times
	missing missing         // what its records declare gone

	held   *wantedRoot            // its anchor outside the database; nil for none
	wanted map[int64][]wantedRoot // of the window at hand, by size

	next, loaded int64 // index that is checked next, end of the window at hand
	entriesAt    map[int64]ledger.Entry
	rowsAt       map[int64][]*row
}

// logOf is the name of the log that a key is of (ledger.Origin).
func logOf(key ledger.NoteVerifier) string {
	_, id, _ := strings.Cut(key.Name(), "/zonebroker/")
	return id
}

// findLogs lists the logs that have a head, and those whose keys are known: of a
// log that somebody took away altogether, the key is left.
func (v *verification) findLogs(ctx context.Context, key ledger.NoteVerifier) error {
	keys := map[string]ledger.NoteVerifier{v.s.cfg.LogID: key}
	for _, k := range v.s.cfg.OtherLogs {
		keys[logOf(k)] = k
	}
	rows, err := v.tx.Query(ctx, `SELECT log_id, size, frontier FROM log_head ORDER BY log_id`)
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	var id string
	var size int64
	var frontier []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &size, &frontier}, func() error {
		seen[id] = true
		v.logs = append(v.logs, &logCheck{id: id, key: keys[id], size: size, frontier: slices.Clone(frontier)})
		return nil
	})
	if err != nil {
		return err
	}
	for id, k := range keys {
		if !seen[id] {
			v.logs = append(v.logs, &logCheck{id: id, key: k, headless: true})
		}
	}
	slices.SortFunc(v.logs, func(a, b *logCheck) int { return strings.Compare(a.id, b.id) })
	for _, l := range v.logs {
		l.ours = l.id == v.s.cfg.LogID
		if l.key == nil {
			v.problem("log %s: its key is not known here, so that its checkpoints prove nothing", l.id)
		}
	}
	return nil
}

// begin checks what is signed of the empty log at hand, and what is signed beyond
// its head.
func (v *verification) begin(ctx context.Context, anchor string) error {
	if v.headless {
		v.problem("the log has no head")
	}
	if v.ours {
		v.openAnchor(anchor, v.size)
	}
	if err := v.expectRoots(ctx, -1, 0); err != nil {
		return err
	}
	v.compareRoots()
	var err error
	if v.missing, err = readMissing(ctx, v.tx, v.id, v.problem); err != nil {
		return err
	}
	for node, n := range v.missing.changes {
		v.gone[node] += n
	}
	return nil
}

// inOrder checks every index of every log, the earliest of all first.
func (v *verification) inOrder(ctx context.Context) error {
	for {
		var first *logCheck
		var until time.Time // when the next record of another log comes
		for _, l := range v.logs {
			if err := v.load(ctx, l); err != nil {
				return err
			}
			if l.next == l.size {
				continue
			}
			at := l.time()
			switch {
			case first == nil:
				first = l
			case at.Before(first.time()):
				until, first = first.time(), l
			case until.IsZero() || at.Before(until):
				until = at
			}
		}
		if first == nil {
			return nil
		}
		v.logCheck = first
		v.index()
		for v.next < v.loaded && (until.IsZero() || v.time().Before(until)) {
			v.index()
		}
	}
}

// time is when the next record of a log was recorded; that of the one before where
// the log does not say.
func (l *logCheck) time() time.Time {
	if e, ok := l.entriesAt[l.next]; ok {
		return e.RecordedAt()
	}
	if rows := l.rowsAt[l.next]; len(rows) > 0 {
		return rows[0].RecordedAt
	}
	return l.last.RecordedAt()
}

// load reads the next window of a log where the one before is done.
func (v *verification) load(ctx context.Context, l *logCheck) error {
	if l.next < l.loaded || l.next == l.size {
		return nil
	}
	v.logCheck = l
	a, b := l.next, min(l.next+verifyWindow, l.size)
	v.progress(a, l.size)
	if err := v.checkShared(ctx); err != nil {
		return err
	}
	if err := v.expectRoots(ctx, a, b); err != nil {
		return err
	}
	var err error
	if l.entriesAt, err = v.entries(ctx, a, b); err != nil {
		return err
	}
	page, cancel := bounded(ctx)
	defer cancel()
	if l.rowsAt, err = v.rows(page, a, b); err != nil {
		return err
	}
	l.loaded = b
	return nil
}

// end compares the head of the log at hand with its tree, and looks for what
// stands behind it.
func (v *verification) end(ctx context.Context) error {
	if !v.broken && !v.headless && !bytes.Equal(v.tree.Marshal(), v.frontier) {
		v.problem("the head of the log (size %d) is not the tree over its entries", v.size)
	}
	v.progress(v.size, v.size)
	sum := ledger.LogSum{Log: v.id, Size: v.tree.Size(), Root: v.tree.Root()}
	v.out.Logs = append(v.out.Logs, sum)
	if v.ours {
		v.out.Size, v.out.Root = sum.Size, sum.Root
	}
	return v.beyond(ctx, v.size)
}

// strayLogs looks for rows of logs that have neither head nor key: a list would
// show them, and no tree holds them.
func (v *verification) strayLogs(ctx context.Context) error {
	known := make([]string, len(v.logs))
	for i, l := range v.logs {
		known[i] = l.id
	}
	for _, table := range []struct{ name, sql string }{
		{"attestation", `SELECT log_id, count(*) FROM attestation WHERE log_id <> ALL ($1) GROUP BY log_id LIMIT 100`},
		{"svid", `SELECT log_id, count(*) FROM svid WHERE log_id <> ALL ($1) GROUP BY log_id LIMIT 100`},
		{"drift_event", `SELECT log_id, count(*) FROM drift_event WHERE log_id <> ALL ($1) GROUP BY log_id LIMIT 100`},
		{"evidence_part", `SELECT log_id, count(*) FROM evidence_part WHERE log_id <> ALL ($1) GROUP BY log_id LIMIT 100`},
		{"measurement_interval", `SELECT log_id, count(*) FROM measurement_interval WHERE log_id <> ALL ($1) GROUP BY log_id LIMIT 100`},
		{"log_entry", `SELECT log_id, count(*) FROM log_entry WHERE log_id <> ALL ($1) GROUP BY log_id LIMIT 100`},
		{"log_tile", `SELECT log_id, count(*) FROM log_tile WHERE log_id <> ALL ($1) GROUP BY log_id LIMIT 100`},
		{"checkpoint", `SELECT log_id, count(*) FROM checkpoint WHERE log_id <> ALL ($1) GROUP BY log_id LIMIT 100`},
	} {
		rows, err := v.tx.Query(ctx, table.sql, known)
		if err != nil {
			return err
		}
		var id string
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
			v.problem("%s: %d rows are of log %q, which has no head", table.name, n, id)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
