package ima

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// Allow is what a set of files says, as people write it. A file is allowed by any
// one of the members; an empty Allow allows nothing.
type Allow struct {
	// Digests are "sha256:" and hex, or sha384, sha512, each with "verity:" before
	// it for the root of fs-verity; after a space an absolute path that the file
	// must then have. SHA-1 is refused: two files can have one digest.
	Digests []string
	// Keys are certificates or public keys in PEM (RSA from 2048 bits, P-256,
	// P-384) whose signature in security.ima allows a file (digsig v2 and v3).
	// Whether a certificate is expired or revoked does not matter, as for the
	// kernel.
	Keys []string
	// Paths are RE2 expressions that a path must match from its first to its last
	// byte; the content of such a file does not matter. Paths with . or .. or double
	// slashes match none.
	Paths []string
	// Buffers are such expressions for the names of measured data that is no file:
	// key rings, command lines of kexec, critical data (template ima-buf).
	Buffers []string
}

// Limits of an Allow.
const (
	maxPattern  = 255 // characters of an expression
	maxPatterns = 64
	maxKeys     = 16
)

// Rules are one or more sets of files together. Only Compile makes them; they
// are safe for concurrent use.
type Rules struct {
	digest  string
	digests map[string][]string // algorithm, NUL, digest: paths, none for any
	keys    []key
	paths   []*regexp.Regexp
	buffers []*regexp.Regexp
}

// Problem is what is wrong with one member of an Allow.
type Problem struct {
	Set    int    // index of the Allow
	Member string // "digests", "keys", "paths", "buffers"
	Index  int
	Text   string
}

// Compile makes rules of sets. It returns all problems; rules are nil if there
// is any.
func Compile(sets ...Allow) (*Rules, []Problem) {
	r := &Rules{digests: map[string][]string{}}
	var problems []Problem
	for i, set := range sets {
		each := func(member string, items []string, limit int, add func(string) error) {
			for n, item := range items {
				err := add(item)
				if n >= limit {
					err = fmt.Errorf("more than %d", limit)
				}
				if err != nil {
					problems = append(problems, Problem{Set: i, Member: member, Index: n, Text: err.Error()})
				}
			}
		}
		each("digests", set.Digests, 1<<20, r.addDigest)
		each("keys", set.Keys, maxKeys, r.addKey)
		each("paths", set.Paths, maxPatterns, func(s string) error { return addPattern(&r.paths, s) })
		each("buffers", set.Buffers, maxPatterns, func(s string) error { return addPattern(&r.buffers, s) })
	}
	if len(problems) > 0 {
		return nil, problems
	}
	r.digest = digestOf(sets)
	return r, nil
}

