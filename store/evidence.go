package store

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// largePart is the size from which it pays to ask first whether a part is stored
// already: event logs that a whole fleet shares.
const largePart = 4 << 10

// rememberParts bounds storedParts: twice as many keys, about 2 MB.
const rememberParts = 8 << 10

// contentKey names a stored part: each week and retention group has its own, so
// that they can be dropped.
type contentKey struct {
	digest [32]byte
	week   int64 // Monday, Unix s
	keep   int16
}

func (k contentKey) compare(o contentKey) int {
	if c := bytes.Compare(k.digest[:], o.digest[:]); c != 0 {
		return c
	}
	return int(k.keep) - int(o.keep)
}

// storedParts are keys of evidence and measurements that commits on the writer's
// connection made durable: PCR values that a node shows with every renewal need
// not go to the database each time. No broker deletes evidence but by dropping
// past weeks, and what is an erased machine's own, which is not shown again in a
// record that has to be judged again. A database that was put back to an earlier
// state has lost its connections. What its superuser deletes is not sent again
// meanwhile; VerifyHistory finds it (THREATS.md). Callers ask it too, what they
// need not pack.
type storedParts struct {
	mu            sync.Mutex
	recent, older map[contentKey]struct{} // guarded by mu
}

func (p *storedParts) has(k contentKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.recent[k]; ok {
		return true
	}
	_, ok := p.older[k]
	if ok {
		p.add(k)
	}
	return ok
}

// add notes a key; mu is held.
func (p *storedParts) add(k contentKey) {
	if p.recent == nil || len(p.recent) >= rememberParts {
		p.older, p.recent = p.recent, make(map[contentKey]struct{})
	}
	p.recent[k] = struct{}{}
}

// remember notes what a committed batch stored.
func (p *storedParts) remember(keys []contentKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range keys {
		p.add(k)
	}
}

func (p *storedParts) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent, p.older = nil, nil
}

// measurementKey stands for a measurement among the keys: it has no week.
func measurementKey(digest [32]byte) contentKey { return contentKey{digest: digest, keep: -1} }

// packEvidence packs in the caller's goroutine what the one writer would have to
// pack otherwise. Time and key are guesses: the writer knows them.
func (s *Store) packEvidence(it *item, now time.Time) {
	c := &it.commit
	it.inline = packInline(c.Evidence)
	it.content = make([][]byte, len(c.Evidence))
	week := ledger.Week(now).Unix()
	for i := range c.Evidence {
		p := &c.Evidence[i]
		if p.Bytes != nil && !isInline(p.Kind) && !s.stored.has(contentKey{digest: p.Digest, week: week, keep: c.Keep}) {
			it.content[i] = packContent(p.Bytes)
		}
	}
}

// content is a part on its way into the database.
type content struct {
	kind   string
	size   int
	packed []byte
}

// queueEvidence adds what the winners share by content, sorted so that two
// writers meet in the same order. Equal parts are stored once a week and group.
func (t *transaction) queueEvidence(ctx context.Context, b *pgx.Batch) error {
	week := ledger.Week(t.log.recordedAt)
	parts := make(map[contentKey]content)
	var large [][]byte
	for _, it := range t.winners {
		for i := range it.commit.Evidence {
			p := &it.commit.Evidence[i]
			k := contentKey{digest: p.Digest, week: week.Unix(), keep: it.commit.Keep}
			if _, seen := parts[k]; seen || p.Bytes == nil || isInline(p.Kind) || t.w.s.stored.has(k) {
				continue
			}
			packed := it.content[i]
			if packed == nil {
				packed = packContent(p.Bytes)
			}
			parts[k] = content{kind: p.Kind, size: len(p.Bytes), packed: packed}
			if len(packed) >= largePart {
				large = append(large, p.Digest[:])
			}
		}
	}
	t.fresh = append(t.fresh, slices.Collect(maps.Keys(parts))...)
	if len(large) > 0 {
		if err := t.dropStored(ctx, parts, week, large); err != nil {
			return err
		}
	}
	if len(parts) > 0 {
		queueContent(b, week, parts)
	}
	return nil
}

// dropStored takes out of parts those that are stored already.
func (t *transaction) dropStored(ctx context.Context, parts map[contentKey]content, week time.Time, digests [][]byte) error {
	const stored = `SELECT digest, keep FROM evidence_content WHERE digest = ANY ($1) AND recorded_at = $2`
	rows, err := t.w.conn.Query(ctx, stored, digests, week)
	if err != nil {
		return err
	}
	var digest []byte
	var keep int16
	_, err = pgx.ForEachRow(rows, []any{&digest, &keep}, func() error {
		delete(parts, contentKey{digest: [32]byte(digest), week: week.Unix(), keep: keep})
		return nil
	})
	return err
}

func queueContent(b *pgx.Batch, week time.Time, parts map[contentKey]content) {
	keys := slices.SortedFunc(maps.Keys(parts), contentKey.compare)
	keeps, sizes := make([]int16, len(keys)), make([]int32, len(keys))
	digests, packed, kinds := make([][]byte, len(keys)), make([][]byte, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		p := parts[k]
		keeps[i], digests[i], kinds[i], sizes[i], packed[i] = k.keep, k.digest[:], p.kind, int32(p.size), p.packed
	}
	const add = `INSERT INTO evidence_content (recorded_at, keep, digest, kind, size, packed)
		SELECT $1, * FROM unnest($2::smallint[], $3::bytea[], $4::text[], $5::integer[], $6::bytea[]) ON CONFLICT DO NOTHING`
	b.Queue(add, week, keeps, digests, kinds, sizes, packed)
}
