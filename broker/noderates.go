package broker

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// nodeRates bounds what one known node can have recorded. Only authenticated
// nodes get an entry, so the map is as large as the fleet at most, and it is
// dropped where it grows beyond that.
type nodeRates struct {
	perMinute int

	mu sync.Mutex
	by map[ledger.NodeID]*rate.Limiter
}

// maxNodeRates bounds the map; past it all nodes begin anew with a full bucket.
const maxNodeRates = 200_000

func (n *nodeRates) allow(id ledger.NodeID, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.by == nil || len(n.by) >= maxNodeRates {
		n.by = make(map[ledger.NodeID]*rate.Limiter)
	}
	l := n.by[id]
	if l == nil {
		l = rate.NewLimiter(rate.Every(time.Minute/time.Duration(n.perMinute)), n.perMinute)
		n.by[id] = l
	}
	return l.AllowN(now, 1)
}
