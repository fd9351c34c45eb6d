package claim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"
)

// Limits of a claims-set. Relying parties parse it from certificates that
// strangers present.
const (
	maxClaims = 16 << 10 // bytes of JSON
	maxDepth  = 16
)

var (
	errSize      = errors.New("larger than the limit")
	errUTF8      = errors.New("not UTF-8")
	errDuplicate = errors.New("a member stands twice")
	errDepth     = errors.New("nested too deeply")
	errTrailing  = errors.New("bytes behind the value")
)

// parseJSON reads one JSON value. encoding/json takes the last of two equal
// members, matches names without regard to case and stops at the first value:
// two readers could see two claims in one certificate. Objects come back as
// map[string]any with exact names, numbers as json.Number.
func parseJSON(raw []byte) (any, error) {
	if len(raw) > maxClaims {
		return nil, errSize
	}
	if !utf8.Valid(raw) {
		return nil, errUTF8
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	v, err := parseValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errTrailing
	}
	return v, nil
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	if depth >= maxDepth {
		return nil, errDepth
	}
	if delim == '[' {
		return parseArray(dec, depth)
	}
	return parseObject(dec, depth)
}

func parseArray(dec *json.Decoder, depth int) (any, error) {
	out := []any{}
	for dec.More() {
		v, err := parseValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	_, err := dec.Token()
	return out, err
}

func parseObject(dec *json.Decoder, depth int) (any, error) {
	out := map[string]any{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, errors.New("a member without a name")
		}
		if _, twice := out[name]; twice {
			return nil, errDuplicate
		}
		if out[name], err = parseValue(dec, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return out, err
}

// object reads members by exact name and remembers the first one that is
// missing or of a wrong type.
type object struct {
	members map[string]any
	bad     string
}

func asObject(v any) *object {
	m, ok := v.(map[string]any)
	if !ok {
		return &object{bad: "an object"}
	}
	return &object{members: m}
}

func (o *object) fail(name string) {
	if o.bad == "" {
		o.bad = name
	}
}

// only makes every member that is not named a failure.
func (o *object) only(names ...string) {
	known := make(map[string]bool, len(names))
	for _, n := range names {
		known[n] = true
	}
	for name := range o.members {
		if !known[name] {
			o.fail("an unknown member")
		}
	}
}

func (o *object) object(name string) *object {
	m, ok := o.members[name].(map[string]any)
	if !ok {
		o.fail(name)
	}
	return &object{members: m}
}

func (o *object) text(name string) string {
	s, ok := o.members[name].(string)
	if !ok {
		o.fail(name)
	}
	return s
}

// integer refuses fractions, exponents and what JavaScript readers would round.
func (o *object) integer(name string) int64 {
	n, ok := o.members[name].(json.Number)
	v, err := strconv.ParseInt(n.String(), 10, 64)
	if !ok || err != nil || v > maxInteger || v < -maxInteger {
		o.fail(name)
		return 0
	}
	return v
}

const maxInteger = 1<<53 - 1

func (o *object) optionalInteger(name string) int64 {
	if _, ok := o.members[name]; !ok {
		return 0
	}
	return o.integer(name)
}

func (o *object) boolean(name string) bool {
	b, ok := o.members[name].(bool)
	if !ok {
		o.fail(name)
	}
	return b
}

// texts returns nil for an empty list.
func (o *object) texts(name string) []string {
	list, ok := o.members[name].([]any)
	if !ok {
		o.fail(name)
	}
	var out []string
	for _, item := range list {
		s, ok := item.(string)
		if !ok {
			o.fail(name)
		}
		out = append(out, s)
	}
	return out
}

func itoa(v int64) string { return strconv.FormatInt(v, 10) }
