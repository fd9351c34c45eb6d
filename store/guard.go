package store

import (
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// lockNodes locks the states of nodes against every other writer until the
// commit, so that nothing of a node changes between the version that a guard saw
// and the place in the log of what was issued on it. It locks those of the
// batch's compare-and-set too: two statements with an order each would let two
// brokers wait for one another. Their order is that of the writer, which sorts
// bytes.
const lockNodes = `SELECT node_id, version FROM node_state WHERE node_id = ANY ($1) ORDER BY node_id COLLATE "C" FOR UPDATE`

func queueGuards(b *pgx.Batch, guarded, known []*item, into *map[ledger.NodeID]int64) {
	var ids []string
	for _, it := range guarded {
		ids = append(ids, string(it.commit.Guard.Node))
	}
	for _, it := range known {
		ids = append(ids, string(it.commit.State.Node))
	}
	slices.Sort(ids)
	b.Queue(lockNodes, slices.Compact(ids)).Query(func(rows pgx.Rows) error {
		versions := make(map[ledger.NodeID]int64, len(ids))
		var id string
		var version int64
		_, err := pgx.ForEachRow(rows, []any{&id, &version}, func() error {
			versions[ledger.NodeID(id)] = version
			return nil
		})
		*into = versions
		return err
	})
}

// guarded returns the items whose commit demands that a node has not moved on.
func (t *transaction) guarded() []*item {
	var out []*item
	for _, it := range t.items {
		if it.commit.Guard != nil {
			out = append(out, it)
		}
	}
	return out
}
