// Package strictjson reads one JSON object of signed evidence so that no two
// readers can see different things in it: encoding/json takes the last of two
// members of one name, finds them under other spellings of their letters, and
// replaces bytes that are no UTF-8. Each of these is an error here, at any depth.
//
// It is a leaf: standard library only.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Limits of what is read. Evidence in JSON is flat and short; the caller bounds
// its bytes.
const (
	// MaxDepth bounds the nesting of objects and arrays.
	MaxDepth = 16
	// MaxNodes bounds objects, arrays, members and elements together.
	MaxNodes = 4096
)

// What can be wrong beside what encoding/json finds.
var (
	ErrUTF8      = errors.New("not UTF-8")
	ErrDuplicate = errors.New("two members of one name, or of names that differ in case alone")
	ErrTrailing  = errors.New("bytes behind the value")
	ErrDepth     = errors.New("nested deeper than 16")
	ErrNodes     = errors.New("more than 4096 values")
	ErrObject    = errors.New("not an object")
)

// Object returns the members of the one JSON object that raw is, whole and
// checked at every depth. The values share memory with nothing.
func Object(raw []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(raw) {
		return nil, ErrUTF8
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	first, err := d.Token()
	if err != nil {
		return nil, err
	}
	if first != json.Delim('{') {
		return nil, ErrObject
	}
	w := walker{d: d}
	if err := w.object(1); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, ErrTrailing
	}
	out := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, err
	}
	return out, nil
}

// Text returns the string that a member is; ok is false where it is absent, null
// or of another type.
func Text(raw json.RawMessage) (text string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return text, json.Unmarshal(raw, &text) == nil
}

// IsNull reports whether a member is absent or null.
func IsNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

type walker struct {
	d     *json.Decoder
	nodes int
}

// object reads the rest of an object whose brace was read.
func (w *walker) object(depth int) error {
	seen := map[string]bool{}
	for w.d.More() {
		name, err := w.d.Token()
		if err != nil {
			return err
		}
		text, ok := name.(string)
		if !ok {
			return ErrObject
		}
		if folded := strings.ToLower(text); !seen[folded] {
			seen[folded] = true
		} else {
			return fmt.Errorf("%w: %.40q", ErrDuplicate, text)
		}
		if err := w.value(depth); err != nil {
			return err
		}
	}
	_, err := w.d.Token()
	return err
}

func (w *walker) value(depth int) error {
	if w.nodes++; w.nodes > MaxNodes {
		return ErrNodes
	}
	t, err := w.d.Token()
	if err != nil {
		return err
	}
	if _, nested := t.(json.Delim); !nested {
		return nil
	}
	if depth == MaxDepth {
		return ErrDepth
	}
	if t == json.Delim('{') {
		return w.object(depth + 1)
	}
	for w.d.More() {
		if err := w.value(depth + 1); err != nil {
			return err
		}
	}
	_, err = w.d.Token()
	return err
}
