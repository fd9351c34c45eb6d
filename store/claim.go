package store

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// claims is what decides who of a batch wins, and what the database said of it.
type claims struct {
	fresh, known, guarded []*item

	won      map[ledger.NodeID]bool  // nodes that were made or moved on
	present  []nodeKey               // who holds what new nodes that were not made wanted
	versions map[ledger.NodeID]int64 // of guarded nodes
	used     []*item                 // whose join token was taken before
}

// claim begins the transaction and decides who wins: new nodes, then guards and
// the compare-and-set of known ones, then join tokens, in one round trip. It
// takes the log's lock with them where nothing has to come in between.
func (t *transaction) claim(ctx context.Context) error {
	t.lost = make(map[*item]error)
	b := &pgx.Batch{}
	t.w.queueBegin(b)
	c := &claims{won: make(map[ledger.NodeID]bool, len(t.items)), guarded: t.guarded()}
	c.fresh, c.known = t.split()
	c.queue(b)
	for _, it := range sortedTokens(t.items) {
		b.Queue(useToken, *it.commit.JoinToken, string(it.commit.State.Node), it.macs.usedToken, it.macs.unusedToken).Query(func(rows pgx.Rows) error {
			ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err == nil && len(ids) == 0 {
				c.used = append(c.used, it)
			}
			return err
		})
	}
	if !slices.ContainsFunc(t.items, (*item).replacesNode) {
		t.queueHead(b)
	}
	if err := t.w.conn.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	if err := t.readConflicts(ctx, c); err != nil {
		return err
	}
	return t.judge(c)
}

// readConflicts asks who holds what a new node wanted, for those that were not
// made: a race or a copied identity, so that most batches do without.
func (t *transaction) readConflicts(ctx context.Context, c *claims) error {
	var refused []*item
	for _, it := range c.fresh {
		if !c.won[it.commit.State.Node] {
			refused = append(refused, it)
		}
	}
	if len(refused) == 0 {
		return nil
	}
	b := &pgx.Batch{}
	queueConflicts(b, refused, &c.present)
	return t.w.conn.SendBatch(ctx, b).Close()
}

func (c *claims) queue(b *pgx.Batch) {
	queue := func(it *item, sql string, args []any) {
		b.Queue(sql, args...).Exec(func(tag pgconn.CommandTag) error {
			c.won[it.commit.State.Node] = tag.RowsAffected() == 1
			return nil
		})
	}
	for _, it := range c.fresh {
		queue(it, insertNode, insertNodeArgs(it))
	}
	if len(c.guarded) > 0 {
		queueGuards(b, c.guarded, c.known, &c.versions)
	}
	for _, it := range c.known {
		queue(it, compareAndSet, compareAndSetArgs(it))
	}
}

// judge names the losers. It returns an itemError where the transaction has to
// start over without one of them.
func (t *transaction) judge(c *claims) error {
	for _, it := range c.known {
		if !c.won[it.commit.State.Node] {
			t.lost[it] = errSpent()
		}
	}
	for _, it := range c.fresh {
		if !c.won[it.commit.State.Node] {
			t.lost[it] = lostNew(it, c.present)
		}
	}
	for _, it := range c.guarded {
		if g := it.commit.Guard; c.versions[g.Node] != g.Version {
			t.lost[it] = errSpent()
		}
	}
	for _, it := range c.used {
		if t.lost[it] == nil {
			// Its node is written already: the transaction starts over without it.
			return &itemError{item: it, err: errSpent()}
		}
	}
	for _, it := range t.items {
		if t.lost[it] != nil && it.commit.JoinToken != nil && !slices.Contains(c.used, it) {
			// A token must not be used up by somebody who lost.
			return &itemError{item: it, err: t.lost[it]}
		}
	}
	return nil
}

// split returns the items of new nodes and those of known ones, each sorted by
// node so that two writers meet in the same order.
func (t *transaction) split() (fresh, known []*item) {
	for _, it := range t.items {
		switch {
		case it.commit.State == nil:
		case it.commit.BasedOn == 0:
			fresh = append(fresh, it)
		default:
			known = append(known, it)
		}
	}
	byNode := func(a, b *item) int { return strings.Compare(string(a.commit.State.Node), string(b.commit.State.Node)) }
	slices.SortFunc(fresh, byNode)
	slices.SortFunc(known, byNode)
	return fresh, known
}

func sortedTokens(items []*item) []*item {
	var out []*item
	for _, it := range items {
		if it.commit.JoinToken != nil {
			out = append(out, it)
		}
	}
	slices.SortFunc(out, func(a, b *item) int {
		return strings.Compare(a.commit.JoinToken.String(), b.commit.JoinToken.String())
	})
	return out
}
