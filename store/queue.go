package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Numbers of wire.md, "Numbers".
const (
	queueLength = 2048
	batchSize   = 512
	// An item that waited longer is refused: its sender has given up, or will
	// before the answer comes.
	maxWait = 5 * time.Second
)

// States of an item. It is dropped by its sender or taken by the writer, never
// both.
const (
	itemQueued int32 = iota
	itemTaken
	itemDropped
)

// item is one commit on its way through the writer.
type item struct {
	commit ledger.Commit
	macs   rowMACs
	packed []byte // body of the record
	inline []byte // its own evidence, packed; nil for none
	// content holds the packed parts that it shares, in the order of the commit's;
	// nil where the part is inline or was known to be stored.
	content [][]byte
	keys    []string // what no other item of the same batch may touch
	guard   string   // key that items with the same guard may share, "" for none
	queued  time.Time
	state   atomic.Int32
	done    chan struct{} // closed once pos and err are set
	pos     ledger.Position
	err     error
}

func (it *item) answer(pos ledger.Position, err error) {
	it.pos, it.err = pos, err
	close(it.done)
}

type queue struct {
	mu     sync.Mutex
	items  []*item // guarded by mu
	closed bool    // guarded by mu
	wake   chan struct{}
}

func (q *queue) init() { q.wake = make(chan struct{}, 1) }

func (q *queue) put(it *item) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return reason.New(reason.StoreUnavailable, "the broker is stopping")
	}
	if len(q.items) >= queueLength {
		return reason.New(reason.RequestOverloaded, "too many decisions wait to be recorded; try again")
	}
	q.items = append(q.items, it)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// take returns the next batch: the oldest items, at most one a node or other
// key. What cannot go into this batch keeps its place.
func (q *queue) take(now time.Time) []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []*item
	used := make(map[string]use, len(q.items))
	rest := q.items[:0]
	for _, it := range q.items {
		if len(batch) == batchSize || it.overlaps(used) {
			// Later items of the same node must not overtake this one.
			it.mark(used)
			rest = append(rest, it)
			continue
		}
		if !it.state.CompareAndSwap(itemQueued, itemTaken) {
			continue
		}
		if now.Sub(it.queued) > maxWait {
			it.answer(ledger.Position{}, reason.New(reason.RequestOverloaded, "the decision waited too long to be recorded; try again"))
			continue
		}
		it.mark(used)
		batch = append(batch, it)
	}
	clear(q.items[len(rest):])
	q.items = rest
	return batch
}

// use is how an item of a batch touches a key.
type use int8

const (
	unused use = iota
	shared
	exclusive
)

func (it *item) overlaps(used map[string]use) bool {
	return used[it.guard] == exclusive || slices.ContainsFunc(it.keys, func(k string) bool { return used[k] != unused })
}

func (it *item) mark(used map[string]use) {
	for _, k := range it.keys {
		used[k] = exclusive
	}
	if it.guard != "" {
		used[it.guard] = max(used[it.guard], shared)
	}
}

// fail answers everything that is queued; where closing, nothing is taken any
// more.
func (q *queue) fail(err error, closing bool) {
	q.mu.Lock()
	items := q.items
	q.items = nil
	q.closed = q.closed || closing
	q.mu.Unlock()
	for _, it := range items {
		if it.state.CompareAndSwap(itemQueued, itemTaken) {
			it.answer(ledger.Position{}, err)
		}
	}
}

// Append records c and everything in it in one transaction with its log entry
// and returns after the commit. A context that ends while c is queued takes it
// back; once c is in a batch, the outcome is awaited, because it may be written.
func (s *Store) Append(ctx context.Context, c ledger.Commit) (ledger.Position, error) {
	if s.forked.Load() {
		return ledger.Position{}, errForked()
	}
	it, err := s.newItem(c)
	if err != nil {
		return ledger.Position{}, err
	}
	if c.JoinToken != nil {
		if err := s.sealUse(ctx, it); err != nil {
			return ledger.Position{}, err
		}
	}
	if err := s.queue.put(it); err != nil {
		return ledger.Position{}, err
	}
	select {
	case <-it.done:
	case <-ctx.Done():
		if it.state.CompareAndSwap(itemQueued, itemDropped) {
			return ledger.Position{}, reason.Wrap(reason.StoreUnavailable, "the decision was not recorded in time; nothing was issued", context.Cause(ctx))
		}
		<-it.done
	}
	return it.pos, it.err
}

func errForked() error {
	return reason.New(reason.LedgerFork, "the log does not extend its anchor; nothing is recorded until an operator decides")
}

