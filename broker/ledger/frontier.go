package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Frontier is the compact range [0, size) of an RFC 6962 tree: the roots of its
// complete subtrees, largest first. It is all that appending needs. The zero
// value is the empty tree.
type Frontier struct {
	size  uint64
	roots [][32]byte // one a set bit of size, from the highest
}

// Append adds a leaf hash.
func (f *Frontier) Append(leaf [32]byte) {
	h := leaf
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.roots) - 1
		h = hashChildren(f.roots[last], h)
		f.roots = f.roots[:last]
	}
	f.roots = append(f.roots, h)
	f.size++
}

// Size returns the number of leaves.
func (f *Frontier) Size() int64 { return int64(f.size) }

// Root returns the RFC 6962 root, SHA-256 of nothing for the empty tree.
func (f *Frontier) Root() [32]byte {
	if f.size == 0 {
		return sha256.Sum256(nil)
	}
	h := f.roots[len(f.roots)-1]
	for i := len(f.roots) - 2; i >= 0; i-- {
		h = hashChildren(f.roots[i], h)
	}
	return h
}

// Clone returns a copy that appends on its own.
func (f *Frontier) Clone() Frontier {
	return Frontier{size: f.size, roots: append([][32]byte(nil), f.roots...)}
}

// Marshal returns size (8 bytes, big-endian) and the subtree roots, largest
// first, 32 bytes each.
func (f *Frontier) Marshal() []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, 8+32*len(f.roots)), f.size)
	for _, r := range f.roots {
		out = append(out, r[:]...)
	}
	return out
}

// UnmarshalFrontier reads what Marshal wrote.
func UnmarshalFrontier(b []byte) (Frontier, error) {
	if len(b) < 8 {
		return Frontier{}, errors.New("frontier: shorter than its size field")
	}
	size := binary.BigEndian.Uint64(b)
	if size > 1<<62 {
		return Frontier{}, fmt.Errorf("frontier: impossible size %d", size)
	}
	n := bits.OnesCount64(size)
	if len(b) != 8+32*n {
		return Frontier{}, fmt.Errorf("frontier: %d bytes for size %d", len(b), size)
	}
	f := Frontier{size: size}
	for i := range n {
		f.roots = append(f.roots, [32]byte(b[8+32*i:]))
	}
	return f, nil
}

func hashChildren(left, right [32]byte) [32]byte {
	var b [65]byte
	b[0] = 0x01
	copy(b[1:33], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}
