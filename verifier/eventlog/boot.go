package eventlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Kind says what a Fact is about.
type Kind string

// The kinds of facts. The PCR in brackets is where they are measured.
const (
	KindFirmware    Kind = "firmware"     // version of the firmware (0)
	KindSecureBoot  Kind = "secure_boot"  // "on" or "off" (7)
	KindKeys        Kind = "keys"         // PK, KEK, db, dbx: how many entries (7)
	KindAuthority   Kind = "authority"    // entry that allowed an image to run (7)
	KindRevocations Kind = "revocations"  // generation of shim's SBAT level (7)
	KindMOK         Kind = "mok"          // a list of machine owner keys (7, 14)
	KindApplication Kind = "application"  // EFI image that was started (4)
	KindKernel      Kind = "kernel"       // kernel file that the loader read (9) or section of a UKI (11)
	KindInitrd      Kind = "initrd"       // initial file system (9, 11, 12)
	KindCommandLine Kind = "command_line" // of the kernel (8, 9, 11, 12)
	KindSection     Kind = "section"      // PE section of a unified kernel image (11)
	KindConfig      Kind = "config"       // what systemd's loader and stub took along (5, 12, 13)
	KindPhase       Kind = "phase"        // how far the boot came (11)
	KindSystem      Kind = "system"       // machine id, file systems, keys (15), NV indexes (9)
)

// Fact is one thing that a log says about a boot. A digest says that something
// was measured; what the log calls it is another matter, so the two are judged
// apart.
type Fact struct {
	Kind   Kind
	Name   string // which of its kind: "db", ".linux"; "" where there is one only
	Text   string // what it says: a version, a path, a command line; printable ASCII
	Digest []byte // as extended, in the bank of the log; empty for a sum of events
	PCR    int
	Event  int // number in its log, from 1

	// Authority names the entry that vouched for an application: the last one of
	// PCR 7 before it in the log. Which it was is a claim in any case: nothing
	// authenticates an order between PCRs. "" where none was measured since the
	// application before; firmware measures each entry once.
	Authority string

	// Userspace: Event counts the lines of the userspace log.
	Userspace bool
	// Proved: what was measured is a thing of this kind. Otherwise the log says so,
	// and the digest alone is proved. Of an image of PCR 4 and of what stands behind
	// the separator of PCR 7 it does not say when: root can extend such an event
	// after the boot.
	Proved bool
	// TextProved: the digest covers Text, or the events that do are proved, and it
	// was measured in the boot.
	TextProved bool
	// Why says what a claim lacks; "" where Proved and TextProved.
	Why string
}

// Boot is what a log says about one boot: facts that were proved and facts that
// it only claims. It comes from a log that explained a verified quote, and from
// nothing else; the zero value says nothing.
//
// What "proved" can mean has a limit that no log removes. In PCR 0 to 7 a
// separator divides what the firmware measured from what came later. In PCR 8 to
// 15 nothing does: root can extend them after the boot. There a fact is proved
// where the PCR holds exactly one thing of that kind and nothing that could be
// another one under a false name. A loader that measures nothing leaves that
// place free: which loader ran is what reference values for PCR 4 decide.
type Boot struct {
	facts   []Fact
	keys    []KeyStore
	command CommandLine
	omitted int
	digest  [sha256.Size]byte
}

// Digest is the same for two boots exactly if they say the same, proofs and
// claims. It is worked out once for a log.
func (b Boot) Digest() [sha256.Size]byte { return b.digest }

// digestOf continues the digest of a boot with facts. Each field has its length
// before it.
func digestOf(from [sha256.Size]byte, facts []Fact, omitted int) (out [sha256.Size]byte) {
	h := sha256.New()
	h.Write(from[:])
	var room []byte
	text := func(s string) {
		room = append(binary.BigEndian.AppendUint32(room, uint32(len(s))), s...)
	}
	for _, f := range facts {
		room = room[:0]
		for _, s := range [...]string{string(f.Kind), f.Name, f.Text, f.Authority, f.Why, string(f.Digest)} {
			text(s)
		}
		room = binary.BigEndian.AppendUint32(room, uint32(f.PCR))
		room = binary.BigEndian.AppendUint32(room, uint32(f.Event))
		for _, yes := range [...]bool{f.Userspace, f.Proved, f.TextProved} {
			bit := byte(0)
			if yes {
				bit = 1
			}
			room = append(room, bit)
		}
		h.Write(room)
	}
	h.Write(binary.BigEndian.AppendUint32(room[:0], uint32(omitted)))
	h.Sum(out[:0])
	return out
}