// digestOf names the rules by what they say, in any order of the sets and of
// their members.
func digestOf(sets []Allow) string {
	h := sha256.New()
	for i, list := range [4]func(Allow) []string{
		func(a Allow) []string { return a.Digests }, func(a Allow) []string { return a.Keys },
		func(a Allow) []string { return a.Paths }, func(a Allow) []string { return a.Buffers },
	} {
		var all []string
		for _, set := range sets {
			all = append(all, list(set)...)
		}
		slices.Sort(all)
		for _, item := range slices.Compact(all) {
			h.Write(binary.BigEndian.AppendUint32([]byte{byte(i)}, uint32(len(item))))
			h.Write([]byte(item))
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// Digest names the rules by content: "sha256:" and hex; "" for nil.
func (r *Rules) Digest() string {
	if r == nil {
		return ""
	}
	return r.digest
}

var listable = map[string]int{"sha256": 32, "sha384": 48, "sha512": 64}

func (r *Rules) addDigest(text string) error {
	digest, path, bound := strings.Cut(text, " ")
	verity := strings.HasPrefix(digest, "verity:")
	name, hexText, _ := strings.Cut(strings.TrimPrefix(digest, "verity:"), ":")
	size, known := listable[name]
	if !known {
		return fmt.Errorf("%q is not sha256:, sha384: or sha512: and a digest in hex; older algorithms are refused because two files can have one digest", clipped(text))
	}
	raw, err := hex.DecodeString(hexText)
	if err != nil || len(raw) != size || strings.ToLower(hexText) != hexText {
		return fmt.Errorf("%q: %s wants %d lower-case hex digits", clipped(text), name, 2*size)
	}
	if bound && !canonicalPath([]byte(path)) {
		return fmt.Errorf("%q: the path after the digest must be absolute, without . or .. or double slashes", clipped(text))
	}
	id := string(digestKey(nil, verity, []byte(name), raw))
	if paths, twice := r.digests[id]; twice && len(paths) == 0 || !bound {
		r.digests[id] = []string{} // any path
	} else {
		r.digests[id] = append(paths, path)
	}
	return nil
}

func clipped(s string) string { return printable([]byte(s[:min(len(s), 80)])) }

// digestKey is the name of a digest in the table.
func digestKey(room []byte, verity bool, name, digest []byte) []byte {
	if verity {
		room = append(room, 'v')
	}
	return append(append(append(room, name...), 0), digest...)
}

// addPattern compiles an expression so that it has to match the whole path. It
// is parsed alone first: "a)|(b" would otherwise leave the anchors behind.
func addPattern(to *[]*regexp.Regexp, text string) error {
	if len(text) > maxPattern {
		return fmt.Errorf("an expression has at most %d characters", maxPattern)
	}
	if _, err := syntax.Parse(text, syntax.Perl); err != nil {
		return err
	}
	re, err := regexp.Compile(`\A(?:` + text + `)\z`)
	if err != nil {
		return err
	}
	if re.MatchString("") {
		return errors.New("the expression matches the empty path")
	}
	*to = append(*to, re)
	return nil
}

// canonicalPath reports whether a path means the file that it seems to mean:
// absolute, no empty, . or .. segments. The kernel writes no other ones.
func canonicalPath(path []byte) bool {
	if len(path) < 2 || path[0] != '/' {
		return false
	}
	for rest := path; len(rest) > 0; {
		rest = rest[1:] // the slash
		end := bytes.IndexByte(rest, '/')
		if end < 0 {
			end = len(rest)
		}
		segment := rest[:end]
		if len(segment) == 0 || string(segment) == "." || string(segment) == ".." {
			return false
		}
		rest = rest[end:]
	}
	return true
}

// checker is one run of rules over files; it is not safe for concurrent use.
type checker struct {
	*Rules
	why      string                     // of the last file that was not allowed
	forged   int                        // signatures that did not verify
	verified map[[sha256.Size]byte]bool // by signatureID
	room     [80]byte
}

func (r *Rules) checker() *checker { return &checker{Rules: r} }

// allows returns what allows the file, "" for nothing, and then why says why.
func (c *checker) allows(f *fields) string {
	canonical := canonicalPath(f.path)
	paths, listed := c.digests[string(digestKey(c.room[:0], f.verity, f.algorithm, f.digest))]
	if listed && len(paths) == 0 {
		return "digest"
	}
	for _, p := range paths {
		if p == string(f.path) { // a listed path is canonical
			return "digest and path"
		}
	}
	if f.isBuffer {
		return c.named(c.buffers, f.path, "buffer rule", "is no listed data")
	}
	signature := ""
	if len(f.sig) > 0 && len(c.keys) > 0 {
		if signature = c.signed(f); signature == "" {
			return "signature"
		}
	}
	if canonical {
		if by := c.named(c.paths, f.path, "path rule", ""); by != "" {
			return by
		}
	}
	switch {
	case !canonical:
		c.why = "is in no digest list, and its path is not one that path rules apply to"
	case listed:
		c.why = "has a listed digest under another path"
	case signature != "":
		c.why = signature
	default:
		c.why = "is in no digest list, not signed by a listed key, and no path rule names it"
	}
	return ""
}

func (c *checker) named(rules []*regexp.Regexp, name []byte, by, why string) string {
	for _, re := range rules {
		if re.Match(name) {
			return by
		}
	}
	c.why = why
	return ""
}
