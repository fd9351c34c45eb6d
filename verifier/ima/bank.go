package ima

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
)

// Bank is a PCR bank that a list was extended into.
type Bank string

// Banks that can be replayed. SHA1 is for comparing old captures: no quote that
// this product asks for has it.
const (
	SHA1   Bank = "sha1"
	SHA256 Bank = "sha256"
	SHA384 Bank = "sha384"
)

// Size returns the bytes of a PCR value, 0 for a bank that cannot be replayed.
func (b Bank) Size() int {
	switch b {
	case SHA1:
		return sha1.Size
	case SHA256:
		return sha256.Size
	case SHA384:
		return sha512.Size384
	}
	return 0
}

// Ways of extending a template digest.
const (
	// ExtendBank: the bank's own hash of the template data (kernels from 5.8 on).
	ExtendBank = "bank"
	// ExtendPadded: the SHA-1 digest filled up with zeros (older kernels). It is no
	// stronger than SHA-1.
	ExtendPadded = "sha1_padded"
)

const maxBank = sha512.Size384

// value is a PCR value in its bank's first bytes.
type value [maxBank]byte

// sum is the hash of the bank over data.
func (b Bank) sum(data []byte) (out value) {
	switch b {
	case SHA1:
		h := sha1.Sum(data)
		copy(out[:], h[:])
	case SHA256:
		h := sha256.Sum256(data)
		copy(out[:], h[:])
	case SHA384:
		h := sha512.Sum384(data)
		copy(out[:], h[:])
	}
	return out
}

// extend is TPM2_PCR_Extend.
func (b Bank) extend(pcr *value, with *value) {
	var room [2 * maxBank]byte
	n := b.Size()
	copy(room[:n], pcr[:n])
	copy(room[n:], with[:n])
	*pcr = b.sum(room[:2*n])
}

// ones is what a violation extends: FF in each byte (INVALID_PCR).
var ones = func() (v value) {
	for i := range v {
		v[i] = 0xff
	}
	return v
}()

// hashed returns the template data in the form that is hashed: as it stands, but
// the path of template ima filled up with zeros. room is the caller's.
func (r *record) hashed(room *[legacyPadded]byte) []byte {
	if !r.legacy {
		return r.data
	}
	clear(room[:])
	copy(room[:], r.data[:digestSize])
	copy(room[digestSize:], r.data[digestSize+4:])
	return room[:]
}

// replay is a running PCR 10.
type replay struct {
	bank   Bank
	padded bool
	pcr    value
}

// extend takes one record; data is its hashed form.
func (p *replay) extend(r *record, data []byte) {
	with := ones
	switch {
	case r.violation():
	case p.padded:
		with = value{}
		copy(with[:], r.digest[:])
	default:
		with = p.bank.sum(data)
	}
	p.bank.extend(&p.pcr, &with)
}

// Replayed is what a list leads to from a PCR 10 at its reset value.
type Replayed struct {
	Entries    int
	Violations int
	PCR10      []byte // by the bank's own hash of the template data
	Padded     []byte // by the padded SHA-1 digest, as older kernels extend
}

// Replay extends every record, whatever PCR it names and whatever its template:
// for the comparison of captures. It proves nothing. The result is zero for a
// bank that cannot be replayed.
func (l List) Replay(bank Bank) Replayed {
	if bank.Size() == 0 {
		return Replayed{}
	}
	out := Replayed{Entries: l.entries}
	own, padded := replay{bank: bank}, replay{bank: bank, padded: true}
	var room [legacyPadded]byte
	for _, r := range l.records() {
		data := r.hashed(&room)
		own.extend(r, data)
		padded.extend(r, data)
		if r.violation() {
			out.Violations++
		}
	}
	out.PCR10, out.Padded = own.pcr[:bank.Size()], padded.pcr[:bank.Size()]
	return out
}

// aggregate is the boot aggregate over PCR 0 to last of a bank: their values one
// after another. It reports false where one of them is not there.
func aggregate(bank Bank, pcrs map[int][]byte, last int) (value, bool) {
	all := make([]byte, 0, 10*maxBank)
	for i := 0; i <= last; i++ {
		if len(pcrs[i]) != bank.Size() {
			return value{}, false
		}
		all = append(all, pcrs[i]...)
	}
	return bank.sum(all), true
}
