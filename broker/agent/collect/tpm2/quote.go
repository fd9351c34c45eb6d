package tpm2collect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// quoteTries bounds how often PCRs may move under a quote before it is given
// up: each try is one signature of the TPM.
const quoteTries = 5

// Quote is a TPM2_Quote with the PCR values that it covers.
type Quote struct {
	Attest    []byte // TPMS_ATTEST
	Signature []byte // TPMT_SIGNATURE
	PCRs      map[int][]byte
	// ResetCount and RestartCount are those of the quote: how often the TPM was
	// reset, and resumed since.
	ResetCount, RestartCount uint32
}

// Quote signs the SHA-256 PCRs of selection (bit i of byte i/8 is PCR i, the
// three bytes as signed) with qualifying (at most 50 bytes) by the AK. Values
// and quote belong together: where a PCR was extended in between, both are
// taken again.
func (t *TPM) Quote(ctx context.Context, selection [3]byte, qualifying []byte) (Quote, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ak, err := t.loadAK(ctx)
	if err != nil {
		return Quote{}, err
	}
	for range quoteTries {
		q, digest, err := t.quoteOnce(ctx, ak, selection, qualifying)
		if err != nil {
			return Quote{}, explain("quote", err)
		}
		q.PCRs, err = t.readPCRs(ctx, selection)
		if err != nil {
			return Quote{}, explain("read PCRs", err)
		}
		if bytes.Equal(digest, digestOf(q.PCRs)) {
			return q, nil
		}
	}
	return Quote{}, &Error{
		What: "quote", Why: fmt.Sprintf("a selected PCR was extended during each of %d tries", quoteTries),
		Fix: "try again when the host has finished booting",
	}
}

// quoteOnce returns a quote and its pcrDigest.
func (t *TPM) quoteOnce(ctx context.Context, ak *object, selection [3]byte, qualifying []byte) (Quote, []byte, error) {
	rsp, err := tpm2.Quote{
		SignHandle:     ak.auth(),
		QualifyingData: tpm2.TPM2BData{Buffer: qualifying},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      sha256Bank(selection),
	}.Execute(t.commands(ctx))
	if err != nil {
		return Quote{}, nil, err
	}
	attest, err := rsp.Quoted.Contents()
	if err != nil {
		return Quote{}, nil, err
	}
	info, err := attest.Attested.Quote()
	if err != nil {
		return Quote{}, nil, err
	}
	q := Quote{
		Attest: rsp.Quoted.Bytes(), Signature: tpm2.Marshal(rsp.Signature),
		ResetCount: attest.ClockInfo.ResetCount, RestartCount: attest.ClockInfo.RestartCount,
	}
	return q, info.PCRDigest.Buffer, nil
}

func sha256Bank(mask [3]byte) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: mask[:]}}}
}

// readPCRs reads the selected PCRs, eight at most in one command, and starts
// again when the TPM's update counter moved between two commands.
func (t *TPM) readPCRs(ctx context.Context, selection [3]byte) (map[int][]byte, error) {
	var (
		values  = map[int][]byte{}
		left    = selection
		counter uint32
	)
	for restarts := 0; left != [3]byte{}; {
		rsp, err := tpm2.PCRRead{PCRSelectionIn: sha256Bank(left)}.Execute(t.commands(ctx))
		if err != nil {
			return nil, err
		}
		if len(values) > 0 && rsp.PCRUpdateCounter != counter {
			if restarts++; restarts > quoteTries {
				return nil, errors.New("PCRs keep changing")
			}
			clear(values)
			left = selection
			continue
		}
		counter = rsp.PCRUpdateCounter
		if left, err = takeValues(values, left, rsp); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// takeValues moves what one TPM2_PCR_Read returned into values and returns what
// is left to read.
func takeValues(values map[int][]byte, left [3]byte, rsp *tpm2.PCRReadResponse) ([3]byte, error) {
	if len(rsp.PCRSelectionOut.PCRSelections) != 1 || len(rsp.PCRValues.Digests) == 0 {
		return left, &Error{What: "read PCRs", Why: "the TPM has no active SHA-256 bank", Fix: "activate it in the firmware setup, or with: tpm2_pcrallocate sha256:all"}
	}
	mask := rsp.PCRSelectionOut.PCRSelections[0].PCRSelect
	digests := rsp.PCRValues.Digests
	for i := range 8 * min(len(mask), len(left)) {
		if mask[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		if len(digests) == 0 || left[i/8]&(1<<(i%8)) == 0 {
			return left, errors.New("the TPM returned other PCRs than asked for")
		}
		values[i] = digests[0].Buffer
		digests = digests[1:]
		left[i/8] &^= 1 << (i % 8)
	}
	if len(digests) != 0 {
		return left, errors.New("the TPM returned more PCR values than it named")
	}
	return left, nil
}

// digestOf hashes values in ascending order of index, as TPM2_Quote does. The
// hash is that of the AK's scheme, always SHA-256 here.
func digestOf(values map[int][]byte) []byte {
	h := sha256.New()
	for i := range 24 {
		h.Write(values[i])
	}
	return h.Sum(nil)
}
