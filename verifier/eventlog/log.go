package eventlog

import (
	"bytes"
	"crypto/sha256"
	"slices"

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
	Digest []byte // SHA-256, 32 bytes; not extended where Type is TypeNoAction
	Data   []byte
}

// extends reports whether the event changes its PCR.
func (e Event) extends() bool { return e.Type != TypeNoAction }

// dataHashed reports whether the digest is the SHA-256 of the event data. Only
// then is the data as authentic as the digest.
func (e Event) dataHashed() bool {
	h := sha256.Sum256(e.Data)
	return bytes.Equal(h[:], e.Digest)
}

// Log is a well-formed log. Nothing in it is verified; see Explain.
type Log struct {
	events   []Event
	locality byte // of TPM2_Startup, as claimed: initial value of PCR 0
}

// Events returns the records after the Spec ID record, in log order. The slice
// is the caller's; digests and data share memory with the parsed bytes.
func (l Log) Events() []Event { return slices.Clone(l.events) }

// Parse reads a whole log in the crypto-agile form, little-endian. The log keeps
// references into raw, which must not change while the log is in use.
//
// Refusals: eventlog.truncated, eventlog.spec_id, eventlog.sha1_only,
// eventlog.pcr_index, eventlog.digests, eventlog.no_action. Bytes behind the
// last record, fill bytes too, are a record that is not whole or not possible.
func Parse(raw []byte) (Log, error) {
	r := reader{rest: raw}
	spec, err := r.header()
	if err != nil {
		return Log{}, err
	}
	// A guess at the typical size of a record saves most of the growing; a wrong
	// guess costs at most a twelfth of what the sender paid in bytes.
	l := Log{events: make([]Event, 0, len(raw)/512+1)}
	p := startup{}
	for index := 1; len(r.rest) > 0; index++ {
		e, err := r.event(spec, index)
		if err != nil {
			return Log{}, err
		}
		if err := p.observe(e); err != nil {
			return Log{}, err
		}
		l.events = append(l.events, e)
	}
	l.locality = p.locality
	return l, nil
}

// event reads one TCG_PCR_EVENT2. Real firmware leaves out digests of banks that
// the Spec ID record names, so a smaller count is fine; the SHA-256 digest is
// not optional, because a record without it would be invisible to the replay.
func (r *reader) event(spec specID, index int) (Event, error) {
	pcr, typ, count := r.u32(), r.u32(), r.u32()
	if r.short {
		return Event{}, reason.Newf(reason.EventLogTruncated, "the log ends inside event %d", index)
	}
	if pcr > maxPCR {
		return Event{}, reason.Newf(reason.EventLogPCRIndex, "event %d names PCR index 0x%08x", index, pcr)
	}
	if uint64(count)*3 > uint64(len(r.rest)) { // an id and at least one byte each
		return Event{}, reason.Newf(reason.EventLogTruncated, "event %d has more digests than the log has bytes", index)
	}
	digest, err := r.digests(spec, count, index)
	if err != nil {
		return Event{}, err
	}
	data := r.take(uint64(r.u32()))
	if r.short {
		return Event{}, reason.Newf(reason.EventLogTruncated, "the log ends inside event %d", index)
	}
	return Event{Index: index, PCR: int(pcr), Type: typ, Digest: digest, Data: data}, nil
}

// digests reads TPML_DIGEST_VALUES and returns the SHA-256 one. With a repeated
// algorithm two parsers could pick different digests for the same PCR. No repeat
// and none unknown also means: never more than the Spec ID record names.
func (r *reader) digests(spec specID, count uint32, index int) ([]byte, error) {
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
		if id == algSHA256 {
			digest = value
		}
	}
	if r.short {
		return nil, reason.Newf(reason.EventLogTruncated, "the log ends inside event %d", index)
	}
	if digest == nil {
		return nil, reason.Newf(reason.EventLogDigests, "event %d has no SHA-256 digest", index)
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

func (s *startup) observe(e Event) error {
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
