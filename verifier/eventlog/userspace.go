package eventlog

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/celog"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// userspacePCRs are those that systemd extends after the firmware's log has ended,
// and what an administrator's own systemd-pcrextend may use. PCR 10 is IMA's, 8 is
// GRUB's, 14 shim's; PCR 0 to 7 have a grammar that a second log would go round.
var userspacePCRs = [PCRs]bool{9: true, 11: true, 12: true, 13: true, 15: true}

// userspace is what a log of systemd's userspace adds to what the firmware's log
// proves. It belongs to one quote: hosts share a firmware's log, not a machine id.
type userspace struct {
	digests [PCRs][]byte // that were extended, one after the other
	facts   []Fact
	omitted int    // facts that are one too many of their kind
	doubt   string // why no command line is proved with these records, "" otherwise
}

// ExplainWith is Explain with the log of systemd's userspace beside that of the
// firmware: a quoted PCR that the firmware's log alone does not lead to is
// explained if the userspace log leads on to it. Records behind the quoted value
// were made after the quote: they explain nothing, and are no facts.
//
// Refusals: those of Explain, and eventlog.digests for a record of a PCR that is
// needed and has no digest of the bank.
func (l Log) ExplainWith(quoted map[int][]byte, user celog.Log) (Explained, error) {
	p := l.replay()
	known, u, err := l.compareWith(&p, quoted, user)
	if err != nil {
		return Explained{}, err
	}
	x := l.facts(&p, known)
	x.user = u
	return x, nil
}

// compareWith is compare with the records of the userspace log behind the events
// of the firmware's.
func (l *Log) compareWith(p *replayed, quoted map[int][]byte, user celog.Log) ([PCRs]bool, *userspace, error) {
	var room [PCRs]bool
	if len(user.Events()) == 0 {
		known, err := l.compare(p, quoted)
		return known, nil, err
	}
	size := l.bank.Size()
	u := &userspace{}
	met := maps.Clone(quoted) // what the firmware's log has to lead to
	var refusal error
	for pcr := range PCRs {
		want := quoted[pcr]
		if !userspacePCRs[pcr] || len(want) != size || bytes.Equal(p.values[pcr][:size], want) || !extendsPCR(user, pcr) {
			continue
		}
		if err := l.follow(u, p.values[pcr], pcr, want, user); refusal == nil {
			refusal = err
		}
		met[pcr] = p.values[pcr][:size]
	}
	known, err := l.compare(p, met)
	if err == nil {
		err = refusal
	}
	if err != nil {
		return room, nil, err
	}
	u.read(l.bank, user)
	u.hides(l.bank)
	return known, u, nil
}

func extendsPCR(user celog.Log, pcr int) bool {
	return slices.ContainsFunc(user.Events(), func(e celog.Event) bool { return e.PCR == pcr })
}

// follow extends the records of a PCR until the quoted value is reached.
func (l *Log) follow(u *userspace, v value, pcr int, want []byte, user celog.Log) error {
	size := l.bank.Size()
	from := v
	var seen []byte
	for _, e := range user.Events() {
		if e.PCR != pcr {
			continue
		}
		digest := e.In(uint16(l.bank))
		if digest == nil {
			return reason.Newf(reason.EventLogDigests, "userspace record %d has no %s digest", e.Line, l.bank)
		}
		l.bank.extend(&v, digest)
		seen = append(seen, digest...)
		if bytes.Equal(v[:size], want) {
			u.digests[pcr] = seen
			return nil
		}
	}
	return reason.Newf(reason.EventLogReplayMismatch,
		"pcr=%d: the firmware's log leads to %x and %d records of the userspace log on to %x, quoted is %x: send both logs of the running boot, unaltered",
		pcr, from[:size], len(seen)/size, v[:size], want)
}

// read makes facts of the records that the quote covers.
func (u *userspace) read(b Bank, user celog.Log) {
	var taken [PCRs]int
	var broken [PCRs]bool
	phases, others, last := 0, 0, 0
	for _, e := range user.Events() {
		if e.PCR < 0 || taken[e.PCR] >= len(u.digests[e.PCR]) {
			continue
		}
		taken[e.PCR] += b.Size()
		f := recordFact(b, e, &broken[e.PCR])
		count := &others
		if f.Kind == KindPhase {
			count = &phases
		}
		if *count++; *count <= maxFactsOfKind {
			u.facts = append(u.facts, f)
			if f.Kind == KindPhase {
				last = len(u.facts) - 1
			}
			continue
		}
		u.omitted++
		if f.Kind == KindPhase && f.Proved { // how far the boot came: records before it must not push it out
			u.facts[last] = f
		}
	}
}

// recordFact is what one record says; broken is that of its PCR.
func recordFact(b Bank, e celog.Event, broken *bool) Fact {
	digest := e.In(uint16(b))
	covered := b.covers(digest, []byte(e.Text))
	text, clean := printableText(e.Text)
	f := Fact{
		Kind: KindSystem, Name: printable(e.Type), Text: text, Digest: digest, PCR: e.PCR, Event: e.Line, Userspace: true,
		Proved: covered && clean && !*broken,
	}
	if e.PCR == 11 {
		f.Kind = KindPhase
	}
	switch {
	case !covered:
		f.Why = "its digest does not cover the text"
		*broken = true
	case !f.Proved:
		f.Why = "a record before it is not covered by its digest, or it cannot be shown"
	}
	f.TextProved = f.Proved
	return f
}

// hides looks for events that a loader measured and that the sender moved out of
// the firmware's log into this one: a bare digest there may be a command line.
func (u *userspace) hides(b Bank) {
	if len(u.digests[12]) > 0 {
		u.doubt = "userspace records explain PCR 12: one of them may be the command line"
	}
	names := sectionDigests(b)
	for digest := range slices.Chunk(u.digests[11], b.Size()) {
		if slices.ContainsFunc(names[:], func(v value) bool { return bytes.Equal(v[:b.Size()], digest) }) {
			u.doubt = "userspace records hold a section of a unified kernel image, which may have a command line of its own"
		}
	}
}

// doubting returns a boot whose command line is a claim, and with it the paths
// that it proves. Facts are shared by quotes, so they are copied.
func (b Boot) doubting(why string) Boot {
	if !b.command.proved {
		return b
	}
	b.command.proved, b.command.why = false, why
	b.facts = slices.Clone(b.facts)
	for i := range b.facts {
		f := &b.facts[i]
		switch {
		case f.Kind == KindCommandLine:
			f.Proved, f.TextProved, f.Why = false, false, why
		case f.PCR == 9:
			f.TextProved = false
		}
	}
	b.digest = digestOf([sha256.Size]byte{}, b.facts, b.omitted)
	return b
}
