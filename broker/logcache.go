package broker

import (
	"context"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
)

// logCache keeps recently used event logs by digest: ten thousand hosts of one
// image share one log, and a renewal is compared with it without a read.
type logCache struct {
	mu   sync.Mutex
	by   map[[32]byte]*eventlog.Kept
	size int
}

// logCacheBytes bounds the cache; past it, it starts anew. A log that is kept
// takes up to logCacheShare times its bytes.
const (
	logCacheBytes = 32 << 20
	logCacheShare = 4
)

func (c *logCache) get(d [32]byte) *eventlog.Kept {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[d]
}

func (c *logCache) put(log *eventlog.Kept) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := logCacheShare * len(log.Bytes())
	if c.by == nil || c.size+size > logCacheBytes {
		c.by, c.size = make(map[[32]byte]*eventlog.Kept), 0
	}
	if _, ok := c.by[log.Digest()]; !ok {
		c.by[log.Digest()] = log
		c.size += size
	}
}

// keptLog returns the log that explained a node's last accepted quote, nil where
// it is gone. The store checks it against its digest, and the verifier compares
// it with the fresh quote, so nothing is taken on the database's word. At is the
// time of a record that was judged by it.
func (b *Broker) keptLog(ctx context.Context, digest [32]byte, at time.Time) (*eventlog.Kept, error) {
	if log := b.logs.get(digest); log != nil {
		return log, nil
	}
	raw, err := b.cfg.Store.Evidence(ctx, digest, at)
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	log := eventlog.Keep(raw)
	b.logs.put(log)
	return log, nil
}
