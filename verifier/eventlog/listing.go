package eventlog

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // listed for comparison with what TPMs show, judged never
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Forms of a log.
const (
	FormCryptoAgile = "crypto-agile" // a Spec ID record, then TCG_PCR_EVENT2
	FormLegacy      = "legacy"       // TCG_PCR_EVENT, SHA-1 only: never judged
)

// Listing is a log as it stands there, for people: every record with the digests
// of all its banks. Nothing in it is verified.
type Listing struct {
	Form    string
	Banks   []Bank // that the Spec ID record names, in its order
	Records []Record

	locality byte
}

// Record is one record of a listing. Its Digest is empty: Digests has those of
// all banks.
type Record struct {
	Event
	Digests []BankDigest
}

// BankDigest is the digest of a record in a bank.
type BankDigest struct {
	Bank   Bank
	Digest []byte
}

// In returns the digest of a bank, nil where the record has none.
func (r Record) In(b Bank) []byte {
	for _, d := range r.Digests {
		if d.Bank == b {
			return d.Digest
		}
	}
	return nil
}

// Covered reports whether the digest of the first bank that is known here is the
// hash of the data. Only then can the data be proved by a quote.
func (r Record) Covered() bool {
	for _, d := range r.Digests {
		if h, ok := hashes[d.Bank]; ok {
			return bytes.Equal(sum(h, r.Data), d.Digest)
		}
	}
	return false
}

var hashes = map[Bank]crypto.Hash{SHA1: crypto.SHA1, SHA256: crypto.SHA256, SHA384: crypto.SHA384, 0x000D: crypto.SHA512}

func sum(h crypto.Hash, parts ...[]byte) []byte {
	w := h.New()
	for _, p := range parts {
		w.Write(p)
	}
	return w.Sum(nil)
}

// Inspect lists a log of either form. A log that ends badly is listed up to
// there, with the refusal that Parse gives; one that is judged differently (a
// legacy log, a digest missing in a bank) is listed without one.
func Inspect(raw []byte) (Listing, error) {
	if isLegacy(raw) && !bytes.HasPrefix(afterHeader(raw), []byte(specID03)) {
		return inspectLegacy(raw), nil
	}
	r := reader{rest: raw}
	spec, err := r.header(0)
	if err != nil {
		return Listing{}, err
	}
	l := Listing{Form: FormCryptoAgile}
	for _, a := range spec.algs[:spec.count] {
		l.Banks = append(l.Banks, Bank(a.id))
	}
	for len(r.rest) > 0 {
		rec, err := r.record(&spec, len(l.Records)+1)
		if err != nil {
			return l, err
		}
		l.Records = append(l.Records, rec)
		l.observe(&rec)
	}
	return l, nil
}

func afterHeader(raw []byte) []byte { return raw[min(len(raw), legacyHeader):] }

// observe takes the locality as Parse does, without its refusals.
func (l *Listing) observe(r *Record) {
	rest, ok := bytes.CutPrefix(r.Data, []byte(startupLocalitySignature))
	if ok && !r.extends() && r.PCR == 0 && len(rest) == 1 {
		l.locality = rest[0]
	}
}

// record reads a record with all digests. Those of one bank must not stand twice,
// or the listing would show what no replay used.
func (r *reader) record(spec *specID, index int) (Record, error) {
	start := *r
	pcr, typ, count := r.u32(), r.u32(), r.u32()
	rec := Record{Event: Event{Index: index, Type: typ}, Digests: make([]BankDigest, 0, min(count, maxAlgorithms))}
	for range count {
		id := r.u16()
		at := spec.find(id)
		if r.short || at < 0 || rec.In(Bank(id)) != nil {
			return start.wrong(spec, index)
		}
		rec.Digests = append(rec.Digests, BankDigest{Bank: Bank(id), Digest: r.take(uint64(spec.algs[at].size))})
	}
	rec.Data = r.take(uint64(r.u32()))
	if r.short {
		return Record{}, errCut(index)
	}
	if pcr > maxPCR {
		return Record{}, reason.Newf(reason.EventLogPCRIndex, "event %d names PCR index 0x%08x", index, pcr)
	}
	rec.PCR = int(pcr)
	return rec, nil
}

// wrong returns the refusal that Parse gives for a record that cannot be read.
func (r *reader) wrong(spec *specID, index int) (Record, error) {
	_, err := r.event(spec, Bank(spec.algs[0].id), index)
	return Record{}, err
}

// inspectLegacy reads the records that isLegacy has walked.
func inspectLegacy(raw []byte) Listing {
	l := Listing{Form: FormLegacy, Banks: []Bank{SHA1}}
	for r := (reader{rest: raw}); len(r.rest) > 0; {
		rec := Record{Event: Event{Index: len(l.Records) + 1, PCR: int(r.u32()), Type: r.u32()}}
		rec.Digests = []BankDigest{{Bank: SHA1, Digest: r.take(20)}}
		rec.Data = r.take(uint64(r.u32()))
		l.Records = append(l.Records, rec)
	}
	return l
}

// Events returns the records that have a digest in a bank, as Parse in that bank
// would.
func (l Listing) Events(b Bank) []Event {
	out := make([]Event, 0, len(l.Records))
	for _, r := range l.Records {
		if d := r.In(b); d != nil {
			e := r.Event
			e.Digest = d
			out = append(out, e)
		}
	}
	return out
}

// Replay returns the PCR values that the records lead to in any bank with a hash
// of SHA-1 or SHA-2; false for another. A record without a digest of the bank
// extends nothing.
func (l Listing) Replay(b Bank) (values [PCRs][]byte, ok bool) {
	h, ok := hashes[b]
	if !ok {
		return values, false
	}
	for i := range values {
		values[i] = make([]byte, h.Size())
		if i >= 17 && i <= 22 {
			values[i] = bytes.Repeat([]byte{0xff}, h.Size())
		}
	}
	values[0][h.Size()-1] = l.locality
	for _, r := range l.Records {
		if d := r.In(b); d != nil && r.extends() {
			values[r.PCR] = sum(h, values[r.PCR], d)
		}
	}
	return values, true
}

// Claims returns what the log would prove about a quote of the very values that
// it leads to. It is for showing a file to a person: nobody quoted them.
func (l Log) Claims() Explained {
	p := l.replay()
	var all [PCRs]bool
	for i := range all {
		all[i] = true
	}
	return l.facts(&p, all)
}

// Locality is that of the StartupLocality record, 0 without one: a TPM that is
// booted by this log has to be started there.
func (l Listing) Locality() byte { return l.locality }
