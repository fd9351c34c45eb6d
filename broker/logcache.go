package broker

import (
	"context"
	"sync"
)

// logCache keeps recently used event logs by digest: ten thousand hosts of one
// image share one log, and a renewal replays it without a read.
type logCache struct {
	mu   sync.Mutex
	by   map[[32]byte][]byte
	size int
}

// logCacheBytes bounds the cache; past it, it starts anew.
const logCacheBytes = 32 << 20

func (c *logCache) get(d [32]byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[d]
}

func (c *logCache) put(d [32]byte, log []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil || c.size+len(log) > logCacheBytes {
		c.by, c.size = make(map[[32]byte][]byte), 0
	}
	if _, ok := c.by[d]; !ok {
		c.by[d] = log
		c.size += len(log)
	}
}

// keptLog returns the log that explained a node's last accepted quote, nil where
// it is gone. The store checks it against its digest, and the verifier replays
// it against the fresh quote, so nothing is taken on the database's word.
func (b *Broker) keptLog(ctx context.Context, digest [32]byte) ([]byte, error) {
	if log := b.logs.get(digest); log != nil {
		return log, nil
	}
	log, err := b.cfg.Store.Evidence(ctx, digest)
	if err != nil || log == nil {
		return nil, err
	}
	b.logs.put(digest, log)
	return log, nil
}
