package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"unicode/utf8"

	exact "github.com/go-jose/go-jose/v4/json"
)

// maxNesting bounds nesting: decoders recurse, and no document here is deeper than
// eight.
const maxNesting = 16

// Errors of Check and of what calls it.
var (
	errSyntax    = errors.New("not one JSON value in UTF-8")
	errDepth     = errors.New("JSON is nested too deeply")
	errDuplicate = errors.New("a JSON object has a member twice")
	errCase      = errors.New("a JSON member is spelled in another case")
)

// Check reports the first thing that makes raw ambiguous, nil for none. It
// allocates no more than a small multiple of raw.
func Check(raw []byte) error {
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return errSyntax
	}
	var open []object
	name := false // whether the next string is a member's name
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			if len(open) == maxNesting {
				return errDepth
			}
			name = raw[i] == '{'
			open = append(open, object{isArray: !name})
		case '}', ']':
			open = open[:len(open)-1]
		case ',':
			name = !open[len(open)-1].isArray
		case '"':
			end := stringEnd(raw, i)
			if name {
				if !open[len(open)-1].add(raw[i : end+1]) {
					return errDuplicate
				}
				name = false
			}
			i = end
		}
	}
	return nil
}

// object is one that is being read: its names so far.
type object struct {
	isArray bool
	names   map[string]struct{}
}

// add takes a quoted name and reports whether it is new.
func (o *object) add(quoted []byte) bool {
	name := string(quoted[1 : len(quoted)-1])
	if bytes.Contains(quoted, []byte{'\\'}) {
		if json.Unmarshal(quoted, &name) != nil {
			return false
		}
	}
	if _, twice := o.names[name]; twice {
		return false
	}
	if o.names == nil {
		o.names = map[string]struct{}{}
	}
	o.names[name] = struct{}{}
	return true
}

// stringEnd returns the index of the quote that ends the string which begins at
// start, in valid JSON.
func stringEnd(raw []byte, start int) int {
	for i := start + 1; i < len(raw); i++ {
		switch raw[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(raw) - 1 // valid JSON has an end
}

// Unmarshal checks raw and decodes it into what into points to. Names are matched
// in their exact spelling; members that into has no field for are passed over, as
// documents of others have many.
func Unmarshal(raw []byte, into any) error {
	if err := Check(raw); err != nil {
		return err
	}
	return exact.Unmarshal(raw, into)
}

// UnmarshalKnown is Unmarshal that refuses members which into has no field for:
// for configuration, where a member nobody reads is a check nobody makes.
func UnmarshalKnown(raw []byte, into any) error {
	if err := Unmarshal(raw, into); err != nil {
		return err
	}
	other := reflect.New(reflect.TypeOf(into).Elem())
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(other.Interface()); err != nil {
		return err
	}
	// encoding/json takes a member in any case: where it found more, a name is
	// misspelled.
	if !reflect.DeepEqual(other.Elem().Interface(), reflect.ValueOf(into).Elem().Interface()) {
		return errCase
	}
	return nil
}
