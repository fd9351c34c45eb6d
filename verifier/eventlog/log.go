package eventlog

import (
	"bytes"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	// PCRs is the number of PCRs of a PC Client TPM; indexes run from 0 to 23.
	PCRs   = 24
	maxPCR = PCRs - 1
)

// Event is one record of a log. Digest and Data share memory with the bytes
// given to Parse. Type and Data are claims of the sender; Digest is
// authenticated once the log explained a quote.
type Event struct {
	Index  int // position in the log; the Spec ID record is 0
	PCR    int // 0 to 23
	Type   uint32
	Digest []byte // of the log's bank; not extended where Type is TypeNoAction
	Data   []byte
}

// extends reports whether the event changes its PCR.
func (e *Event) extends() bool { return e.Type != TypeNoAction }

// Log is a well-formed log, read in one bank. Nothing in it is verified; see
// Explain. It holds no list of events: they are read from the bytes again each
// time, so that a log of twenty thousand of them costs no more memory than one
// of ten.
type Log struct {
	body     []byte // the records after the Spec ID record
	spec     specID
	bank     Bank
	count    int
	locality byte // of TPM2_Startup, as claimed: initial value of PCR 0
}

// Bank returns the bank in which the log was read.
func (l Log) Bank() Bank { return l.bank }

// Events returns the records after the Spec ID record, in log order. The slice
// is the caller's; digests and data share memory with the parsed bytes.
func (l Log) Events() []Event {
	if l.count == 0 {
		return nil
	}
	out := make([]Event, 0, l.count)
	for c := l.walk(); c.next(); {
		out = append(out, c.event)
	}
	return out
}

// walker reads the records of a log that was parsed already.
type walker struct {
	r     reader
	spec  *specID
	bank  Bank
	event Event
}

func (l *Log) walk() walker {
	return walker{r: reader{rest: l.body}, spec: &l.spec, bank: l.bank}
}

// next moves to the next record. Parse has seen all of them, so an error is the
// end.
func (w *walker) next() bool {
	if len(w.r.rest) == 0 {
		return false
	}
	e, err := w.r.event(w.spec, w.bank, w.event.Index+1)
	w.event = e
	return err == nil
}

// Parse reads a whole log in the crypto-agile form, little-endian, in the
// SHA-256 bank. The log keeps references into raw, which must not change while
// the log is in use.
//
// Refusals: eventlog.truncated, eventlog.spec_id, eventlog.sha1_only,
// eventlog.pcr_index, eventlog.digests, eventlog.no_action. Bytes behind the
// last record, fill bytes too, are a record that is not whole or not possible.
func Parse(raw []byte) (Log, error) { return ParseBank(raw, SHA256) }

// ParseBank is Parse in another bank. A bank that cannot be judged is refused
// like one that the log does not have: eventlog.digests.
func ParseBank(raw []byte, bank Bank) (Log, error) {
	r := reader{rest: raw}
	spec, err := r.header(0)
	if err != nil {
		return Log{}, err
	}
	if err := spec.judgeBank(bank); err != nil {
		return Log{}, err
	}
	l := Log{body: r.rest, spec: spec, bank: bank}
	p := startup{}
	for len(r.rest) > 0 {
		e, err := r.event(&spec, bank, l.count+1)
		if err != nil {
			return Log{}, err
		}
		if err := p.observe(&e); err != nil {
			return Log{}, err
		}
		l.count++
	}
	l.locality = p.locality
	return l, nil
}

// event reads one TCG_PCR_EVENT2. Real firmware leaves out digests of banks that
// the Spec ID record names, so a smaller count is fine; the digest of the bank
// that is judged is not optional, because a record without it would be invisible
// to the replay.
func (r *reader) event(spec *specID, bank Bank, index int) (Event, error) {
	pcr, typ, count := r.u32(), r.u32(), r.u32()
	if r.short {
		return Event{}, errCut(index)
	}
	if pcr > maxPCR {
		return Event{}, reason.Newf(reason.EventLogPCRIndex, "event %d names PCR index 0x%08x", index, pcr)
	}
	if uint64(count)*3 > uint64(len(r.rest)) { // an id and at least one byte each
		return Event{}, reason.Newf(reason.EventLogTruncated, "event %d has more digests than the log has bytes", index)
	}
	digest, err := r.digests(spec, bank, count, index)
	if err != nil {
		return Event{}, err
	}
	data := r.take(uint64(r.u32()))
	if r.short {
		return Event{}, errCut(index)
	}
	return Event{Index: index, PCR: int(pcr), Type: typ, Digest: digest, Data: data}, nil
}

func errCut(index int) error {
	return reason.Newf(reason.EventLogTruncated, "the log ends inside event %d", index)
}

// digests reads TPML_DIGEST_VALUES and returns the one of the bank. With a
// repeated algorithm two parsers could pick different digests for the same PCR.
// No repeat and none unknown also means: never more than the Spec ID record
// names.
func (r *reader) digests(spec *specID, bank Bank, count uint32, index int) ([]byte, error) {
	var digest []byte
	var seen uint32
	for range count {
		id := r.u16()
		if r.short {
			break
		}
		at := spec.find(id)
		if at < 0 {
			return nil, reason.Newf(reason.EventLogDigests, "event %d has a digest of algorithm 0x%04x, which the Spec ID record does not name", index, id)
		}
		if seen&(1<<at) != 0 {
			return nil, reason.Newf(reason.EventLogDigests, "event %d has two digests of algorithm 0x%04x", index, id)
		}
		seen |= 1 << at
		value := r.take(uint64(spec.algs[at].size))
		if Bank(id) == bank {
			digest = value
		}
	}
	if r.short {
		return nil, errCut(index)
	}
	if digest == nil {
		return nil, reason.Newf(reason.EventLogDigests, "event %d has no %s digest", index, bank)
	}
	return digest, nil
}

// startup follows the records that set where PCR 0 starts. Libraries that take
// the last StartupLocality anywhere let a sender choose the initial value of
// PCR 0 after the fact.
type startup struct {
	locality byte
	named    bool
	extended bool // PCR 0 was extended already
}

func (s *startup) observe(e *Event) error {
	if e.extends() {
		s.extended = s.extended || e.PCR == 0
		return nil
	}
	if !allZero(e.Digest) {
		return reason.Newf(reason.EventLogNoAction, "event %d is EV_NO_ACTION and carries a digest", e.Index)
	}
	if !bytes.HasPrefix(e.Data, []byte(startupLocalitySignature)) {
		return nil
	}
	if len(e.Data) != len(startupLocalitySignature)+1 {
		return reason.Newf(reason.EventLogNoAction, "event %d: StartupLocality of %d bytes", e.Index, len(e.Data))
	}
	locality := e.Data[len(startupLocalitySignature)]
	switch {
	case e.PCR != 0:
		return reason.Newf(reason.EventLogNoAction, "event %d: StartupLocality in PCR %d", e.Index, e.PCR)
	case s.named:
		return reason.Newf(reason.EventLogNoAction, "event %d: second StartupLocality", e.Index)
	case s.extended:
		return reason.Newf(reason.EventLogNoAction, "event %d: StartupLocality after the first event of PCR 0", e.Index)
	case locality != 0 && locality != 3 && locality != 4:
		return reason.Newf(reason.EventLogNoAction, "event %d: StartupLocality %d", e.Index, locality)
	}
	s.named, s.locality = true, locality
	return nil
}
