package eventlog

import (
	"bytes"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	signatureSize = 16
	specIDPrefix  = "Spec ID Event"
	specID03      = "Spec ID Event03\x00"

	// maxAlgorithms bounds the banks a log may announce. TPMs have at most five;
	// the bound keeps the per-event check for repeats in one machine word.
	maxAlgorithms = 16
	// maxDigestSize is the largest digest of any registered algorithm, bytes.
	maxDigestSize = 64
)

type algorithm struct {
	id   uint16
	size uint16 // bytes
}

// specID is what the first record says about the form of all others.
type specID struct {
	algs  [maxAlgorithms]algorithm
	count int
}

// find returns the position of an algorithm in the Spec ID record, -1 if the
// record does not announce it.
func (s *specID) find(id uint16) int {
	for i := range s.count {
		if s.algs[i].id == id {
			return i
		}
	}
	return -1
}

// header reads the first record, which has the legacy form TCG_PCR_EVENT in
// every log, and tells which form the others have. It stands in a register that
// exists, up to last, and extends none.
func (r *reader) header(last uint32) (specID, error) {
	all := r.rest
	if len(all) < legacyHeader {
		return specID{}, reason.New(reason.EventLogTruncated, "the log ends inside its first record")
	}
	pcr, typ, digest := r.u32(), r.u32(), r.take(20)
	data := r.take(uint64(r.u32())) // none where the log ends before: no Spec ID record either
	if typ != TypeNoAction || !bytes.HasPrefix(data, []byte(specID03)) {
		if bytes.HasPrefix(data, []byte(specIDPrefix)) && !legacySpecID(data) {
			return specID{}, reason.New(reason.EventLogSpecID, "unknown signature of the Spec ID record")
		}
		return specID{}, refuseForm(all, "the first record is not a Spec ID record")
	}
	if pcr > last || !allZero(digest) {
		return specID{}, reason.New(reason.EventLogSpecID, "the Spec ID record extends a PCR")
	}
	return parseSpecID(data)
}

// refuseForm tells a log of SHA-1 records from one that lost its Spec ID record:
// the operator of the first has to change the firmware's bank, the second is
// damaged or forged.
func refuseForm(all []byte, otherwise string) error {
	if isLegacy(all) {
		return reason.New(reason.EventLogSHA1Only, "legacy log with SHA-1 digests only; enable the SHA-256 bank")
	}
	return reason.New(reason.EventLogSpecID, otherwise)
}

// legacySpecID reports the Spec ID signatures of the SHA-1 forms (TCG EFI
// Platform Specification 1.2, PC Client Implementation 1.2).
func legacySpecID(data []byte) bool {
	return bytes.HasPrefix(data, []byte("Spec ID Event00\x00")) || bytes.HasPrefix(data, []byte("Spec ID Event02\x00"))
}

const legacyHeader = 4 + 4 + 20 + 4

// isLegacy reports whether all of raw is a sequence of legacy records.
func isLegacy(raw []byte) bool {
	r := reader{rest: raw}
	for len(r.rest) > 0 {
		if pcr := r.u32(); pcr > maxPCR {
			return false
		}
		r.take(4 + 20)
		r.take(uint64(r.u32()))
		if r.short {
			return false
		}
	}
	return len(raw) > 0
}

// parseSpecID reads TCG_EfiSpecIDEvent. It must fill its record exactly: bytes
// that no field owns could carry a second list of algorithms for another parser.
func parseSpecID(data []byte) (specID, error) {
	r := reader{rest: data}
	r.take(signatureSize)
	r.take(4 + 3) // platform class, spec version minor, major, errata
	uintn := r.u8()
	count := r.u32()
	if uintn != 1 && uintn != 2 {
		return specID{}, reason.New(reason.EventLogSpecID, "the Spec ID record is too short or names an impossible UINTN size")
	}
	if count == 0 || count > maxAlgorithms {
		return specID{}, reason.Newf(reason.EventLogSpecID, "impossible number of algorithms: %d", count)
	}
	var s specID
	for range count {
		a := algorithm{id: r.u16(), size: r.u16()}
		if s.find(a.id) >= 0 {
			return specID{}, reason.Newf(reason.EventLogSpecID, "algorithm 0x%04x stands twice", a.id)
		}
		want := knownSize(a.id)
		if want != 0 && int(a.size) != want || a.size == 0 || a.size > maxDigestSize {
			return specID{}, reason.Newf(reason.EventLogSpecID, "digest size %d for algorithm 0x%04x", a.size, a.id)
		}
		s.algs[s.count] = a
		s.count++
	}
	r.take(uint64(r.u8())) // vendor info
	if r.short || len(r.rest) != 0 {
		return specID{}, reason.New(reason.EventLogSpecID, "vendor info does not fill the Spec ID record")
	}
	return s, nil
}

func (s *specID) judgeBank(bank Bank) error {
	if bank.Size() != 0 && s.find(uint16(bank)) >= 0 {
		return nil
	}
	if s.count == 1 && Bank(s.algs[0].id) == SHA1 {
		return reason.Newf(reason.EventLogSHA1Only, "the log has SHA-1 digests only; enable the %s bank", bank)
	}
	return reason.Newf(reason.EventLogDigests, "the log has no %s digests", bank)
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
