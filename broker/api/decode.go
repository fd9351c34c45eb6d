package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	// maxDepth bounds the nesting of foreign documents inside ours, such as a
	// bundle. Everything else nests as deep as our types do, four levels.
	maxDepth = 16
	// maxItems bounds the members of one object or array of the contract: a
	// body of empty strings must not turn into a hundred times its size.
	maxItems = 1024
	// maxShown is how much of a foreign member name a detail repeats.
	maxShown = 32
)

// Decode reads one JSON document of at most limit bytes from r into v, a
// pointer to a type of this package. It is stricter than encoding/json, which
// takes members in any case, keeps the last of two, ignores unknown ones and
// mends broken UTF-8: two readers of one body would then see two requests.
//
// Errors are reason.RequestTooLarge above limit (before anything is parsed) and
// above 1 024 members of one object or array, reason.RequestMalformed otherwise,
// with a JSON pointer (RFC 6901) to the place. An error of r that is a
// reason.Error is returned as it is. After an error v holds no meaning.
func Decode(r io.Reader, limit int64, v any) error {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(data)) > limit {
		return reason.Newf(reason.RequestTooLarge, "the body is larger than %d bytes", limit)
	}
	if err != nil {
		if _, ok := errors.AsType[*reason.Error](err); ok {
			return err
		}
		return reason.Wrap(reason.RequestMalformed, "the body ends early", err)
	}
	return DecodeBytes(data, v)
}

// DecodeBytes is Decode for a document that is in memory already.
func DecodeBytes(data []byte, v any) error {
	if !utf8.Valid(data) {
		return malformed("", "not UTF-8")
	}
	var doc json.RawMessage
	if err := json.Unmarshal(data, &doc); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return malformed("", fmt.Sprintf("not JSON at byte %d", syntax.Offset))
		}
		return malformed("", "not JSON")
	}
	w := walker{data: data}
	return w.value("", reflect.ValueOf(v).Elem())
}

func malformed(pointer, what string) error {
	if pointer == "" {
		return reason.New(reason.RequestMalformed, what)
	}
	return reason.New(reason.RequestMalformed, pointer+": "+what)
}

// walker goes over a document once; the syntax is known to be good, so it only
// has to find where values begin and end.
type walker struct {
	data []byte
	pos  int
}

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
func (w *walker) value(at string, dst reflect.Value) error {
	w.space()
	switch t := dst.Type(); {
	case t == rawType:
		return w.raw(at, dst)
	case reflect.PointerTo(t).Implements(unmarshalerType):
		return w.scalar(at, dst)
	case t.Kind() == reflect.Pointer:
		dst.Set(reflect.New(t.Elem()))
		return w.value(at, dst.Elem())
	case t.Kind() == reflect.Struct:
		return w.object(at, dst)
	case t.Kind() == reflect.Map:
		return w.mapping(at, dst)
	case t.Kind() == reflect.Slice:
		return w.array(at, dst)
	default:
		return w.scalar(at, dst)
	}
}

