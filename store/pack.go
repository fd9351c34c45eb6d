package store

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"

	"github.com/google/uuid"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codecs of packed bytes: the first byte of each.
const (
	packedRaw  = 0 // the bytes
	packedBody = 1 // short form of a body, S2 with dictionary 1
	packedZstd = 2 // a zstd frame (RFC 8878)
)

const (
	// maxBody is what ledger takes as the body of a record.
	maxBody = 1 << 20
	// maxContent bounds a part of the evidence: a measurement list of 4 MiB is the
	// largest that a broker takes.
	maxContent = 8 << 20
)

// bodyDictionary is dictionary 1. Rows are read with it for as long as they
// stand: it never changes. Another one gets its own number.
//
//go:embed body1.dict
var bodyDictionary []byte

// A record has to be packed in microseconds: zstd takes a hundred of them to
// take up a dictionary, S2 none. Of what it leaves nearly all is digests.
var bodyPacker = sync.OnceValue(func() *s2.Dict {
	d := s2.MakeDict(bodyDictionary, nil)
	if d == nil {
		panic("store: the dictionary of bodies does not load")
	}
	return d
})

type zstdPacker struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

var contentPacker = sync.OnceValue(func() (p zstdPacker) {
	n := zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0))
	var err error
	if p.enc, err = zstd.NewWriter(nil, n, zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true)); err == nil {
		p.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxContent))
	}
	if err != nil {
		panic(err) // the options are constants
	}
	return p
})

// packContent packs a part of the evidence.
func packContent(b []byte) []byte {
	out := contentPacker().enc.EncodeAll(b, append(make([]byte, 0, 64+len(b)), packedZstd))
	if len(out) > len(b) {
		return append([]byte{packedRaw}, b...)
	}
	return out
}

func unpackContent(packed []byte) ([]byte, error) {
	switch {
	case len(packed) == 0:
		return nil, errors.New("packed bytes without a codec")
	case packed[0] == packedRaw:
		return packed[1:], nil
	case packed[0] == packedZstd:
		return contentPacker().dec.DecodeAll(packed[1:], nil)
	}
	return nil, fmt.Errorf("packed with codec %d, which this release does not know", packed[0])
}

// packBody packs the body of a record. Most of a body is digests in hex, which
// no dictionary knows: they go in as bytes, and what stands in other columns of
// the row as a mark.
func packBody(body []byte, id uuid.UUID, node string) []byte {
	short, ok := shorten(body, id, node)
	if !ok {
		return append([]byte{packedRaw}, body...)
	}
	out := bodyPacker().Encode(nil, short)
	return append(append(make([]byte, 0, 1+len(out)), packedBody), out...)
}

// unpackBody gives the body of a row back, byte for byte.
func unpackBody(packed []byte, id uuid.UUID, node string) ([]byte, error) {
	switch {
	case len(packed) == 0:
		return nil, errors.New("packed bytes without a codec")
	case packed[0] == packedRaw:
		return packed[1:], nil
	case packed[0] == packedBody:
		n, err := s2.DecodedLen(packed[1:])
		if err != nil || n > maxBody {
			return nil, errors.Join(errCut, err)
		}
		short, err := bodyPacker().Decode(make([]byte, n), packed[1:])
		if err != nil {
			return nil, err
		}
		return lengthen(short, id, node)
	}
	return nil, fmt.Errorf("packed with codec %d, which this release does not know", packed[0])
}

// Marks of the short form. JSON has no such bytes.
const (
	mark32   = 1 // 32 bytes follow: 64 digits of lower-case hex
	mark16   = 2 // 16 bytes: 32 digits
	markUUID = 3 // 16 bytes: a UUID
	markID   = 4 // id of the record
	markNode = 5 // id of its node
	markMS   = 6 // a time in ms: signed varint, added to that in the id of the record
	markS    = 7 // a time in s, likewise
	markNum  = 8 // a decimal number: varint
	markMax  = 0x1f
)

// shorten returns the short form of a body; false where it holds a byte that is
// no JSON.
func shorten(body []byte, id uuid.UUID, node string) ([]byte, bool) {
	self, made := id.String(), idTime(id)
	out := make([]byte, 0, len(body))
	for i := 0; i < len(body); {
		c := body[i]
		if c <= markMax {
			return nil, false
		}
		if node != "" && c == node[0] && bytes.HasPrefix(body[i:], []byte(node)) {
			out = append(out, markNode)
			i += len(node)
			continue
		}
		if hexDigit[c] == 0 {
			out = append(out, c)
			i++
			continue
		}
		if u, ok := uuidAt(body[i:]); ok {
			if string(body[i:i+uuidText]) == self {
				out = append(out, markID)
			} else {
				out = append(append(out, markUUID), u[:]...)
			}
			i += uuidText
			continue
		}
		n := hexRun(body[i:])
		out = appendRun(out, body[i:i+n], made)
		i += n
	}
	return out, true
}

