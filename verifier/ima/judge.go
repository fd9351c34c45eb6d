package ima

import (
	"encoding/hex"
	"iter"
	"strconv"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxDenials is how many denied files of a boot are kept by name; the rest is a
// count.
const maxDenials = 8

// Judged is the verdict about all files of one boot under one set of rules, so
// far. A file that was denied once stays denied until the next boot: it ran.
type Judged struct {
	Rules  string   `json:"rules"`         // digest of the rules, "sha256:" and hex
	Files  uint64   `json:"files,string"`  // judged entries: violations and boot aggregates are none
	Denied uint64   `json:"denied,string"` // of them
	First  []Denial `json:"first,omitempty"`
}

// Denial is a measured file that no rule allows. Path is printable ASCII, at
// most 200 characters, other bytes as \xNN.
type Denial struct {
	Entry  uint64 `json:"entry,string"` // from 0 at boot
	Path   string `json:"path"`
	Digest string `json:"digest"` // "sha256:" and hex
	Why    string `json:"why"`
}

// String is the denial in one line.
func (d Denial) String() string {
	return "entry " + strconv.FormatUint(d.Entry, 10) + ": " + d.Path + " (" + d.Digest + ") " + d.Why
}

// Err returns ima.denied with the first files and the count, nil where every
// file was allowed.
func (j Judged) Err() *reason.Error {
	if j.Denied == 0 {
		return nil
	}
	const named = 3
	parts := make([]string, 0, named+1)
	for _, d := range j.First[:min(named, len(j.First))] {
		parts = append(parts, d.String())
	}
	if more := j.Denied - uint64(len(parts)); more > 0 {
		parts = append(parts, "and "+strconv.FormatUint(more, 10)+" more")
	}
	return reason.New(reason.IMADenied, strings.Join(parts, "; "))
}

// Judge holds the newly attested files against rules and adds them to what the
// state before says of the same boot. Where that was judged by other rules the
// earlier files are not known any more: ima.offset asks for the whole list.
func (a Attested) Judge(rules *Rules) (Judged, error) {
	j := Judged{Rules: rules.Digest()}
	if a.first > 0 {
		if j = a.from.verdict(); j.Rules != rules.Digest() {
			return Judged{}, reason.New(reason.IMAOffset, "the rules for files changed since the list of this boot was judged; send it from entry 0")
		}
	}
	c := rules.checker()
	var f fields
	entry := a.first
	for _, r := range a.list.records() {
		if a.isFile(r, &f) {
			j.Files++
			if by := c.allows(&f); by == "" {
				j.deny(entry, &f, c.why)
			}
		}
		entry++
	}
	return j, nil
}

// FirstViolation returns number and path of the first violation record among the
// newly attested entries; false where there is none. The path is a claim: the
// digest of such a record covers nothing.
func (a Attested) FirstViolation() (entry uint64, path string, ok bool) {
	for i, r := range a.list.records() {
		var f fields
		if r.violation() && f.read(r) == nil {
			return a.first + uint64(i), printable(f.path), true
		}
	}
	return 0, "", false
}

// isFile reads the fields and reports whether the record is about something that
// rules have a say in. The boot aggregate may stand anywhere, because a kexec
// that carries the list along adds it again, but only with the value that was
// compared with the quote: a file can have its name.
func (a *Attested) isFile(r *record, f *fields) bool {
	if r.violation() || f.read(r) != nil {
		return false
	}
	return string(f.path) != aggregateName || string(f.digest) != string(a.to.aggregate[:a.to.bank.Size()])
}

func (j *Judged) deny(entry uint64, f *fields, why string) {
	j.Denied++
	if len(j.First) < maxDenials {
		j.First = append(j.First, Denial{Entry: entry, Path: printable(f.path), Digest: f.name(), Why: why})
	}
}

// name is the digest for people.
func (f *fields) name() string {
	out := string(f.algorithm) + ":" + hex.EncodeToString(f.digest)
	if f.verity {
		return "verity:" + out
	}
	return out
}

// File is one entry of a list for people.
type File struct {
	Entry     uint64 `json:"entry"` // from 0 at boot
	PCR       uint32 `json:"pcr"`
	Template  string `json:"template"`
	Path      string `json:"path"`   // printable, "" of an unknown template
	Digest    string `json:"digest"` // "sha256:" and hex, "" of an unknown template
	Violation bool   `json:"violation,omitempty"`
	Buffer    bool   `json:"buffer,omitempty"`  // data in memory, and no file
	Signed    bool   `json:"signed,omitempty"`  // carries a signature, which may or may not verify
	Allowed   string `json:"allowed,omitempty"` // by which rule; "" where none does or none were given
	Offence   string `json:"offence,omitempty"` // why the record itself is no good, or the file not allowed
}

// Files lists the entries for people, with what the rules say of each; rules may
// be nil. What it says is a claim of the list, unless the list was attested.
func (l List) Files(first uint64, rules *Rules) iter.Seq[File] {
	return func(yield func(File) bool) {
		var c *checker
		if rules != nil {
			c = rules.checker()
		}
		var room [legacyPadded]byte
		for i, r := range l.records() {
			if !yield(describe(first+uint64(i), r, r.hashed(&room), c)) {
				return
			}
		}
	}
}

func describe(entry uint64, r *record, data []byte, c *checker) File {
	var f fields
	out := File{Entry: entry, PCR: r.pcr, Template: string(r.name), Violation: r.violation()}
	if err := r.check(&f, data); err != nil {
		out.Offence = err.Error()
	}
	if f.path != nil {
		out.Path = printable(f.path)
	}
	if f.digest != nil {
		out.Digest = f.name()
	}
	out.Signed, out.Buffer = len(f.sig) > 0, f.isBuffer
	switch {
	case out.Offence != "":
	case out.Violation:
		out.Offence = violated(&f).Error()
	case c != nil && string(f.path) != aggregateName:
		if out.Allowed = c.allows(&f); out.Allowed == "" {
			out.Offence = string(reason.IMADenied) + ": " + c.why
		}
	}
	return out
}

// Files lists the entries that the quote attests for the first time.
func (a Attested) Files(rules *Rules) iter.Seq[File] { return a.list.Files(a.first, rules) }