var (
	rawType         = reflect.TypeFor[json.RawMessage]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

// members walks an object and calls each with the name of every member, the
// cursor standing on its value. It refuses duplicates, compared after escapes
// are resolved.
func (w *walker) members(at string, limit int, each func(at, name string) error) error {
	if w.data[w.pos] != '{' {
		return malformed(at, "not an object")
	}
	w.pos++
	seen := map[string]struct{}{}
	for {
		w.space()
		if w.data[w.pos] == '}' {
			w.pos++
			return nil
		}
		name, err := w.name(at)
		if err != nil {
			return err
		}
		here := at + "/" + shown(name)
		if _, ok := seen[name]; ok {
			return malformed(here, "the member stands twice")
		}
		if seen[name] = struct{}{}; len(seen) > limit {
			return reason.Newf(reason.RequestTooLarge, "%s: more than %d members", here, limit)
		}
		if err := each(here, name); err != nil {
			return err
		}
		w.comma()
	}
}

// name reads a member name and the colon behind it.
func (w *walker) name(at string) (string, error) {
	text, ok := w.text()
	if !ok {
		return "", malformed(at, "a member name has half a surrogate pair")
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

func (w *walker) object(at string, dst reflect.Value) error {
	fields := fieldsOf(dst.Type())
	return w.members(at, maxItems, func(here, name string) error {
		index, ok := fields[name]
		if !ok {
			return malformed(here, "unknown member")
		}
		return w.value(here, dst.Field(index))
	})
}

func (w *walker) mapping(at string, dst reflect.Value) error {
	m := reflect.MakeMap(dst.Type())
	dst.Set(m)
	return w.members(at, maxItems, func(here, name string) error {
		v := reflect.New(dst.Type().Elem()).Elem()
		if err := w.value(here, v); err != nil {
			return err
		}
		m.SetMapIndex(reflect.ValueOf(name), v)
		return nil
	})
}

func (w *walker) array(at string, dst reflect.Value) error {
	if w.data[w.pos] != '[' {
		return malformed(at, "not an array")
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
			return reason.Newf(reason.RequestTooLarge, "%s: more than %d items", at, maxItems)
		}
		v := reflect.New(dst.Type().Elem()).Elem()
		if err := w.value(fmt.Sprintf("%s/%d", at, n), v); err != nil {
			return err
		}
		out = reflect.Append(out, v)
		w.comma()
	}
}

// scalar decodes a string, number or boolean, or a type that reads one.
func (w *walker) scalar(at string, dst reflect.Value) error {
	start := w.pos
	switch w.data[w.pos] {
	case '{', '[':
		return malformed(at, "wrong type")
	case 'n':
		return malformed(at, "null is not allowed; leave the member out")
	case '"':
		if _, ok := w.text(); !ok {
			return malformed(at, "half a surrogate pair")
		}
	default:
		w.literal()
	}
	err := json.Unmarshal(w.data[start:w.pos], dst.Addr().Interface())
	if errors.Is(err, errBytes) {
		return malformed(at, errBytes.Error())
	}
	if err != nil {
		return malformed(at, "wrong type")
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
func (w *walker) raw(at string, dst reflect.Value) error {
	start := w.pos
	if err := w.foreign(at, 1); err != nil {
		return err
	}
	dst.SetBytes(bytes.Clone(w.data[start:w.pos]))
	return nil
}

func (w *walker) foreign(at string, depth int) error {
	w.space()
	if depth > maxDepth {
		return malformed("", fmt.Sprintf("nested deeper than %d", maxDepth))
	}
	switch w.data[w.pos] {
	case '{':
		return w.members(at, len(w.data), func(here, _ string) error { return w.foreign(here, depth+1) })
	case '[':
		w.pos++
		for n := 0; ; n++ {
			if w.space(); w.data[w.pos] == ']' {
				w.pos++
				return nil
			}
			if err := w.foreign(fmt.Sprintf("%s/%d", at, n), depth+1); err != nil {
				return err
			}
			w.comma()
		}
	case '"':
		if _, ok := w.text(); !ok {
			return malformed(at, "half a surrogate pair")
		}
	default:
		w.literal()
	}
	return nil
}

// text reads the string at the cursor. It is false for a \u escape that is half
// a surrogate pair: encoding/json would put U+FFFD there, so that two different
// texts become one.
func (w *walker) text() (string, bool) {
	start := w.pos
	w.pos++
	plain, whole := true, true
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

// fieldsOf maps the JSON names of t to its fields. The types of this package
// are few and small, so it is not cached.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = i
	}
	return fields
}

// shown makes a foreign member name fit for a detail: short, printable, with
// the escapes of RFC 6901.
func shown(name string) string {
	cut := len(name) > maxShown
	if cut {
		name = strings.ToValidUTF8(name[:maxShown], "")
	}
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, name)
	name = strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	if cut {
		name += "..."
	}
	return name
}
