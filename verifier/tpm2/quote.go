package tpm2

import (
	"bytes"
	"crypto/sha256"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Attested is a TPMS_ATTEST of type quote that an AK signed over the expected
// qualifying data. What it quotes is not judged yet: that is Attested.Quote.
// The zero value attests nothing.
type Attested struct{ a *attest }

// nothing is what a zero Attested attests; it is never written.
var nothing attest

func (t Attested) read() *attest {
	if t.a == nil {
		return &nothing
	}
	return t.a
}

// AuthenticateQuote verifies that the TPM holding ak made this quote over
// qualifying, which is 1 to 64 bytes (the 32 of the binding). attest is a
// TPMS_ATTEST, signature a TPMT_SIGNATURE.
//
// Errors, in the order of the checks: request.too_large; tpm2.version;
// tpm2.signature.scheme, .hash, .encoding, .invalid; tpm2.attest.truncated,
// .safe, .trailing, .magic, .type; tpm2.quote.signer_mismatch;
// tpm2.quote.nonce_mismatch.
func AuthenticateQuote(ak AK, attest, signature, qualifying []byte) (Attested, error) {
	if err := checkAttestSize(attest); err != nil {
		return Attested{}, err
	}
	a, err := openAttest(&ak, bytes.Clone(attest), signature, typeQuote)
	if err != nil {
		return Attested{}, err
	}
	if err := checkSigner(a, ak.qualified); err != nil {
		return Attested{}, err
	}
	if err := checkQualifying(a, qualifying); err != nil {
		return Attested{}, err
	}
	return Attested{a: a}, nil
}

// checkSigner wants a name: an AK that has none pinned signs for nobody.
func checkSigner(a *attest, want []byte) error {
	if len(want) == 0 || !bytes.Equal(a.signer, want) {
		return reason.New(reason.TPM2QuoteSignerMismatch, "qualifiedSigner is not the AK as a primary key of the endorsement hierarchy")
	}
	return nil
}

// checkQualifying: a quote over nothing fits no challenge, not even an empty one.
func checkQualifying(a *attest, want []byte) error {
	if len(want) == 0 || !bytes.Equal(a.extraData, want) {
		return reason.New(reason.TPM2QuoteNonceMismatch, "extraData is not the binding of this challenge and key")
	}
	return nil
}

// Clock returns the signed clock triple and safe.
func (t Attested) Clock() Clock { return t.read().clock }

// FirmwareVersion returns the signed firmware version.
func (t Attested) FirmwareVersion() uint64 { return t.read().firmware }

// Quote compares the signed selection with want and the given values with the
// signed digest. pcrs are attester bytes; only those that the TPM quoted come
// out. Values are 32 bytes, of the SHA-256 bank.
//
// Errors, in the order of the checks: tpm2.quote.selection_count,
// tpm2.pcr.bank, tpm2.quote.selection_duplicate, tpm2.quote.select_size,
// tpm2.quote.selection, tpm2.pcr.length, tpm2.pcr.unquoted, tpm2.pcr.digest.
func (t Attested) Quote(want Selection, pcrs map[int][]byte) (Quote, error) {
	return t.QuoteOf(BankSHA256, want, pcrs)
}

// QuoteOf is Quote for a named bank: values have the length of its hash. The
// digest over them is by the hash of the AK's scheme, whatever the bank. Of the
// SHA-1 bank nothing is accepted.
func (t Attested) QuoteOf(bank Bank, want Selection, pcrs map[int][]byte) (Quote, error) {
	if err := t.read().checkSelection(bank, want); err != nil {
		return Quote{}, err
	}
	indexes := want.Indexes()
	for _, i := range indexes {
		if len(pcrs[i]) != bank.size() {
			return Quote{}, reason.Newf(reason.TPM2PCRLength, "PCR %d has %d bytes, not the %d of its bank", i, len(pcrs[i]), bank.size())
		}
	}
	if len(pcrs) != len(indexes) {
		return Quote{}, reason.New(reason.TPM2PCRUnquoted, "a PCR value was sent that is not in the quote")
	}
	values, h := cloned(pcrs), sha256.New()
	for _, i := range indexes {
		h.Write(values[i])
	}
	if !bytes.Equal(h.Sum(nil), t.read().pcrDigest) {
		return Quote{}, reason.New(reason.TPM2PCRDigest, "the PCR values do not hash to the quoted digest")
	}
	return Quote{bank: Bank(bank.alg()), selection: want, values: values, clock: t.read().clock, firmware: t.read().firmware}, nil
}

// checkSelection: the attester chooses what it quotes, so anything but exactly
// what was asked for would let it present one PCR, or one bank, as another.
func (a *attest) checkSelection(bank Bank, want Selection) error {
	if want == (Selection{}) {
		return errQuoteSelection()
	}
	if a.count > maxBanks {
		return reason.Newf(reason.TPM2QuoteSelectionCount, "%d PCR selections, more than any TPM has banks", a.count)
	}
	sels := a.selections[:a.count]
	if err := checkBanks(sels, bank); err != nil {
		return err
	}
	for _, s := range sels {
		if len(s.mask) != len(want) {
			return reason.Newf(reason.TPM2QuoteSelectSize, "sizeofSelect is %d, not 3", len(s.mask))
		}
	}
	if len(sels) != 1 || !bytes.Equal(sels[0].mask, want[:]) {
		return errQuoteSelection()
	}
	return nil
}

func errQuoteSelection() error {
	return reason.New(reason.TPM2QuoteSelection, "the quoted PCRs are not exactly those asked for")
}

// checkBanks passes an empty list: that is a wrong selection, not a wrong bank.
func checkBanks(sels []bankSelection, want Bank) error {
	if want.size() == 0 {
		return reason.Newf(reason.TPM2PCRBank, "values of the %s bank prove nothing", want)
	}
	wanted := len(sels) == 0
	for _, s := range sels {
		if !knownBank(s.hash) {
			return reason.Newf(reason.TPM2PCRBank, "bank %#04x is unknown", s.hash)
		}
		wanted = wanted || s.hash == want.alg()
	}
	if !wanted {
		return reason.New(reason.TPM2PCRBank, "the quote is not over the bank that was asked for")
	}
	for i, s := range sels {
		for _, other := range sels[:i] {
			if s.hash == other.hash {
				return reason.Newf(reason.TPM2QuoteSelectionDuplicate, "bank %#04x is selected twice", s.hash)
			}
		}
	}
	return nil
}

// Quote is the verified content of a quote: exactly the PCRs that were asked
// for, as the TPM signed them. The zero value holds no PCR.
type Quote struct {
	bank      Bank
	selection Selection
	values    map[int][]byte
	clock     Clock
	firmware  uint64
}

// Bank returns the bank that the values are of.
func (q Quote) Bank() Bank { return q.bank }

// PCR returns the quoted value of PCR i, 32 bytes in the SHA-256 bank, and
// whether it was quoted; the slice is the caller's.
func (q Quote) PCR(i int) ([]byte, bool) {
	v, ok := q.values[i]
	return bytes.Clone(v), ok
}

// PCRValues returns all quoted values by PCR; map and slices are the caller's.
func (q Quote) PCRValues() map[int][]byte { return cloned(q.values) }

// cloned copies digests into one piece of memory; none can grow into the next.
func cloned(values map[int][]byte) map[int][]byte {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	out, room := make(map[int][]byte, len(values)), make([]byte, 0, n)
	for i, v := range values {
		begin := len(room)
		room = append(room, v...)
		out[i] = room[begin:len(room):len(room)]
	}
	return out
}

// Selection returns the quoted selection.
func (q Quote) Selection() Selection { return q.selection }

// Clock returns the signed clock triple and safe.
func (q Quote) Clock() Clock { return q.clock }

// FirmwareVersion returns the signed firmware version.
func (q Quote) FirmwareVersion() uint64 { return q.firmware }
