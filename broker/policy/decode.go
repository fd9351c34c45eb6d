package policy

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// fields holds the members of one mapping. A member that is absent or was
// reported reads as nil.
type fields struct {
	w       *walker
	node    *yaml.Node // of the mapping, for what is missing
	what    string
	members map[string]*yaml.Node
}

// fields reads n as a mapping with no other keys than known.
func (w *walker) fields(n *yaml.Node, what string, known ...string) fields {
	f := fields{w: w, node: n, what: what, members: map[string]*yaml.Node{}}
	if n.Kind != yaml.MappingNode {
		w.invalid(n, "%s must be a mapping", what)
		return f
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			continue // reported as a problem of form
		}
		if !slices.Contains(known, key.Value) {
			w.invalid(key, "unknown key %q in %s; known are %s", clip(key.Value), what, strings.Join(known, ", "))
			continue
		}
		if f.members[key.Value] == nil {
			f.members[key.Value] = n.Content[i+1]
		}
	}
	return f
}

func (f fields) get(key string) *yaml.Node { return f.members[key] }

// need returns the member and reports its absence with the reason why.
func (f fields) need(key, why string) *yaml.Node {
	n := f.members[key]
	if n == nil && f.node.Kind == yaml.MappingNode {
		f.w.invalid(f.node, "%s lacks %q: %s", f.what, key, why)
	}
	return n
}

// text reads a string of printable ASCII, so that no value can break a log
// line or look like another. A nil node reads as "".
func (w *walker) text(n *yaml.Node, what string) (string, bool) {
	if n == nil {
		return "", false
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		w.invalid(n, "%s must be a string; quote it if it looks like a number", what)
		return "", false
	}
	if n.Value == "" || len(n.Value) > 255 {
		w.invalid(n, "%s must have 1 to 255 characters", what)
		return "", false
	}
	for _, r := range n.Value {
		if r < 0x20 || r > 0x7e {
			w.invalid(n, "%s must be printable ASCII", what)
			return "", false
		}
	}
	return n.Value, true
}

// reserved are first path segments that mean something to every checker.
var reserved = []string{"zone", "trial", "exception", "quarantine", "broker"}

// maxName keeps every SPIFFE ID that is built from names far below 2 048 bytes.
const maxName = 128

// name reads a string that becomes one segment of a SPIFFE ID path
// (SPIFFE-ID 2.2). With another grammar a name could add segments, and with
// them move an identity into a zone that it did not earn.
func (w *walker) name(n *yaml.Node, what string) (string, bool) {
	if n == nil {
		return "", false
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		w.invalid(n, "%s must be a string; quote it if it looks like a number", what)
		return "", false
	}
	if !validSegment(n.Value) {
		w.report(n, reason.PolicyIdentityInvalid, "%s %q is not a path segment of a SPIFFE ID: letters, digits, dot, dash, underscore, at most %d, not . or ..", what, clip(n.Value), maxName)
		return "", false
	}
	if slices.Contains(reserved, n.Value) {
		w.report(n, reason.PolicyIdentityInvalid, "%s %q is reserved", what, n.Value)
		return "", false
	}
	return n.Value, true
}

func validSegment(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}

// number reads a decimal integer between low and high.
func (w *walker) number(n *yaml.Node, what string, low, high int) (int, bool) {
	if n == nil {
		return 0, false
	}
	v, ok := decimal(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || !ok {
		w.invalid(n, "%s must be a whole decimal number", what)
		return 0, false
	}
	if v < low || v > high {
		w.invalid(n, "%s must be between %d and %d", what, low, high)
		return 0, false
	}
	return v, true
}

// decimal refuses signs, leading zeros and other bases, which YAML 1.1 and 1.2
// read differently.
func decimal(s string) (int, bool) {
	v, err := strconv.Atoi(s)
	return v, err == nil && v >= 0 && strconv.Itoa(v) == s
}

func (w *walker) boolean(n *yaml.Node, what string) (value, ok bool) {
	if n == nil {
		return false, false
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || (n.Value != "true" && n.Value != "false") {
		w.invalid(n, "%s must be true or false", what)
		return false, false
	}
	return n.Value == "true", true
}

// duration is a span of whole seconds that travels as text ("5m0s").
type duration time.Duration

// MarshalText writes what time.ParseDuration reads.
func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// span reads a duration of whole seconds between low and high. The claim
// carries seconds, so that a fraction would only pretend to matter.
func (w *walker) span(n *yaml.Node, what string, low, high time.Duration) (duration, bool) {
	if n == nil {
		return 0, false
	}
	d, err := time.ParseDuration(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode || err != nil || d%time.Second != 0:
		w.invalid(n, "%s must be a duration of whole seconds such as 5m or 1h", what)
	case d < low || d > high:
		w.invalid(n, "%s must be between %s and %s", what, low, high)
	default:
		return duration(d), true
	}
	return 0, false
}

// digest reads 32 bytes of lower-case hex. A digest without letters, or with
// one e, looks like a number to YAML; the text counts.
func (w *walker) digest(n *yaml.Node, what string) (string, bool) {
	plain := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	scalar := n.Kind == yaml.ScalarNode && (n.Tag == "!!str" || plain && (n.Tag == "!!int" || n.Tag == "!!float"))
	if !scalar || !isDigest(n.Value) {
		w.invalid(n, "%s must be a SHA-256 digest: 64 lower-case hex digits", what)
		return "", false
	}
	return n.Value, true
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && strings.ToLower(s) == s
}

// list returns the items of a sequence that must not be empty. An empty list
// reads like "none" to one person and like "any" to the next.
func (w *walker) list(n *yaml.Node, what string) []*yaml.Node {
	switch {
	case n == nil:
		return nil
	case n.Kind != yaml.SequenceNode:
		w.invalid(n, "%s must be a list", what)
	case len(n.Content) == 0:
		w.invalid(n, "%s is an empty list", what)
	case len(n.Content) > maxItems:
		w.invalid(n, "%s has more than %d items", what, maxItems)
	default:
		return n.Content
	}
	return nil
}

// texts reads a list of different strings through read.
func (w *walker) texts(n *yaml.Node, what string, read func(*yaml.Node, string) (string, bool)) []string {
	var out []string
	for _, item := range w.list(n, what) {
		s, ok := read(item, "item of "+what)
		switch {
		case !ok:
		case slices.Contains(out, s):
			w.invalid(item, "%q stands twice in %s", clip(s), what)
		default:
			out = append(out, s)
		}
	}
	return out
}