// rowMACs are computed by the caller's goroutine, not by the one writer.
type rowMACs struct {
	node, state, admission, token, key, operator []byte
	retention, hold, erasure                     []byte

	usedToken, unusedToken []byte // of the token that the commit uses: the HMAC it gets, and the one it has
}

func (s *Store) newItem(c ledger.Commit) (*item, error) {
	if err := checkCommit(c); err != nil {
		return nil, reason.Wrap(reason.Internal, "", err)
	}
	it := &item{commit: c, queued: time.Now(), done: make(chan struct{})}
	it.packed = packBody(c.Record.Body, c.Record.ID, string(c.Record.Node))
	s.packEvidence(it, it.queued)
	if err := s.authenticate(it); err != nil {
		return nil, reason.Wrap(reason.Internal, "", err)
	}
	it.lock()
	return it, nil
}

// authenticate makes the HMACs of the granting rows that the commit writes.
func (s *Store) authenticate(it *item) error {
	var err error
	c := &it.commit
	mac := func(into *[]byte, table string, row canonicaler) {
		if err == nil {
			*into, err = s.rowMAC(table, row)
		}
	}
	if c.Node != nil {
		mac(&it.macs.node, "node", *c.Node)
	}
	if c.State != nil {
		// The version that the compare-and-set writes.
		st := *c.State
		st.Version = c.BasedOn + 1
		mac(&it.macs.state, "node_state", st)
	}
	if c.Admission != nil {
		mac(&it.macs.admission, "admission", *c.Admission)
	}
	if c.NewJoinToken != nil {
		mac(&it.macs.token, "join_token", *c.NewJoinToken)
	}
	if c.Key != nil {
		mac(&it.macs.key, "key", *c.Key)
	}
	if c.Operator != nil {
		mac(&it.macs.operator, "operator", *c.Operator)
	}
	if c.Retention != nil {
		mac(&it.macs.retention, "retention", *c.Retention)
	}
	if c.Hold != nil {
		mac(&it.macs.hold, "legal_hold", *c.Hold)
	}
	if c.Erasure != nil {
		mac(&it.macs.erasure, "erasure", *c.Erasure)
	}
	return err
}

// lock names what no other commit of the batch may touch.
func (it *item) lock() {
	c := &it.commit
	if c.Admission != nil {
		it.keys = append(it.keys, "admission "+c.Admission.ID.String())
	}
	if c.Operator != nil {
		it.keys = append(it.keys, "operator "+c.Operator.Name)
	}
	if c.Retention != nil {
		it.keys = append(it.keys, "retention")
	}
	if c.Hold != nil {
		it.keys = append(it.keys, "hold "+c.Hold.ID.String())
	}
	if c.State != nil {
		it.keys = append(it.keys, "node "+string(c.State.Node))
	}
	if c.Guard != nil {
		it.guard = "node " + string(c.Guard.Node)
	}
	if c.JoinToken != nil {
		it.keys = append(it.keys, "token "+c.JoinToken.String())
	}
}

// checkCommit refuses what no caller of ours composes.
func checkCommit(c ledger.Commit) error {
	switch {
	case c.Record.ID == uuid.Nil || c.Record.Type == "" || len(c.Record.Body) == 0:
		return errors.New("commit: a record without id, type or body")
	case c.State == nil && (c.Node != nil || c.JoinToken != nil):
		return errors.New("commit: a node or a used join token without a node state")
	case c.State != nil && c.State.Node == "":
		return errors.New("commit: a state without a node")
	case c.State != nil && c.BasedOn == 0 && c.Node == nil:
		return errors.New("commit: a new node without its row")
	case c.State != nil && c.BasedOn < 0:
		return errors.New("commit: a negative version")
	case c.Node != nil && c.Node.ID != c.State.Node:
		return errors.New("commit: node and state of two nodes")
	case c.Erasure != nil && (c.Node == nil || c.Erasure.Node != c.Node.ID):
		return errors.New("commit: an erasure of another node than that of the commit")
	case c.State == nil && (c.Interval != nil || c.Closed != nil):
		return errors.New("commit: an interval without a node state")
	case c.Keep < 0 || c.KeepClosed < 0:
		return errors.New("commit: a negative retention group")
	case c.Guard != nil && (c.State != nil || c.Guard.Node == "" || c.Guard.Version <= 0):
		return errors.New("commit: a guard beside a state, or without node or version")
	case c.Record.Type == ledger.TypeIssuance && (c.Guard == nil || c.Guard.Node != c.Record.Node):
		return errors.New("commit: an issuance without a guard of its node")
	}
	return nil
}
