package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// walker goes over a document once; the syntax is known to be good, so it only
// has to find where values begin and end.
type walker struct {
	data []byte
	pos  int
	path []step // to the value at hand; made text only for a refusal
}

// step is a member of an object, or an item of an array.
type step struct {
	name  string
	index int
	item  bool
}

// at is the JSON pointer to the value at hand.
func (w *walker) at() string {
	var b strings.Builder
	for _, s := range w.path {
		b.WriteByte('/')
		if s.item {
			b.WriteString(strconv.Itoa(s.index))
		} else {
			b.WriteString(shown(s.name))
		}
	}
	return b.String()
}

func (w *walker) malformed(what string) error { return malformed(w.at(), what) }

func (w *walker) enter(s step) { w.path = append(w.path, s) }

func (w *walker) leave() { w.path = w.path[:len(w.path)-1] }

func (w *walker) space() {
	for w.pos < len(w.data) {
		switch w.data[w.pos] {
		case ' ', '\t', '\r', '\n':
			w.pos++
		default:
			return
		}
	}
}

// value decodes the value at the cursor into dst, by the type of dst.
func (w *walker) value(dst reflect.Value) error {
	w.space()
	switch t := dst.Type(); {
	case t == bytesType || t.Kind() == reflect.String:
		return w.scalar(dst)
	case t == rawType:
		return w.raw(dst)
	case reflect.PointerTo(t).Implements(unmarshalerType):
		return w.scalar(dst)
	case t.Kind() == reflect.Pointer:
		dst.Set(reflect.New(t.Elem()))
		return w.value(dst.Elem())
	case t.Kind() == reflect.Struct:
		return w.object(dst)
	case t.Kind() == reflect.Map:
		return w.mapping(dst)
	case t.Kind() == reflect.Slice:
		return w.array(dst)
	default:
		return w.scalar(dst)
	}
}

