package ledger

import (
	"encoding"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// plainForm writes records and rows in the form of RFC 8785 straight from their
// Go values: the order of a type's members is worked out once, and there is
// nothing to escape and no number to spell in more than one way in what we
// write. For anything else it says no, and the library does it from the JSON of
// encoding/json. Every commit and every row that is read passes here several
// times; encoding, ordering and copying was a twelfth of a broker's CPU.
func plainForm(v any) ([]byte, bool) {
	if v == nil {
		return nil, false
	}
	value := reflect.ValueOf(v)
	if value.Kind() == reflect.Pointer && !value.IsNil() {
		value = value.Elem()
	}
	write := plainWriterOf(value.Type())
	if write == nil {
		return nil, false
	}
	if !value.CanAddr() { // a copy that can be: arrays and times are read without one each
		addressed := reflect.New(value.Type()).Elem()
		addressed.Set(value)
		value = addressed
	}
	room := plainRoom.Get().(*[]byte)
	defer plainRoom.Put(room)
	out, ok := write((*room)[:0], value)
	*room = out[:0]
	if !ok {
		return nil, false
	}
	return slices.Clone(out), true
}

var plainRoom = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// plainWriter appends the canonical form of a value of one type; false where it
// is not plain.
type plainWriter func(out []byte, v reflect.Value) ([]byte, bool)

// plainWriters has an entry for each type that was asked for.
var plainWriters sync.Map

func plainWriterOf(t reflect.Type) plainWriter {
	if w, ok := plainWriters.Load(t); ok {
		return w.(plainWriter)
	}
	w := newPlainWriter(t, 0)
	plainWriters.Store(t, w)
	return w
}

const (
	plainDepth  = 8                   // of our types; theirs ends before
	plainLimit  = 999_999_999_999_999 // of integers: surely below 2^53
	plainMember = "abcdefghijklmnopqrstuvwxyz0123456789_"
)

var (
	timeType          = reflect.TypeFor[time.Time]()
	numberType        = reflect.TypeFor[json.Number]()
	uuidType          = reflect.TypeFor[uuid.UUID]()
	jsonMarshalerType = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
)

// newPlainWriter returns nil for a type that encoding/json writes by other rules
// than these.
func newPlainWriter(t reflect.Type, depth int) plainWriter {
	switch {
	case depth > plainDepth:
		return nil
	case t == timeType:
		return plainTime
	case t == uuidType:
		return plainUUID
	case t == numberType, marshals(t), marshals(reflect.PointerTo(t)):
		return nil
	}
	switch t.Kind() {
	case reflect.String:
		return plainString
	case reflect.Bool:
		return func(out []byte, v reflect.Value) ([]byte, bool) { return strconv.AppendBool(out, v.Bool()), true }
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return plainInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return plainUint
	case reflect.Struct:
		return plainStruct(t, depth)
	case reflect.Pointer:
		return plainPointer(newPlainWriter(t.Elem(), depth+1))
	case reflect.Array:
		return plainList(newPlainWriter(t.Elem(), depth+1))
	case reflect.Slice:
		switch {
		case t.Elem() == reflect.TypeFor[byte]():
			return plainBytes
		case t.Elem().Kind() == reflect.Uint8:
			return nil
		}
		return plainSlice(newPlainWriter(t.Elem(), depth+1))
	case reflect.Map:
		if t.Key() == reflect.TypeFor[string]() && t.Elem() == reflect.TypeFor[string]() {
			return plainMap
		}
	}
	return nil
}

func marshals(t reflect.Type) bool {
	return t.Implements(jsonMarshalerType) || t.Implements(textMarshalerType)
}

func plainTime(out []byte, v reflect.Value) ([]byte, bool) {
	text, err := v.Addr().Interface().(*time.Time).AppendText(append(out, '"'))
	if err != nil {
		return out, false
	}
	return append(text, '"'), true
}

func plainUUID(out []byte, v reflect.Value) ([]byte, bool) {
	id := v.Addr().Interface().(*uuid.UUID)
	out = append(out, '"')
	for i := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = hex.AppendEncode(out, id[i:i+1])
	}
	return append(out, '"'), true
}

func plainString(out []byte, v reflect.Value) ([]byte, bool) { return appendPlain(out, v.String()) }

