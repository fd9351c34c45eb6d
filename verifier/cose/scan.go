package cose

import (
	"encoding/binary"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Limits of the profile. Real documents stay far below: a Nitro document has 9
// members, 24 PCRs and a bundle of 4 in 5 KiB, a CCA token a depth of 4.
const (
	MaxSize  = 64 << 10 // bytes of a message
	MaxDepth = 8        // arrays, maps and tags within each other
	MaxArray = 64       // elements
	MaxPairs = 48       // entries of a map
	MaxItems = 1024     // data items in all
)

// Major types of CBOR (RFC 8949, 3.1).
const (
	majorUnsigned = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

// Additional information of an initial byte (RFC 8949, 3).
const (
	infoIndefinite = 31
	simpleFalse    = 20 // with 21 true and 22 null
	simpleNull     = 22
	breakByte      = 0xff
)

// level is an array, a map or a tag that is not at its end.
type level struct {
	major      byte
	indefinite bool
	seen, want int // items; a pair of a map is two
}

// scanner walks well-formed CBOR without building anything.
type scanner struct {
	in     []byte
	at     int
	items  int
	levels [MaxDepth]level
	depth  int
}

// scan returns the length of the one item at the start of b. Errors:
// cbor.truncated, cbor.limit, cbor.malformed. A length that is claimed above a
// limit is cbor.limit, whether or not the bytes are there.
func scan(b []byte) (int, error) {
	s := scanner{in: b}
	for {
		if err := s.item(); err != nil {
			return 0, err
		}
		if s.depth == 0 {
			return s.at, nil
		}
	}
}

// item reads one head, and the content of a string.
func (s *scanner) item() error {
	if s.at == len(s.in) {
		return errTruncated
	}
	if s.in[s.at] == breakByte {
		return s.stop()
	}
	if s.items++; s.items > MaxItems {
		return reason.New(reason.CBORLimit, "more than 1024 data items")
	}
	major, info := s.in[s.at]>>5, s.in[s.at]&31
	s.at++
	if err := s.key(major); err != nil {
		return err
	}
	if info == infoIndefinite {
		if major != majorArray && major != majorMap {
			return reason.New(reason.CBORMalformed, "a string in parts, or no such item")
		}
		return s.open(level{major: major, indefinite: true})
	}
	n, err := s.argument(info)
	if err != nil {
		return err
	}
	switch major {
	case majorBytes, majorText:
		return s.skip(n)
	case majorArray, majorMap:
		return s.container(major, n)
	case majorTag:
		return s.open(level{major: major, want: 1})
	case majorSimple:
		if info < simpleFalse || info > simpleNull {
			return reason.New(reason.CBORMalformed, "a float, or a simple value other than false, true and null")
		}
	}
	return s.close()
}

// key: keys of maps are numbers or text. Others have no place in a document, and
// a NaN would be a key that is never twice.
func (s *scanner) key(major byte) error {
	if s.depth == 0 {
		return nil
	}
	top := s.levels[s.depth-1]
	if top.major == majorMap && top.seen%2 == 0 && major != majorUnsigned && major != majorNegative && major != majorText {
		return reason.New(reason.CBORMalformed, "the key of a map is neither a number nor text")
	}
	return nil
}

// argument reads the number of a head (RFC 8949, 3).
func (s *scanner) argument(info byte) (uint64, error) {
	if info < 24 {
		return uint64(info), nil
	}
	if info > 27 {
		return 0, reason.New(reason.CBORMalformed, "reserved additional information")
	}
	size := 1 << (info - 24)
	if len(s.in)-s.at < size {
		return 0, errTruncated
	}
	var wide [8]byte
	copy(wide[8-size:], s.in[s.at:s.at+size])
	s.at += size
	return binary.BigEndian.Uint64(wide[:]), nil
}

func (s *scanner) skip(n uint64) error {
	if n > MaxSize {
		return reason.New(reason.CBORLimit, "a string of more than 64 KiB is claimed")
	}
	if uint64(len(s.in)-s.at) < n {
		return errTruncated
	}
	s.at += int(n)
	return s.close()
}

func (s *scanner) container(major byte, n uint64) error {
	most := uint64(MaxArray)
	if major == majorMap {
		most = MaxPairs
	}
	if n > most {
		return errCount
	}
	want := int(n)
	if major == majorMap {
		want *= 2
	}
	if err := s.open(level{major: major, want: want}); err != nil || n > 0 {
		return err
	}
	s.depth--
	return s.close()
}

func (s *scanner) open(l level) error {
	if s.depth == MaxDepth {
		return reason.New(reason.CBORLimit, "nested more than 8 deep")
	}
	s.levels[s.depth] = l
	s.depth++
	return nil
}

// close notes that an item is whole, and with it those that it completes.
func (s *scanner) close() error {
	for s.depth > 0 {
		top := &s.levels[s.depth-1]
		top.seen++
		if top.indefinite {
			if top.major == majorArray && top.seen > MaxArray || top.major == majorMap && top.seen > 2*MaxPairs {
				return errCount
			}
			return nil
		}
		if top.seen < top.want {
			return nil
		}
		s.depth--
	}
	return nil
}

// stop ends an array or a map of indefinite length.
func (s *scanner) stop() error {
	if s.depth == 0 {
		return reason.New(reason.CBORMalformed, "a break outside of anything")
	}
	top := s.levels[s.depth-1]
	if !top.indefinite || top.major == majorMap && top.seen%2 != 0 {
		return reason.New(reason.CBORMalformed, "a break inside of something")
	}
	s.at++
	s.depth--
	return s.close()
}

var (
	errTruncated = reason.New(reason.CBORTruncated, "CBOR ends early")
	errCount     = reason.New(reason.CBORLimit, "an array of more than 64 elements or a map of more than 48 entries")
)
