package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// tilesPerPage bounds what one query of tiles returns: 512 KiB of leaves.
const tilesPerPage = 64

// extend appends the log's leaves from the frontier's size up to size.
func extend(ctx context.Context, tx pgx.Tx, logID string, f *ledger.Frontier, size int64) error {
	for f.Size() < size {
		before := f.Size()
		first := before / tileWidth
		tiles, err := readTiles(ctx, tx, logID, levelLeaves, first, first+tilesPerPage)
		if err != nil {
			return err
		}
		for n := first; f.Size() < size; n++ {
			leaves, ok := tiles[n]
			if !ok {
				break
			}
			for f.Size() < min(size, (n+1)*tileWidth) {
				at := f.Size() % tileWidth * hashSize
				f.Append([32]byte(leaves[at:]))
			}
		}
		if f.Size() > before {
			continue
		}
		open, err := readOpen(ctx, tx, logID, first)
		if err != nil {
			return err
		}
		for f.Size() < min(size, first*tileWidth+int64(len(open))) {
			f.Append(open[f.Size()%tileWidth].Leaf())
		}
		if f.Size() == before {
			return reason.Newf(reason.LedgerFork, "the log has no entry %d, and its head or anchor reaches to %d", before, size)
		}
	}
	return nil
}

// readTiles reads the tiles of a level with numbers from first up to, but not
// including, end. A tile of a wrong length counts as missing.
func readTiles(ctx context.Context, tx pgx.Tx, logID string, level int, first, end int64) (map[int64][]byte, error) {
	const query = `SELECT n, data FROM log_tile WHERE log_id = $1 AND level = $2 AND n >= $3 AND n < $4`
	width := tileWidth * hashSize
	if level == levelEntries {
		width = tileWidth * ledger.EntrySize
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := tx.Query(ctx, query, logID, level, first, end)
	if err != nil {
		return nil, err
	}
	out := make(map[int64][]byte)
	var n int64
	var data []byte
	_, err = pgx.ForEachRow(rows, []any{&n, &data}, func() error {
		if len(data) == width {
			out[n] = append([]byte(nil), data...)
		}
		return nil
	})
	return out, err
}

// readOpen reads the entries of a tile that is not written yet, from its start
// up to the first gap.
func readOpen(ctx context.Context, tx pgx.Tx, logID string, n int64) ([]ledger.Entry, error) {
	const query = `SELECT first_idx, entries FROM log_entry WHERE log_id = $1 AND first_idx >= $2 AND first_idx < $3 ORDER BY first_idx`
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := tx.Query(ctx, query, logID, n*tileWidth, (n+1)*tileWidth)
	if err != nil {
		return nil, err
	}
	var out []ledger.Entry
	var first int64
	var chunk []byte
	gap := false
	_, err = pgx.ForEachRow(rows, []any{&first, &chunk}, func() error {
		gap = gap || first != n*tileWidth+int64(len(out)) || len(chunk)%ledger.EntrySize != 0
		for i := 0; !gap && i < len(chunk); i += ledger.EntrySize {
			out = append(out, ledger.Entry(chunk[i:]))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read open entries: %w", err)
	}
	return out, nil
}
