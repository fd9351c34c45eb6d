package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// A YAML file can say one thing to a reviewer and another to a parser: a second
// document that every library ignores in silence, a duplicate key, an alias, a
// merge key, a tag that changes a type. walker refuses all of these before any
// value is looked at.
type walker struct {
	file     string
	lines    []string
	line     int // number of the line that runes holds, 0 for none
	runes    []rune
	problems *[]Problem
}

func (w *walker) report(n *yaml.Node, code reason.Code, format string, args ...any) {
	*w.problems = append(*w.problems, Problem{w.file, n.Line, n.Column, code, fmt.Sprintf(format, args...)})
}

func (w *walker) invalid(n *yaml.Node, format string, args ...any) {
	w.report(n, reason.PolicyInvalid, format, args...)
}

// parseFile returns the root node of the only document of f, nil where the
// bytes are not YAML. Problems of form are reported; the caller may go on to
// look at the values, so that the operator sees everything at once.
func parseFile(f File, problems *[]Problem) (*walker, *yaml.Node) {
	w := &walker{file: f.Name, problems: problems}
	start := &yaml.Node{Line: 1, Column: 1}
	switch {
	case len(f.Bytes) > MaxFile:
		w.invalid(start, "file is larger than 1 MiB")
		return w, nil
	case !utf8.Valid(f.Bytes):
		w.invalid(start, "file is not UTF-8")
		return w, nil
	}
	w.lines = strings.Split(string(f.Bytes), "\n")
	dec := yaml.NewDecoder(bytes.NewReader(f.Bytes))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		w.invalid(start, "file holds no document")
		return w, nil
	case err != nil:
		w.syntax(err)
		return w, nil
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		w.syntax(err)
	default:
		w.invalid(&second, "a second document; one document a file, or the second would be ignored in silence")
	}
	if len(doc.Content) != 1 {
		w.invalid(start, "file holds no document")
		return w, nil
	}
	before := len(*problems)
	w.form(doc.Content[0], 1)
	if len(*problems) > before && hasAlias(doc.Content[0]) {
		return w, nil // values of an alias stand elsewhere; nothing below is worth reading
	}
	return w, doc.Content[0]
}

var syntaxLine = regexp.MustCompile(`line (\d+): (.*)`)

func (w *walker) syntax(err error) {
	n, text := &yaml.Node{Line: 1, Column: 1}, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		if line, err := strconv.Atoi(m[1]); err == nil {
			n.Line, text = line, m[2]
		}
	}
	w.invalid(n, "not YAML: %s", clip(text))
}

// form refuses everything whose meaning depends on more than the place where
// it stands.
func (w *walker) form(n *yaml.Node, depth int) {
	switch {
	case n.Kind == yaml.AliasNode:
		w.invalid(n, "alias; write the value out")
		return
	case n.Anchor != "":
		w.invalid(n, "anchor; write the value out where it is needed")
	case w.tagged(n):
		w.invalid(n, "explicit tag; types follow from the schema")
	}
	if n.Kind == yaml.ScalarNode {
		return
	}
	if depth > maxDepth {
		w.invalid(n, "nested deeper than %d levels", maxDepth)
		return
	}
	if n.Kind == yaml.MappingNode {
		w.keys(n)
	}
	for _, c := range n.Content {
		w.form(c, depth+1)
	}
}

func (w *walker) keys(n *yaml.Node) {
	seen := map[string]*yaml.Node{}
	for i := 0; i < len(n.Content); i += 2 {
		k := n.Content[i]
		switch first := seen[k.Value]; {
		case k.Kind != yaml.ScalarNode:
			w.invalid(k, "key is not a plain word")
		case k.Tag == "!!merge":
			w.invalid(k, "merge key; write the values out")
		case first != nil:
			w.invalid(k, "duplicate key %q, first in line %d", clip(k.Value), first.Line)
		default:
			seen[k.Value] = k
		}
	}
}

// tagged looks at the text, where a node with a tag begins with it: the library
// forgets the non-specific tag "!", which turns a number into a string.
func (w *walker) tagged(n *yaml.Node) bool {
	if n.Line < 1 || n.Line > len(w.lines) {
		return false
	}
	if w.line != n.Line { // columns count characters; one line may hold a whole document
		w.line, w.runes = n.Line, []rune(w.lines[n.Line-1])
	}
	return n.Column >= 1 && n.Column <= len(w.runes) && w.runes[n.Column-1] == '!'
}

func hasAlias(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode {
		return true
	}
	for _, c := range n.Content {
		if hasAlias(c) {
			return true
		}
	}
	return false
}

// clip keeps a value short enough for a message.
func clip(s string) string {
	if len(s) <= 64 {
		return s
	}
	return strings.ToValidUTF8(s[:64], "") + "…"
}
