package eventlog

import (
	"bytes"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Replay returns the values of the log's bank that it leads to: reset values
// where it has no event (all ones for PCR 17 to 22, zero for the others, the
// startup locality in the last byte of PCR 0).
func (l Log) Replay() [PCRs][]byte {
	p := l.replay()
	size := l.bank.Size()
	room := make([]byte, PCRs*size)
	var out [PCRs][]byte
	for i := range out {
		out[i] = room[i*size : (i+1)*size : (i+1)*size]
		copy(out[i], p.values[i][:size])
	}
	return out
}

// replayed is what a log leads to.
type replayed struct {
	values [PCRs]value
	// first is the index of the first extending event of a PCR, 0 for none: index 0
	// is the Spec ID record.
	first [PCRs]int
	count [PCRs]int // extending events
}

func (l *Log) replay() replayed {
	if l.bank == 0 { // the zero Log
		l.bank = SHA256
	}
	var p replayed
	for i := range p.values {
		p.values[i] = l.bank.reset(i)
	}
	p.values[0][l.bank.Size()-1] = l.locality
	for w := l.walk(); w.next(); {
		e := &w.event
		if !e.extends() {
			continue
		}
		if p.count[e.PCR]++; p.first[e.PCR] == 0 {
			p.first[e.PCR] = e.Index
		}
		l.bank.extend(&p.values[e.PCR], e.Digest)
	}
	return p
}

// Explain compares the log with the quoted values of its bank, which must come
// from a verified quote, and returns what the log then proves about the PCRs
// that were quoted. About others it proves nothing.
//
// Refusals: tpm2.pcr.unexplained (a quoted value that no event leads to),
// eventlog.replay_mismatch (events lead to another value), tpm2.pcr.length,
// eventlog.pcr_index. The lowest PCR that fails is named, with the quoted value
// and the one that the log leads to, in hex.
func (l Log) Explain(quoted map[int][]byte) (Explained, error) {
	p := l.replay()
	known, err := l.compare(&p, quoted)
	if err != nil {
		return Explained{}, err
	}
	return l.facts(&p, known), nil
}

// compare returns which PCRs were quoted, where the replayed values are those of
// the quote.
func (l *Log) compare(p *replayed, quoted map[int][]byte) (known [PCRs]bool, err error) {
	size := l.bank.Size()
	var room [PCRs]int
	order, err := indexes(room[:0], quoted, size)
	if err != nil {
		return known, err
	}
	for _, pcr := range order {
		known[pcr] = true
		if bytes.Equal(p.values[pcr][:size], quoted[pcr]) {
			continue
		}
		if p.first[pcr] == 0 {
			return known, reason.Newf(reason.TPM2PCRUnexplained,
				"pcr=%d is quoted as %x, its reset value is %x, and the log has no event for it: send the whole log, and the log of whatever else measures into this PCR",
				pcr, quoted[pcr], p.values[pcr][:size])
		}
		return known, l.mismatch(p, pcr, quoted[pcr])
	}
	return known, nil
}

// mismatch names both values. Where the quoted one is on the way of the log, the
// event behind it is the one that the TPM never saw.
func (l *Log) mismatch(p *replayed, pcr int, quoted []byte) error {
	size := l.bank.Size()
	seen := p.values[pcr][:size]
	v := l.bank.reset(pcr)
	if pcr == 0 {
		v[size-1] = l.locality
	}
	reached := bytes.Equal(v[:size], quoted)
	for w := l.walk(); w.next(); {
		if e := &w.event; e.PCR == pcr && e.extends() {
			if reached {
				return reason.Newf(reason.EventLogReplayMismatch,
					"pcr=%d: the log leads to %x, quoted is %x, which it has before event %d (%s): that event is not in the TPM",
					pcr, seen, quoted, e.Index, e.TypeName())
			}
			l.bank.extend(&v, e.Digest)
			reached = bytes.Equal(v[:size], quoted)
		}
	}
	return reason.Newf(reason.EventLogReplayMismatch,
		"pcr=%d: the log leads to %x, quoted is %x; its %d events for this PCR begin with event %d: send the log of the running boot, unaltered",
		pcr, seen, quoted, p.count[pcr], p.first[pcr])
}

// Unlogged judges a quote that came without any log: every quoted PCR must be at
// its reset value, otherwise the refusal is eventlog.missing. The values tell the
// bank by their length.
func Unlogged(quoted map[int][]byte) error {
	bank := SHA256
	for _, v := range quoted {
		if len(v) == SHA384.Size() {
			bank = SHA384
		}
	}
	var room [PCRs]int
	order, err := indexes(room[:0], quoted, bank.Size())
	if err != nil {
		return err
	}
	for _, pcr := range order {
		reset := bank.reset(pcr)
		if !bytes.Equal(reset[:bank.Size()], quoted[pcr]) {
			return reason.Newf(reason.EventLogMissing, "pcr=%d is not at its reset value; send the event log", pcr)
		}
	}
	return nil
}

// indexes appends the quoted PCRs in ascending order, so that the same evidence
// always gives the same refusal.
func indexes(order []int, quoted map[int][]byte, size int) ([]int, error) {
	for pcr := range quoted {
		order = append(order, pcr)
	}
	slices.Sort(order)
	for _, pcr := range order {
		if pcr < 0 || pcr > maxPCR {
			return nil, reason.Newf(reason.EventLogPCRIndex, "quoted PCR index %d", pcr)
		}
		if len(quoted[pcr]) != size {
			return nil, reason.Newf(reason.TPM2PCRLength, "pcr=%d has %d bytes, want %d", pcr, len(quoted[pcr]), size)
		}
	}
	return order, nil
}
