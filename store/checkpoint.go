package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Anchor holds the last signed checkpoint outside the database.
type Anchor interface {
	// Load returns the signed note, "" before the first.
	Load() (string, error)
	// Store replaces it, durably.
	Store(note string) error
}

// signing is what this process proved of the log so far.
type signing struct {
	mu       sync.Mutex         // held over a whole SignCheckpoint
	frontier ledger.Frontier    // recomputed from the log's entries up to its size
	note     string             // last signed note, "" before the first
	proved   map[int64][32]byte // roots at sizes that were proved lately
}

// maxProved bounds what is remembered of proofs.
const maxProved = 1024

// SignCheckpoint signs the head of the log after it recomputed from the log's
// own leaves that the head extends the anchor, the newest stored checkpoint and
// everything that this process signed before. The note is stored in the database
// and then in the anchor. The signer's name is the log's origin. Where the proof
// fails it returns reason.LedgerFork, and from then on nothing is signed or
// recorded by this Store. The first call reads the whole log, later ones what is
// new; a caller asks at most once a second.
func (s *Store) SignCheckpoint(ctx context.Context, signer note.Signer, anchor Anchor) (string, error) {
	s.signing.mu.Lock()
	defer s.signing.mu.Unlock()
	if s.forked.Load() {
		return "", errForked()
	}
	if !strings.HasSuffix(signer.Name(), "/zonebroker/"+s.cfg.LogID) {
		return "", reason.Wrap(reason.Internal, "", fmt.Errorf("the key %q is not of log %q", signer.Name(), s.cfg.LogID))
	}
	// The anchor is read before the database: what it holds was committed before.
	held, err := anchor.Load()
	if err != nil {
		return "", reason.Wrap(reason.StoreUnavailable, "the log anchor cannot be read", err)
	}
	var head ledger.Checkpoint
	err = s.snapshot(ctx, "sign checkpoint", func(tx pgx.Tx) error {
		head, err = s.proveHead(ctx, tx, signer, held)
		return err
	})
	if err != nil {
		return "", s.stopOnFork(ctx, err)
	}
	text, err := head.Sign(signer)
	if err != nil {
		return "", reason.Wrap(reason.Internal, "", err)
	}
	if text == s.signing.note && text == held {
		return text, nil
	}
	if err := s.keepCheckpoint(ctx, head, text); err != nil {
		return "", s.stopOnFork(ctx, err)
	}
	if err := anchor.Store(text); err != nil {
		return "", reason.Wrap(reason.StoreUnavailable, "the log anchor cannot be written", err)
	}
	s.signing.note = text
	return text, nil
}

func (s *Store) stopOnFork(ctx context.Context, err error) error {
	if reason.Of(err) == reason.LedgerFork {
		s.forked.Store(true)
		s.cfg.Logger.ErrorContext(ctx, "ledger fork: nothing is signed or recorded any more", "error", err)
	}
	return err
}

// snapshot runs fn in one read-only snapshot.
func (s *Store) snapshot(ctx context.Context, op string, fn func(tx pgx.Tx) error) error {
	short, cancel := bounded(ctx)
	defer cancel()
	c, err := s.pool.Acquire(short)
	if err != nil {
		return s.unavailable(ctx, op, err)
	}
	defer c.Release()
	tx, err := c.BeginTx(short, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return s.unavailable(ctx, op, err)
	}
	err = fn(tx)
	end, cancelEnd := bounded(context.WithoutCancel(ctx))
	defer cancelEnd()
	// It wrote nothing; how it ends changes nothing.
	_ = tx.Rollback(end)
	return s.unavailable(ctx, op, err)
}

func (s *Store) proveHead(ctx context.Context, tx pgx.Tx, signer note.Signer, held string) (ledger.Checkpoint, error) {
	none := ledger.Checkpoint{}
	head, err := readHead(ctx, tx, s.cfg.LogID)
	if err != nil {
		return none, err
	}
	stored, err := readNewest(ctx, tx, s.cfg.LogID)
	if err != nil {
		return none, err
	}
	for _, known := range []struct{ name, text string }{
		{"the log anchor", held}, {"the newest stored checkpoint", stored}, {"what this replica signed", s.signing.note},
	} {
		if known.text == "" {
			continue
		}
		cp, err := ownCheckpoint(known.text, signer)
		if err != nil {
			return none, reason.Wrap(reason.LedgerFork, known.name+" is not a checkpoint of this log", err)
		}
		if err := s.proveExtends(ctx, tx, head.Size(), cp, known.name); err != nil {
			return none, err
		}
	}
	if err := s.advance(ctx, tx, head.Size()); err != nil {
		return none, err
	}
	root := s.signing.frontier.Root()
	if s.signing.frontier.Size() != head.Size() || root != head.Root() {
		return none, reason.New(reason.LedgerFork, "the head of the log is not the tree over its entries")
	}
	return ledger.Checkpoint{Origin: signer.Name(), Size: head.Size(), Root: root}, nil
}

