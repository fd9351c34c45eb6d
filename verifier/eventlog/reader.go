package eventlog

import "encoding/binary"

// reader hands out little-endian fields and windows of a byte slice and never
// reads past its end: the first read that does sets short, and all later ones
// return zero. Callers look at short once a record.
type reader struct {
	rest  []byte
	short bool
}

// take returns the next n bytes without copying them. n is 64 bits wide so that
// a length field of the log can be passed without a conversion that wraps.
func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.short, r.rest = true, nil
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}
