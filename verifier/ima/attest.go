package ima

import (
	"bytes"
	"fmt"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Quoted are PCR values that a verified quote signed, of one bank. PCR 10 has to
// be among them, and PCR 0 to 9 where the list starts at boot.
type Quoted struct {
	Bank Bank
	PCRs map[int][]byte
}

// Segment is what a host sent of its list: the entries from number First on,
// counted from 0 at boot. Raw may be empty where nothing is new.
type Segment struct {
	First uint64
	Raw   []byte
}

// Attested is a list that leads to a quoted PCR 10. The zero value proves
// nothing.
type Attested struct {
	list      List // the sent entries that the quote covers
	first     uint64
	from, to  State
	carried   int
	aggregate string
}

// Attest goes on from the state that the last attestation of the node left
// behind, or from the start of the list, until the quoted PCR 10 is reached.
//
// Errors: ima.missing where nothing was measured or nothing sent; ima.offset
// where the segment does not go on from the state (another boot, another number,
// another bank); ima.truncated and ima.encoding for the structure; then record by
// record ima.pcr, ima.template_unknown, ima.digest and, for the first of a boot,
// ima.boot_aggregate; ima.truncated where the quoted value is never reached.
// Violations are no error here: Violations counts them.
func Attest(seg Segment, from State, boot Boot, quoted Quoted) (Attested, error) {
	target := quoted.PCRs[measuredPCR]
	if quoted.Bank.Size() == 0 || len(target) != quoted.Bank.Size() {
		return Attested{}, reason.New(reason.IMAMissing, "PCR 10 was not quoted")
	}
	start, err := resume(seg, from, boot, quoted.Bank)
	if err != nil {
		return Attested{}, err
	}
	if seg.First == 0 {
		if err := measuresNothing(seg.Raw, target); err != nil {
			return Attested{}, err
		}
	}
	list, err := parse(seg.Raw)
	if err != nil {
		return Attested{}, err
	}
	a := Attested{first: seg.First, from: from}
	for _, extend := range ways(start) {
		w := walk{quoted: quoted, target: target, state: start}
		w.state.extend = extend
		found, err := w.run(list)
		if err != nil {
			return Attested{}, list.misread(err)
		}
		if found {
			a.to, a.aggregate, a.carried = w.state, w.aggregate, list.entries-w.covered
			a.list = List{raw: list.raw[:w.bytes], entries: w.covered}
			return a, nil
		}
	}
	return Attested{}, list.misread(reason.Newf(reason.IMATruncated,
		"the list ends at entry %d and never reaches the quoted PCR 10 (%x)", start.entries+uint64(list.entries), target))
}

// misread prefers the structure of the whole list over what one record showed
// first; a list that is good is not walked twice for it.
func (l List) misread(err error) error {
	if structure := l.checkFields(); structure != nil {
		return structure
	}
	return err
}

// resume returns the state to go on from: that of before, or a PCR 10 at its
// reset value for a list from the start of the boot.
func resume(seg Segment, from State, boot Boot, bank Bank) (State, error) {
	if seg.First == 0 {
		return State{known: true, boot: boot, bank: bank}, nil
	}
	switch {
	case !from.known:
		return State{}, reason.Newf(reason.IMAOffset, "the list starts at entry %d, and no earlier one of this node is known; send it from entry 0", seg.First)
	case from.boot != boot:
		return State{}, reason.Newf(reason.IMAOffset, "the list starts at entry %d, and the TPM was reset or resumed since; send it from entry 0", seg.First)
	case from.bank != bank:
		return State{}, reason.Newf(reason.IMAOffset, "the list was attested in bank %s and is quoted in %s now; send it from entry 0", from.bank, bank)
	case seg.First != from.entries:
		return State{}, reason.Newf(reason.IMAOffset, "the list starts at entry %d, and %d entries are known; send it from entry %d or 0", seg.First, from.entries, from.entries)
	}
	return from, nil
}

// measuresNothing names the two plain cases of a host without IMA.
func measuresNothing(raw, target []byte) error {
	reset := !bytes.ContainsFunc(target, func(c rune) bool { return c != 0 })
	switch {
	case reset:
		return reason.New(reason.IMAMissing, "PCR 10 is at its reset value: the kernel measures no files")
	case len(raw) == 0:
		return reason.New(reason.IMAMissing, "PCR 10 was extended, and no measurement list explains it")
	}
	return nil
}

// ways are the ways of extending to try: one that was found stays.
func ways(s State) []string {
	if s.extend != "" {
		return []string{s.extend}
	}
	return []string{ExtendBank, ExtendPadded}
}

// walk is one pass over a segment.
type walk struct {
	quoted    Quoted
	target    []byte
	state     State
	covered   int // records up to the quoted value
	bytes     int // and their length
	aggregate string
}

// run extends record by record until the quoted value is reached. What stands
// behind it is not attested and is not looked at.
func (w *walk) run(list List) (found bool, err error) {
	p := replay{bank: w.quoted.Bank, padded: w.state.extend == ExtendPadded, pcr: w.state.pcr}
	var room [legacyPadded]byte
	var f fields
	if w.reached(&p) {
		return true, nil
	}
	for _, r := range list.records() {
		data := r.hashed(&room)
		if err := r.check(&f, data); err != nil {
			return false, numbered(w.state.entries, err)
		}
		if w.state.entries == 0 {
			if err := w.first(r, &f); err != nil {
				return false, numbered(0, err)
			}
		}
		p.extend(r, data)
		if r.violation() {
			w.state.violations++
		}
		w.state.entries++
		w.covered++
		w.bytes += r.size()
		if w.reached(&p) {
			return true, nil
		}
	}
	return false, nil
}

func (w *walk) reached(p *replay) bool {
	w.state.pcr = p.pcr
	return bytes.Equal(p.pcr[:w.quoted.Bank.Size()], w.target)
}

// size returns how many bytes the record has in the list.
func (r *record) size() int {
	n := headSize + len(r.name) + len(r.data)
	if !r.legacy {
		n += 4
	}
	return n
}

// first demands the boot aggregate: the hash over the quoted PCRs, in their
// bank. Without it a list could be that of another boot which ended in the same
// state, and files measured before a kernel was replaced would be missed.
//
// Kernels from 5.8 on take PCR 0 to 9; 5.7 and the older ones that got the same
// change take PCR 0 to 7 of the bank, and with SHA-1 all take those.
func (w *walk) first(r *record, f *fields) *reason.Error {
	if r.violation() || string(f.path) != aggregateName {
		return reason.Newf(reason.IMABootAggregate, "the list starts with %s and not with the boot aggregate", printable(f.path))
	}
	bank := w.quoted.Bank
	if string(f.algorithm) != string(bank) {
		return reason.Newf(reason.IMABootAggregate, "the boot aggregate is over PCRs of bank %s, and %s was quoted", f.algorithm, bank)
	}
	lasts := []int{9, 7}
	if bank == SHA1 {
		lasts = lasts[1:]
	}
	var expected []string
	for _, last := range lasts {
		want, ok := aggregate(bank, w.quoted.PCRs, last)
		if !ok {
			expected = append(expected, fmt.Sprintf("nothing, because PCR 0 to %d were not all quoted", last))
			continue
		}
		if bytes.Equal(want[:bank.Size()], f.digest) {
			w.aggregate = fmt.Sprintf("PCR 0 to %d of bank %s", last, bank)
			w.state.aggregate = want
			return nil
		}
		expected = append(expected, fmt.Sprintf("%x over PCR 0 to %d", want[:bank.Size()], last))
	}
	return reason.Newf(reason.IMABootAggregate, "the boot aggregate is %x, the quoted PCRs give %s", f.digest, expected[0])
}

// First returns the number of the first entry that was sent.
func (a Attested) First() uint64 { return a.first }

// Entries returns how many entries are attested since boot, New how many of them
// this time.
func (a Attested) Entries() uint64 { return a.to.entries }

// New returns how many entries are attested for the first time by this quote.
func (a Attested) New() int { return a.list.entries }

// Carried returns how many entries were sent that the quote does not cover yet:
// the list grew after the quote. The next one has to cover them.
func (a Attested) Carried() int { return a.carried }

// Violations returns how many attested entries since boot are violations: files
// written while they were measured, whose digest proves nothing.
func (a Attested) Violations() uint64 { return a.to.violations }

// Extend returns how the kernel extends PCR 10: ExtendBank or ExtendPadded.
func (a Attested) Extend() string { return a.to.extend }

// Boot returns the boot that the list is of.
func (a Attested) Boot() Boot { return a.to.boot }

// PCR10 returns the quoted value that the list leads to.
func (a Attested) PCR10() []byte { return bytes.Clone(a.to.pcr[:a.to.bank.Size()]) }

// BootAggregate says what the first record was found to be the hash of, "" where
// it was attested earlier.
func (a Attested) BootAggregate() string { return a.aggregate }

// Known reports whether there is anything attested at all.
func (a Attested) Known() bool { return a.to.known }

// State returns what to keep for the next attestation, with the verdict about
// the files; the zero Judged for none.
func (a Attested) State(j Judged) State {
	s := a.to
	s.judged = ""
	if j.Rules != "" {
		s.keep(j)
	}
	return s
}
