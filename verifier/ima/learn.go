package ima

import (
	"iter"
	"regexp"
)

// Allowable walks the entries of a list with what an Allow would say to allow
// each: an item of Digests, with its path where that is one; of Buffers where
// File.Buffer; "" where none can, because the record is no good, a violation or
// of a digest that is not accepted. The boot aggregate is left out. It is for
// learning from a machine that is trusted, and judges nothing.
func (l List) Allowable() iter.Seq2[File, string] {
	return func(yield func(File, string) bool) {
		var room [legacyPadded]byte
		for i, r := range l.records() {
			entry := describe(uint64(i), r, r.hashed(&room), nil)
			var f fields
			if f.read(r) == nil && string(f.path) == aggregateName && i == 0 {
				continue
			}
			if !yield(entry, f.allowable(entry)) {
				return
			}
		}
	}
}

func (f *fields) allowable(entry File) string {
	_, listed := listable[string(f.algorithm)]
	switch {
	case entry.Offence != "":
		return ""
	case f.isBuffer:
		return regexp.QuoteMeta(string(f.path))
	case !listed:
		return ""
	case canonicalPath(f.path) && printable(f.path) == string(f.path):
		return f.name() + " " + string(f.path)
	}
	return f.name()
}
