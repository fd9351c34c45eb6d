package ima

import (
	"crypto/sha1"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// measuredPCR is the PCR that the kernel extends by default (CONFIG_IMA_MEASURE_PCR_IDX).
const measuredPCR = 10

// Appraise judges a list by itself, without a quote: its fields first, then
// record by record the PCR, the template and the digest. The first offence is
// the error: ima.encoding, ima.pcr, ima.template_unknown, ima.violation,
// ima.digest. Nil means that the list is consistent, not that it is true.
func (l List) Appraise() error {
	if err := l.checkFields(); err != nil {
		return err
	}
	var room [legacyPadded]byte
	var f fields
	for i, r := range l.records() {
		err := r.check(&f, r.hashed(&room))
		if err == nil && r.violation() {
			err = violated(&f)
		}
		if err != nil {
			return numbered(uint64(i), err)
		}
	}
	return nil
}

// checkFields is the second half of the structure: the fields of every record
// of a known template. It comes before any record is judged, so that a list
// which is not of this form is called that.
func (l List) checkFields() error {
	var f fields
	for i, r := range l.records() {
		if err := f.read(r); err != nil && err.Code == reason.IMAEncoding {
			return numbered(uint64(i), err)
		}
	}
	return nil
}

// check judges one record; data is its hashed form. A violation has no digest
// that could be checked.
func (r *record) check(f *fields, data []byte) *reason.Error {
	if r.pcr != measuredPCR {
		return reason.Newf(reason.IMAPCR, "a record for PCR %d; the list is judged against PCR %d", r.pcr, measuredPCR)
	}
	if err := f.read(r); err != nil {
		return err
	}
	if r.violation() {
		return nil
	}
	if seen := sha1.Sum(data); seen != r.digest {
		return reason.Newf(reason.IMADigest, "the template data of %s hashes to %x, the record says %x", printable(f.path), seen, r.digest)
	}
	return nil
}

func violated(f *fields) *reason.Error {
	return reason.Newf(reason.IMAViolation, "%s was written while it was measured or open for execution, so that its digest proves nothing", printable(f.path))
}

// numbered puts the number of the entry, counted from 0 at boot, before a
// detail.
func numbered(entry uint64, err *reason.Error) *reason.Error {
	return reason.Newf(err.Code, "entry %d: %s", entry, err.Detail)
}