var (
	bytesType       = reflect.TypeFor[Bytes]()
	rawType         = reflect.TypeFor[json.RawMessage]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

// members walks an object and calls each with the name of every member, its
// escapes resolved, the cursor standing on its value. Each refuses duplicates.
func (w *walker) members(limit int, each func(name string) error) error {
	if w.data[w.pos] != '{' {
		return w.malformed("not an object")
	}
	w.pos++
	for n := 1; ; n++ {
		w.space()
		if w.data[w.pos] == '}' {
			w.pos++
			return nil
		}
		name, err := w.name()
		if err != nil {
			return err
		}
		w.enter(step{name: name})
		if n > limit {
			return reason.Newf(reason.RequestTooLarge, "%s: more than %d members", w.at(), limit)
		}
		if err := each(name); err != nil {
			return err
		}
		w.leave()
		w.comma()
	}
}

func (w *walker) twice() error { return w.malformed("the member stands twice") }

// name reads a member name and the colon behind it.
func (w *walker) name() (string, error) {
	text, ok := w.text()
	if !ok {
		return "", w.malformed("a member name has half a surrogate pair")
	}
	w.space()
	w.pos++ // colon
	w.space()
	return text, nil
}

func (w *walker) comma() {
	if w.space(); w.data[w.pos] == ',' {
		w.pos++
	}
}

func (w *walker) object(dst reflect.Value) error {
	fields := fieldsOf(dst.Type())
	var seen [maxFields]bool
	return w.members(maxItems, func(name string) error {
		index, ok := fields[name]
		if !ok {
			return w.malformed("unknown member")
		}
		if seen[index] {
			return w.twice()
		}
		seen[index] = true
		return w.value(dst.Field(index))
	})
}

func (w *walker) mapping(dst reflect.Value) error {
	m := reflect.MakeMap(dst.Type())
	dst.Set(m)
	v := reflect.New(dst.Type().Elem()).Elem()
	return w.members(maxItems, func(name string) error {
		key := reflect.ValueOf(name)
		if m.MapIndex(key).IsValid() {
			return w.twice()
		}
		v.SetZero()
		if err := w.value(v); err != nil {
			return err
		}
		m.SetMapIndex(key, v)
		return nil
	})
}

func (w *walker) array(dst reflect.Value) error {
	if w.data[w.pos] != '[' {
		return w.malformed("not an array")
	}
	w.pos++
	out := reflect.MakeSlice(dst.Type(), 0, 0)
	for n := 0; ; n++ {
		if w.space(); w.data[w.pos] == ']' {
			w.pos++
			dst.Set(out)
			return nil
		}
		if n == maxItems {
			return reason.Newf(reason.RequestTooLarge, "%s: more than %d items", w.at(), maxItems)
		}
		v := reflect.New(dst.Type().Elem()).Elem()
		w.enter(step{index: n, item: true})
		if err := w.value(v); err != nil {
			return err
		}
		w.leave()
		out = reflect.Append(out, v)
		w.comma()
	}
}

// scalar decodes a string, number or boolean, or a type that reads one.
func (w *walker) scalar(dst reflect.Value) error {
	start, plain := w.pos, false
	switch w.data[w.pos] {
	case '{', '[':
		return w.malformed("wrong type")
	case 'n':
		return w.malformed("null is not allowed; leave the member out")
	case '"':
		var whole bool
		if plain, whole = w.string(); !whole {
			return w.malformed("half a surrogate pair")
		}
	default:
		w.literal()
	}
	var err error
	switch text := w.data[start:w.pos]; v := dst.Addr().Interface().(type) {
	case *Bytes:
		err = v.UnmarshalJSON(text)
	case *string:
		if plain {
			*v = string(text[1 : len(text)-1])
			return nil
		}
		err = json.Unmarshal(text, v)
	default:
		err = json.Unmarshal(text, v)
	}
	if errors.Is(err, errBytes) {
		return w.malformed(errBytes.Error())
	}
	if err != nil {
		return w.malformed("wrong type")
	}
	return nil
}

// literal skips a number, true, false or null.
func (w *walker) literal() {
	for w.pos < len(w.data) && !strings.ContainsRune(",]} \t\r\n", rune(w.data[w.pos])) {
		w.pos++
	}
}

// raw keeps a foreign document as it is, but holds it to depth, members and
// UTF-8 like everything else.
func (w *walker) raw(dst reflect.Value) error {
	start := w.pos
	if err := w.foreign(1); err != nil {
		return err
	}
	dst.SetBytes(bytes.Clone(w.data[start:w.pos]))
	return nil
}

func (w *walker) foreign(depth int) error {
	w.space()
	if depth > maxDepth {
		return malformed("", fmt.Sprintf("nested deeper than %d", maxDepth))
	}
	switch w.data[w.pos] {
	case '{':
		seen := map[string]struct{}{}
		return w.members(len(w.data), func(name string) error {
			if _, ok := seen[name]; ok {
				return w.twice()
			}
			seen[name] = struct{}{}
			return w.foreign(depth + 1)
		})
	case '[':
		w.pos++
		for n := 0; ; n++ {
			if w.space(); w.data[w.pos] == ']' {
				w.pos++
				return nil
			}
			w.enter(step{index: n, item: true})
			if err := w.foreign(depth + 1); err != nil {
				return err
			}
			w.leave()
			w.comma()
		}
	case '"':
		if _, whole := w.string(); !whole {
			return w.malformed("half a surrogate pair")
		}
	default:
		w.literal()
	}
	return nil
}

// string skips the string at the cursor and says whether it has no escapes. It
// is not whole with a \u escape that is half a surrogate pair: encoding/json
// would put U+FFFD there, so that two different texts become one.
func (w *walker) string() (plain, whole bool) {
	w.pos++
	plain, whole = true, true
	for w.data[w.pos] != '"' {
		if w.data[w.pos] != '\\' {
			w.pos++
			continue
		}
		plain = false
		if w.data[w.pos+1] != 'u' {
			w.pos += 2
			continue
		}
		switch first := hex4(w.data[w.pos+2:]); {
		case first >= 0xdc00 && first <= 0xdfff:
			whole = false
		case first >= 0xd800 && first <= 0xdbff:
			rest := w.data[w.pos+6:]
			if rest[0] != '\\' || rest[1] != 'u' || hex4(rest[2:])&0xfc00 != 0xdc00 {
				whole = false
				break
			}
			w.pos += 6
		}
		w.pos += 6
	}
	w.pos++
	return plain, whole
}

// text reads the string at the cursor; false for one that is not whole.
func (w *walker) text() (string, bool) {
	start := w.pos
	plain, whole := w.string()
	if plain {
		return string(w.data[start+1 : w.pos-1]), whole
	}
	var s string
	if json.Unmarshal(w.data[start:w.pos], &s) != nil {
		return "", false
	}
	return s, whole
}

func hex4(b []byte) (v int) {
	for _, c := range b[:4] {
		switch {
		case c >= 'a':
			c -= 'a' - 10
		case c >= 'A':
			c -= 'A' - 10
		default:
			c -= '0'
		}
		v = v<<4 | int(c)
	}
	return v
}
