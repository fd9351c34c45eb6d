package store

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// tileWidth is the number of leaves of a C2SP tile.
const tileWidth = 256

const hashSize = 32

// Levels of log_tile.
const (
	levelEntries = -1
	levelLeaves  = 0
)

// sequenced is what a batch does to the log.
type sequenced struct {
	size       int64 // after the batch
	frontier   []byte
	recordedAt time.Time
	entries    []ledger.Entry
	tiles      []tile
	chunkAt    int64  // index of the first entry of chunk
	chunk      []byte // new entries that fill no tile; nil for none
	tail       []byte // all entries of the open tile after the batch
}

type tile struct {
	n               int64
	leaves, entries []byte
}

// sequence appends the records in order. Tail holds the entries of the tile that
// the log's head is in.
func sequence(f ledger.Frontier, tail []byte, winners []*item, at time.Time) sequenced {
	out := sequenced{recordedAt: at, entries: make([]ledger.Entry, len(winners))}
	open := append(make([]byte, 0, tileWidth*ledger.EntrySize), tail...)
	out.chunkAt = f.Size()
	fresh := 0 // entries of open that are not in log_entry
	for i, it := range winners {
		e := ledger.NewEntry(it.commit.Record, at)
		out.entries[i] = e
		f.Append(e.Leaf())
		open = append(open, e[:]...)
		fresh++
		if f.Size()%tileWidth == 0 {
			out.tiles = append(out.tiles, newTile(f.Size()/tileWidth-1, open))
			open = make([]byte, 0, tileWidth*ledger.EntrySize)
			fresh, out.chunkAt = 0, f.Size()
		}
	}
	out.size, out.frontier, out.tail = f.Size(), f.Marshal(), open
	if fresh > 0 {
		out.chunk = open[len(open)-fresh*ledger.EntrySize:]
	}
	return out
}

func newTile(n int64, entries []byte) tile {
	leaves := make([]byte, 0, tileWidth*hashSize)
	for i := 0; i < len(entries); i += ledger.EntrySize {
		leaf := ledger.Entry(entries[i:]).Leaf()
		leaves = append(leaves, leaf[:]...)
	}
	return tile{n: n, leaves: leaves, entries: entries}
}

func (l *sequenced) queue(b *pgx.Batch, logID string) {
	const addTile = `INSERT INTO log_tile (log_id, level, n, data) VALUES ($1, $2, $3, $4)`
	const closeTile = `DELETE FROM log_entry WHERE log_id = $1 AND first_idx >= $2 AND first_idx < $3`
	for _, t := range l.tiles {
		b.Queue(addTile, logID, levelEntries, t.n, t.entries)
		b.Queue(addTile, logID, levelLeaves, t.n, t.leaves)
	}
	if len(l.tiles) > 0 {
		// Only the first of them can have entries in log_entry.
		b.Queue(closeTile, logID, l.tiles[0].n*tileWidth, (l.tiles[0].n+1)*tileWidth)
	}
	if l.chunk != nil {
		const addChunk = `INSERT INTO log_entry (log_id, first_idx, entries) VALUES ($1, $2, $3)`
		b.Queue(addChunk, logID, l.chunkAt, l.chunk)
	}
}
