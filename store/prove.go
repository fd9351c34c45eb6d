package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// tileHeight is the number of levels inside a tile: 2^8 leaves.
const tileHeight = 8

// Prove returns entries of the log with proofs that they are in the tree of a
// size, and that this tree extends the one of an older size; older 0 leaves that
// proof out. It reads the tiles of the whole log once.
func (s *Store) Prove(ctx context.Context, size, older int64, indexes []int64) (ledger.LogProof, error) {
	var out ledger.LogProof
	err := s.snapshot(ctx, "prove", func(tx pgx.Tx) error {
		p := &prover{ctx: ctx, tx: tx, logID: s.cfg.LogID, size: size, leaves: map[int64][]tlog.Hash{}, entries: map[int64][]ledger.Entry{}}
		if err := p.load(); err != nil {
			return err
		}
		if older > 0 {
			proof, err := tlog.ProveTree(size, older, p)
			if err != nil {
				return err
			}
			out.Consistency = hashes(proof)
		}
		for _, i := range indexes {
			proof, err := tlog.ProveRecord(size, i, p)
			if err != nil {
				return err
			}
			e, err := p.entry(i)
			if err != nil {
				return err
			}
			out.Entries = append(out.Entries, ledger.ProvedEntry{Index: i, Entry: e, Proof: hashes(proof)})
		}
		return nil
	})
	return out, err
}

func hashes(proof []tlog.Hash) [][32]byte {
	out := make([][32]byte, len(proof))
	for i, h := range proof {
		out[i] = h
	}
	return out
}

// prover is a tlog.HashReader over the tiles of the log, which hold level 0
// alone: the roots of whole tiles are computed once, what lies below when it is
// asked for.
type prover struct {
	ctx     context.Context
	tx      pgx.Tx
	logID   string
	size    int64
	roots   []tlog.Hash              // of whole tiles
	leaves  map[int64][]tlog.Hash    // of tiles that were asked for
	entries map[int64][]ledger.Entry // the same
	upper   map[[2]int64]tlog.Hash   // above the tiles
}

func (p *prover) load() error {
	p.upper = map[[2]int64]tlog.Hash{}
	whole := p.size / tileWidth
	for n := int64(0); n < whole; n += tilesPerPage {
		tiles, err := readTiles(p.ctx, p.tx, p.logID, levelLeaves, n, min(n+tilesPerPage, whole))
		if err != nil {
			return err
		}
		for i := n; i < min(n+tilesPerPage, whole); i++ {
			if tiles[i] == nil {
				return reason.Newf(reason.LedgerFork, "the log's tile %d is missing", i)
			}
			p.roots = append(p.roots, treeHash(split(tiles[i])))
		}
	}
	return nil
}

func split(tile []byte) []tlog.Hash {
	out := make([]tlog.Hash, len(tile)/hashSize)
	for i := range out {
		out[i] = tlog.Hash(tile[i*hashSize:])
	}
	return out
}

// treeHash is the root over a power of two of hashes.
func treeHash(level []tlog.Hash) tlog.Hash {
	for len(level) > 1 {
		next := make([]tlog.Hash, len(level)/2)
		for i := range next {
			next[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
		level = next
	}
	return level[0]
}

// ReadHashes implements tlog.HashReader.
func (p *prover) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		var err error
		if out[i], err = p.hash(level, n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *prover) hash(level int, n int64) (tlog.Hash, error) {
	if level < tileHeight {
		leaves, err := p.tile(n >> (tileHeight - level))
		if err != nil {
			return tlog.Hash{}, err
		}
		first := n << level % tileWidth
		if first+1<<level > int64(len(leaves)) {
			return tlog.Hash{}, fmt.Errorf("the log has no whole subtree %d of level %d", n, level)
		}
		return treeHash(leaves[first : first+1<<level]), nil
	}
	if level == tileHeight {
		if n >= int64(len(p.roots)) {
			return tlog.Hash{}, fmt.Errorf("the log has no tile %d", n)
		}
		return p.roots[n], nil
	}
	at := [2]int64{int64(level), n}
	if h, ok := p.upper[at]; ok {
		return h, nil
	}
	left, err := p.hash(level-1, 2*n)
	if err != nil {
		return tlog.Hash{}, err
	}
	right, err := p.hash(level-1, 2*n+1)
	if err != nil {
		return tlog.Hash{}, err
	}
	p.upper[at] = tlog.NodeHash(left, right)
	return p.upper[at], nil
}

// tile reads leaves and entries of a tile, be it whole or open.
func (p *prover) tile(n int64) ([]tlog.Hash, error) {
	if leaves, ok := p.leaves[n]; ok {
		return leaves, nil
	}
	bundles, err := readTiles(p.ctx, p.tx, p.logID, levelEntries, n, n+1)
	if err != nil {
		return nil, err
	}
	var entries []ledger.Entry
	for raw := bundles[n]; len(raw) >= ledger.EntrySize; raw = raw[ledger.EntrySize:] {
		entries = append(entries, ledger.Entry(raw))
	}
	if entries == nil {
		if entries, err = readOpen(p.ctx, p.tx, p.logID, n); err != nil {
			return nil, err
		}
	}
	leaves := make([]tlog.Hash, len(entries))
	for i, e := range entries {
		leaves[i] = e.Leaf()
	}
	p.leaves[n], p.entries[n] = leaves, entries
	return leaves, nil
}

func (p *prover) entry(i int64) (ledger.Entry, error) {
	if _, err := p.tile(i / tileWidth); err != nil {
		return ledger.Entry{}, err
	}
	entries := p.entries[i/tileWidth]
	if i%tileWidth >= int64(len(entries)) {
		return ledger.Entry{}, fmt.Errorf("the log has no entry %d", i)
	}
	return entries[i%tileWidth], nil
}
