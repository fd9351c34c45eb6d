package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// A statement costs both sides more than its row does, and every attestation
// reads a node. What is asked for while statements are under way goes into the
// next one, as commits do; nobody waits for others to come.

const (
	groupSize = 256         // reads of one statement
	readQueue = queueLength // reads that wait; as many may wait for the writer
	// Statements under way before reads queue: with one, Postgres would rest while
	// its last answer is read.
	readers = 2
	// A statement that stays away longer hangs on a dead connection, and must not
	// hold up those behind it: further ones are begun.
	stuckAfter = 100 * time.Millisecond
	// Statements under way at most: there are two readers, by id and by AK, and
	// what hangs in both leaves connections for other reads.
	maxReaders = poolSize/2 - 1
)

// A read that finds nobody else waiting asks for its node alone. In a group, the
// planner must not see how many keys there are, nor that it could join rather
// than look up: what it chooses for a small table is kept, and would read all of
// a large one for minutes. So each key is a look-up in two indices, whatever the
// statistics say.
const (
	nodeByID  = selectNode + `WHERE n.node_id = $1`
	nodesByID = `SELECT x.* FROM unnest((SELECT $1::text[])) AS k (v) CROSS JOIN LATERAL (` + selectNode + `WHERE n.node_id = k.v LIMIT 1) x`
	nodeByAK  = selectNode + `WHERE n.ak_name = $1`
	nodesByAK = `SELECT x.* FROM unnest((SELECT $1::bytea[])) AS k (v) CROSS JOIN LATERAL (` + selectNode + `WHERE n.ak_name = k.v LIMIT 1) x`
)

// NodeByID reads one node in one snapshot, which is taken after the call. The
// slices in it may be those of another caller, and are not to be changed.
// reason.RequestOverloaded where too many reads wait.
func (s *Store) NodeByID(ctx context.Context, id ledger.NodeID) (ledger.Snapshot, error) {
	return s.byID.read(ctx, string(id))
}

// NodeByAK reads the node to which an AK is pinned, as NodeByID does.
func (s *Store) NodeByAK(ctx context.Context, akName []byte) (ledger.Snapshot, error) {
	return s.byAK.read(ctx, string(akName))
}

// nodeReader reads nodes by one of their keys, in groups.
type nodeReader struct {
	s     *Store
	key   func(*nodeRow) string
	query func(keys []string) (sql string, arg any)

	mu      sync.Mutex
	queue   []*nodeRead // guarded by mu, the oldest first
	running int         // statements under way; guarded by mu
}

func (s *Store) initReaders() {
	s.byID = nodeReader{s: s, key: func(n *nodeRow) string { return string(n.Node.ID) }, query: func(keys []string) (string, any) {
		if len(keys) == 1 {
			return nodeByID, keys[0]
		}
		return nodesByID, keys
	}}
	s.byAK = nodeReader{s: s, key: func(n *nodeRow) string { return string(n.Node.AKName) }, query: func(keys []string) (string, any) {
		if len(keys) == 1 {
			return nodeByAK, []byte(keys[0])
		}
		names := make([][]byte, len(keys))
		for i, k := range keys {
			names[i] = []byte(k)
		}
		return nodesByAK, names
	}}
}

// nodeRead is one read on its way through a group.
type nodeRead struct {
	key   string
	since time.Time
	done  chan struct{} // closed once row and err are set; nil where its caller reads
	row   nodeRow       // not found where there is none
	err   error
	next  *nodeRead // of the same key and group
}

// answer answers w and those that share its key.
func (w *nodeRead) answer(row *nodeRow, err error) {
	for next := w; next != nil; {
		w, next = next, next.next
		w.row, w.err, w.next = *row, err, nil
		if w.done != nil {
			close(w.done)
		}
	}
}

