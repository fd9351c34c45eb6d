package ledger

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
)

// nodeIDLength is the number of base32 characters of a node id: 130 bits, far
// beyond what collisions among hosts need, and short enough for a certificate.
const nodeIDLength = 26

// DeriveNodeID names a node by its root of trust: the first 26 base32
// characters (lower case) of SHA-256("zonebroker-node-v1" ‖ lp(trust domain) ‖
// lp(root kind) ‖ lp(root hash)), lp being a 4-byte big-endian length and the
// bytes. Nothing that an agent says goes into it.
func DeriveNodeID(trustDomain, rootKind string, rootHash [32]byte) NodeID {
	h := sha256.New()
	h.Write([]byte("zonebroker-node-v1"))
	writeLP(h, []byte(trustDomain))
	writeLP(h, []byte(rootKind))
	writeLP(h, rootHash[:])
	text := base32.StdEncoding.EncodeToString(h.Sum(nil))
	return NodeID(strings.ToLower(text[:nodeIDLength]))
}

// writeLP writes a length-prefixed value, so that no two lists of values hash
// alike.
func writeLP(w io.Writer, b []byte) {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(b)))
	// Hashes never fail to write.
	_, _ = w.Write(n[:])
	_, _ = w.Write(b)
}

// NewRecordID returns a UUIDv7 (RFC 9562) of the given time with 74 random
// bits. The time is a hint for look-ups, not evidence of anything.
func NewRecordID(now time.Time, rand io.Reader) (uuid.UUID, error) {
	var id uuid.UUID
	if _, err := io.ReadFull(rand, id[6:]); err != nil {
		return uuid.Nil, fmt.Errorf("record id: %w", err)
	}
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id, nil
}

// RecordTime returns the time in a record id, to the millisecond.
func RecordTime(id uuid.UUID) time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))).UTC()
}
