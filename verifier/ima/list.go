package ima

import (
	"encoding/binary"
	"iter"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Limits of a list.
const (
	// MaxList is the most bytes of one list that offline tools hand over: some
	// 200 000 entries. What travels in one request is bounded lower, by the contract.
	MaxList = 24 << 20
	// maxName is TCG_EVENT_NAME_LEN_MAX of the kernel.
	maxName = 255
	// maxData bounds the template data of one record. The longest that kernels
	// write are certificates and appended signatures of a few KiB; a length beyond
	// this is not a long record but another format.
	maxData = 1 << 20

	digestSize = 20 // of a template digest: SHA-1, whatever the bank
	headSize   = 4 + digestSize + 4
)

// List is a measurement list, or the part of one that was sent, whose framing is
// sound. It is unverified: only Attest ties it to a quote.
type List struct {
	raw     []byte
	entries int
}

// Len returns the number of entries.
func (l List) Len() int { return l.entries }

// record is one entry of a list; all slices are windows of its bytes.
type record struct {
	pcr    uint32
	digest [digestSize]byte // template digest, zero for a violation
	name   []byte           // of the template
	data   []byte           // template data as it stands in the list, without its length
	legacy bool             // template ima, whose data is hashed in another form
}

// violation: the kernel could not vouch for what it measured. The template data
// of such a record is not covered by anything, whatever it says.
func (r *record) violation() bool { return r.digest == [digestSize]byte{} }

// Parse checks the framing of a whole binary list: nothing of a list that ends
// inside a record is used. Bytes beyond MaxList are the caller's to refuse.
// Errors: ima.missing for no bytes, ima.encoding for what is not this form
// (an ASCII list, a template name of 0 or over 255 bytes, a template of over
// 1 MiB), ima.truncated for a list that ends inside a record.
func Parse(raw []byte) (List, error) {
	if len(raw) == 0 {
		return List{}, reason.New(reason.IMAMissing, "the measurement list is empty")
	}
	return parse(raw)
}

// parse is Parse for a segment, which may hold no new entry.
func parse(raw []byte) (List, error) {
	l := List{raw: raw}
	for rest := raw; len(rest) > 0; l.entries++ {
		var r record
		n, err := r.read(rest)
		if err != nil {
			return List{}, reason.Newf(err.Code, "entry %d: %s", l.entries, err.Detail)
		}
		rest = rest[n:]
	}
	return l, nil
}

// read takes one record from the start of raw and returns its size.
func (r *record) read(raw []byte) (int, *reason.Error) {
	if len(raw) < headSize {
		return 0, errCut
	}
	r.pcr = binary.LittleEndian.Uint32(raw)
	copy(r.digest[:], raw[4:])
	size := binary.LittleEndian.Uint32(raw[4+digestSize:])
	if size == 0 || size > maxName {
		return 0, reason.Newf(reason.IMAEncoding, "a template name of %d bytes; only the binary form of the list is read", size)
	}
	at := headSize + int(size)
	if len(raw) < at {
		return 0, errCut
	}
	r.name = raw[headSize:at]
	for _, c := range r.name {
		if c <= ' ' || c > '~' {
			return 0, reason.New(reason.IMAEncoding, "the template name is no printable ASCII")
		}
	}
	if r.legacy = string(r.name) == templateIMA; r.legacy {
		return r.readLegacy(raw, at)
	}
	if len(raw) < at+4 {
		return 0, errCut
	}
	size = binary.LittleEndian.Uint32(raw[at:])
	if size > maxData {
		return 0, reason.Newf(reason.IMAEncoding, "template data of %d bytes; at most %d", size, maxData)
	}
	at += 4
	if len(raw)-at < int(size) {
		return 0, errCut
	}
	r.data = raw[at : at+int(size)]
	return at + int(size), nil
}

// readLegacy takes the data of template ima: the digest, the length of the path,
// the path, with no length before all.
func (r *record) readLegacy(raw []byte, at int) (int, *reason.Error) {
	if len(raw) < at+digestSize+4 {
		return 0, errCut
	}
	size := binary.LittleEndian.Uint32(raw[at+digestSize:])
	if size > maxLegacyPath {
		return 0, reason.Newf(reason.IMAEncoding, "a path of %d bytes in template ima; at most %d", size, maxLegacyPath)
	}
	end := at + digestSize + 4 + int(size)
	if len(raw) < end {
		return 0, errCut
	}
	r.data = raw[at:end]
	return end, nil
}

var errCut = reason.New(reason.IMATruncated, "the list ends inside it")

// records walks the list with the number of each record in it. The record is
// only valid until the next step.
func (l List) records() iter.Seq2[int, *record] {
	return func(yield func(int, *record) bool) {
		var r record
		rest := l.raw
		for i := range l.entries {
			n, err := r.read(rest)
			if err != nil || !yield(i, &r) {
				return
			}
			rest = rest[n:]
		}
	}
}

// Skip returns the bytes of raw after its first n records, false where it has
// fewer whole ones. For a host, which reads its whole list and sends what is new.
func Skip(raw []byte, n uint64) ([]byte, bool) {
	var r record
	for ; n > 0; n-- {
		size, err := r.read(raw)
		if err != nil {
			return nil, false
		}
		raw = raw[size:]
	}
	return raw, true
}