// maxFacts of one kind are kept: a log of twenty thousand applications is one
// that nobody reads.
const maxFactsOfKind = 64

// Facts returns all facts in the order of their kinds and, within one, of the
// log. The slice is the caller's; digests share memory and must not be changed.
func (b Boot) Facts() []Fact { return slices.Clone(b.facts) }

// Omitted returns how many facts are left out of Facts, because there are more
// than 64 of a kind.
func (b Boot) Omitted() int { return b.omitted }

// Of returns the facts of a kind.
func (b Boot) Of(k Kind) []Fact {
	var out []Fact
	for _, f := range b.facts {
		if f.Kind == k {
			out = append(out, f)
		}
	}
	return out
}

// CommandLine returns the kernel's command line. See CommandLine.Proved.
func (b Boot) CommandLine() CommandLine { return b.command }

// Phase returns the last boot phase that the quote covers and its record proves:
// "enter-initrd", "leave-initrd", "sysinit", "ready" or what an administrator
// added; "" where none is.
func (b Boot) Phase() string {
	phase := ""
	for _, f := range b.facts {
		if f.Kind == KindPhase && f.Proved {
			phase = f.Text
		}
	}
	return phase
}

// KeyStores returns PK, KEK, db, dbx and what else PCR 7 holds of their form.
func (b Boot) KeyStores() []KeyStore { return slices.Clone(b.keys) }

// bootReader collects facts from the events of the quoted PCRs.
type bootReader struct {
	log       *Log
	bank      Bank
	known     [PCRs]bool
	boot      Boot
	ofKind    map[Kind]int
	separated [8]bool // the separator of the PCR is behind, by its digest
	versions  int
	levels    int    // SBAT levels
	authority string // last one before the next application
	authBad   bool   // an authority whose data its digest does not cover
	grub      grub
	loader    loader
	uki       uki
}

func newBootReader(l *Log, known [PCRs]bool) *bootReader {
	return &bootReader{log: l, bank: l.bank, known: known, ofKind: map[Kind]int{}}
}

func (r *bootReader) add(f Fact) {
	if r.ofKind[f.Kind] >= maxFactsOfKind {
		r.boot.omitted++
		return
	}
	r.ofKind[f.Kind]++
	r.boot.facts = append(r.boot.facts, f)
}

func (r *bootReader) observe(e *Event) {
	if e.PCR < len(r.separated) && r.bank.separates(e.Digest) {
		r.separated[e.PCR] = true
		return
	}
	switch e.PCR {
	case 0:
		r.firmware(e)
	case 4:
		r.application(e)
	case 5, 12, 13:
		r.loader.observe(r, e)
	case 7:
		r.securityConfig(e)
	case 8:
		r.grub.observe(r, e)
	case 9:
		r.grub.file(r, e)
	case 11:
		r.uki.observe(r, e)
	case 14:
		r.mok(e)
	}
}

// finish decides what is proved, when all events are known and the grammar has
// spoken.
func (r *bootReader) finish(x *explained) Boot {
	r.firmwareStanding(x)
	r.grub.finish(r, x)
	r.uki.finish(r, x)
	r.loader.finish(r)
	r.commandLine()
	slices.SortStableFunc(r.boot.facts, func(a, b Fact) int { return kindOrder(a.Kind) - kindOrder(b.Kind) })
	r.boot.digest = digestOf(r.boot.digest, r.boot.facts, r.boot.omitted)
	return r.boot
}

// kindOrder is the order of a boot, and of the constants above.
func kindOrder(k Kind) int {
	return slices.Index([]Kind{
		KindFirmware, KindSecureBoot, KindKeys, KindAuthority, KindRevocations, KindMOK, KindApplication,
		KindKernel, KindInitrd, KindCommandLine, KindSection, KindConfig, KindPhase, KindSystem,
	}, k)
}

// printableText returns text as a fact shows it, and whether nothing was
// replaced or cut.
func printableText(s string) (string, bool) {
	out := printable(s)
	return out, out == s
}

func trimNUL(b []byte) []byte { return bytes.TrimRight(b, "\x00") }