// appendPlain copies text between quotes. Control characters, quotes and
// backslashes are the library's; so is what is no UTF-8.
func appendPlain(out []byte, s string) ([]byte, bool) {
	ascii := true
	for i := range len(s) {
		c := s[i]
		if c < 0x20 || c == '"' || c == '\\' {
			return out, false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if !ascii && !utf8.ValidString(s) {
		return out, false
	}
	return append(append(append(out, '"'), s...), '"'), true
}

func plainInt(out []byte, v reflect.Value) ([]byte, bool) {
	n := v.Int()
	return strconv.AppendInt(out, n, 10), n <= plainLimit && n >= -plainLimit
}

func plainUint(out []byte, v reflect.Value) ([]byte, bool) {
	n := v.Uint()
	return strconv.AppendUint(out, n, 10), n <= plainLimit
}

// plainQuoted is an integer with the option string: any size.
func plainQuoted(out []byte, v reflect.Value) ([]byte, bool) {
	out = append(out, '"')
	if v.CanUint() {
		out = strconv.AppendUint(out, v.Uint(), 10)
	} else {
		out = strconv.AppendInt(out, v.Int(), 10)
	}
	return append(out, '"'), true
}

func plainBytes(out []byte, v reflect.Value) ([]byte, bool) {
	if v.IsNil() {
		return append(out, "null"...), true
	}
	out = append(out, '"')
	return append(base64.StdEncoding.AppendEncode(out, v.Bytes()), '"'), true
}

func plainPointer(elem plainWriter) plainWriter {
	if elem == nil {
		return nil
	}
	return func(out []byte, v reflect.Value) ([]byte, bool) {
		if v.IsNil() {
			return append(out, "null"...), true
		}
		return elem(out, v.Elem())
	}
}

func plainSlice(elem plainWriter) plainWriter {
	list := plainList(elem)
	if list == nil {
		return nil
	}
	return func(out []byte, v reflect.Value) ([]byte, bool) {
		if v.IsNil() {
			return append(out, "null"...), true
		}
		return list(out, v)
	}
}

func plainList(elem plainWriter) plainWriter {
	if elem == nil {
		return nil
	}
	return func(out []byte, v reflect.Value) ([]byte, bool) {
		out = append(out, '[')
		for i := range v.Len() {
			if i > 0 {
				out = append(out, ',')
			}
			var ok bool
			if out, ok = elem(out, v.Index(i)); !ok {
				return out, false
			}
		}
		return append(out, ']'), true
	}
}

// plainMap takes names of ASCII alone: others are ordered by UTF-16.
func plainMap(out []byte, v reflect.Value) ([]byte, bool) {
	m := *v.Addr().Interface().(*map[string]string)
	if m == nil {
		return append(out, "null"...), true
	}
	var room [24]string
	names := room[:0]
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	out = append(out, '{')
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		var ok bool
		if out, ok = appendPlain(out, name); !ok || strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) {
			return out, false
		}
		if out, ok = appendPlain(append(out, ':'), m[name]); !ok {
			return out, false
		}
	}
	return append(out, '}'), true
}

// plainField is a member of a struct.
type plainField struct {
	name      string // with quotes and colon
	index     int
	write     plainWriter
	omitEmpty bool
}

// plainStruct knows the options omitempty and, of integers, string.
func plainStruct(t reflect.Type, depth int) plainWriter {
	fields := make([]plainField, 0, t.NumField())
	for i := range t.NumField() {
		f, ok := newPlainField(t.Field(i), depth)
		if !ok {
			return nil
		}
		f.index = i
		fields = append(fields, f)
	}
	slices.SortFunc(fields, func(a, b plainField) int { return strings.Compare(a.name, b.name) })
	if len(slices.CompactFunc(slices.Clone(fields), func(a, b plainField) bool { return a.name == b.name })) < len(fields) {
		return nil
	}
	return func(out []byte, v reflect.Value) ([]byte, bool) {
		out = append(out, '{')
		begin := len(out)
		for i := range fields {
			f := &fields[i]
			value := v.Field(f.index)
			if f.omitEmpty && (value.Kind() == reflect.Slice && value.Len() == 0 || value.IsZero()) {
				continue
			}
			if len(out) > begin {
				out = append(out, ',')
			}
			var ok bool
			if out, ok = f.write(append(out, f.name...), value); !ok {
				return out, false
			}
		}
		return append(out, '}'), true
	}
}

func newPlainField(f reflect.StructField, depth int) (plainField, bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if !f.IsExported() || f.Anonymous || name == "" || strings.Trim(name, plainMember) != "" {
		return plainField{}, false
	}
	p := plainField{name: `"` + name + `":`, write: newPlainWriter(f.Type, depth+1)}
	switch kind := f.Type.Kind(); options {
	case "":
	case "omitempty":
		// What is empty and what is zero differ for structs, arrays and maps.
		p.omitEmpty = kind <= reflect.Uint64 || kind == reflect.String || kind == reflect.Slice || kind == reflect.Pointer
		if !p.omitEmpty {
			return p, false
		}
	case "string":
		if kind < reflect.Int || kind > reflect.Uint64 || p.write == nil {
			return p, false
		}
		p.write = plainQuoted
	default:
		return p, false
	}
	return p, p.write != nil
}
