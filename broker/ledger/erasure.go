package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// ErasureEvidence is what shows that a node was erased and the log is whole. It
// may come from anybody.
type ErasureEvidence struct {
	Node          NodeID
	Record        uuid.UUID // node.erased
	Index         int64
	RecordedAt    time.Time
	Salt          [32]byte
	Body          []byte // JSON, in any spelling
	List          []byte // the Missing that the record names
	Before, After string // checkpoints, signed notes
	Proof         LogProof
	LeftOut       int64 // listed records without an entry in Proof, the oldest
}

// CheckedErasure is what the evidence proved.
type CheckedErasure struct {
	Grant         Grant
	Before, After Checkpoint
	Listed        int64 // records that are gone
}

// ParseLogPublic reads the public key of a log: a note verifier key line.
func ParseLogPublic(text string) (note.Verifier, error) {
	v, err := note.NewVerifier(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New("log key: not a public note key")
	}
	return v, nil
}

// CheckErasure verifies evidence with the log's key alone: that the record of the
// erasure is in the log and commits to the list, that each listed record has its
// entry where it was, and that the log grew from the checkpoint of before without
// a change. The records themselves are gone; an entry tells nothing of them.
func CheckErasure(e ErasureEvidence, key NoteVerifier) (CheckedErasure, error) {
	var out CheckedErasure
	var err error
	if out.Before, err = OpenCheckpoint(e.Before, key); err != nil {
		return out, fmt.Errorf("the checkpoint of before: %w", err)
	}
	if out.After, err = OpenCheckpoint(e.After, key); err != nil {
		return out, fmt.Errorf("the checkpoint of after: %w", err)
	}
	if out.Before.Origin != key.Name() || out.After.Origin != key.Name() {
		return out, errors.New("a checkpoint is of another log than the key")
	}
	if err := e.Proof.extends(out.Before, out.After); err != nil {
		return out, err
	}
	entry, err := e.record(&out.Grant)
	if err != nil {
		return out, err
	}
	_, spans, err := ParseMissing(e.List)
	if err != nil {
		return out, err
	}
	want := append(indexesOf(spans, e.LeftOut), e.Index)
	if len(want) != len(e.Proof.Entries) {
		return out, fmt.Errorf("%d entries are proved, want %d", len(e.Proof.Entries), len(want))
	}
	for i, p := range e.Proof.Entries {
		if p.Index != want[i] {
			return out, fmt.Errorf("entry %d is proved in the place of %d", p.Index, want[i])
		}
		if err := p.in(out.After); err != nil {
			return out, err
		}
	}
	if last := e.Proof.Entries[len(want)-1]; last.Entry != entry {
		return out, errors.New("the log committed to another record of the erasure")
	}
	out.Listed = int64(len(want)-1) + e.LeftOut
	return out, nil
}

// record checks that the record is of this erasure and names the list, and
// returns its entry.
func (e *ErasureEvidence) record(g *Grant) (Entry, error) {
	body, err := canonicalBytes(e.Body)
	if err != nil {
		return Entry{}, fmt.Errorf("the record of the erasure: %w", err)
	}
	r, err := RecordOf(e.Record, body, e.Salt)
	if err != nil {
		return Entry{}, fmt.Errorf("the record of the erasure: %w", err)
	}
	if err := json.Unmarshal(body, g); err != nil {
		return Entry{}, err
	}
	digest := sha256.Sum256(e.List)
	switch {
	case g.Type != TypeErased || g.Subject != string(e.Node):
		return Entry{}, errors.New("the record is not of the erasure of this node")
	case g.Object != hex.EncodeToString(digest[:]):
		return Entry{}, errors.New("the record commits to another list of what went")
	}
	return NewEntry(r, e.RecordedAt), nil
}

// indexesOf lists spans, without the first few.
func indexesOf(spans []Span, without int64) []int64 {
	const most = 1 << 20 // far more than fits a file
	var out []int64
	for _, s := range spans {
		for i := s.First; i <= s.Last && len(out) < most; i++ {
			if without > 0 {
				skip := min(without, s.Last-i+1)
				without -= skip
				i += skip - 1
				continue
			}
			out = append(out, i)
		}
	}
	return out
}

func (p LogProof) extends(older, newer Checkpoint) error {
	if older.Size == 0 || older.Size == newer.Size && older.Root == newer.Root {
		return nil
	}
	if err := tlog.CheckTree(proofOf(p.Consistency), newer.Size, newer.Root, older.Size, older.Root); err != nil {
		return fmt.Errorf("the log does not extend the checkpoint of before: %w", err)
	}
	return nil
}

// in checks that the entry is in a tree.
func (p ProvedEntry) in(c Checkpoint) error {
	if err := tlog.CheckRecord(tlog.RecordProof(proofOf(p.Proof)), c.Size, c.Root, p.Index, p.Entry.Leaf()); err != nil {
		return fmt.Errorf("entry %d is not in the log: %w", p.Index, err)
	}
	return nil
}

func proofOf(hashes [][32]byte) tlog.TreeProof {
	out := make(tlog.TreeProof, len(hashes))
	for i, h := range hashes {
		out[i] = h
	}
	return out
}
