package broker

import (
	"context"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// refusalCounter adds up refusals that are not records: those of strangers, and
// repeats of a node's last one.
type refusalCounter struct {
	mu       sync.Mutex
	by       map[refusalKey]int64
	recorded map[refusalKey]int // in full, of the hour
	hour     time.Time
}

type refusalKey struct {
	hour time.Time
	code string
	node ledger.NodeID
}

// maxRefusalKeys bounds the counter; codes are few and nodes are admitted, so
// only an outage of the database fills it.
const maxRefusalKeys = 10_000

func (c *refusalCounter) add(k refusalKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = make(map[refusalKey]int64)
	}
	if _, ok := c.by[k]; !ok && len(c.by) >= maxRefusalKeys {
		return
	}
	c.by[k]++
}

// maxFullRepeats bounds the full records of one node, kind of refusal and hour.
const maxFullRepeats = 3

// full reports whether one more refusal of this kind is worth a record, and
// counts it.
func (c *refusalCounter) full(k refusalKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recorded == nil || !c.hour.Equal(k.hour) {
		c.recorded, c.hour = make(map[refusalKey]int), k.hour
	}
	if c.recorded[k] >= maxFullRepeats || len(c.recorded) >= maxRefusalKeys {
		return false
	}
	c.recorded[k]++
	return true
}

func (b *Broker) flushRefusals(ctx context.Context) error {
	c := &b.refusals
	c.mu.Lock()
	by := c.by
	c.by = nil
	c.mu.Unlock()
	if len(by) == 0 {
		return nil
	}
	counts := make([]ledger.RefusalCount, 0, len(by))
	for k, n := range by {
		counts = append(counts, ledger.RefusalCount{Hour: k.hour, Code: k.code, Node: k.node, Count: n})
	}
	if err := b.cfg.Store.CountRefusals(ctx, counts); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.by == nil {
			c.by = by
			return err
		}
		for k, n := range by {
			c.by[k] += n
		}
		return err
	}
	return nil
}
