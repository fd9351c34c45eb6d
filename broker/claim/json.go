package claim

import (
	"bytes"
	"encoding/json"
	"errors"
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
	errSyntax    = errors.New("not JSON")
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
	if !json.Valid(raw) {
		return nil, errSyntax
	}
	p := parser{rest: raw}
	return p.value(0)
}

// parser walks JSON whose syntax is known to be good.
type parser struct{ rest []byte }

// next skips white space, commas and colons, and returns the byte behind them.
func (p *parser) next() byte {
	for {
		switch c := p.rest[0]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			p.rest = p.rest[1:]
		default:
			return c
		}
	}
}

func (p *parser) value(depth int) (any, error) {
	switch c := p.next(); c {
	case '{', '[':
		if depth >= maxDepth {
			return nil, errDepth
		}
		p.rest = p.rest[1:]
		if c == '[' {
			return p.array(depth)
		}
		return p.object(depth)
	case '"':
		return p.text()
	default:
		return p.literal(), nil
	}
}

func (p *parser) array(depth int) (any, error) {
	out := []any{}
	for p.next() != ']' {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	p.rest = p.rest[1:]
	return out, nil
}

func (p *parser) object(depth int) (any, error) {
	out := make(map[string]any, 16)
	for p.next() != '}' {
		name, err := p.text()
		if err != nil {
			return nil, err
		}
		if _, twice := out[name]; twice {
			return nil, errDuplicate
		}
		if out[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
	}
	p.rest = p.rest[1:]
	return out, nil
}

// text reads a string; the standard library resolves what has escapes.
func (p *parser) text() (string, error) {
	end, escaped := 1, false
	for p.rest[end] != '"' {
		if p.rest[end] == '\\' {
			escaped = true
			end++
		}
		end++
	}
	quoted := p.rest[:end+1]
	p.rest = p.rest[end+1:]
	if !escaped {
		return string(quoted[1:end]), nil
	}
	var s string
	err := json.Unmarshal(quoted, &s)
	return s, err
}

// literal reads a number, true, false or null.
func (p *parser) literal() any {
	end := bytes.IndexAny(p.rest, ",]} \t\r\n")
	if end < 0 {
		end = len(p.rest)
	}
	word := string(p.rest[:end])
	p.rest = p.rest[end:]
	switch word {
	case "true":
		return true
	case "false":
		return false
	case "null":
		return nil
	}
	return json.Number(word)
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
