package ledger

import (
	"bytes"
	"encoding/json"
	"slices"
	"unicode/utf8"
)

// plainForm brings the JSON of records and rows into the form of RFC 8785 in one
// pass: it orders members, and copies everything else. That is all there is to do
// for what encoding/json writes of them: ASCII names, integers below 2^53,
// strings without escapes. For anything else it says no, and the library does
// it. Every commit and every row that is read passes here several times; the
// general transformation was a sixth of a broker's CPU.
func plainForm(v any) ([]byte, bool) {
	var raw bytes.Buffer
	e := json.NewEncoder(&raw)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil || !utf8.Valid(raw.Bytes()) { // a RawMessage is taken over as it is
		return nil, false
	}
	f := former{in: raw.Bytes(), out: make([]byte, 0, raw.Len())}
	if !f.value(0) || len(f.in)-f.at != 1 { // Encode ends with a line feed
		return nil, false
	}
	return f.out, true
}

const (
	plainDepth  = 16
	plainDigits = 15 // of an integer that is surely below 2^53
)

type former struct {
	in  []byte
	at  int
	out []byte
	tmp []byte
}

// member is where a member begins and ends in the output, and its name.
type member struct {
	name     []byte // of the input
	from, to int
}

func (f *former) value(depth int) bool {
	if f.at >= len(f.in) || depth > plainDepth {
		return false
	}
	switch c := f.in[f.at]; {
	case c == '{':
		return f.object(depth)
	case c == '[':
		return f.array(depth)
	case c == '"':
		_, ok := f.text(false)
		return ok
	case c == '-' || c >= '0' && c <= '9':
		return f.integer()
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(f.in[f.at:], []byte(word)) {
			f.out = append(f.out, word...)
			f.at += len(word)
			return true
		}
	}
	return false
}

// text copies a string that has no escapes and returns what is between the
// quotes.
func (f *former) text(ascii bool) ([]byte, bool) {
	from := f.at + 1
	for i := from; i < len(f.in); i++ {
		switch c := f.in[i]; {
		case c == '"':
			f.out = append(f.out, f.in[f.at:i+1]...)
			f.at = i + 1
			return f.in[from:i], true
		case c == '\\' || c < 0x20 || ascii && c >= 0x80:
			return nil, false
		}
	}
	return nil, false
}

// integer copies what is the same in every spelling of numbers.
func (f *former) integer() bool {
	from := f.at
	if f.in[f.at] == '-' {
		f.at++
	}
	digits := f.at
	for f.at < len(f.in) && f.in[f.at] >= '0' && f.in[f.at] <= '9' {
		f.at++
	}
	n := f.at - digits
	if n == 0 || n > plainDigits || f.in[digits] == '0' && (n > 1 || digits > from) {
		return false
	}
	if f.at < len(f.in) && (f.in[f.at] == '.' || f.in[f.at] == 'e' || f.in[f.at] == 'E') {
		return false
	}
	f.out = append(f.out, f.in[from:f.at]...)
	return true
}

func (f *former) array(depth int) bool {
	if f.take('['); f.take(']') {
		return true
	}
	for {
		if !f.value(depth + 1) {
			return false
		}
		if f.take(']') {
			return true
		}
		if !f.take(',') {
			return false
		}
	}
}

func (f *former) object(depth int) bool {
	if f.take('{'); f.take('}') {
		return true
	}
	start := len(f.out)
	var room [32]member
	members, sorted := room[:0], true
	for {
		m := member{from: len(f.out)}
		var ok bool
		if f.at >= len(f.in) || f.in[f.at] != '"' {
			return false
		}
		if m.name, ok = f.text(true); !ok || !f.take(':') || !f.value(depth+1) {
			return false
		}
		m.to = len(f.out)
		if n := len(members); n > 0 {
			sorted = sorted && bytes.Compare(members[n-1].name, m.name) < 0
		}
		members = append(members, m)
		if f.at < len(f.in) && f.in[f.at] == '}' {
			break
		}
		if !f.take(',') {
			return false
		}
	}
	if !sorted && !f.order(start, members) {
		return false
	}
	return f.take('}')
}

// order writes members again in the order of their names; two of one name are
// not plain.
func (f *former) order(start int, members []member) bool {
	slices.SortFunc(members, func(a, b member) int { return bytes.Compare(a.name, b.name) })
	f.tmp = append(f.tmp[:0], f.out[start:]...)
	f.out = f.out[:start]
	for i, m := range members {
		if i > 0 {
			if bytes.Equal(members[i-1].name, m.name) {
				return false
			}
			f.out = append(f.out, ',')
		}
		f.out = append(f.out, f.tmp[m.from-start:m.to-start]...)
	}
	return true
}

// take copies one delimiter if it is next.
func (f *former) take(c byte) bool {
	if f.at >= len(f.in) || f.in[f.at] != c {
		return false
	}
	f.at++
	f.out = append(f.out, c)
	return true
}
