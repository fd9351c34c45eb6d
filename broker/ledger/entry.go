package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// EntrySize is the length of a log entry in bytes.
const EntrySize = 57

// entryVersion is the first byte of every entry.
const entryVersion = 0x01

// Entry is what the log holds of a record: version (1) ‖ record id (16) ‖
// recorded_at in µs since 1970 (8, big-endian) ‖ a salted commitment to the body
// (32). It tells nothing about the record, so records may be deleted while
// proofs stay valid.
type Entry [EntrySize]byte

// NewEntry makes the entry of a record that was sequenced at recordedAt.
func NewEntry(r Record, recordedAt time.Time) Entry {
	var e Entry
	e[0] = entryVersion
	copy(e[1:17], r.ID[:])
	binary.BigEndian.PutUint64(e[17:25], uint64(recordedAt.UnixMicro()))
	h := sha256.New()
	h.Write([]byte("zonebroker-leaf-v1"))
	writeLP(h, r.Salt[:])
	writeLP(h, r.Body)
	h.Sum(e[25:25])
	return e
}

// ID returns the record id in the entry.
func (e Entry) ID() uuid.UUID { return uuid.UUID(e[1:17]) }

// RecordedAt returns the time in the entry, to the microsecond.
func (e Entry) RecordedAt() time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(e[17:25]))).UTC()
}

// Leaf returns the RFC 6962 leaf hash of the entry.
func (e Entry) Leaf() [32]byte {
	var b [1 + EntrySize]byte
	copy(b[1:], e[:])
	return sha256.Sum256(b[:])
}
