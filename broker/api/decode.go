package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
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
	// maxFields is more than the members of any type of the contract.
	maxFields = 64
	// maxShown is how much of a foreign member name a detail repeats.
	maxShown = 32
)

// ReadBody reads at most limit bytes for DecodeBytes, before anything is parsed.
// More is reason.RequestTooLarge, a body that breaks off reason.RequestMalformed;
// an error of r that is a reason.Error is returned as it is.
func ReadBody(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(data)) > limit {
		return nil, reason.Newf(reason.RequestTooLarge, "the body is larger than %d bytes", limit)
	}
	if err != nil {
		if _, ok := errors.AsType[*reason.Error](err); ok {
			return nil, err
		}
		return nil, reason.Wrap(reason.RequestMalformed, "the body ends early", err)
	}
	return data, nil
}

// DecodeBytes reads one JSON document into v, a pointer to a type of this
// package. It is stricter than encoding/json, which takes members in any case,
// keeps the last of two, ignores unknown ones and mends broken UTF-8: two readers
// of one body would then see two requests.
//
// Errors are reason.RequestTooLarge above 1 024 members of one object or array,
// reason.RequestMalformed otherwise, with a JSON pointer (RFC 6901) to the place.
// After an error v holds no meaning.
func DecodeBytes(data []byte, v any) error {
	if !utf8.Valid(data) {
		return malformed("", "not UTF-8")
	}
	if !json.Valid(data) {
		return notJSON(data)
	}
	w := walker{data: data}
	return w.value(reflect.ValueOf(v).Elem())
}

// notJSON says where the syntax breaks.
func notJSON(data []byte) error {
	var doc json.RawMessage
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, &doc); errors.As(err, &syntax) {
		return malformed("", fmt.Sprintf("not JSON at byte %d", syntax.Offset))
	}
	return malformed("", "not JSON")
}

func malformed(pointer, what string) error {
	if pointer == "" {
		return reason.New(reason.RequestMalformed, what)
	}
	return reason.New(reason.RequestMalformed, pointer+": "+what)
}

// fieldsOf maps the JSON names of t to its fields.
func fieldsOf(t reflect.Type) map[string]int {
	if known, ok := fieldsByType.Load(t); ok {
		return known.(map[string]int)
	}
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = i
	}
	fieldsByType.Store(t, fields)
	return fields
}

// fieldsByType has an entry for each struct type of this package at most.
var fieldsByType sync.Map

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

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
	name = pointerEscapes.Replace(name)
	if cut {
		name += "..."
	}
	return name
}