const uuidText = 36

// hexDigit tells digits of lower-case hex.
var hexDigit = func() (t [256]byte) {
	for _, c := range []byte("0123456789abcdef") {
		t[c] = 1
	}
	return t
}()

func hexRun(b []byte) int {
	n := 0
	for n < len(b) && hexDigit[b[n]] != 0 {
		n++
	}
	return n
}

// appendRun packs a run of digits: a number, or the end of what is hex. The name
// of an AK is two bytes and a digest that stands elsewhere too.
func appendRun(out, run []byte, made int64) []byte {
	size, mark := 0, byte(0)
	switch {
	case len(run) >= 64:
		size, mark = 32, mark32
	case len(run) >= 32:
		size, mark = 16, mark16
	default:
		return appendNumber(out, run, made)
	}
	lead := len(run) - 2*size
	out = append(append(out, run[:lead]...), mark)
	out, err := hex.AppendDecode(out, run[lead:])
	if err != nil {
		panic(err) // hexRun saw digits alone
	}
	return out
}

// shortNumber is what a number has at least where packing it pays.
const shortNumber = 6

func appendNumber(out, run []byte, made int64) []byte {
	if len(run) < shortNumber || run[0] == '0' || bytes.ContainsAny(run, "abcdef") {
		return append(out, run...)
	}
	n, err := strconv.ParseUint(string(run), 10, 64)
	if err != nil {
		return append(out, run...)
	}
	const day = 24 * 60 * 60
	if ms := int64(n) - made; ms > -day*1000 && ms < day*1000 {
		return binary.AppendVarint(append(out, markMS), ms)
	}
	if s := int64(n) - made/1000; s > -day && s < day {
		return binary.AppendVarint(append(out, markS), s)
	}
	return binary.AppendUvarint(append(out, markNum), n)
}

// readNumber undoes appendNumber behind its mark.
func readNumber(out []byte, mark byte, b []byte, made int64) ([]byte, int) {
	if mark == markNum {
		n, used := binary.Uvarint(b)
		return strconv.AppendUint(out, n, 10), used
	}
	n, used := binary.Varint(b)
	if mark == markS {
		made /= 1000
	}
	return strconv.AppendInt(out, made+n, 10), used
}

// idTime is the time in a UUIDv7, in ms since 1970 (RFC 9562, section 5.7).
func idTime(id uuid.UUID) int64 {
	return int64(binary.BigEndian.Uint64(id[:8]) >> 16)
}

// uuidAt reads a UUID in its one canonical spelling.
func uuidAt(b []byte) (uuid.UUID, bool) {
	if len(b) < uuidText || b[8] != '-' || b[13] != '-' || b[18] != '-' || b[23] != '-' {
		return uuid.UUID{}, false
	}
	u, err := uuid.ParseBytes(b[:uuidText])
	return u, err == nil && u.String() == string(b[:uuidText])
}

// lengthen undoes shorten.
func lengthen(short []byte, id uuid.UUID, node string) ([]byte, error) {
	out, made := make([]byte, 0, 4*len(short)), idTime(id)
	for i := 0; i < len(short); {
		c, size := short[i], 0
		i++
		switch c {
		case mark32:
			size = 32
		case mark16, markUUID:
			size = 16
		case markID:
			out = append(out, id.String()...)
		case markNode:
			out = append(out, node...)
		case markMS, markS, markNum:
			if out, size = readNumber(out, c, short[i:], made); size <= 0 {
				return nil, errCut
			}
			i += size
			continue
		default:
			if c <= markMax {
				return nil, fmt.Errorf("mark %d in a packed body", c)
			}
			out = append(out, c)
		}
		if len(short)-i < size {
			return nil, errCut
		}
		if size > 0 {
			out = appendMarked(out, c, short[i:i+size])
			i += size
		}
		if len(out) > maxBody {
			return nil, fmt.Errorf("a body of more than %d bytes", maxBody)
		}
	}
	return out, nil
}

var errCut = errors.New("a packed body is cut off")

func appendMarked(out []byte, mark byte, b []byte) []byte {
	if mark == markUUID {
		return append(out, uuid.UUID(b).String()...)
	}
	return hex.AppendEncode(out, b)
}