func (r *nodeReader) read(ctx context.Context, key string) (ledger.Snapshot, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	w := &nodeRead{key: key, since: time.Now()}
	alone, err := r.join(ctx, w)
	switch {
	case err != nil:
		return ledger.Snapshot{}, err
	case alone:
		r.run(ctx, []*nodeRead{w})
		r.pass(ctx)
	default:
		select {
		case <-w.done:
		case <-ctx.Done():
			r.leave(w)
			return ledger.Snapshot{}, r.s.unavailable(ctx, "read node", context.Cause(ctx))
		}
	}
	switch {
	case w.err != nil:
		return ledger.Snapshot{}, w.err
	case !w.row.Found:
		return ledger.Snapshot{}, nil
	// The HMACs are the caller's work, so that cores share it.
	case !r.s.genuineNode(&w.row):
		return ledger.Snapshot{}, reason.New(reason.StoreRowForged, "the node's row was not written by a broker")
	}
	return w.row.Snapshot, nil
}

// join queues a read, or says that nobody else waits: then its caller reads.
func (r *nodeReader) join(ctx context.Context, w *nodeRead) (alone bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) >= readQueue {
		return false, reason.New(reason.RequestOverloaded, "too many reads wait for the database; try again")
	}
	if r.running < readers { // then nothing is queued
		r.running++
		return true, nil
	}
	stuck := len(r.queue) > 0 && w.since.Sub(r.queue[0].since) > stuckAfter
	w.done = make(chan struct{})
	r.queue = append(r.queue, w)
	if stuck && r.running < maxReaders {
		r.running++
		r.startDrain(ctx)
	}
	return false, nil
}

// pass ends the turn of a caller that read alone: what was asked for meanwhile is
// not its own to wait for.
func (r *nodeReader) pass(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		r.running--
		return
	}
	r.startDrain(ctx)
}

// startDrain reads what waits. A request that ends must not end the reads of
// others. The goroutine ends with the queue, and each of its readings, asked again
// or not, within the reading timeout.
func (r *nodeReader) startDrain(ctx context.Context) { go r.drain(context.WithoutCancel(ctx)) }

// leave takes back a read that no statement has begun for.
func (r *nodeReader) leave(w *nodeRead) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.queue, w); i >= 0 {
		r.queue = slices.Delete(r.queue, i, i+1)
	}
}

func (r *nodeReader) drain(ctx context.Context) {
	for group := r.take(); len(group) > 0; group = r.take() {
		r.run(ctx, group)
	}
}

// take returns the next group. After an empty one its caller is not counted as
// running any more.
func (r *nodeReader) take() []*nodeRead {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.queue), groupSize)
	if n == 0 {
		r.running--
		return nil
	}
	group := slices.Clone(r.queue[:n])
	r.queue = slices.Delete(r.queue, 0, n)
	return group
}

// run answers every read of a group, whatever happens.
func (r *nodeReader) run(ctx context.Context, group []*nodeRead) {
	open := make(map[string]*nodeRead, len(group))
	for _, w := range group {
		w.next = open[w.key]
		open[w.key] = w
	}
	r.runKeys(ctx, open)
}

// runKeys answers reads by their key, those whose node is found as soon as it is.
func (r *nodeReader) runKeys(ctx context.Context, open map[string]*nodeRead) {
	err := r.s.readTwice(ctx, "read node", func(ctx context.Context, c *pgxpool.Conn) error {
		r.s.cfg.Step("store.read")
		sql, arg := r.query(slices.Collect(maps.Keys(open)))
		rows, err := c.Query(ctx, sql, arg)
		if err != nil {
			return err
		}
		defer rows.Close()
		var row nodeRow
		for scan := newNodeScan(); rows.Next(); {
			if err := scan.next(rows, &row); err != nil {
				return err
			}
			// By what the row says of itself: one that nobody asked for is nobody's.
			key := r.key(&row)
			open[key].answer(&row, nil)
			delete(open, key)
		}
		return rows.Err()
	})
	if _, unreadable := errors.AsType[pgx.ScanArgError](err); (unreadable || classify(err) == poisoned) && len(open) > 1 {
		// A row that no broker wrote, or a key that is no text: the others must not
		// pay for it.
		half := make(map[string]*nodeRead)
		for key, w := range open {
			if len(half) >= len(open) {
				break
			}
			half[key] = w
			delete(open, key)
		}
		r.runKeys(ctx, half)
		r.runKeys(ctx, open)
		return
	}
	for _, w := range open {
		w.answer(&nodeRow{}, err)
	}
}
