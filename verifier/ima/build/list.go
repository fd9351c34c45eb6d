package build

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa" // template digests are SHA-1 in every list
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// Entry is one record. Nothing in the form ties Digest to Data, so that both
// can be set to anything.
type Entry struct {
	PCR      uint32
	Digest   [sha1.Size]byte // template digest, zero for a violation
	Template string
	Data     []byte // template data; for template "ima" the digest and the path
}

// List collects the entries of one boot.
type List struct {
	entries []Entry
}

// New returns a list of the given entries.
func New(entries ...Entry) *List { return &List{entries: slices.Clone(entries)} }

// Entries returns the entries in order; the slice is the caller's.
func (l *List) Entries() []Entry { return slices.Clone(l.entries) }

// Bytes returns the list as /sys/kernel/security/ima/binary_runtime_measurements
// shows it, little-endian.
func (l *List) Bytes() []byte {
	var out []byte
	for _, e := range l.entries {
		out = e.Append(out)
	}
	return out
}

// Append appends the record to a list and returns the longer slice.
func (e Entry) Append(list []byte) []byte {
	le := binary.LittleEndian
	list = le.AppendUint32(list, e.PCR)
	list = append(list, e.Digest[:]...)
	list = le.AppendUint32(list, uint32(len(e.Template)))
	list = append(list, e.Template...)
	if e.Template == "ima" {
		list = append(list, e.Data[:sha1.Size]...)
		list = le.AppendUint32(list, uint32(len(e.Data)-sha1.Size))
		return append(list, e.Data[sha1.Size:]...)
	}
	list = le.AppendUint32(list, uint32(len(e.Data)))
	return append(list, e.Data...)
}

// hashed is what the kernel hashes.
func (e Entry) hashed() []byte {
	if e.Template != "ima" {
		return e.Data
	}
	return append(slices.Clone(e.Data), make([]byte, sha1.Size+256-len(e.Data))...)
}

// Extends returns what a SHA-256 bank is extended with, entry by entry.
func (l *List) Extends() [][sha256.Size]byte {
	out := make([][sha256.Size]byte, len(l.entries))
	for i, e := range l.entries {
		if e.Digest != [sha1.Size]byte{} {
			out[i] = sha256.Sum256(e.hashed())
			continue
		}
		for j := range out[i] {
			out[i][j] = 0xff
		}
	}
	return out
}

// PaddedExtends is Extends of kernels before 5.8: the SHA-1 digest, filled up
// with zeros.
func (l *List) PaddedExtends() [][sha256.Size]byte {
	out := l.Extends()
	for i, e := range l.entries {
		if e.Digest != [sha1.Size]byte{} {
			out[i] = [sha256.Size]byte{}
			copy(out[i][:], e.Digest[:])
		}
	}
	return out
}

// PCR10 returns what a SHA-256 PCR at its reset value holds after extends.
func PCR10(extends [][sha256.Size]byte) []byte {
	pcr := make([]byte, sha256.Size)
	for _, with := range extends {
		h := sha256.Sum256(append(pcr, with[:]...))
		pcr = h[:]
	}
	return pcr
}

// Measured returns a record whose digest is that of its data.
func Measured(template string, data []byte) Entry {
	e := Entry{PCR: 10, Template: template, Data: data}
	e.Digest = sha1.Sum(e.hashed())
	return e
}

// Fields joins template fields, each behind its length.
func Fields(fields ...[]byte) []byte {
	var out []byte
	for _, f := range fields {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(f)))
		out = append(out, f...)
	}
	return out
}

// Digest is field d-ng over content.
func Digest(content []byte) []byte {
	h := sha256.Sum256(content)
	return append([]byte("sha256:\x00"), h[:]...)
}

// Name is field n-ng.
func Name(path string) []byte { return append([]byte(path), 0) }

// File is a measured file of template ima-ng.
func File(path string, content []byte) Entry {
	return Measured("ima-ng", Fields(Digest(content), Name(path)))
}

// Signed is a measured file of template ima-sig with the value of security.ima.
func Signed(path string, content, xattr []byte) Entry {
	return Measured("ima-sig", Fields(Digest(content), Name(path), xattr))
}

// Buffer is measured data that is no file, template ima-buf.
func Buffer(name string, data []byte) Entry {
	return Measured("ima-buf", Fields(Digest(data), Name(name), data))
}

// Violation says that a file was written while it was measured.
func Violation(path string) Entry {
	e := Measured("ima-ng", Fields(append([]byte("sha256:\x00"), make([]byte, sha256.Size)...), Name(path)))
	e.Digest = [sha1.Size]byte{}
	return e
}

// Aggregate is the first record of a boot: the hash over PCR 0 to 9 of the
// SHA-256 bank. A PCR that is missing counts as zero.
func Aggregate(pcrs map[int][]byte) Entry { return AggregateOver(pcrs, 9) }

// AggregateOver is Aggregate over PCR 0 to last.
func AggregateOver(pcrs map[int][]byte, last int) Entry {
	var all []byte
	for i := 0; i <= last; i++ {
		v := make([]byte, sha256.Size)
		copy(v, pcrs[i])
		all = append(all, v...)
	}
	return File("boot_aggregate", all)
}

// Xattr returns security.ima of version 2 (evmctl ima_sign): the signature of
// key over the SHA-256 of content. Randomness comes from rand.
func Xattr(rand io.Reader, key crypto.Signer, id uint32, content []byte) ([]byte, error) {
	digest := sha256.Sum256(content)
	return xattr(rand, key, 2, 3, id, digest)
}

// VerityXattr returns security.ima of version 3 over the root of fs-verity.
func VerityXattr(rand io.Reader, key crypto.Signer, id uint32, root [sha256.Size]byte) ([]byte, error) {
	return xattr(rand, key, 3, 6, id, sha256.Sum256(append([]byte{6, 4}, root[:]...)))
}

func xattr(rand io.Reader, key crypto.Signer, version, kind byte, id uint32, digest [sha256.Size]byte) ([]byte, error) {
	switch key.Public().(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
	default:
		return nil, fmt.Errorf("a key of type %T signs no files", key.Public())
	}
	sig, err := key.Sign(rand, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	out := []byte{kind, version, 4}
	out = binary.BigEndian.AppendUint32(out, id)
	out = binary.BigEndian.AppendUint16(out, uint16(len(sig)))
	return append(out, sig...), nil
}
