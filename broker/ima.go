package broker

import (
	"strconv"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/evidencefile"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

const imaPCR = 10

// wantsIMA reports whether the challenge selects the PCR that the kernel's
// measurement list explains.
func wantsIMA(c *challenge) bool {
	sel, err := tpm2.ParseSelection(c.Select)
	return err == nil && sel.Has(imaPCR)
}

// takeIMA puts the sent part of the measurement list into the evidence, only
// where it was asked for: four MiB that nothing judges must not end in a history
// that cannot be deleted.
func takeIMA(ev *verifier.Evidence, req api.AttestRequest, c *challenge) {
	if req.TPM2 != nil && wantsIMA(c) {
		ev.TPM2.IMA = evidencefile.IMA(req.TPM2)
	}
}

// imaKnown tells a host from where to send its list; nil where none is wanted.
// It is from the start where another zone or other file sets will judge it.
func imaKnown(c *challenge, snap ledger.Snapshot, p *activePolicy) *api.IMAKnown {
	if !wantsIMA(c) {
		return nil
	}
	out := &api.IMAKnown{}
	var known ima.State
	st := &snap.State
	if st.Rebaseline || known.UnmarshalText(st.IMA) != nil || known.Rules() != p.set.FileRules(st.Zone) {
		return out
	}
	out.Entries = int64(known.Entries())
	return out
}

// keepIMA is what the next attestation goes on from; nil without a list.
func keepIMA(a *attempt) ([]byte, error) {
	attested := a.appraisal.IMA()
	if !attested.Known() {
		return nil, nil
	}
	return attested.State(a.verdict.policy.Files).MarshalText()
}

// imaFirst is the number of the first entry that was sent, as recorded.
func imaFirst(e *verifier.TPM2Evidence) string {
	if e == nil || e.IMA == nil || e.IMA.First == 0 {
		return ""
	}
	return strconv.FormatUint(e.IMA.First, 10)
}

// placeIMAFirst puts the recorded number back beside the part with the entries,
// of which there may have been none.
func placeIMAFirst(t *verifier.TPM2Evidence, text string) error {
	if text == "" {
		return nil
	}
	if t == nil {
		return reason.New(reason.Internal, "")
	}
	first, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return err
	}
	if t.IMA == nil {
		t.IMA = &ima.Segment{}
	}
	t.IMA.First = first
	return nil
}
