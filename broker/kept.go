package broker

import (
	"container/list"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// keptNodes holds what challenges were sealed from until their attestations
// come, so that these need no reading of their own.
//
// A snapshot of then earns nothing that the node may not have now. What an
// attestation grants leaves the broker after its commit, and the store commits
// only while the node is at the version that was judged, compared under the lock
// of its row. Nothing changes a node or its state but commits that move the
// version on, of any replica: attestations and recorded refusals, enrolling
// again, approving, disabling. A node that was not there is kept too: the store
// makes no second one. Who owns the database can put an older row back for the
// next challenge as for this attestation.
//
// A refusal need not end in a commit, so that Attest reads the node once more
// before it says one. Admissions and policy are not of the node, and not kept.
//
// A snapshot serves once. A token that is sent again meets the database, which
// shows it spent before a signature is looked at; or another challenge of the
// same version that was kept meanwhile: then it is judged once more, and loses at
// the compare-and-set.
type keptNodes struct {
	mu  sync.Mutex
	by  map[ledger.NodeID]*list.Element // of keptNode; guarded by mu
	age list.List                       // the oldest first; guarded by mu
}

// The bounds make 20 MB of what strangers may ask for: names of AKs are no
// secrets. What does not fit is read again.
const (
	maxKeptNodes = 4096
	maxKeptBytes = 4 << 10 // of one snapshot's variable parts
)

type keptNode struct {
	id    ledger.NodeID
	snap  ledger.Snapshot
	until time.Time // end of the challenge
}

// put keeps what c was sealed from, in the place of what an older challenge of
// the node was.
func (k *keptNodes) put(c *challenge, snap ledger.Snapshot, now time.Time) {
	if variableBytes(&snap) > maxKeptBytes {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.by == nil {
		k.by = make(map[ledger.NodeID]*list.Element)
	}
	if old := k.by[c.Node]; old != nil {
		k.drop(old)
	}
	k.by[c.Node] = k.age.PushBack(&keptNode{id: c.Node, snap: snap, until: time.UnixMilli(c.ExpiresAt)})
	for e := k.age.Front(); e != nil && (len(k.by) > maxKeptNodes || !now.Before(e.Value.(*keptNode).until)); e = k.age.Front() {
		k.drop(e)
	}
}

// take returns what c was sealed from, or a later challenge of the same version,
// and forgets it.
func (k *keptNodes) take(c *challenge, now time.Time) (ledger.Snapshot, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.by[c.Node]
	if e == nil {
		return ledger.Snapshot{}, false
	}
	n := e.Value.(*keptNode)
	if n.snap.State.Version != c.Version || !now.Before(n.until) {
		return ledger.Snapshot{}, false
	}
	k.drop(e)
	return n.snap, true
}

// drop forgets one; mu is held.
func (k *keptNodes) drop(e *list.Element) {
	delete(k.by, k.age.Remove(e).(*keptNode).id)
}

func variableBytes(s *ledger.Snapshot) int {
	n, st := &s.Node, &s.State
	size := len(n.RootKind) + len(n.EKPublic) + len(n.AKPublic) + len(n.AKName) + len(n.Manufacturer) + len(n.TPM.Model) + len(n.TPM.Version) + len(n.AdmittedBy) +
		len(n.Machine) + len(st.PCRs) + len(st.IMA) + len(st.Seen) + len(st.Zone) + len(st.Reason)
	for _, g := range n.Groups {
		size += len(g) + 16
	}
	return size
}
