package broker

import (
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// Bounds of snapshots that are kept.
const (
	MaxKeptNodes = maxKeptNodes
	MaxKeptBytes = maxKeptBytes
)

// Keep keeps a snapshot as a challenge does that is made now and ends then.
func (b *Broker) Keep(node ledger.NodeID, snap ledger.Snapshot, now, until time.Time) {
	b.kept.put(&challenge{Node: node, Version: snap.State.Version, ExpiresAt: until.UnixMilli()}, snap, now)
}

// TakeKept takes what was kept for a token of that version.
func (b *Broker) TakeKept(node ledger.NodeID, version int64, now time.Time) (ledger.Snapshot, bool) {
	return b.kept.take(&challenge{Node: node, Version: version}, now)
}

// KeptNodes tells how many snapshots are kept.
func (b *Broker) KeptNodes() int {
	b.kept.mu.Lock()
	defer b.kept.mu.Unlock()
	if len(b.kept.by) != b.kept.age.Len() {
		return -1
	}
	return len(b.kept.by)
}