// proveExtends recomputes the root at the size of cp from the log's leaves.
func (s *Store) proveExtends(ctx context.Context, tx pgx.Tx, head int64, cp ledger.Checkpoint, name string) error {
	if cp.Size > head {
		return reason.Newf(reason.LedgerFork, "%s has size %d, the log has only %d: it was rolled back or cut", name, cp.Size, head)
	}
	root, known := s.signing.proved[cp.Size]
	switch {
	case known:
		// Another replica may have put an older note into a shared anchor.
	case cp.Size >= s.signing.frontier.Size():
		if err := s.advance(ctx, tx, cp.Size); err != nil {
			return err
		}
		root = s.signing.frontier.Root()
	default:
		from := ledger.Frontier{}
		if err := extend(ctx, tx, s.cfg.LogID, &from, cp.Size); err != nil {
			return err
		}
		root = from.Root()
	}
	if root != cp.Root {
		return reason.Newf(reason.LedgerFork, "the log does not extend %s at size %d: its entries were changed", name, cp.Size)
	}
	return nil
}

// advance moves the proved frontier on; a failure leaves it where it was.
func (s *Store) advance(ctx context.Context, tx pgx.Tx, size int64) error {
	if s.signing.frontier.Size() > size {
		return reason.Newf(reason.LedgerFork, "the log has size %d and had %d before", size, s.signing.frontier.Size())
	}
	f := s.signing.frontier.Clone()
	if err := extend(ctx, tx, s.cfg.LogID, &f, size); err != nil {
		return err
	}
	s.signing.frontier = f
	if s.signing.proved == nil || len(s.signing.proved) >= maxProved {
		s.signing.proved = make(map[int64][32]byte)
	}
	s.signing.proved[size] = f.Root()
	return nil
}

// ownCheckpoint opens a note that our own key signed. Ed25519 is deterministic,
// so signing the same text again shows whether the signature is ours, and no
// verifier has to be configured beside the signer.
func ownCheckpoint(text string, signer note.Signer) (ledger.Checkpoint, error) {
	return ledger.OpenCheckpoint(text, selfVerifier{signer})
}

type selfVerifier struct{ note.Signer }

// Verify reports whether sig is what our key signs for msg.
func (v selfVerifier) Verify(msg, sig []byte) bool {
	want, err := v.Sign(msg)
	return err == nil && string(want) == string(sig)
}

func (s *Store) keepCheckpoint(ctx context.Context, cp ledger.Checkpoint, text string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	const put = `INSERT INTO checkpoint (log_id, size, root, note) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	if _, err := s.pool.Exec(ctx, put, s.cfg.LogID, cp.Size, cp.Root[:], text); err != nil {
		return s.unavailable(ctx, "store checkpoint", err)
	}
	root, found, err := s.CheckpointRoot(ctx, s.cfg.LogID, cp.Size)
	if err == nil && (!found || root != cp.Root) {
		return reason.Newf(reason.LedgerFork, "another root was signed for size %d", cp.Size)
	}
	return err
}

func readNewest(ctx context.Context, tx pgx.Tx, logID string) (string, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var text string
	err := tx.QueryRow(ctx, latestCheckpoint, logID).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return text, err
}

// readHead reads the head of the log; the empty tree where there is none yet.
func readHead(ctx context.Context, tx pgx.Tx, logID string) (ledger.Frontier, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var size int64
	var raw []byte
	err := tx.QueryRow(ctx, `SELECT size, frontier FROM log_head WHERE log_id = $1`, logID).Scan(&size, &raw)
	if errors.Is(err, pgx.ErrNoRows) {
		return ledger.Frontier{}, nil
	}
	if err != nil {
		return ledger.Frontier{}, err
	}
	f, err := ledger.UnmarshalFrontier(raw)
	if err != nil || f.Size() != size {
		return ledger.Frontier{}, reason.Wrap(reason.LedgerFork, "the head of the log is not a tree of its size", err)
	}
	return f, nil
}
